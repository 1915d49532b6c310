#!/usr/bin/env bash
# Everything of docs/gpu-checklist.md that needs no long training, in about 25 minutes on one GPU: tests, then tables.
# RESULTS=folder ZIP=faces.zip bash benchmarks/gpu.sh. A part that fails is named at the end; the others still run.
set -uo pipefail
cd "$(dirname "$0")/.."
RESULTS=${RESULTS:-gpu-results}
PYTHON=${PYTHON:-python}
mkdir -p "$RESULTS"
failed=()

part() { # name, seconds it may take, command
    local name=$1 limit=$2
    shift 2
    echo "== $name: $*"
    if ! timeout "$limit" "$@" >"$RESULTS/$name.txt" 2>&1; then failed+=("$name"); fi
    tail -n 12 "$RESULTS/$name.txt"
}

part environment 60 "$PYTHON" -c "import torch, triton; print(torch.__version__, triton.__version__, torch.cuda.get_device_name())"
part tests 480 "$PYTHON" -m pytest -q -m gpu
part step 180 "$PYTHON" -m benchmarks.step --device cuda --rounds 50 --variants plain,eager-fp32,eager-bf16,fp32,bf16
part attention 240 "$PYTHON" -m benchmarks.attention --device cuda
part bench 240 "$PYTHON" -m sagan bench --device cuda --precision bf16 --json "$RESULTS/bench.json"
part scaling 200 "$PYTHON" -m benchmarks.scaling --device cuda --batch 16 --json "$RESULTS/scaling.json" --figure "$RESULTS/scaling"
part tune 360 "$PYTHON" -m benchmarks.attention --device cuda --tune --sizes 32 64
if [ -n "${ZIP:-}" ]; then
    part train 420 "$PYTHON" -m sagan train --data "$ZIP" --imsize 64 --span 3 --precision bf16 --total_step 20000 \
        --sample_step 5000 --run_dir "$RESULTS/run"
fi
echo "failed: ${failed[*]:-nothing}"
[ ${#failed[@]} -eq 0 ]
