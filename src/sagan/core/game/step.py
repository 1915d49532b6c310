"""The adversarial game and nothing else: one step of the discriminator, one step of the generator.

Networks, optimisers, images and latents go in; the losses come out as scalars left on their device. Nothing here waits
for a GPU, looks at a number, or draws one, so that a step can be captured once and played again. What the published
program does differently, and why not so here: it backpropagates the discriminator's loss into the generator too and
throws the result away (a third of its arithmetic), and steps WGAN-GP's loss and penalty apart, which makes the
penalty's weight meaningless under Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Required, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.losses import AdversarialLoss, lecam_penalty, move_anchors
from sagan.core.networks.interface import Discriminator, Generator

Penalty = Callable[[Tensor, Tensor], Tensor]  # of real and fake images as the discriminator sees them; weighted
AddUp = Callable[[nn.Module, dict[str, Tensor]], None]  # of a network with its gradient, and what was measured
Augment = Callable[[Tensor], Tensor]  # of images; its random numbers are bound already


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context a network runs in: float32 as it is, or bfloat16 products with float32 weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def discriminator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    z: Tensor,
    *,
    max_norm: float | None = None,
    add_up: AddUp = lambda network, measured: None,
    **game: Unpack[DiscriminatorGame],
) -> dict[str, Tensor]:
    """Moves the discriminator once on real (batch, *shape) and generated images; the generator is only used.

    Args:
        max_norm: the gradient is shortened to this length where it is longer.
        add_up: called between the gradient and its use. Where there are several processes it makes the gradient, and
            what was measured, those of the whole batch, in place.
        game: as for `discriminator_gradient`.

    The anchors of the LeCam penalty are moved in place. Returns what `discriminator_gradient` measured, and
    ``d_grad_norm``, the gradient's length before it is shortened: detached scalars.
    """
    power_iterate(discriminator)
    optimizer.zero_grad(set_to_none=True)
    measured = discriminator_gradient(generator, discriminator, real, z, **game)
    add_up(discriminator, measured)
    if (anchors := game.get("anchors")) is not None:
        move_anchors(anchors, measured["d_real"], measured["d_fake"])
    return measured | {"d_grad_norm": _move(discriminator, optimizer, max_norm)}


def generator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    z: Tensor,
    *,
    max_norm: float | None = None,
    add_up: AddUp = lambda network, measured: None,
    **game: Unpack[GeneratorGame],
) -> dict[str, Tensor]:
    """Moves the generator once on latents z (batch, z_dim); the discriminator is only looked through.

    Arguments as for `discriminator_step` and `generator_gradient`. Returns ``g_loss`` and ``g_grad_norm``.
    """
    power_iterate(generator)
    optimizer.zero_grad(set_to_none=True)
    measured = generator_gradient(generator, discriminator, z, **game)
    add_up(generator, measured)
    return measured | {"g_grad_norm": _move(generator, optimizer, max_norm)}


# ---- gradients


class DiscriminatorGame(TypedDict, total=False):
    """The options of `discriminator_gradient`."""

    loss: Required[AdversarialLoss]
    penalty: Penalty | None
    lecam: float
    anchors: Tensor | None
    augment: Augment | None
    labels: Tensor | None
    fake_labels: Tensor | None
    precision: str


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
    """Adds the gradient of the discriminator's loss, over these images, to the gradients of its parameters.

    Args:
        penalty: added to the loss.
        lecam: weight of `lecam_penalty`, which needs ``anchors`` (2,).
        augment: of real and generated images together, before the discriminator sees them.
        labels, fake_labels: classes (batch,) of the real images and of those to generate, for networks that take them.

    Returns ``d_loss`` (its adversarial part), ``d_loss_real``, ``d_real`` and ``d_fake`` (mean logits) and, where they
    are asked, ``penalty`` and ``lecam`` (weighted): detached scalars, all of them means over the images.
    """
    with torch.no_grad(), autocast(real.device, precision):
        images = torch.cat([real, generator(z, fake_labels).to(real)])
        images = augment(images) if augment else images
    with autocast(real.device, precision):
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


class GeneratorGame(TypedDict, total=False):
    """The options of `generator_gradient`."""

    loss: Required[AdversarialLoss]
    real: Tensor | None
    augment: Augment | None
    labels: Tensor | None
    real_labels: Tensor | None
    precision: str


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
    """Adds the gradient of the generator's loss, over these z, to the gradients of its parameters.

    A paired loss needs ``real`` images, as many, of classes ``real_labels``; the rest is as in
    `discriminator_gradient`. Returns ``g_loss``, a detached scalar.
    """
    discriminator.requires_grad_(False)
    try:
        with autocast(z.device, precision):
            images = generator(z, labels)
            logits = discriminator(augment(images) if augment else images, labels).float()
            real_logits = _judge(discriminator, real, real_labels, augment) if loss.paired else logits
        value = loss.generator(logits, real_logits)
        value.backward()
    finally:
        discriminator.requires_grad_(True)
    return {"g_loss": value.detach()}


@torch.no_grad()
def _judge(discriminator: Discriminator, real: Tensor | None, labels: Tensor | None, augment: Augment | None) -> Tensor:
    assert real is not None, "a paired loss compares with real images"
    return discriminator(augment(real) if augment else real, labels).float()


def _move(network: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> Tensor:
    """Moves a network along its gradient, shortened to ``max_norm`` where that is given; gives the length before."""
    norm = get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    if max_norm is not None:
        clip_grads_with_norm_(network.parameters(), max_norm, norm)
    optimizer.step()
    return norm
