"""Trains the three runs of guides/curves.md and draws them: python docs/figures/curves.py

It takes some 10 minutes on two idle cores. Runs that are there already, in runs/curves, are only drawn.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import sagan

IMAGES = Path(__file__).parent.parent / "images"
RUNS = Path("runs/curves")
COMMON = (
    "--preset quick --g_conv_dim 8 --d_conv_dim 8 --batch_size 16 --log_step 10 --sample_step 250 --snapshot_every 500"
)
CHANGED = {  # by the name of the run: its flags, and the steps whose samples are shown
    "healthy": ("--total_step 1500", (250, 750, 1500)),
    "d-winning": ("--total_step 750 --d_lr 0.02", (250, 500, 750)),
    "collapse": ("--total_step 1000 --g_lr 0.01", (250, 500, 1000)),
}


def train(name: str) -> None:
    words = [*COMMON.split(), *CHANGED[name][0].split(), "--run_dir", str(RUNS / name)]
    subprocess.run([sys.executable, "-m", "sagan", "train", *words], check=True)


def draw(name: str) -> None:
    """The logits, what the guard measured, and samples of a run."""
    rows = sagan.open_run(RUNS / name).records()
    trained = [row for row in rows if row["kind"] == "train"]
    looks = [row for row in rows if row["kind"] == "guard"]
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.4), height_ratios=[2, 3])
    for key, label in ("d_real", "D(real)"), ("d_fake", "D(fake)"):
        axes[0, 0].plot([row["step"] for row in trained], [row[key] for row in trained], label=label)
    for key, label in ("separation", "told apart"), ("pixel_spread", "spread in pixels"), ("nearest", "nearest fake"):
        axes[0, 1].plot([row["step"] for row in looks], [row[key] for row in looks], label=label)
    for key in [key for key in trained[0] if key.startswith("gamma_")]:
        layer = key.removeprefix("gamma_")
        axes[0, 2].plot([row["step"] for row in trained], [row[key] for row in trained], label=layer)
    for each, title in zip(axes[0], ("mean logits", "the guard's looks", "gamma"), strict=True):
        each.set_title(title, fontsize=9)
        each.tick_params(labelsize=7)
        each.legend(fontsize=6)
    axes[0, 1].set_ylim(0, 1.1)
    for each, step in zip(axes[1], CHANGED[name][1], strict=True):
        picture = Image.open(RUNS / name / "samples" / f"{step}_fake.png")
        each.imshow(picture.crop((0, 0, picture.width // 2, picture.height // 2)), interpolation="nearest")
        each.set_title(f"step {step:,}", fontsize=9)
        each.axis("off")
    figure.tight_layout()
    figure.savefig(IMAGES / f"curves-{name}.png", dpi=90)


if __name__ == "__main__":
    for name in CHANGED:
        if not (RUNS / name).exists():
            train(name)
        draw(name)
