"""The inception score (Salimans et al. 2016, arXiv 1606.03498): exp of the mean KL(p(class | image) || p(class))."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.moments import check_shape, finite_check, to_float64
from sagan.system.errors import UserError


@dataclass(frozen=True)
class InceptionScore:
    """mean: over the splits. std: their spread, divided by the number of splits."""

    mean: float
    std: float


class InceptionScoreStream:
    """The inception score of ``count`` images whose logits come batch by batch. Memory: splits x classes numbers.

    Split s holds the images from s * count // splits up to (s + 1) * count // splits, **in the order they come**: the
    original program's convention, and torch-fidelity's with ``samples_shuffle=False`` (by default it shuffles them
    first, as torchmetrics always does). Generated images come in random order anyway. Images of a folder sorted by
    class do not: shuffle them, or each split would see few classes and score low.
    """

    def __init__(self, count: int, splits: int = 10) -> None:
        if splits < 1:
            raise UserError(f"splits must be 1 or more, got {splits}")
        if count < splits:
            raise UserError(f"an inception score of {splits} splits needs {splits} images or more, got {count}")
        self.count = count
        self.bounds = [split * count // splits for split in range(splits + 1)]
        self.seen = 0
        self._probabilities: list[Tensor | None] = [None] * splits  # summed over the images of the split
        self._negentropies: list[Tensor | float] = [0.0] * splits  # the sum of p log p, likewise
        self._finite = finite_check("logits")

    def add(self, logits: Tensor) -> None:
        """Adds the next images' logits (n, classes), before the softmax; n from 0 on. On a GPU it does not wait for it,
        and `score` refuses what is NaN or infinite."""
        check_shape(logits, "logits")
        if self.seen + len(logits) > self.count:
            raise UserError(f"{self.count} images were announced, but {self.seen + len(logits)} have come")
        self._finite.add(logits)
        end = self.seen + len(logits)
        for split, (first, last) in enumerate(itertools.pairwise(self.bounds)):
            mine = logits[max(first - self.seen, 0) : max(last - self.seen, 0)]
            if len(mine):
                self._add_to(split, mine)
        self.seen = end

    def score(self) -> InceptionScore:
        """The score, once all ``count`` images have come: from 1 to the number of classes."""
        if self.seen != self.count:
            raise UserError(f"{self.count} images were announced, but only {self.seen} have come")
        self._finite.verify()
        scores = torch.tensor([self._score_of(split) for split in range(len(self._probabilities))], dtype=torch.float64)
        return InceptionScore(scores.mean().item(), scores.std(correction=0).item())

    def _add_to(self, split: int, logits: Tensor) -> None:
        logs = to_float64(logits).log_softmax(1)
        probabilities = logs.exp()
        before = self._probabilities[split]
        summed = probabilities.sum(0)
        self._probabilities[split] = summed if before is None else before + summed
        self._negentropies[split] += (probabilities * logs).sum()

    def _score_of(self, split: int) -> float:
        """exp of: mean over the images of sum p log p, less sum q log q, with q the mean of p."""
        count = self.bounds[split + 1] - self.bounds[split]
        summed = self._probabilities[split]
        assert summed is not None
        mean = summed / count
        divergence = self._negentropies[split] / count - torch.xlogy(mean, mean).sum()
        return divergence.exp().item()


def inception_score(logits: Tensor, *, splits: int = 10) -> InceptionScore:
    """The inception score of logits (n, classes), before the softmax, in the order given; n is ``splits`` or more."""
    stream = InceptionScoreStream(len(logits), splits)
    stream.add(logits)
    return stream.score()
