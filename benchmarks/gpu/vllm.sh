#!/usr/bin/env bash
# The backend vllm on a machine with a GPU: its tests, then the lab's System 2 on 1,000 problems by
# vllm and by transformers. GPUS=2 divides the model over two of them.
#   pip install -e '.[vllm,dev]' && benchmarks/gpu/vllm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

python -m pytest -q tests/backends/test_vllm.py tests/testing/test_plugins.py -k vllm
for backend in "vllm:tensor=${GPUS:-1},memory=0.5" transformers:device=cuda; do
    name=${backend%%:*}
    laconic eval lab:system2 --task lab --limit 1000 --backend "$backend" -o "$out/$name" >/dev/null
    python - "$out/$name/run.json" "$name" <<'PY'
import json, sys
head = json.load(open(sys.argv[1]))
print(f"{sys.argv[2]:<14}{head['tokens_per_second']:>10,.0f} tokens/s on {head['device']}")
PY
done
laconic report "$out" --baseline transformers
