"""`sagan train` and `sagan resume`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from sagan.cli.flags import flags_of, group, optional_flags, read
from sagan.cli.together import compare_flags
from sagan.run.config import Config, DataConfig, ModelConfig, RunConfig, idle_settings, override, resumable, settings
from sagan.run.presets import AUTO, PRESETS, automatic_preset, check_preset
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.launch import run_on_gpus
from sagan.system.sentences import typed
from sagan.system.typed import fill
from sagan.system.world import World, joined

_PUBLISHED_NAMES = {
    "d_iters": "use --n_critic",
    "model_save_step": "use --snapshot_every",
    "use_tensorboard": "use --tensorboard",
    "model_save_path": "use --run_dir",
    "version": "use --run_dir",
    "log_path": "records are written into the run's folder, --run_dir",
    "sample_path": "use --sample_dir",
    "pretrained_model": "`sagan resume RUN` continues a run, and `sagan import` imports a published checkpoint",
    "train": "`sagan sample RUN --out DIR` draws images",
    "num_workers": "images are decoded once, before training, so no workers are needed",
    "parallel": "use --gpus",
    "model": "the only model is sagan",
}


@dataclass(frozen=True)
class TrainFlags:
    """Train a generator on a folder of images, a data set or drawn faces.
    --preset NAME chooses the settings to start from; the other flags change them.
      sagan train --preset quick
      sagan train --data my_photos --imsize 64 --span 3
      sagan train --dataset celeb --image_path data --span 3 --total_step 100000"""

    config: Config = field(default_factory=Config)
    preset: str = "best"
    """The settings to start from: best, published, paper, quick or small. auto: best on a GPU, else small."""
    gpus: int = 1
    """Train on this many GPUs of this machine, one process each; --batch_size is that of all together. For several
    machines use torchrun."""
    dry_run: bool = False
    """Do not train: show what the run would cost and, from a few steps on noise, how long it would take."""


def train_defaults(words: Sequence[str]) -> TrainFlags:
    """The flags of the preset that the words name, or of the default one."""
    preset = next((each.values[0] for each in group(words) if each.name == "preset" and each.values), TrainFlags.preset)
    check_preset(preset, AUTO)
    return TrainFlags(PRESETS[TrainFlags.preset if preset == AUTO else preset], preset)


def train(words: Sequence[str], console: Console) -> int:
    """Train a GAN on your images, or on drawn faces."""
    with joined() as world:
        return _train(words, console, world)


def _train(words: Sequence[str], console: Console, world: World) -> int:
    given = read(TrainFlags, words, "sagan train", _PUBLISHED_NAMES, {"batch_size": int | Literal["auto"]})
    if (gpus := given.pop("gpus", 1)) != 1 and world.size == 1:
        return run_on_gpus(gpus, given.get("device", "auto"), ["train", *words])
    check_image_path(given)
    preset, dry_run = given.pop("preset", TrainFlags.preset), given.pop("dry_run", False)
    check_preset(preset, AUTO)
    if preset == AUTO:
        from sagan.system.devices import choose_device

        preset = automatic_preset(choose_device(given.get("device", "auto")).type)
        console.say(f"preset: {preset}, by this machine")
    if largest := given.get("batch_size") == "auto":
        del given["batch_size"]
    base = PRESETS[preset]
    if (place := given.get("start_from")) is not None:
        from sagan.training.start_from import with_networks_of

        base = with_networks_of(base, place)
    config = fill(Config, given, base)
    chosen = {"preset": preset, "dry_run": dry_run, "gpus": gpus, **settings(config)}
    compare_flags(world, "train", chosen | ({"batch_size": "auto"} if largest else {}))
    _warn_of_idle(given, config, console)
    _warn_of_penalties(given, config, console)
    from sagan.bench.forecast import describe_run, with_images_known
    from sagan.bench.pace import largest_batch
    from sagan.data import choose_source, prepared_store
    from sagan.data.batches import check_count
    from sagan.evaluation.while_training import score_while_training
    from sagan.training.checks import check_new_run, refuse_one_shard
    from sagan.training.start import settle, start_run

    refuse_one_shard(given, world.size)
    scoring, store = score_while_training(config, console) if world.leads else None, None
    if world.size > 1 and (largest or dry_run):
        which = "--batch_size auto" if largest else "--dry_run"
        raise UserError(f"{which} measures one process: give it without torchrun and --gpus")
    if largest or dry_run:
        device = check_new_run(config)
        source = choose_source(config.data, config.model.imsize, config.model.channels)
        config = settle(config, device)
        counted = with_images_known(config, lambda *_: source)
    if largest:
        outputs = config.run.run_dir or "runs", config.run.sample_dir
        if not dry_run:
            imsize, channels = config.model.imsize, config.model.channels
            store = prepared_store(config.data, imsize, console, source, outputs, channels)
        images = len(source) if store is None else store.count
        size = largest_batch(counted, device, min(images, 1024))
        console.say(f"the largest batch that fits is {size}")
        config, counted = (override(each, {"batch_size": size}) for each in (config, counted))
    if dry_run:
        check_count(len(source), config.game.batch_size)
        for line in describe_run(counted, device):
            console.say(line)
        return 0
    return start_run(config, console, scoring, store, world)


def resume_flags() -> type[Any]:
    """The flags of `sagan resume`: the settings that may change, and a few that are only checked against the run's."""
    checked = dict.fromkeys(("span", "imsize", "seed"), " A run keeps its own: another value is refused.")
    chosen = resumable() | checked.keys() | {"gpus"}
    sections = (TrainFlags, RunConfig, DataConfig, ModelConfig)
    run = Annotated[Path, Positional], "The run's folder, or one of its checkpoint files."
    text = (
        "Resume a run from its last checkpoint. It ends in exactly the bits of a run that was never stopped. "
        "Its folder may be a stranger's: an extractor that runs code, and folders outside of it, are named again."
    )
    return optional_flags("ResumeFlags", text, sections, chosen, {"run": run}, checked)


def resume(words: Sequence[str], console: Console) -> int:
    """Resume a run that was stopped; only its folder is needed."""
    with joined() as world:
        return _resume(words, console, world)


def _resume(words: Sequence[str], console: Console, world: World) -> int:
    own_settings = dict.fromkeys(flags_of(Config), "a run is resumed with its own settings")
    changes = read(resume_flags(), words, "sagan resume", own_settings)
    compare_flags(world, "resume", changes)
    folder, gpus = changes.pop("run"), changes.pop("gpus", None)
    from sagan.evaluation.while_training import score_while_training
    from sagan.run.checkpoints import find_run
    from sagan.run.trust import resumed_config
    from sagan.training.start import resume_run

    changes = {name: value for name, value in changes.items() if value is not None}
    config = resumed_config(find_run(folder)[0], changes)
    if gpus not in (None, 1) and world.size == 1:
        return run_on_gpus(gpus, config.run.device, ["resume", *words])
    _warn_of_idle(changes, config, console)
    scoring = score_while_training(config, console) if world.leads else None
    return resume_run(folder, changes, console, scoring, world)


# ---- settings that do not go together


def check_image_path(given: Mapping[str, Any]) -> None:
    """Raises UserError for --image_path without --dataset, which would have no effect."""
    if "image_path" in given and given.get("dataset") is None:
        raise UserError(
            "--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it, "
            f"or, for your own images, {typed('--data', given['image_path'])}"
        )


def _warn_of_idle(given: Mapping[str, Any], config: Config, console: Console) -> None:
    for name, why in idle_settings(config).items():
        if name in given:
            console.warn(f"--{name} has no effect: {why}")


def _warn_of_penalties(given: Mapping[str, Any], config: Config, console: Console) -> None:
    """Warns where a loss brings a gradient penalty and the preset changes how that is usually applied."""
    game = config.game
    if not game.own_penalty:
        return
    if (game.r1 != 0 or game.r2 != 0) and not {"r1", "r2"} & set(given):
        console.warn(f"the preset adds a gradient penalty to {game.adv_loss}'s own: --r1 0 turns it off")
    if game.penalty_every > 1 and "penalty_every" not in given:
        console.warn(
            f"the preset applies {game.adv_loss}'s gradient penalty in one step of {game.penalty_every}: "
            "--penalty_every 1 applies it in every step, as usual"
        )
