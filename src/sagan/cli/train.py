"""`sagan train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sagan.cli.flags import group, read
from sagan.cli.settings import at_odds, check_image_path, without_effect
from sagan.run.config import Config, override
from sagan.run.presets import PRESETS, check_preset
from sagan.system.console import Console
from sagan.system.typed import fill

_PUBLISHED_NAMES = {
    "d_iters": "here it is --n_critic",
    "model_save_step": "here it is --snapshot_every",
    "use_tensorboard": "here it is --tensorboard",
    "model_save_path": "here it is --run_dir",
    "version": "here it is --run_dir",
    "log_path": "records are written into the run's folder, --run_dir",
    "sample_path": "here it is --sample_dir",
    "pretrained_model": "`sagan resume RUN` goes on with a run, and `sagan import` brings in a published checkpoint",
    "train": "`sagan sample RUN --out DIR` draws images",
    "num_workers": "images are decoded once, before training, and no workers are needed",
    "parallel": "training runs on one device",
    "model": "the model is sagan",
}


@dataclass(frozen=True)
class TrainFlags:
    """Train a generator.
    --preset NAME starts from named settings, which the flags below change.
      sagan train --preset quick
      sagan train --data my_photos --imsize 64 --span 3
      sagan train --dataset celeb --image_path data --span 3 --total_step 100000"""

    config: Config = field(default_factory=Config)
    preset: str = "best"
    """The settings to start from: best, published, paper or quick."""
    dry_run: bool = False
    """Train nothing: say what the run would cost, and how long it would take by a few steps on noise."""


def train_defaults(words: Sequence[str]) -> TrainFlags:
    """The flags as they are where only a preset is given, if any of the words gives one."""
    preset = next((each.values[0] for each in group(words) if each.name == "preset" and each.values), TrainFlags.preset)
    check_preset(preset)
    return TrainFlags(PRESETS[preset], preset)


def train(words: Sequence[str], console: Console) -> int:
    """Train a GAN on your images (or on drawn faces)."""
    given = read(TrainFlags, words, "sagan train", _PUBLISHED_NAMES, {"batch_size": int | Literal["auto"]})
    check_image_path(given)
    preset, dry_run = given.pop("preset", TrainFlags.preset), given.pop("dry_run", False)
    check_preset(preset)
    if largest := given.get("batch_size") == "auto":
        del given["batch_size"]
    config = fill(Config, given, PRESETS[preset])
    for sentence in without_effect(given, config) + at_odds(given, config):
        console.warn(sentence)
    from sagan.bench.forecast import check_classes, describe_run
    from sagan.bench.pace import largest_batch
    from sagan.data import choose_source, prepared_store
    from sagan.evaluation.while_training import score_while_training
    from sagan.system.devices import choose_device
    from sagan.training.start import settle, start_run

    store = None
    if largest or dry_run:
        check_classes(config.model)
        device = choose_device(config.run.device)
        config = settle(config, device)
    if largest:
        store = None if dry_run else prepared_store(config.data, config.model.imsize, console)
        size = largest_batch(config, device, 1024 if store is None else min(store.count, 1024))
        console.say(f"the largest batch that fits is {size}")
        config = override(config, {"batch_size": size})
    if dry_run:
        choose_source(config.data, config.model.imsize)  # which says what is wrong with it
        for line in describe_run(config, device):
            console.say(line)
        return 0
    return start_run(config, console, score_while_training(config, console), store)
