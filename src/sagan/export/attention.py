"""Attention as a few operations that every runtime has, without a constant as large as the matrix of weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor

from sagan.core.attention import Pattern
from sagan.core.layers.self_attention import SelfAttention2d
from sagan.core.networks.interface import Discriminator, Generator

N = TypeVar("N", bound=Generator | Discriminator)

_FAR = 1e9  # minus this is the score of hidden keys, whose exponentials are 0 then


class PlainAttention:
    """The attention of a pattern, for one head; ``weights`` are those of the last call, (batch, queries, keys).

    A key is hidden if it is near in both directions, so two small tables hide all of them: a product with each.
    """

    def __init__(self, pattern: Pattern):
        self.before = pattern.masking == "before"
        self.grid = pattern.height, pattern.width
        self.keys_grid = pattern.height // pattern.pool, pattern.width // pattern.pool
        self.hides = not bool(pattern.mask().all())
        self.rows, self.columns = self._tables(pattern)
        self.weights = torch.empty(0)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
        """q, k and v (batch, 1, rows, dim) to (batch, 1, queries, value_dim)."""
        scores = torch.matmul(q.squeeze(1), k.squeeze(1).transpose(1, 2))
        if self.hides and self.before:
            scores = scores - self._hidden(scores + _FAR)
        weights = scores.softmax(-1)
        self.weights = weights - self._hidden(weights) if self.hides else weights
        return torch.matmul(self.weights, v.squeeze(1)).unsqueeze(1)

    def _hidden(self, values: Tensor) -> Tensor:
        """The values (batch, queries, keys) of hidden keys, and 0 for the others."""
        apart = values.reshape(-1, *self.grid, *self.keys_grid)
        return (apart * self.rows * self.columns).reshape(-1, *values.shape[1:])

    def _tables(self, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Whether a key is near a query by its row, (height, 1, key rows, 1), and by its column."""
        hidden = (~pattern.mask()).reshape(*self.grid, *self.keys_grid)
        rows, columns = (
            hidden.any(3, keepdim=True).any(1, keepdim=True),
            hidden.any(2, keepdim=True).any(0, keepdim=True),
        )
        assert torch.equal(rows & columns, hidden), "this pattern hides other keys than those of rectangles"
        return rows.float(), columns.float()


def with_plain_attention(network: N) -> tuple[N, dict[str, PlainAttention]]:
    """A copy of a network whose attention layers compute by `PlainAttention`, and these by the size of the map."""
    network, plain = copy.deepcopy(network), {}
    for size, layer in network.attention.items():
        assert isinstance(layer, SelfAttention2d)
        layer.attend = plain[size] = PlainAttention(layer.pattern)
    return network, plain
