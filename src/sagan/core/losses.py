"""The adversarial losses, one table, and the penalties that go with them.

A loss has two sides, what the discriminator minimises and what the generator minimises. Both are functions of logits,
float32 (batch,), where high means real. All results are scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sagan.core.shapes import ImageShape

Discriminator = Callable[[Tensor], Tensor]  # images to logits
GradientPenalty = Callable[[Discriminator, Tensor, Tensor, Tensor], Tensor]  # the arguments of `gradient_penalty`


def gradient_penalty(discriminator: Discriminator, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean squared distance of the gradient's norm from 1, at points between real and fake images.

    Gulrajani et al., arXiv 1704.00028, equation 3. ``real`` and ``fake`` are (batch, channels, height, width);
    ``share`` (batch,), from 0 to 1, is the weight of the real image in each point. Differentiable in the
    discriminator's parameters.
    """
    squared = _squared_gradient_norm(discriminator, torch.lerp(fake, real, share.view(-1, 1, 1, 1)))
    norm = torch.sqrt(squared + 1e-12)  # sqrt has an infinite derivative at 0
    return (norm - 1).square().mean()


class AdversarialLoss(NamedTuple):
    """The two sides of the game.

    discriminator: (logits of real images, logits of fakes) -> the loss as two summands, the part of the real images and
        that of the fakes, which are recorded separately. A paired loss cannot be split: it is all in the first.
    generator: (logits of fakes, logits of real images) -> the loss.
    paired: whether each fake is compared with a real image, which must then be of the same class. The generator's side
        of any other loss ignores the logits of real images.
    critic: whether the discriminator estimates a distance, as WGAN's does: its loss has no lower bound, and a
        discriminator that tells all fakes from real images is no sign of collapse.
    penalty: a gradient penalty that the loss needs, unweighted, called as `gradient_penalty` is.
    """

    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False
    critic: bool = False
    penalty: GradientPenalty | None = None


LOSSES = {
    # Lim & Ye, arXiv 1705.02894; Tran et al., arXiv 1702.08896; what SAGAN uses.
    "hinge": AdversarialLoss(
        discriminator=lambda real, fake: (F.relu(1 - real).mean(), F.relu(1 + fake).mean()),
        generator=lambda fake, _: -fake.mean(),
    ),
    # Arjovsky et al., arXiv 1701.07875; with the penalty of Gulrajani et al.
    "wgan-gp": AdversarialLoss(
        discriminator=lambda real, fake: (-real.mean(), fake.mean()),
        generator=lambda fake, _: -fake.mean(),
        critic=True,
        penalty=gradient_penalty,
    ),
    # Goodfellow et al., arXiv 1406.2661, section 3: with the generator's loss that does not saturate.
    "non-saturating": AdversarialLoss(
        discriminator=lambda real, fake: (F.softplus(-real).mean(), F.softplus(fake).mean()),
        generator=lambda fake, _: F.softplus(-fake).mean(),
    ),
    # Mao et al., arXiv 1611.04076, equation 9: targets 0 and 1, and 1 for the generator.
    "least-squares": AdversarialLoss(
        discriminator=lambda real, fake: ((real - 1).square().mean() / 2, fake.square().mean() / 2),
        generator=lambda fake, _: (fake - 1).square().mean() / 2,
    ),
    # Jolicoeur-Martineau, arXiv 1807.00734; as in Huang et al. (R3GAN), arXiv 2501.05441, equation 2: in pairs.
    "rpgan": AdversarialLoss(
        discriminator=lambda real, fake: (F.softplus(fake - real).mean(), fake.new_zeros(())),
        generator=lambda fake, real: F.softplus(real - fake).mean(),
        paired=True,
    ),
}


def zero_centred_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Half the mean squared norm of the gradient at the images: R1 at real ones, R2 at fakes, unweighted.

    Mescheder et al., arXiv 1801.04406, equations 9 and 10. Differentiable in the discriminator's parameters.
    """
    return _squared_gradient_norm(discriminator, images).mean() / 2


def _squared_gradient_norm(discriminator: Discriminator, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def default_r1_weight(shape: ImageShape, batch_size: int) -> float:
    """The weight of R1 by the rule of StyleGAN2-ADA's automatic configuration (Karras et al., arXiv 2006.06676, code):
    0.0002 * pixels / batch."""
    return 0.0002 * (shape.height * shape.width) / batch_size


_LECAM_DECAY = 0.99  # of the moving averages of the logits, per step


def lecam_penalty(real: Tensor, fake: Tensor, anchors: Tensor) -> Tensor:
    """Mean squared distance of the logits of real images from the average past logit of fakes, and vice versa.

    Tseng et al., arXiv 2104.03310, equation 4 (their code counts one direction only). ``anchors`` (2,) are the moving
    averages of the logits of real images and of fakes.
    """
    return (real - anchors[1]).square().mean() + (fake - anchors[0]).square().mean()


@torch.no_grad()
def move_anchors(anchors: Tensor, real: Tensor, fake: Tensor) -> None:
    """Updates the anchors in place with one step's mean logits of real images and of fakes."""
    anchors.lerp_(torch.stack([real, fake]), 1 - _LECAM_DECAY)
