"""The inception score (Salimans et al. 2016, arXiv 1606.03498): exp of the mean KL(p(class | image) || p(class))."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.moments import check_shape, finite_check, to_float64

SPLITS = 10


@dataclass(frozen=True)
class InceptionScore:
    """The mean over the splits and its standard error (from their deviation, divided by the number of splits)."""

    value: float
    standard_error: float


class InceptionScoreStream:
    """The inception score of ``count`` images whose logits come batch by batch. Memory: splits x classes numbers.

    Split s holds the images from s * count // splits up to (s + 1) * count // splits, **in the order they come**: the
    original program's convention, and torch-fidelity's with ``samples_shuffle=False`` (by default it shuffles them
    first, as torchmetrics always does). Generated images come in random order anyway. Images of a folder sorted by
    class must be shuffled first, or each split would see few classes and score low.
    """

    def __init__(self, count: int, splits: int = SPLITS) -> None:
        self.bounds = [split * count // splits for split in range(splits + 1)]
        self.seen = 0
        self._probabilities: list[Tensor | float] = [0.0] * splits  # summed over the images of the split
        self._negentropies: list[Tensor | float] = [0.0] * splits  # the sum of p log p, likewise
        self._finite = finite_check("logits")

    def add(self, logits: Tensor) -> None:
        """Adds the next images' logits (n, classes), before the softmax; n from 0 on. Raises UserError for NaN and
        infinite ones; on a GPU, for which it does not wait, `score` does."""
        self._finite.add(check_shape(logits, "logits"))
        for split, (first, last) in enumerate(itertools.pairwise(self.bounds)):
            own = logits[max(first - self.seen, 0) : max(last - self.seen, 0)]
            if len(own):
                logs = to_float64(own).log_softmax(1)
                probabilities = logs.exp()
                self._probabilities[split] += probabilities.sum(0)
                self._negentropies[split] += (probabilities * logs).sum()
        self.seen += len(logits)

    def score(self) -> InceptionScore:
        """The score, once all ``count`` images have come: from 1 to the number of classes."""
        assert self.seen == self.bounds[-1], f"{self.bounds[-1]} images were announced, {self.seen} have come"
        self._finite.verify()
        splits = len(self._probabilities)
        scores = torch.tensor([self._score_of(split) for split in range(splits)], dtype=torch.float64)
        return InceptionScore(scores.mean().item(), scores.std(correction=0).item() / math.sqrt(splits))

    def _score_of(self, split: int) -> float:
        """exp of: mean over the images of sum p log p, less sum q log q, with q the mean of p."""
        count = self.bounds[split + 1] - self.bounds[split]
        mean = torch.as_tensor(self._probabilities[split]) / count
        divergence = self._negentropies[split] / count - torch.xlogy(mean, mean).sum()
        return divergence.exp().item()
