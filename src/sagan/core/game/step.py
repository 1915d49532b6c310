"""The adversarial game and nothing else: one step of the discriminator, one step of the generator.

Networks, optimisers, images and latents go in; losses come out, as scalars left on their device. Nothing here waits for
the GPU, reads a value back or draws a random number, so a step can be captured in a CUDA graph and replayed. The
published program differs in two ways that are not followed: it backpropagates the discriminator's loss into the
generator as well and discards the result (a third of its arithmetic), and it takes separate optimiser steps for
WGAN-GP's loss and its penalty, which makes the penalty's weight meaningless under Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.losses import AdversarialLoss, lecam_penalty, move_anchors
from sagan.core.networks.interface import Discriminator, Generator

Penalty = Callable[[Tensor, Tensor], Tensor]  # real and fake images, as the discriminator sees them -> weighted penalty
Gradient = Callable[[], dict[str, Tensor]]  # leaves a gradient in ``.grad``; returns what was measured
Augment = Callable[[Tensor], Tensor]  # images -> images; its random numbers are already bound


def discriminator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    z: Tensor,
    *,
    max_norm: float | None = None,
    anchors: Tensor | None = None,
    **game: Any,
) -> dict[str, Tensor]:
    """Updates the discriminator once on real (batch, *shape) and generated images; the generator is not changed.

    The arguments are those of `discriminator_gradient` and of `update`; ``anchors`` are moved in place. Returns what
    the former returns, and ``d_grad_norm``.
    """
    gradient = partial(discriminator_gradient, generator, discriminator, real, z, anchors=anchors, **game)
    measured = update(discriminator, optimizer, gradient, "d_grad_norm", max_norm)
    if anchors is not None:
        move_anchors(anchors, measured["d_real"], measured["d_fake"])
    return measured


def generator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    z: Tensor,
    *,
    max_norm: float | None = None,
    **game: Any,
) -> dict[str, Tensor]:
    """Updates the generator once on latents z (batch, z_dim); the discriminator is not changed.

    The arguments are those of `generator_gradient` and of `update`. Returns what the former returns, and
    ``g_grad_norm``.
    """
    gradient = partial(generator_gradient, generator, discriminator, z, **game)
    return update(generator, optimizer, gradient, "g_grad_norm", max_norm)


def update(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    gradient: Gradient,
    norm_name: str,
    max_norm: float | None = None,
) -> dict[str, Tensor]:
    """Takes an optimiser step with a network's gradient, which ``gradient`` computes.

    A gradient longer than ``max_norm`` is scaled down to it. Returns what ``gradient`` returns and, as ``norm_name``,
    the norm before that.
    """
    power_iterate(network)
    optimizer.zero_grad(set_to_none=True)
    measured = gradient()
    norm = get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    if max_norm is not None:
        clip_grads_with_norm_(network.parameters(), max_norm, norm)
    optimizer.step()
    return measured | {norm_name: norm}


def discriminator_gradient(
    generator: Generator,
    discriminator: Discriminator,
    real: Tensor,
    z: Tensor,
    *,
    loss: AdversarialLoss,
    penalty: Penalty | None = None,
    lecam: float = 0.0,
    anchors: Tensor | None = None,
    augment: Augment | None = None,
    labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """Adds the gradient of the discriminator's loss to its ``.grad``.

    Args:
        real, z: images (batch, *shape), and the latents (batch, z_dim) of as many fakes.
        penalty: added to the loss.
        lecam: weight of `lecam_penalty`, which needs ``anchors`` (2,).
        augment: applied to real and generated images together, before the discriminator sees them.
        labels, fake_labels: classes (batch,) of the real images and of those to generate, for conditional networks.
        precision: "fp32", or "bf16" for bfloat16 products with float32 weights.

    Returns ``d_loss`` (the adversarial part), ``d_loss_real``, ``d_real`` and ``d_fake`` (mean logits) and, where they
    are asked for, ``penalty`` and ``lecam`` (weighted): detached scalars.
    """
    with torch.no_grad(), _autocast(real.device, precision):
        images = torch.cat([real, generator(z, fake_labels).to(real)])
        images = augment(images) if augment else images
    with _autocast(real.device, precision):
        # one pass over both: the discriminator has no batch statistics, so this is the same function
        both = None if labels is None or fake_labels is None else torch.cat([labels, fake_labels])
        logits = discriminator(images, both)
    real_logits, fake_logits = logits.float().split(len(real))
    real_part, fake_part = loss.discriminator(real_logits, fake_logits)
    total = adversarial = real_part + fake_part
    measured = {"d_loss_real": real_part, "d_real": real_logits.mean(), "d_fake": fake_logits.mean()}
    if penalty is not None:
        measured["penalty"] = penalty(*images.split(len(real)))
        total = total + measured["penalty"]
    if anchors is not None:
        measured["lecam"] = lecam * lecam_penalty(real_logits, fake_logits, anchors)
        total = total + measured["lecam"]
    total.backward()
    return {name: value.detach() for name, value in (measured | {"d_loss": adversarial}).items()}


def generator_gradient(
    generator: Generator,
    discriminator: Discriminator,
    z: Tensor,
    *,
    loss: AdversarialLoss,
    real: Tensor | None = None,
    augment: Augment | None = None,
    labels: Tensor | None = None,
    real_labels: Tensor | None = None,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """Adds the gradient of the generator's loss to its ``.grad``.

    A paired loss needs a batch of ``real`` images and, for conditional networks, their ``real_labels``; the other
    arguments are those of `discriminator_gradient`. Returns ``g_loss``, a detached scalar.
    """
    trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with _autocast(z.device, precision):
            images = generator(z, labels)
            logits = discriminator(augment(images) if augment else images, labels).float()
            real_logits = _judge(discriminator, real, real_labels, augment) if loss.paired else logits
        value = loss.generator(logits, real_logits)
        value.backward()
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return {"g_loss": value.detach()}


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def _judge(discriminator: Discriminator, real: Tensor | None, labels: Tensor | None, augment: Augment | None) -> Tensor:
    assert real is not None, "a paired loss compares with real images"
    return discriminator(augment(real) if augment else real, labels).float()
