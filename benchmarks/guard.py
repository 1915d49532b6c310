"""What the guard notices: failures caused on purpose, and false alarms on healthy runs.

    python -m benchmarks.guard [--healthy 20] [--steps 700] [--out guard.jsonl]
    python -m benchmarks.guard --judge runs/spans/runs/* runs/recipe/best/runs/*

Small networks on drawn faces at 32x32, batch 32, a look every 20 steps. Each failure happens at step 400 of a healthy
run, three seeds each: the discriminator's or the generator's learning rate x 20, a NaN gradient, the generator set back
to fresh weights, a generator that draws only one image, or three. The table shows at which step after it the guard
would have gone back, and why; for healthy runs, how many it would have disturbed. The looks are written to ``--out``.
``--judge`` applies the present rules to the looks in the records of runs that were trained before.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from sagan.core.losses import LOSSES
from sagan.data import prepared_store
from sagan.data.batches import Batches
from sagan.run.build import build_generator
from sagan.run.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig, override
from sagan.run.folder import Run
from sagan.run.records import LookRecord
from sagan.run.store import Store
from sagan.system.console import Console
from sagan.training.guard import Diverged, FiniteWatch, Guard
from sagan.training.loop import data_order
from sagan.training.trainer import Trainer

BEGINS = 400
LOOK_EVERY = 20


def settings(seed: int, span: int) -> Config:
    return Config(
        model=ModelConfig(imsize=32, z_dim=64, g_conv_dim=16, d_conv_dim=16, span=span, g_attention=(8, 16)),
        game=GameConfig(batch_size=32, g_lr=2e-4, d_lr=4e-4, ema_halflife=10_000),
        run=RunConfig(seed=seed),
    )


def raise_rate(training: Trainer, name: str) -> None:
    training.config = override(training.config, {name: 20 * getattr(training.config.game, name)})


def break_gradient(training: Trainer) -> None:
    weight = training.discriminator.last.weight
    weight.register_hook(lambda gradient: gradient * math.nan)


def reset_generator(training: Trainer) -> None:
    training.generator.load_state_dict(build_generator(training.config.model, seed=1000).state_dict())


def draw_few_images(training: Trainer, count: int) -> None:
    forward = training.generator.forward
    training.generator.forward = lambda z, labels=None: forward(  # type: ignore[method-assign]
        z[torch.arange(len(z)) % count] + 0.02 * z, labels
    )


FAILURES: dict[str, Callable[[Trainer], None]] = {
    "d_lr x 20": partial(raise_rate, name="d_lr"),
    "g_lr x 20": partial(raise_rate, name="g_lr"),
    "NaN in a gradient": break_gradient,
    "generator reset": reset_generator,
    "one image": partial(draw_few_images, count=1),
    "three images": partial(draw_few_images, count=3),
}


def watched_run(store: Store, seed: int, span: int, steps: int, failure: str | None) -> dict[str, object]:
    """Trains, and gives when and why the guard would have gone back."""
    config = settings(seed, span)
    training = Trainer(config, torch.device("cpu"))
    batches = Batches(store.images, config.game.batch_size, partial(data_order, seed, store.count), channels_last=True)
    guard, watch, alarm = Guard(), FiniteWatch(training.networks()), None
    while training.step < steps and alarm is None:
        if failure and training.step == BEGINS:
            FAILURES[failure](training)
        watch.add(training.step + 1, training.advance(batches))
        if training.step % LOOK_EVERY == 0:
            try:
                watch.check()
                guard.add(training.look(batches))
            except Diverged as diverged:
                alarm = {"step": training.step, "state": diverged.verdict.state, "reason": diverged.verdict.reason}
            if guard.verdict.collapsed:
                alarm = {"step": training.step, "state": guard.verdict.state, "reason": guard.verdict.reason}
    return {
        "failure": failure,
        "seed": seed,
        "span": span,
        "alarm": alarm,
        "looks": list(map(dataclasses.asdict, guard.looks)),
    }


def judge_again(folders: Sequence[Path]) -> None:
    """Prints of runs that were trained before when the guard would first have gone back."""
    alarms = looked = 0
    runs = [Run(folder) for folder in folders if (folder / "config.json").is_file()]
    for run in runs:
        looks = run.records_of(LookRecord)
        guard = Guard(critic=LOSSES[run.config().game.adv_loss].critic)
        judged = [guard.add(look) for look in looks]
        first = next((f"step {look.step} {look.verdict}: {look.reason}" for look in judged if look.collapsed), None)
        looked += len(looks)
        alarms += first is not None
        print(f"{run.folder!s:40} {len(looks):4} looks  {first or 'no alarm'}")
    print(f"{alarms} of {len(runs)} runs, {looked} looks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--judge", type=Path, nargs="+", default=[])
    flags = parser.parse_args()
    if flags.judge:
        judge_again(flags.judge)
        return
    torch.set_num_threads(1)
    plan = [(name, seed, 3) for name in FAILURES for seed in range(flags.seeds)]
    plan += [(None, 100 + number, number % 5) for number in range(flags.healthy)]
    with tempfile.TemporaryDirectory() as folder:
        store = prepared_store(DataConfig(prepared=folder), 32, Console(quiet=True))
        for failure, seed, span in plan:
            found = watched_run(store, seed, span, flags.steps, failure)
            alarm = found["alarm"]
            outcome = f"step {alarm['step'] - BEGINS:+} {alarm['state']}: {alarm['reason']}" if alarm else "no alarm"
            print(f"{failure or 'healthy':18} seed {seed:3} span {span}  {outcome}", flush=True)
            if flags.out:
                with flags.out.open("a") as file:
                    file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
