"""The command that trains a new run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sagan.cli.flags import asks_help, groups, read, show_help
from sagan.run.config import (
    Config,
    idle_settings,
    override,
)
from sagan.run.presets import PRESETS, check_preset
from sagan.system.console import Console
from sagan.system.errors import UserError
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


_HELP = """Train a generator.
--preset NAME starts from named settings ({presets}; by default best), which the flags below change.
  sagan train --preset quick
  sagan train --data my_photos --imsize 64 --span 3
  sagan train --dataset celeb --image_path data --span 3 --total_step 100000"""


@dataclass(frozen=True)
class TrainFlags:
    config: Config = field(default_factory=Config)
    preset: str = "best"
    """Named settings to start from."""
    dry_run: bool = False
    """Train nothing: say what the run would cost, and how long it would take by a few steps on noise."""


def train(arguments: Sequence[str], console: Console) -> int:
    """Train a GAN on your images (or on drawn faces)."""
    if asks_help(arguments):
        preset = _preset_for_help(arguments)
        flags = TrainFlags(PRESETS[preset], preset)
        show_help(TrainFlags, "sagan train", _HELP.format(presets=", ".join(PRESETS)), flags)
        return 0
    values = read(TrainFlags, arguments, "sagan train", _PUBLISHED_NAMES, {"batch_size": "auto"})
    preset = values.pop("preset", TrainFlags.preset)
    check_preset(preset)
    base = PRESETS[preset]
    from sagan.data import choose_source, prepared_store
    from sagan.evaluation.while_training import scoring
    from sagan.system.devices import choose_device
    from sagan.training.session import settle
    from sagan.training.start import start_run

    largest = values.get("batch_size") == "auto"
    if largest:
        del values["batch_size"]
    check_use(values)
    dry_run = values.pop("dry_run", False)
    config = fill(Config, values, base)
    for sentence in without_effect(values, config) + _at_odds(values, config):
        console.warn(sentence)
    if config.model.num_classes == "auto" and (largest or dry_run):
        raise UserError(
            "--num_classes must be a number here: how many the images have is found out when they are opened"
        )
    store = None
    if largest or dry_run:
        config = settle(config, choose_device(config.run.device))
    if largest:
        store = None if dry_run else prepared_store(config.data, config.model.imsize, console)
        config = _with_largest_batch(config, 1024 if store is None else store.count, console)
    if dry_run:
        choose_source(config.data, config.model.imsize)  # which says what is wrong with it
        return _say_cost(config, console)
    return start_run(config, console, scoring(config, console), store)


def _preset_for_help(arguments: Sequence[str]) -> str:
    """The preset whose defaults the help shows: the one that is named, or the usual one."""
    for group in groups(arguments):
        if group.name == "preset" and (group.value or group.words):
            name = group.value or group.words[0]
            check_preset(name)
            return name
    return TrainFlags.preset


def check_use(values: dict[str, Any]) -> None:
    """Raises UserError for a setting that would be without effect, and something else trained on than was meant."""
    if "image_path" in values and values.get("dataset") is None:
        raise UserError(
            "--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it, "
            f"or, for images of your own, --data {values['image_path']}"
        )


def _at_odds(values: dict[str, Any], config: Config) -> list[str]:
    """A sentence for what was asked for and goes badly with what the preset adds to it."""
    game, said = config.game, []
    if game.adv_loss == "wgan-gp" and (game.r1 != 0 or game.r2 != 0) and not {"r1", "r2"} & set(values):
        said.append("wgan-gp has a gradient penalty of its own, and the preset adds another: --r1 0 for the loss alone")
    if game.adv_loss == "wgan-gp" and game.penalty_every > 1 and "penalty_every" not in values:
        every = f"one step in {game.penalty_every}"
        said.append(
            f"the preset takes wgan-gp's gradient penalty in {every}: --penalty_every 1 for every step, as usual"
        )
    return said


def without_effect(values: dict[str, Any], config: Config) -> list[str]:
    """A sentence for each flag that was given and changes nothing."""
    return [f"--{name} changes nothing: {why}" for name, why in idle_settings(config).items() if name in values]


def _with_largest_batch(config: Config, limit: int, console: Console) -> Config:
    from sagan.bench.pace import largest_batch
    from sagan.system.devices import choose_device

    size = largest_batch(config, choose_device(config.run.device), min(limit, 1024))
    console.say(f"the largest batch that fits is {size}")
    return override(config, {"batch_size": size})


def _say_cost(config: Config, console: Console) -> int:
    from sagan.bench.cost import describe_cost
    from sagan.bench.pace import measured_pace
    from sagan.system.devices import choose_device

    device = choose_device(config.run.device)
    for line in describe_cost(config, device):
        console.say(line)
    console.say(measured_pace(config, device).describe())
    return 0
