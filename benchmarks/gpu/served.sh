#!/usr/bin/env bash
# New weights for a running vLLM, on a machine with a GPU: an engine that has had other weights must
# complete as a fresh one does, and a training must be measured by a server that is given its weights.
#   pip install -e '.[vllm,train,dev]' && benchmarks/gpu/served.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$out"' EXIT

echo "# in process: a fresh engine against one that was given the same weights"
python benchmarks/gpu/renewed.py

echo "# served: three checkpoints of a short training, each against a fresh engine"
folder=$(python -c 'from laconic.checkpoints.checkpoint import open_checkpoint as o; print(o("lab:system2").folder)')
port=${PORT:-8123}
VLLM_SERVER_DEV_MODE=1 vllm serve "$folder" --served-model-name lab:system2 --host 127.0.0.1 \
    --port "$port" --gpu-memory-utilization 0.3 --dtype float32 >"$out/server.log" 2>&1 &
server=$!
for _ in $(seq 300); do
    curl -fs "http://127.0.0.1:$port/health" >/dev/null && break
    kill -0 "$server" || { tail -20 "$out/server.log"; exit 1; }
    sleep 1
done
laconic data sample lab:system1 --task lab:split=train,size=60 -k 1 --temperature 0 -o "$out/short"
laconic data sample lab:system2 --task lab:split=train,size=60 -k 1 --temperature 0 -o "$out/long"
for pool in short long; do laconic data select "$out/$pool" -o "$out/$pool.jsonl"; done
laconic data pack "short=$out/short.jsonl" "long=$out/long.jsonl" --model lab:system2 --policy keep \
    -o "$out/data"
laconic train --preset lab --set "pools.folder=$out/data" --set steps=24 --set every=8 \
    --set keep=3 --set dev.limit=90 --set evaluator.where=served \
    --set "evaluator.backend=openai:url=http://127.0.0.1:$port/v1" -o "$out/trained"
for step in "$out"/trained/candidates/step-* "$out"/trained/checkpoints/step-*; do
    laconic eval "$step" --task lab:split=dev --limit 90 --temperature 0 --backend \
        "vllm:memory=0.3,dtype=float32" -o "$out/fresh/$(basename "$step")" >/dev/null
    python benchmarks/gpu/renewed.py "$out/trained/evals/$(basename "$step")" \
        "$out/fresh/$(basename "$step")"
done
