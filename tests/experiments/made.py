"""Sweeps whose runs were never trained: folders with the records that runs would have written."""

import numpy as np
from PIL import Image

from sagan.experiments.sweep import Sweep
from sagan.run.config import Config, ModelConfig, RunConfig
from sagan.run.folder import Run
from sagan.run.plan import make_plan
from tests import records

STEPS = (100, 200, 300, 400)
BASE = Config(
    model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8), run=RunConfig(total_step=400, device="cpu")
)


def made_sweep(folder, base=BASE, left_out=(), **axes):
    """A sweep that is planned and not begun."""
    sweep = Sweep.begin(folder, make_plan(base, axes, left_out, "sagan sweep as in the tests"))
    sweep.write()
    return sweep


def begun(sweep, name, last=STEPS[-1]):
    """A run of the sweep, trained to a step in 0.1 seconds each."""
    planned = sweep.plan.run(name)
    run = Run.create(sweep.run_folder(planned), sweep.config(planned))
    run.append(*(records.train(step) for step in range(50, last + 1, 50)))
    return run


def scored(run, values, metric="frechet", label="Fréchet distance (random-conv)", **card):
    """Adds scores, by step."""
    run.append(*(records.score(step, value, metric, label=label, **card) for step, value in values.items()))
    return run


def with_samples(run, step, shade=0, size=16, count=16):
    """Adds a grid of samples of one shade of grey each, 8 in a row."""
    grid = np.zeros((count // 8 * (size + 2) + 2, 8 * (size + 2) + 2, 3), np.uint8)
    for number in range(count):
        top, left = 2 + number // 8 * (size + 2), 2 + number % 8 * (size + 2)
        grid[top : top + size, left : left + size] = 10 + number * 10 + shade
    path = run.folder / "samples" / f"{step}_fake.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(grid).save(path)
    return path


def full_sweep(folder, effects=None, seeds=(0, 1, 2), noise=1.0, **axes):
    """A finished and scored sweep: at every step an arm's scores are 30 at the start, less the more it is trained, and
    by ``effects[span]`` more than the baseline's, with a part for the seed and some noise."""
    effects = {0: 0.0, 1: -8.0, 3: 0.2} if effects is None else effects
    sweep = made_sweep(folder, span=tuple(effects), seed=seeds, **axes)
    for number, planned in enumerate(sweep.plan.runs()):
        draw = np.random.default_rng(number)
        own = np.random.default_rng(1000 + planned.overrides["seed"]).normal()
        run = begun(sweep, planned.name)
        extra = effects[planned.overrides["span"]]
        scored(run, {step: 60 - step / 10 + extra + 3 * own + noise * draw.normal() for step in STEPS})
        with_samples(run, STEPS[-1], planned.overrides["span"])
    return sweep


def empty_figure(figure, path):
    """In place of `save_figure`: files of that name with next to nothing in them."""
    for ending in ("png", "svg"):
        path.with_name(f"{path.name}.{ending}").write_text(ending)
