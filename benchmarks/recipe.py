"""What each part of the recipe adds: runs that differ in one part, scored alike.

    python -m benchmarks.recipe --out runs/recipe --steps 3000 --seeds 0 1 2 [--variants published best]
        [--data celeb64.zip] [--num 2000] [--width 32] [--imsize 32] [--jobs 2]

Every variant is a preset with changes (the table below). All have the same images, steps, batch and seeds; the runs of
a seed see the same images in the same order. What is done is not done again, so a call that was cut goes on. Prints the
Fréchet distance of the last snapshot, mean and each seed; records, samples and logs stay in ``--out``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sagan.runs import Run

AVERAGED = {"ema_halflife": 44_000}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {  # a preset and what is changed in it
    "published": ("published", {}),
    "averaged": ("published", AVERAGED),
    "averaged, flip": ("published", AVERAGED | {"flip": True}),
    "averaged, augment": ("published", AVERAGED | {"augment": "color translation cutout"}),
    "averaged, translation": ("published", AVERAGED | {"augment": "translation"}),
    "averaged, r1": ("published", AVERAGED | {"r1": 0.1, "penalty_every": 4}),
    "averaged, lecam": ("published", AVERAGED | {"lecam": 0.1}),
    "averaged, rpgan": ("published", AVERAGED | {"adv_loss": "rpgan"}),
    "averaged, non-saturating": ("published", AVERAGED | {"adv_loss": "non-saturating"}),
    "averaged, output axis": ("published", AVERAGED | {"norm_axis": "output"}),
    "averaged, rates x 2": ("published", AVERAGED | {"g_lr": 2e-4, "d_lr": 8e-4}),
    "averaged, g_lr x 2": ("published", AVERAGED | {"g_lr": 2e-4}),
    "averaged, beta2 0.99": ("published", AVERAGED | {"beta2": 0.99}),
    "averaged, linear": ("published", AVERAGED | {"lr_schedule": "linear"}),
    "averaged, resnet": (
        "published",
        AVERAGED | {"network": "resnet", "g_attention": 16, "d_attention": 16, "pool": 2},
    ),
    "averaged, resnet, rates x 2": (
        "published",
        AVERAGED | {"network": "resnet", "g_attention": 16, "d_attention": 16, "pool": 2, "g_lr": 2e-4, "d_lr": 8e-4},
    ),
    "best": ("best", {"g_attention": 16}),
    "best, augment": ("best", {"g_attention": 16, "augment": "color translation cutout"}),
    "best, dcgan": ("best", {"network": "dcgan", "pool": 1}),
}


def train(flags: argparse.Namespace, name: str, seed: int) -> Path:
    """One run from start to score, in a process of its own; gives its folder."""
    preset, changes = VARIANTS[name]
    folder = Path(flags.out) / f"{name.replace(', ', '+').replace(' ', '')}-span{flags.span}-seed{seed}"
    settings = {
        "preset": preset,
        "imsize": flags.imsize,
        "g_conv_dim": flags.width,
        "d_conv_dim": flags.width,
        "span": flags.span,
        "total_step": flags.steps,
        "batch_size": flags.batch,
        "g_attention": "8 16",
        "seed": seed,
        "data": flags.data,
        "prepared": str(Path(flags.out) / "prepared"),
        "snapshot_every": flags.steps,
        "run_dir": str(folder),
        **changes,
    }
    log = Path(flags.out) / f"{folder.name}.log"
    if not (folder / "snapshots").is_dir() or not Run(folder).snapshots():
        words = ["resume", str(folder)] if (folder / "config.json").exists() else ["train", *as_words(settings)]
        call(words, log)
    if frechet(folder) is None:
        call(["evaluate", str(folder), "--num", str(flags.num), "--prepared", settings["prepared"]], log)
    return folder


def as_words(settings: dict[str, object]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]


def call(words: Sequence[object], log: Path) -> None:
    with log.open("a") as file:
        subprocess.run(
            [sys.executable, "-m", "sagan", *map(str, words)],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def frechet(folder: Path) -> float | None:
    scores = [r for r in Run(folder).records() if r.get("kind") == "score" and r.get("metric") == "frechet"]
    return float(scores[-1]["value"]) if scores else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--data", default="faces")
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--imsize", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--span", default=1)
    parser.add_argument("--jobs", type=int, default=1)
    flags = parser.parse_args()
    Path(flags.out).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(flags.jobs) as pool:
        runs = {name: [pool.submit(train, flags, name, seed) for seed in flags.seeds] for name in flags.variants}
        print(f"{'variant':26} {'mean':>8}  each seed")
        for name, futures in runs.items():
            values = [frechet(future.result()) or float("nan") for future in futures]
            print(
                f"{name:26} {statistics.mean(values):8.2f}  {' '.join(f'{value:.2f}' for value in values)}", flush=True
            )


if __name__ == "__main__":
    main()
