"""Checkpoints of the published program as a snapshot or a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from sagan.core.attention import Masking
from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.networks.interface import Discriminator, Generator
from sagan.data import choose_source
from sagan.published.keys import read_published
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, DataConfig, ModelConfig, Span, override, with_absolute_paths
from sagan.run.folder import Run, check_free
from sagan.run.weights import Snapshot, save_checkpoint, save_snapshot
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.sentences import command
from sagan.training.trainer import Trainer

SPAN_0 = (
    "span 0 here is full attention, without any mask; the published program's own --span 0 masked the pixel itself: "
    "for a checkpoint trained so, give --span self"
)


def load_published_generator(path: Path, span: Span, masking: Masking = "before") -> tuple[Generator, ModelConfig]:
    """The generator of a published ``{step}_G.pth`` in eval mode on the CPU, and its settings.

    The file does not say how it was trained. ``span``: 0 for no mask at all, "self" for that program's own ``--span
    0``, which masks the pixel itself, else as there. Its code masks ``"before"`` the softmax. It sampled in training
    mode; to draw the very same images, call ``.train()`` on the generator and use batches of 64. Errors as
    `read_published`.
    """
    state = read_published(path, "generator")
    z_dim, width = state["stages.4.0.weight"].shape[0], state["last.weight"].shape[0]
    model = ModelConfig(z_dim=z_dim, g_conv_dim=width, d_conv_dim=width, span=span, masking=masking, norm_axis="input")
    with torch.device("meta"):
        _refuse_other_shapes(build_generator(model), state, path)
    generator = build_generator(model)
    generator.load_state_dict(state)
    power_iterate(generator)  # as that program does in every forward pass
    return generator.eval().requires_grad_(False), model


def load_published_discriminator(path: Path, span: Span, masking: Masking = "before") -> Discriminator:
    """The discriminator of a published ``{step}_D.pth`` in eval mode on the CPU; see `load_published_generator`.

    Where a span leaves a query no key, as span 3 does in the whole 4x4 map, that program spread the attention evenly
    over the excluded keys; here such a query attends to nothing.
    """
    state = read_published(path, "discriminator")
    width = state["stages.32.0.weight"].shape[0]
    model = ModelConfig(d_conv_dim=width, span=span, masking=masking)
    with torch.device("meta"):
        _refuse_other_shapes(build_discriminator(model), state, path)
    discriminator = build_discriminator(model)
    discriminator.load_state_dict(state)
    power_iterate(discriminator)
    return discriminator.eval().requires_grad_(False)


def _refuse_other_shapes(network: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """``network``: without memory, which a file's sizes may ask for in any amount."""
    if any(state[name].shape != like.shape for name, like in network.state_dict().items()):
        raise UserError(f"{path} has weights of other shapes than the published networks")


def import_pair(generator_file: Path, config: Config, console: Console) -> Path:
    """Makes a run from ``{step}_G.pth`` and the ``{step}_D.pth`` beside it, and says what it made.

    ``config`` has the folder, the data, the game, and the span and masking that the files were trained with; the other
    settings of the networks are read from the files. Batch norm's statistics are kept; the files hold no state of the
    optimizers, which start anew. Without a discriminator or without data there is only a snapshot to sample from, and
    no run to resume. Returns the snapshot's path. Raises UserError for files of another kind and for a folder that is
    in use.
    """
    step, folder = _step_of(generator_file), Path(config.run.run_dir or "")
    check_free(folder)
    config = with_absolute_paths(override(config, {"total_step": max(config.run.total_step, step)}))
    generator, model = load_published_generator(generator_file, config.model.span, config.model.masking)
    config = dataclasses.replace(config, model=model)
    discriminator_file = generator_file.with_name(f"{step}_D.pth")
    missing = _missing_to_train(discriminator_file, config.data)
    if config.model.span == 0:
        console.say(SPAN_0)
    if missing:
        console.say(f"for sampling only: {missing}")
    else:
        _save_run(folder, config, generator, discriminator_file, step)
        more = ["--total_step", "N"] if config.run.total_step == step else []
        console.say(f"to go on training (Adam's moments start anew): {command('resume', folder, *more)}")
    snapshot = Run(folder).snapshot_file(step)
    save_snapshot(snapshot, Snapshot(generator, config, step))
    console.say(f"imported step {step:,}; images: {command('sample', folder, '--num', 64, '--out', 'DIR')}")
    return snapshot


def _missing_to_train(discriminator_file: Path, data: DataConfig) -> str:
    """Why training cannot go on from the import, or "". Raises UserError for a data set that does not exist."""
    if data.data is None and data.dataset is None:
        return "no images were given (--data or --dataset)"
    choose_source(data, 64)
    return "" if discriminator_file.exists() else f"there is no {discriminator_file}"


def _save_run(folder: Path, config: Config, generator: Generator, discriminator_file: Path, step: int) -> None:
    """Writes a run at a step, as if it had been trained here up to there."""
    model = config.model
    discriminator = load_published_discriminator(discriminator_file, model.span, model.masking)
    width = discriminator.state_dict()["stages.32.0.weight"].shape[0]
    config = override(config, {"d_conv_dim": width})
    training = Trainer(config, torch.device("cpu"))
    training.generator.load_state_dict(generator.state_dict())
    training.discriminator.load_state_dict(discriminator.state_dict())
    training.average.module.load_state_dict(generator.state_dict())
    training.step = step
    # the config last: without it the folder is not a run, so a half-written one is never resumed
    save_checkpoint(Run(folder).checkpoint_file, training.state())
    Run(folder).write_config(config)


def _step_of(generator_file: Path) -> int:
    number = generator_file.stem.removesuffix("_G")
    if not (generator_file.stem.endswith("_G") and number.isdecimal()):
        raise UserError(f"a published generator's file is named STEP_G.pth, got {generator_file.name}")
    return int(number)
