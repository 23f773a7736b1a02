#!/usr/bin/env bash
# Everything that needs a GPU in one go, in under nine minutes, the most important first: a smoke test of a minute, both
# plans of each kernel, parity at every scale, the bench, PyTorch's and TensorRT's times beside it, steady state, two
# slots, what each rewrite gains, torch.compile's slowest search, other sizes, tests. TensorRT's parity at every scale takes longer, it compiles an engine
# for each: PYTHONPATH=.import python benchmarks/parity.py --engine tensorrt --limit 3600
#
#   benchmarks/gpu.sh [--train MINUTES] [--only STAGE ...] [--skip STAGE ...] [--total SECONDS] [--dry]
#
# In two goes: --only smoke, which may then take 140 s, and --skip smoke --total 400.
#
# Standard output has what was found in at most 12,000 characters, each line when it is known. $OUT, or
# benchmarks/results/gpu, gets two files: rows.jsonl, a line of JSON for each of those lines, with figures, and
# results.tar.gz with all else, made anew after each stage. Both are whole at any moment, also where the run is killed.
#
# It needs Python with torch, triton, numpy, safetensors, msgspec, click, rich, opencv-python-headless and pytest; clesr
# need not be installed. What a machine without a network lacks goes along in the folder .gpu: packages by
#   pip install --target .gpu/packages --no-deps --only-binary=:all: --python-version 3.12 msgspec
# and compiled kernels, which would take minutes, by benchmarks/fill_cache.py. The repository's files are more than 64
# MiB; --dry says how large they are and which may be deleted of the copy that goes along.
#
# CLESR_DATA names the folder of test images, PYTHON the interpreter, CLESR_COMMIT the commit where there is no
# repository. --dry runs on a processor.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/.import:$PWD/.gpu/packages${PYTHONPATH:+:$PYTHONPATH}"
if [ -d .gpu/triton ]; then export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$PWD/.gpu/triton}"; fi
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
