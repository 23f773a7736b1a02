#!/usr/bin/env bash
# Everything that needs a GPU in one go, in under nine minutes: tests, parity, bench, kernels, steady state, and the
# case of the promises against torch.compile and TensorRT. TensorRT's parity at every scale takes longer, it compiles
# an engine for each: PYTHONPATH=.import python benchmarks/parity.py --engine tensorrt --limit 3600
#
#   benchmarks/gpu.sh [--train MINUTES] [--only STAGE ...] [--dry]
#
# It needs Python with torch, triton, numpy, safetensors, msgspec, click, rich, opencv-python-headless and pytest; clesr
# need not be installed. Results go to $OUT, or to benchmarks/results/gpu. CLESR_DATA names the folder of test images,
# PYTHON the interpreter, CLESR_COMMIT the commit where there is no repository. --dry runs on a processor.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/.import${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
