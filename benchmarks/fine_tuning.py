"""How much sooner a run learns other images when it starts from trained networks.

    python -m benchmarks.fine_tuning --out runs/fine_tuning [--steps 200] [--every 50] [--seeds 0 1 2] [--imsize 16]
        [--first_imsize 16] [--first_steps 600] [--images 2000] [--num 1000] [--extractor random-conv]
        [--arms scratch both]

Trains one run on drawn faces, and then, for every seed, runs on other faces: of another seed, and with the colours of
their pixels exchanged. These start from scratch, from both networks of the first run, from both with one frozen block
of the discriminator, or from its generator alone, which is all that a snapshot holds. Every arm is a `sagan sweep` in a
folder of ``--out``, so a call that was interrupted is continued by the same words. Prints the Fréchet distance of each
arm at equal steps: the mean over the seeds, and the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from sagan.data.faces.drawing import draw_face
from sagan.run.folder import Run
from sagan.run.scores import read_scores
from sagan.system.files import write_whole

ARMS = ("scratch", "both", "both, one block frozen", "generator alone")


def draw(path: Path, count: int, size: int, seed: int, colours: tuple[int, int, int]) -> Path:
    """Drawn faces as a .npy, with their colours in another order."""
    if not path.exists():
        faces = np.stack([draw_face(number, size, seed)[..., list(colours)] for number in range(count)])
        write_whole(path, lambda file: np.save(file, faces))
    return path


def folder_name(arm: str) -> str:
    return arm.replace(", ", "+").replace(" ", "-")


def sagan(*words: object) -> None:
    status = subprocess.run([sys.executable, "-m", "sagan", *map(str, words)], check=False).returncode
    if status > 1:  # refused or interrupted; 1 says that a run failed, which then has no score
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--first_steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM")
    parser.add_argument("--imsize", type=int, default=16)
    parser.add_argument("--first_imsize", type=int, help="of the first run; by default --imsize")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--extractor", default="random-conv")
    parser.add_argument("--jobs", type=int, default=1)
    flags = parser.parse_args()
    out = flags.out
    out.mkdir(parents=True, exist_ok=True)
    first_size = flags.first_imsize or flags.imsize
    faces = draw(out / "faces.npy", flags.images, first_size, 0, (0, 1, 2))
    others = draw(out / "others.npy", flags.images, flags.imsize, 1, (2, 0, 1))
    alike = ["--preset", "small", "--batch_size", flags.batch, "--prepared", out / "prepared"]
    first = out / "first"
    if not first.exists():
        words = ["--imsize", first_size, "--total_step", flags.first_steps, "--data", faces, "--run_dir", first]
        sagan("train", *alike, *words)
    elif not Run(first).is_finished():
        sagan("resume", first)
    starts: dict[str, list[object]] = {
        "scratch": [],
        "both": ["--start_from", first],
        "both, one block frozen": ["--start_from", first, "--freeze_d", 1],
        "generator alone": ["--start_from", Run(first).snapshot()],
    }
    alike += ["--imsize", flags.imsize, "--total_step", flags.steps, "--data", others]
    score = ["--eval_every", flags.every, "--eval_num", flags.num, "--extractor", flags.extractor, "--score", "false"]
    for arm in flags.arms:
        print(f"{arm}:", flush=True)
        axes = ["--seed", *flags.seeds, "--jobs", flags.jobs, "--sweep_dir", out / folder_name(arm)]
        sagan("sweep", *alike, *starts[arm], *score, *axes)
    print(f"{'starts from':24} {'step':>6} {'Fréchet':>9}  seeds")
    for arm in flags.arms:
        runs = [Run(path.parent) for path in sorted((out / folder_name(arm) / "runs").glob("*/config.json"))]
        found = [[each for each in read_scores(run, "frechet") if each.card.samples == flags.num] for run in runs]
        scores = [{each.step: each.value for each in own} for own in found]
        for step in range(flags.every, flags.steps + 1, flags.every):
            values = [own.get(step, float("nan")) for own in scores]
            listed = " ".join(f"{value:.4f}" for value in values)
            print(f"{arm:24} {step:6} {statistics.mean(values):9.4f}  {listed}")


if __name__ == "__main__":
    main()
