"""Latents: their truncation, ways between them, and the directions that change an image most."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sagan.core.networks.folding import folded
from sagan.core.networks.interface import Generator
from sagan.system.errors import UserError
from sagan.system.randomness import normal

LEAST_TRUNCATION = 0.01
"""Below it nearly every draw would be drawn again."""


def check_truncation(truncation: float | None) -> None:
    """Raises UserError for a truncation that no latents can have."""
    if truncation is None:
        return
    number = isinstance(truncation, int | float) and not isinstance(truncation, bool)
    if not number or not LEAST_TRUNCATION <= truncation < math.inf:
        raise UserError(f"`truncation` must be {LEAST_TRUNCATION} or more, got {truncation!r}")


def truncated_normal(shape: tuple[int, ...], draw: torch.Generator, truncation: float | None = None) -> Tensor:
    """Standard normal numbers, float32 on the CPU; those of a larger magnitude than ``truncation`` are drawn again
    until none is (the truncation trick of BigGAN, arXiv 1809.11096, section 3.1).

    So each number has the normal distribution on [-truncation, truncation]. Numbers within it are those of an
    untruncated draw. None truncates nothing. Raises UserError for less than `LEAST_TRUNCATION`.
    """
    check_truncation(truncation)
    z = normal(shape, draw)
    if truncation is not None:
        while (beyond := z.abs() > truncation).any():
            z = torch.where(beyond, normal(shape, draw), z)
    return z


def slerp(start: Tensor, end: Tensor, share: Tensor | float) -> Tensor:
    """From ``start`` to ``end`` (..., dim) on the sphere: ``share`` 0 gives the one and 1 the other, and between them
    the angle grows evenly, and so does the length. Opposite and zero vectors are joined by a straight line."""
    lengths = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    one, other = (vector / length.clamp_min(1e-12) for vector, length in zip((start, end), lengths, strict=True))
    angle = (one * other).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    share = torch.as_tensor(share, dtype=start.dtype)
    around = (((1 - share) * angle).sin() * one + (share * angle).sin() * other) / sine.clamp_min(1e-6)
    length = (1 - share) * lengths[0] + share * lengths[1]
    return torch.where(sine > 1e-4, around * length, (1 - share) * start + share * end)


def loop(stops: Tensor, frames: int) -> Tensor:
    """A closed way through all ``stops`` (n, dim) by `slerp`, ``frames`` latents from each to the next: (n * frames,
    dim). Raises UserError for fewer than two stops or less than one frame."""
    if len(stops) < 2 or frames < 1:
        raise UserError(f"a walk needs 2 seeds or more and 1 frame or more for each, got {len(stops)} and {frames}")
    shares = torch.arange(frames, dtype=stops.dtype)[:, None] / frames
    following = torch.cat([stops[1:], stops[:1]])
    return torch.cat([slerp(one, other, shares) for one, other in zip(stops, following, strict=True)])


def principal_directions(generator: Generator, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The directions in which z changes the first layer's output most, and by how much, largest first.

    Closed-form factorisation (SeFa, Shen and Zhou, arXiv 2007.06600): the right singular vectors (count, z_dim) of the
    first layer's weight, of length 1, and its singular values (count,). The largest entry of each is positive, so that
    they do not depend on the algorithm. By default all of them. Raises UserError for a count that there is not.
    """
    matrix = folded(generator).first_matrix().double()
    most = min(matrix.shape)  # of a narrow network fewer than z_dim
    count = most if count is None else count
    if not 1 <= count <= most:
        raise UserError(f"the number of directions must be from 1 to {most}, got {count}")
    _, values, rows = torch.linalg.svd(matrix, full_matrices=False)
    rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    return rows[:count].float(), values[:count].float()
