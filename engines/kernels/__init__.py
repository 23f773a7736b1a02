"""Hand-written GPU kernels of the ``cuda`` engine, in Triton: they also run on a CPU, in its interpreter, for tests."""
