"""The adversarial game and nothing else: one step of the discriminator, one step of the generator.

Networks, optimisers, images and latents go in; the losses come out as scalars left on their device, so that nothing
here waits for a GPU. What the published program does differently, and why not so here: it backpropagates the
discriminator's loss into the generator too and throws the result away (a third of its arithmetic), and steps WGAN-GP's
loss and penalty apart, which makes the penalty's weight meaningless under Adam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sagan.layers.spectral_norm import power_iterate
from sagan.losses import AdversarialLoss

Penalty = Callable[[Tensor, Tensor], Tensor]  # of real and fake images, already weighted


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context a network runs in: float32 as it is, or bfloat16 products with float32 weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def discriminator_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    z: Tensor,
    *,
    loss: AdversarialLoss,
    penalty: Penalty | None = None,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """Moves the discriminator once on real (batch, 3, h, w) and generated images; the generator is only used.

    Returns ``d_loss`` (its adversarial part), ``d_loss_real``, ``d_real`` and ``d_fake`` (mean logits) and, where a
    penalty is given, ``penalty``: detached scalars.
    """
    power_iterate(discriminator)
    with torch.no_grad(), autocast(real.device, precision):
        fake = generator(z).to(real)
    with autocast(real.device, precision):
        # one pass over both: the discriminator has no batch statistics, so this is the same function
        logits = discriminator(torch.cat([real, fake]))
    real_logits, fake_logits = logits.float().split([len(real), len(fake)])
    real_part = loss.real_part(real_logits)
    total = adversarial = real_part + loss.fake_part(fake_logits)
    measured = {"d_loss_real": real_part, "d_real": real_logits.mean(), "d_fake": fake_logits.mean()}
    if penalty is not None:
        measured["penalty"] = penalty(real, fake)
        total = total + measured["penalty"]
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    return {"d_loss": adversarial.detach()} | {name: value.detach() for name, value in measured.items()}


def generator_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    z: Tensor,
    *,
    loss: AdversarialLoss,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """Moves the generator once on latents z (batch, z_dim); the discriminator is only looked through.

    Returns ``g_loss``, a detached scalar.
    """
    power_iterate(generator)
    discriminator.requires_grad_(False)
    try:
        with autocast(z.device, precision):
            logits = discriminator(generator(z))
        value = loss.generator(logits.float())
        optimizer.zero_grad(set_to_none=True)
        value.backward()
    finally:
        discriminator.requires_grad_(True)
    optimizer.step()
    return {"g_loss": value.detach()}
