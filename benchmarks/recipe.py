"""What each part of the recipe adds: runs that differ in one part, scored alike.

    python -m benchmarks.recipe --out runs/recipe --steps 3000 --seeds 0 1 2 [--variants published best]
        [--data celeb64.zip] [--num 2000] [--width 32] [--imsize 32] [--jobs 2]

Every variant is a preset with changes (the table below). All have the same images, steps, batch and seeds; the runs of
a seed see the same images in the same order. ``--width`` is the published networks'; the residual ones have half of it,
as in the presets, and so about as many weights. What is done is not done again: a call that was cut goes on, and with
more ``--steps`` the same runs are trained further, but for those whose rates end with their last step. Prints the mean
Fréchet and kernel distance of the snapshots of that step, how often the guard noticed collapse and went back, seconds
of training, and each seed's Fréchet distance, nan where the guard gave a run up; records, samples and logs stay in
``--out``.
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

from sagan.cli.flags import read
from sagan.run.config import Config, from_dict
from sagan.run.folder import Run
from sagan.run.presets import PRESETS
from sagan.system.typed import fill

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
    "best, no attention": ("best", {"g_attention": "none", "d_attention": "none"}),
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
    "best, augment": ("best", {"augment": "color translation cutout"}),
    "best, two critics": ("best", {"n_critic": 2}),
}


def train(flags: argparse.Namespace, name: str, span: str, seed: int) -> Path:
    """One run from start to score, in a process of its own; gives its folder. One that is given up has no score."""
    preset, changes = VARIANTS[name]
    ends = f"-{flags.steps}" if "lr_schedule" in changes else ""
    folder = Path(flags.out) / f"{name.replace(', ', '+').replace(' ', '')}-span{span}-seed{seed}{ends}"
    network = changes.get("network", PRESETS[preset].model.network)
    residual = network == "resnet"
    width = flags.width // 2 if residual else flags.width
    settings = {
        "imsize": flags.imsize,
        "g_conv_dim": width,
        "d_conv_dim": width,
        "span": span,
        "total_step": flags.steps,
        "batch_size": flags.batch,
        "g_attention": flags.imsize // 2 if residual else f"{flags.imsize // 4} {flags.imsize // 2}",
        "seed": seed,
        "data": flags.data,
        "prepared": flags.prepared,
        "device": flags.device,
        "snapshot_every": flags.steps,
        "run_dir": str(folder),
        **changes,
    }
    words, log = as_words(settings), Path(flags.out) / f"{folder.name}.log"
    check_recipe(folder, fill(Config, read(Config, words, "recipe"), PRESETS[preset]))
    if not Run(folder).snapshot_file(flags.steps).exists():
        further = ["resume", folder, "--total_step", flags.steps, "--snapshot_every", flags.steps]
        try:
            call(further if (folder / "config.json").exists() else ["train", "--preset", preset, *words], log)
        except subprocess.CalledProcessError:
            if count(folder, "stopped") == 0:
                raise
            return folder
    if score(folder, "frechet", flags) is None:
        step = ["--step", flags.steps, "--num", flags.num]
        call(["evaluate", folder, *step, "--prepared", flags.prepared, "--device", flags.device], log)
    return folder


def check_recipe(folder: Path, config: Config) -> None:
    """Raises ValueError where the folder holds a run of another recipe, as after a preset was changed."""
    if (folder / "config.json").exists():
        former = from_dict(Run(folder).config())
        if (former.model, former.game) != (config.model, config.game):
            raise ValueError(f"{folder} was trained by another recipe than this name means now: give another --out")


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


def score(folder: Path, metric: str, flags: argparse.Namespace) -> float | None:
    """The newest score of the last step's snapshot by as many samples, if there is one."""
    wanted = metric, flags.steps, flags.num
    for record in reversed(Run(folder).records()):
        if record["kind"] == "score" and (record["metric"], record["step"], record["card"]["samples"]) == wanted:
            return float(record["value"])
    return None


def count(folder: Path, kind: str) -> int:
    return sum(record["kind"] == kind for record in Run(folder).records()) if folder.is_dir() else 0


def describe(name: str, folders: Sequence[Path], flags: argparse.Namespace) -> str:
    """A row of the table: means, looks that noticed collapse, rollbacks, seconds, and each seed."""
    values, kernels = (
        [score(folder, metric, flags) or float("nan") for folder in folders] for metric in ("frechet", "kernel")
    )
    parts = [part for folder in folders for part in (folder, *folder.glob("attempt-*"))]  # with what was taken back
    records = [record for part in parts for record in Run(part).records()]
    collapsed = sum(record["kind"] == "guard" and record["collapsed"] for record in records)
    rollbacks = sum(count(folder, "rollback") for folder in folders)
    seconds = [max(r["seconds"] for r in Run(folder).records() if r.get("kind") == "train") for folder in folders]
    return (
        f"{name:32} {statistics.mean(values):8.2f} {statistics.mean(kernels):8.4f} {collapsed:9} {rollbacks:9} "
        f"{statistics.mean(seconds):8.0f}  {' '.join(f'{value:.2f}' for value in values)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
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
    Path(flags.out).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(flags.jobs) as pool:
        every = [(name, span) for span in flags.spans for name in flags.variants]
        runs = {each: [pool.submit(train, flags, *each, seed) for seed in flags.seeds] for each in every}
        print(f"{'variant':32} {'Fréchet':>8} {'kernel':>8} {'collapsed':>9} {'rollbacks':>9} {'seconds':>8}  seeds")
        for (name, span), futures in runs.items():
            print(describe(f"{name}, span {span}", [future.result() for future in futures], flags), flush=True)


if __name__ == "__main__":
    main()
