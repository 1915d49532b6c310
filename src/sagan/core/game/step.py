"""The adversarial game and nothing else: one step of the discriminator, one step of the generator.

Networks, optimisers, images and latents go in; losses come out, as scalars left on their device. Nothing here waits for
the GPU, reads a value back or draws a random number, so a step can be captured in a CUDA graph and replayed. The
published program differs in two ways that are not followed: it backpropagates the discriminator's loss into the
generator as well and discards the result (a third of its arithmetic), and it takes separate optimiser steps for
WGAN-GP's loss and its penalty, which makes the penalty's weight meaningless under Adam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.losses import AdversarialLoss, lecam_penalty, move_anchors
from sagan.core.networks.interface import Discriminator, Generator

Penalty = Callable[[Tensor, Tensor], Tensor]  # real and fake images, as the discriminator sees them -> weighted penalty
Reduce = Callable[[nn.Module, dict[str, Tensor]], None]  # a network with its gradient, and what was measured
Augment = Callable[[Tensor], Tensor]  # images -> images; its random numbers are already bound


def discriminator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
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
    max_norm: float | None = None,
    reduce: Reduce = lambda network, measured: None,
) -> dict[str, Tensor]:
    """Updates the discriminator once on real (batch, *shape) and generated images; the generator is not changed.

    Args:
        penalty: added to the loss.
        lecam: weight of `lecam_penalty`, which needs ``anchors`` (2,) and updates them in place.
        augment: applied to real and generated images together, before the discriminator sees them.
        labels, fake_labels: classes (batch,) of the real images and of those to generate, for conditional networks.
        precision: "fp32", or "bf16" for bfloat16 products with float32 weights.
        max_norm: a longer gradient is scaled down to this norm.
        reduce: called before the gradient is used. With several processes it replaces the gradient, and what was
            measured, by those of the whole batch, in place.

    Returns ``d_loss`` (the adversarial part), ``d_loss_real``, ``d_real`` and ``d_fake`` (mean logits), ``d_grad_norm``
    (before it is scaled down) and, where they are asked for, ``penalty`` and ``lecam`` (weighted): detached scalars.
    """
    power_iterate(discriminator)
    optimizer.zero_grad(set_to_none=True)
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
    measured = {name: value.detach() for name, value in (measured | {"d_loss": adversarial}).items()}
    reduce(discriminator, measured)
    if anchors is not None:
        move_anchors(anchors, measured["d_real"], measured["d_fake"])
    return measured | {"d_grad_norm": _update(discriminator, optimizer, max_norm)}


def generator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    z: Tensor,
    *,
    loss: AdversarialLoss,
    real: Tensor | None = None,
    augment: Augment | None = None,
    labels: Tensor | None = None,
    real_labels: Tensor | None = None,
    precision: str = "fp32",
    max_norm: float | None = None,
    reduce: Reduce = lambda network, measured: None,
) -> dict[str, Tensor]:
    """Updates the generator once on latents z (batch, z_dim); the discriminator is not changed.

    A paired loss needs a batch of ``real`` images and, for conditional networks, their ``real_labels``; the other
    arguments are those of `discriminator_step`. Returns ``g_loss`` and ``g_grad_norm``, detached scalars.
    """
    power_iterate(generator)
    optimizer.zero_grad(set_to_none=True)
    discriminator.requires_grad_(False)
    try:
        with _autocast(z.device, precision):
            images = generator(z, labels)
            logits = discriminator(augment(images) if augment else images, labels).float()
            real_logits = _judge(discriminator, real, real_labels, augment) if loss.paired else logits
        value = loss.generator(logits, real_logits)
        value.backward()
    finally:
        discriminator.requires_grad_(True)
    measured = {"g_loss": value.detach()}
    reduce(generator, measured)
    return measured | {"g_grad_norm": _update(generator, optimizer, max_norm)}


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def _judge(discriminator: Discriminator, real: Tensor | None, labels: Tensor | None, augment: Augment | None) -> Tensor:
    assert real is not None, "a paired loss compares with real images"
    return discriminator(augment(real) if augment else real, labels).float()


def _update(network: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> Tensor:
    """Takes an optimiser step, with the gradient scaled down to ``max_norm`` if given; returns its norm before."""
    norm = get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    if max_norm is not None:
        clip_grads_with_norm_(network.parameters(), max_norm, norm)
    optimizer.step()
    return norm
