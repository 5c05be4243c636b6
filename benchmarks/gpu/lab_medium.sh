#!/usr/bin/env bash
# Train the lab's medium size (50 million parameters, thoughts of 500 to 2,000 tokens) on one CUDA
# card, then measure its members and their merges on 500 test problems.
#
#     bash benchmarks/gpu/lab_medium.sh OUT [SEED]
#
# Meant for 30 minutes on one H100 or H200. It has not been run yet: there was no card. A stopped run
# goes on with the same command.
set -euo pipefail
out=${1:?Give the folder for the models and the runs.}
seed=${2:-0}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader | tee "$out/card.txt"

if [ ! -e "$out/family/lab.json" ]; then
    time laconic lab train "$out/family" --size medium --seed "$seed" --device cuda
fi
cat "$out/family/lab.json"
time python "$here/lab.py" -o "$out/runs" --family "$out/family" --task lab_long --size 500 \
    --only '^B \+ 0\.[1-9] |^TIES|^mean' | tee "$out/table.md"
