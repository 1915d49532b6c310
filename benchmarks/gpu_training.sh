#!/usr/bin/env bash
# The long trainings of docs/gpu-checklist.md on one GPU: the paper's conditional networks for a moment, published against
# best, and the published experiment over spans and seeds, with its report. What was cut goes on when the same line is
# given again: ZIP=faces.zip [RESULTS=folder] [LIMIT=550] [PARTS="paper recipe sweep report"] bash benchmarks/gpu_training.sh
# LIMIT is the seconds that a part may take in this call. The other settings are for a trial on a small machine.
set -uo pipefail
cd "$(dirname "$0")/.."
ZIP=$(realpath "${ZIP:?give ZIP=faces.zip, a zip of images}")
RESULTS=$(realpath -m "${RESULTS:-gpu-results}")
PYTHON=${PYTHON:-python}
size=${SIZE:-64} width=${WIDTH:-64} batch=${BATCH:-64} steps=${STEPS:-20000} seeds=${SEEDS:-0 1 2}
common=(--device "${DEVICE:-cuda}" --prepared "$RESULTS/prepared")
mkdir -p "$RESULTS"
failed=()

part() { # name, command
    local name=$1
    shift
    case " ${PARTS:-paper recipe sweep report} " in *" $name "*) ;; *) return ;; esac
    echo "== $name: $*"
    timeout -s INT -k 60 "${LIMIT:-550}" "$@" >>"$RESULTS/$name.txt" 2>&1 || failed+=("$name")
    tail -n 25 "$RESULTS/$name.txt"
}

if [ ! -d "$RESULTS/classes" ]; then # two folders of images stand for two classes
    "$PYTHON" - "$ZIP" "$RESULTS/classes" <<'PY' || exit 1
import sys, zipfile
from pathlib import Path

with zipfile.ZipFile(sys.argv[1]) as archive:
    for number, name in enumerate(name for name in archive.namelist() if name.endswith((".jpg", ".png"))):
        path = Path(sys.argv[2], f"class{number % 2}", Path(name).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.read(name))
PY
fi
paper=(train --preset paper --data "$RESULTS/classes" --num_classes auto --imsize $((2 * size)) --g_conv_dim "$width"
    --d_conv_dim "$width" --batch_size "$batch" --total_step $((steps / 40)) --sample_step $((steps / 80)) --precision auto
    "${common[@]}" --run_dir "$RESULTS/paper")
if [ -e "$RESULTS/paper/config.json" ]; then paper=(resume "$RESULTS/paper"); fi
part paper "$PYTHON" -m sagan "${paper[@]}"

# shellcheck disable=SC2086 # seeds are several words
part recipe "$PYTHON" -m benchmarks.recipe --out "$RESULTS/recipe" --data "$ZIP" --variants published best --imsize "$size" \
    --width "$width" --batch "$batch" --steps "$steps" --spans 0 3 --seeds $seeds --num "${NUM:-2000}" --jobs "${JOBS:-4}" \
    "${common[@]}"

# shellcheck disable=SC2086
part sweep "$PYTHON" -m sagan sweep --preset published --data "$ZIP" --imsize "$size" --g_conv_dim "$width" \
    --d_conv_dim "$width" --batch_size "$batch" --span 0 1 2 3 4 --masking after before --seed $seeds \
    --leave_out span=0 masking=before --leave_out span=1 masking=before --leave_out span=2 masking=before \
    --leave_out span=4 masking=before --total_step "$steps" --snapshot_every $((steps / 4)) --sample_step $((steps / 4)) \
    --eval_num "${NUM:-2000}" --extractor efficientnet-lite0 --jobs "${JOBS:-4}" "${common[@]}" --sweep_dir "$RESULTS/spans"
part report "$PYTHON" -m sagan report "$RESULTS/spans" --out "$RESULTS/report"

echo "failed, or to go on with: ${failed[*]:-nothing}"
[ ${#failed[@]} -eq 0 ]
