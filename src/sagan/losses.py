"""The adversarial losses and the gradient penalties, one table each.

A loss is a pair: what the discriminator minimises, given its logits on real and fake images, and what the generator
minimises, given the logits on its fakes. Logits are (batch,) float32 tensors of any real value; all losses are scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class AdversarialLoss(NamedTuple):
    """The two sides of the game; the discriminator's is kept in its two parts for the record."""

    real_part: Callable[[Tensor], Tensor]
    fake_part: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


LOSSES = {
    # Lim & Ye, arXiv 1705.02894; Tran et al., arXiv 1702.08896; what SAGAN uses.
    "hinge": AdversarialLoss(
        real_part=lambda real: F.relu(1 - real).mean(),
        fake_part=lambda fake: F.relu(1 + fake).mean(),
        generator=lambda fake: -fake.mean(),
    ),
    # Arjovsky et al., arXiv 1701.07875; needs the gradient penalty below.
    "wgan-gp": AdversarialLoss(
        real_part=lambda real: -real.mean(),
        fake_part=lambda fake: fake.mean(),
        generator=lambda fake: -fake.mean(),
    ),
}


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared distance of the gradient's norm from 1, at points between real and fake images.

    Gulrajani et al., arXiv 1704.00028, equation 3. ``real`` and ``fake`` are (batch, channels, height, width); the
    points are drawn with ``generator`` on the CPU. Differentiable in the discriminator's parameters.
    """
    share = torch.rand(len(real), 1, 1, 1, generator=generator).to(real.device)
    points = torch.lerp(fake, real, share).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    squared = gradient.float().flatten(1).square().sum(1)
    norm = torch.sqrt(squared + 1e-12)  # the square root alone has an infinite derivative at 0
    return (norm - 1).square().mean()


PENALTIES = {"wgan-gp": gradient_penalty}
