"""What each part of the recipe adds: runs that differ in one part, scored alike.

    python -m benchmarks.recipe --out runs/recipe --steps 3000 --seeds 0 1 2 [--variants published best]
        [--data celeb64.zip] [--num 2000] [--width 32] [--imsize 32] [--jobs 2]

Every variant is a preset with changes (the table below), and a `sagan sweep` over spans and seeds in a folder of
``--out``: a call that was interrupted is continued by the same words, and a folder that was made by another recipe is
refused. All have the same images, steps, batch and seeds; the runs of a seed see the same images in the same order.
``--width`` is the published networks'; the residual ones have half of it, as in the presets, and so about as many
weights. Prints the mean Fréchet and kernel distance of the last snapshots, how often the guard noticed collapse and
went back, seconds of training, and each seed's Fréchet distance, nan where a run failed or was given up.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sagan.run.folder import Run
from sagan.run.plan import spell
from sagan.run.presets import PRESETS
from sagan.run.records import LookRecord, RollbackRecord, TrainRecord
from sagan.run.scores import read_scores

RESIDUAL = {"network": "resnet", "pool": 2}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {  # a preset and what is changed in it
    # from published to best, a part at a time
    "published": ("published", {}),
    "published, averaged": ("published", {"ema_halflife": 44_000}),
    "published, rates of best": ("published", {"g_lr": 8e-4, "d_lr": 8e-4}),
    "published, residual": ("published", RESIDUAL),
    "published, r1": ("published", {"r1": 0.1, "penalty_every": 4}),
    "published, rpgan, r1": ("published", {"adv_loss": "rpgan", "r1": 0.1, "penalty_every": 4}),
    "best": ("best", {}),
    # and best with one thing otherwise
    "best, dcgan": ("best", {"network": "dcgan", "pool": 1}),
    "best, not averaged": ("best", {"ema_halflife": 0}),
    "best, no attention": ("best", {"g_attention": (), "d_attention": ()}),
    "best, keys not pooled": ("best", {"pool": 1}),
    "best, rates / 2": ("best", {"g_lr": 4e-4, "d_lr": 4e-4}),
    "best, g_lr x 2": ("best", {"g_lr": 1.6e-3}),
    "best, g_lr / 2": ("best", {"g_lr": 4e-4}),
    "best, g_lr / 4": ("best", {"g_lr": 2e-4}),
    "best, d_lr / 2": ("best", {"d_lr": 4e-4}),
    "best, d_lr x 2": ("best", {"d_lr": 1.6e-3}),
    "best, beta2 0.99": ("best", {"beta2": 0.99}),
    "best, linear": ("best", {"lr_schedule": "linear"}),
    "best, cosine": ("best", {"lr_schedule": "cosine"}),
    "best, hinge": ("best", {"adv_loss": "hinge"}),
    "best, non-saturating": ("best", {"adv_loss": "non-saturating"}),
    "best, least squares": ("best", {"adv_loss": "least-squares"}),
    "best, no r1": ("best", {"r1": 0.0}),
    "best, r1 x 10": ("best", {"r1": 1.0}),
    "best, r2": ("best", {"r2": 0.1}),
    "best, lecam": ("best", {"lecam": 0.1}),
    "best, flip": ("best", {"flip": True}),
    "best, translation": ("best", {"augment": "translation"}),
    "best, augment": ("best", {"augment": ("color", "translation", "cutout")}),
    "best, two critics": ("best", {"n_critic": 2}),
}


def sweep(name: str, flags: argparse.Namespace) -> Path:
    """Trains and scores a variant at every span and seed; gives the folder of the sweep."""
    preset, changes = VARIANTS[name]
    folder = Path(flags.out) / name.replace(", ", "+").replace(" ", "")
    residual = changes.get("network", PRESETS[preset].model.network) == "resnet"
    width = flags.width // 2 if residual else flags.width
    settings = {
        "imsize": flags.imsize,
        "g_conv_dim": width,
        "d_conv_dim": width,
        "total_step": flags.steps,
        "snapshot_every": flags.steps,
        "batch_size": flags.batch,
        "g_attention": (flags.imsize // 2,) if residual else (flags.imsize // 4, flags.imsize // 2),
        "data": flags.data,
        "prepared": flags.prepared,
        "device": flags.device,
        "eval_num": flags.num,
        **changes,
    }
    words = [word for setting, value in settings.items() for word in (f"--{setting}", *spell(value))]
    words += ["--span", *flags.spans, "--seed", *map(str, flags.seeds), "--jobs", str(flags.jobs)]
    command = [sys.executable, "-m", "sagan", "sweep", "--preset", preset, *words, "--sweep_dir", str(folder)]
    print(f"{name}:", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status > 1:  # refused or interrupted; 1 says that a run failed, which then has no score
        sys.exit(status)
    return folder


def describe(name: str, runs: Sequence[Run], step: int) -> str:
    """A row of the table: means, looks that noticed collapse, rollbacks, seconds, and each seed."""
    values, kernels = ([last_score(run, metric, step) for run in runs] for metric in ("frechet", "kernel"))
    attempts = [Run(folder) for run in runs for folder in (run.folder, *run.folder.glob("attempt-*"))]
    collapsed = sum(look.collapsed for run in attempts for look in run.records_of(LookRecord))
    rollbacks = sum(len(run.records_of(RollbackRecord)) for run in runs)
    seconds = [max((record.seconds for record in run.records_of(TrainRecord)), default=0.0) for run in runs]
    return (
        f"{name:32} {statistics.mean(values):8.2f} {statistics.mean(kernels):8.4f} {collapsed:9} {rollbacks:9} "
        f"{statistics.mean(seconds):8.0f}  {' '.join(f'{value:.2f}' for value in values)}"
    )


def last_score(run: Run, metric: str, step: int) -> float:
    return next((score.value for score in reversed(read_scores(run, metric)) if score.step == step), float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--data", default="faces")
    parser.add_argument("--prepared", default="prepared")
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--imsize", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--spans", nargs="+", default=["1"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1)
    flags = parser.parse_args()
    folders = {name: sweep(name, flags) for name in flags.variants}
    print(f"{'variant':32} {'Fréchet':>8} {'kernel':>8} {'collapsed':>9} {'rollbacks':>9} {'seconds':>8}  seeds")
    for span in flags.spans:
        for name, folder in folders.items():
            runs = [Run(folder / "runs" / f"span{span}-seed{seed}") for seed in flags.seeds]
            print(describe(f"{name}, span {span}", runs, flags.steps), flush=True)


if __name__ == "__main__":
    main()
