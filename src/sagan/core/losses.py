"""The adversarial losses, one table, and the penalties that go with them.

A loss has two sides: what the discriminator minimises and what the generator minimises, both given logits: (batch,)
float32 tensors of any real value, high for real. All results are scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sagan.core.shapes import ImageShape

Discriminator = Callable[[Tensor], Tensor]  # images to logits


class AdversarialLoss(NamedTuple):
    """The two sides of the game.

    discriminator: of the logits of real and of fake images, its loss in two parts to be added, kept apart for the
        record: what the real images and what the fakes cost. A paired loss cannot be split: it is all in the first.
    generator: of the logits of fake and of real images.
    paired: whether each fake is compared with a real image, which must then be of its class; the generator's side of
        another loss may be given anything for the logits of real images.
    """

    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


LOSSES = {
    # Lim & Ye, arXiv 1705.02894; Tran et al., arXiv 1702.08896; what SAGAN uses.
    "hinge": AdversarialLoss(
        discriminator=lambda real, fake: (F.relu(1 - real).mean(), F.relu(1 + fake).mean()),
        generator=lambda fake, _: -fake.mean(),
    ),
    # Arjovsky et al., arXiv 1701.07875; needs the gradient penalty below.
    "wgan-gp": AdversarialLoss(
        discriminator=lambda real, fake: (-real.mean(), fake.mean()),
        generator=lambda fake, _: -fake.mean(),
    ),
    # Goodfellow et al., arXiv 1406.2661, section 3: the generator's side that does not saturate.
    "non-saturating": AdversarialLoss(
        discriminator=lambda real, fake: (F.softplus(-real).mean(), F.softplus(fake).mean()),
        generator=lambda fake, _: F.softplus(-fake).mean(),
    ),
    # Mao et al., arXiv 1611.04076, equation 9: targets 0 and 1, and 1 for the generator.
    "least-squares": AdversarialLoss(
        discriminator=lambda real, fake: ((real - 1).square().mean() / 2, fake.square().mean() / 2),
        generator=lambda fake, _: (fake - 1).square().mean() / 2,
    ),
    # Jolicoeur-Martineau, arXiv 1807.00734; as in Huang et al. (R3GAN), arXiv 2501.05441, equation 2: image by image.
    "rpgan": AdversarialLoss(
        discriminator=lambda real, fake: (F.softplus(fake - real).mean(), fake.new_zeros(())),
        generator=lambda fake, real: F.softplus(real - fake).mean(),
        paired=True,
    ),
}


def gradient_penalty(discriminator: Discriminator, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean squared distance of the gradient's norm from 1, at points between real and fake images.

    Gulrajani et al., arXiv 1704.00028, equation 3. ``real`` and ``fake`` are (batch, channels, height, width);
    ``share`` (batch,) from 0 to 1 says how real each point is. Differentiable in the discriminator's parameters.
    """
    squared = _squared_gradient_norm(discriminator, torch.lerp(fake, real, share.view(-1, 1, 1, 1)))
    norm = torch.sqrt(squared + 1e-12)  # the square root alone has an infinite derivative at 0
    return (norm - 1).square().mean()


def zero_centred_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Half the mean squared norm of the gradient at the images: R1 at real ones, R2 at fakes, before their weight.

    Mescheder et al., arXiv 1801.04406, equations 9 and 10. Differentiable in the discriminator's parameters.
    """
    return _squared_gradient_norm(discriminator, images).mean() / 2


def _squared_gradient_norm(discriminator: Discriminator, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def default_r1_weight(shape: ImageShape, batch_size: int) -> float:
    """The weight of R1 that grows with the number of pixels and falls with the batch, as StyleGAN2's automatic
    configuration chooses it (Karras et al., arXiv 2006.06676, code): 0.0002 * pixels / batch."""
    return 0.0002 * (shape.height * shape.width) / batch_size


LECAM_MEMORY = 0.99  # what stays of the means of past logits after a step


def lecam_penalty(real: Tensor, fake: Tensor, anchors: Tensor) -> Tensor:
    """How far the logits of real images are from the mean past logit of fakes, and the other way round, squared.

    Tseng et al., arXiv 2104.03310, equation 4 (their code counts one direction only). ``anchors`` (2,) are the means
    of past logits of real images and of fakes.
    """
    return (real - anchors[1]).square().mean() + (fake - anchors[0]).square().mean()


@torch.no_grad()
def move_anchors(anchors: Tensor, real: Tensor, fake: Tensor) -> None:
    """Takes the mean logits of one step, of real images and of fakes, into the anchors, in place."""
    anchors.lerp_(torch.stack([real, fake]), 1 - LECAM_MEMORY)
