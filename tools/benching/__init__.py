"""What `clesr bench` measures. It needs torch, NumPy, OpenCV, rich and safetensors, and imports nothing else early."""
