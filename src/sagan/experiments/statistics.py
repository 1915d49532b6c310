"""Statistics of a few runs: intervals, paired differences and censored times, in plain numpy.

The unit is a seed: runs of one seed share their weights, latents and order of images, so arms are compared seed by
seed. There are two intervals for such differences:

* `t_interval`, Student's: exact for normal differences, and the only one that a handful of seeds allows.
* `sign_flip_interval`: exact for differences that are symmetric about their centre. As n seeds have only 2^n signs, it
  needs 6 seeds for one interval at 95%, and 8 for four at once.

`compare` uses the second where there are enough seeds, else the first. Several arms are compared with one baseline at
an error of (1 - level) / arms each (Bonferroni), so that all intervals hold together with probability ``level``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Method = Literal["t", "sign flips"]

LEVEL = 0.95
MOST_FLIPPED = 16  # up to this many values all 2^n signs are tried; of more, DRAWS choices are drawn
DRAWS = 10_000
_ROUNDING = 1e-9  # relative; smaller differences are rounding errors


@dataclass(frozen=True)
class Interval:
    """An interval that contains the true value with probability ``level`` or more, if ``method``'s assumptions hold."""

    low: float
    high: float
    level: float
    method: Method

    def excludes(self, value: float) -> bool:
        return value < self.low or value > self.high


# ---- one sample


def mean(values: ArrayLike) -> float:
    """The mean. Raises ValueError for no values and for non-finite ones."""
    return float(_checked(values).mean())


def spread(values: ArrayLike) -> float | None:
    """The standard deviation over seeds, divided by n - 1; None for one value."""
    checked = _checked(values)
    return float(checked.std(ddof=1)) if len(checked) > 1 else None


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Student's interval for the mean of a normal sample: mean ± t s / sqrt(n); None for one value.

    Source: Student (1908), "The probable error of a mean", Biometrika 6.
    """
    checked = _checked(values)
    deviation = spread(checked)
    if deviation is None:
        return None
    middle, count = float(checked.mean()), len(checked)
    half = t_quantile(level, count - 1) * deviation / math.sqrt(count)
    return Interval(middle - half, middle + half, level, "t")


# ---- Student's distribution


def t_probability(t: float, df: int) -> float:
    """P(|T| <= t) of Student's distribution with ``df`` degrees of freedom, 1 or more.

    Source: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4, finite sums in the angle atan(t / sqrt(df)).
    """
    assert df >= 1
    angle = math.atan(t / math.sqrt(df))
    square = math.cos(angle) ** 2
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for number in range(1 + odd, df, 2):  # each term times (1/2, 3/4 ..., or 2/3, 4/5 ...) cos^2 is the next
        total += term
        term *= square * number / (number + 1)
    series = math.sin(angle) * total
    return 2 / math.pi * (angle + series) if odd else series


@functools.lru_cache(maxsize=256)
def t_quantile(level: float, df: int) -> float:
    """The t for which P(|T| <= t) of Student's distribution is ``level``, from 0 to below 1."""
    assert 0 <= level < 1
    low, high = 0.0, 1.0
    while t_probability(high, df) < level:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_probability(middle, df) < level else (low, middle)
    return high


# ---- signs


def sign_flip_p(differences: ArrayLike, seed: int = 0) -> float:
    """Fisher's exact two-sided p: the share of the 2^n choices of signs whose mean is at least as far from 0 as the
    observed one.

    Exact where differences without an effect are symmetric about 0, as they are when arm and baseline are
    exchangeable. Never below 2 / 2^n: 0.25 for three seeds. Of more than `MOST_FLIPPED` values `DRAWS` choices are
    drawn, and the observed one is counted among them, which keeps p valid (Phipson and Smyth, 2010).

    Source: Fisher (1935), "The design of experiments", section 21.
    """
    checked = _checked(differences)
    observed = abs(checked.sum())
    if len(checked) <= MOST_FLIPPED:
        sums = _subset_sums(2 * checked)[0] - checked.sum()  # flipping all but a subset
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(DRAWS, len(checked)))
        sums = np.append(signs @ checked, observed)
    slack = 1e-12 * np.abs(checked).sum()  # for sums of the same numbers in another order
    return float(np.mean(np.abs(sums) >= observed - slack))


def smallest_sign_flip_p(count: int) -> float:
    """The smallest p that `sign_flip_p` can give for ``count`` values."""
    return 2 / 2**count if count <= MOST_FLIPPED else 1 / (DRAWS + 1)


def sign_flip_interval(differences: ArrayLike, level: float = LEVEL) -> Interval | None:
    """The interval of all shifts that `sign_flip_p` does not reject; None for too few values and for more than
    `MOST_FLIPPED`.

    The means of the 2^n - 1 subsets cut the line into 2^n pieces that contain the centre of a symmetric distribution
    with equal probability. So the k-th smallest and the k-th largest mean enclose it with probability 1 - 2k / 2^n.

    Source: Hartigan (1969), "Using subsample values as typical values", JASA 64.
    """
    checked = _checked(differences)
    count = len(checked)
    if count > MOST_FLIPPED:
        return None
    pieces = 2**count
    cut = math.floor((1 - level) * pieces / 2 + 1e-9)
    if cut < 1:
        return None
    sums, sizes = _subset_sums(checked)
    means = np.sort(sums[1:] / sizes[1:])  # the first subset is empty
    return Interval(float(means[cut - 1]), float(means[-cut]), 1 - 2 * cut / pieces, "sign flips")


def _subset_sums(values: Floats) -> tuple[Floats, Floats]:
    """The sums of all 2^n subsets, and their sizes; the empty one is first."""
    sums, sizes = np.zeros(1), np.zeros(1)
    for value in values:
        sums, sizes = np.concatenate([sums, sums + value]), np.concatenate([sizes, sizes + 1])
    return sums, sizes


# ---- arms against a baseline


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number: if those at or below a level are rejected, the probability of any false
    rejection is at most that level, however the tests depend on each other.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """An arm minus the baseline, over the seeds that both have.

    ``interval`` is None below two seeds, and where all pairs differ by the same. ``p`` is `sign_flip_p` adjusted by
    `holm`, ``smallest_p`` the smallest value it could take; both are None without a seed.
    """

    seeds: tuple[int, ...] = ()
    difference: float | None = None
    interval: Interval | None = None
    p: float | None = None
    smallest_p: float | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and self.interval.excludes(0)


def compare(
    arms: Sequence[Mapping[int, float]], baseline: Mapping[int, float], level: float = LEVEL
) -> list[Comparison]:
    """Each arm's scores, by seed, compared with the baseline's of the same seeds.

    The intervals contain all true differences together with probability ``level``. Arms without a seed in common with
    the baseline count as arms too.
    """
    own = 1 - (1 - level) / max(1, len(arms))
    paired = [sorted(set(arm) & set(baseline)) for arm in arms]
    differences = [[arm[seed] - baseline[seed] for seed in seeds] for arm, seeds in zip(arms, paired, strict=True)]
    p_values = holm([sign_flip_p(values) if values else 1.0 for values in differences])
    return [_comparison(*each, len(arms), own) for each in zip(paired, differences, p_values, strict=True)]


def _comparison(seeds: list[int], differences: list[float], p: float, arms: int, level: float) -> Comparison:
    if not seeds:
        return Comparison()
    equal = np.ptp(differences) <= _ROUNDING * np.abs(differences).max()  # then nothing is known of their variance
    interval = None if equal else sign_flip_interval(differences, level) or t_interval(differences, level)
    smallest = min(1.0, arms * smallest_sign_flip_p(len(seeds)))
    return Comparison(tuple(seeds), mean(differences), interval, p, min(smallest, p))


# ---- times to a threshold


def first_reached(scores: Mapping[int, float], threshold: float, *, lower: bool = True) -> int | None:
    """The first step at which a score is at the threshold or better; None where none is."""
    reached = (step for step, value in scores.items() if (value <= threshold if lower else value >= threshold))
    return min(reached, default=None)


def censored_median(times: Sequence[float], reached: Sequence[bool]) -> float | None:
    """The median time to an event, where some times are censored: the event had not been reached when they ended.

    It is the first time at which the Kaplan-Meier estimate of the share without the event is half or less; None where
    it stays above.

    Source: Kaplan and Meier (1958), "Nonparametric estimation from incomplete observations", JASA 53.
    """
    without = 1.0
    for time in sorted({time for time, event in zip(times, reached, strict=True) if event}):
        watched = sum(other >= time for other in times)
        events = sum(other == time and event for other, event in zip(times, reached, strict=True))
        without *= 1 - events / watched
        if without <= 0.5 + 1e-12:
            return time
    return None


def _checked(values: ArrayLike) -> Floats:
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim != 1 or not len(checked):
        raise ValueError(f"statistics need a vector of one value or more, got an array of shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise ValueError("statistics need finite numbers, and one of the values is NaN or infinite")
    return checked
