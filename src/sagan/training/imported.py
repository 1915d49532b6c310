"""Checkpoints of the published program as a snapshot or a run of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from sagan.config import Config, DataConfig, ModelConfig, RunConfig, Span, to_dict
from sagan.console import Console
from sagan.layers.spectral_norm import power_iterate
from sagan.models.build import build_discriminator, build_generator
from sagan.models.dcgan import Discriminator, Generator
from sagan.models.published import read_published
from sagan.runs import Run
from sagan.training.checkpoint import save_checkpoint
from sagan.training.loop import Training, save_generator

Masking = Literal["before", "after"]

SPAN_0 = (
    "span 0 here is full attention, no mask at all. The published program's own --span 0 masked the pixel itself: for a "
    "checkpoint trained so, give --span self"
)


def load_published_generator(path: Path, span: Span, masking: Masking) -> tuple[Generator, ModelConfig]:
    """The generator of ``{step}_G.pth`` in eval mode on the CPU, and its settings; errors as `read_published`."""
    state = read_published(path, "generator")
    z_dim, width = state["stages.4.0.weight"].shape[0], state["last.weight"].shape[0]
    model = ModelConfig(64, z_dim, width, width, span, masking=masking, norm_axis="input")
    generator = build_generator(model)
    generator.load_state_dict(state)
    power_iterate(generator)  # that program does, in every forward pass
    return generator.eval().requires_grad_(False), model


def load_published_discriminator(path: Path, span: Span, masking: Masking) -> Discriminator:
    """The discriminator of ``{step}_D.pth`` in eval mode on the CPU; errors as `read_published`."""
    state = read_published(path, "discriminator")
    width = state["stages.32.0.weight"].shape[0]
    discriminator = build_discriminator(ModelConfig(64, d_conv_dim=width, span=span, masking=masking))
    discriminator.load_state_dict(state)
    power_iterate(discriminator)
    return discriminator.eval().requires_grad_(False)


def import_pair(
    generator_file: Path, folder: Path, span: Span, masking: Masking, data: DataConfig, console: Console
) -> Path:
    """Makes a run from ``{step}_G.pth`` and, to train on, the ``{step}_D.pth`` beside it; says what it made.

    The generator's snapshot keeps the file's batch-norm statistics. Optimiser moments are not in such files: they start
    anew. Without the discriminator, or without images named in ``data``, there is a snapshot to sample from and no run
    to resume. Returns the snapshot's path.
    """
    step = _step_of(generator_file)
    generator, model = load_published_generator(generator_file, span, masking)
    discriminator_file = generator_file.with_name(f"{step}_D.pth")
    config = Config(data=data, model=model, run=RunConfig(run_dir=str(folder), total_step=max(100_000, step)))
    if span == 0:
        console.say(SPAN_0)
    if discriminator_file.exists() and (data.data or data.dataset):
        discriminator = load_published_discriminator(discriminator_file, span, masking)
        training = Training(config, torch.device("cpu"))
        training.generator.load_state_dict(generator.state_dict())
        training.discriminator.load_state_dict(discriminator.state_dict())
        training.average.module.load_state_dict(generator.state_dict())
        training.step = step
        run = Run.create(folder, to_dict(config))
        save_checkpoint(run.checkpoint_file, {**training.state(), "images": None})
        console.say(f"to train on (Adam's moments start anew): sagan resume {folder} --total_step N")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder)
        missing = (
            "no images were named (--data or --dataset)"
            if discriminator_file.exists()
            else f"there is no {discriminator_file}"
        )
        console.say(f"to sample from only: {missing}")
    snapshot = run.snapshot_file(step)
    save_generator(snapshot, generator, config, step)
    console.say(f"imported step {step:,}; images: sagan sample {snapshot} --num 64 --out DIR")
    return snapshot


def _step_of(generator_file: Path) -> int:
    number = generator_file.stem.removesuffix("_G")
    if not (generator_file.stem.endswith("_G") and number.isdecimal()):
        raise ValueError(f"a published generator's file is named STEP_G.pth, got {generator_file.name}")
    return int(number)
