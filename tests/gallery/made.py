"""Runs on the disk, made without training."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from sagan.run.build import build_generator
from sagan.run.config import Config, override
from sagan.run.folder import Run
from sagan.run.weights import Snapshot, save_snapshot
from sagan.system.images import grid, save_png
from tests import records

CLASSES = ("<b>cat</b>", "it's")


def make_run(folder, *, seed=1, span=1, steps=(2, 4), classes=CLASSES, total=4):
    """A run at its last step, with a snapshot and a grid at each of the steps, records and a score."""
    changes = {"network": "resnet", "num_classes": len(classes), "span": span, "imsize": 16, "z_dim": 6}
    changes |= {"g_conv_dim": 4, "g_attention": (8, 16), "total_step": total, "run_dir": str(folder)}
    config = override(Config(), changes)
    run = Run.create(folder, config)
    for step in steps:
        generator = build_generator(config.model, seed + step).eval()
        with torch.no_grad():
            for layer in generator.attention.values():
                layer.gamma.fill_(0.5)
        save_snapshot(run.snapshot_file(step), Snapshot(generator, config, step, "0" * 64, classes))
        pixels = np.full((64, 3, 16, 16), 10 * step, np.uint8)
        (folder / "samples").mkdir(exist_ok=True)
        save_png(grid(torch.from_numpy(pixels)), folder / "samples" / f"{step}_fake.png")
    run.append(*(records.train(step) for step in range(1, total + 1)), records.score(total, 30.5))
    return run


def picture(path, shape=(4, 4)):
    Image.new("RGB", shape).save(path)
    return path


def finished(coroutine):
    """The result of a coroutine, run in a thread: that of the tests may have a loop already, which drives a browser."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
