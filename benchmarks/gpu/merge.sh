#!/usr/bin/env bash
# Merging on a CUDA device: whether it gives the bytes of the CPU, and what it costs.
#
#     bash benchmarks/gpu/merge.sh SCRATCH > benchmarks/gpu/merge.md
#
# SCRATCH is a folder on a disk with 10 GB free. Not yet run: no machine of ours had a card.
set -euo pipefail
scratch=${1:?a folder on a disk with 10 GB free}
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader >&2
python -m pytest -q -m gpu tests/merging/test_engine.py >&2
python benchmarks/merge.py --scratch "$scratch" --device cuda
