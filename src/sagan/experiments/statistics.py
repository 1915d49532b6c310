"""What a few runs tell, and how surely: intervals, paired differences and times that were not reached, in plain numpy.

A seed is the unit of all of it: runs of one seed share their weights, z and order of images, so arms are compared
seed by seed. Two intervals are for such differences:

* `t_interval`, Student's: exact where differences are normal, and all there is for a handful of seeds.
* `sign_flip_interval`: exact where differences are symmetric about their middle, whatever their shape; but n seeds have
  only 2^n signs, so for a small level of error it needs many: 6 seeds for one interval of 95%, 8 for four at once.

`compare` takes the second where the seeds suffice, else the first. Several arms are compared with one baseline at a
level of (1 - level) / arms each (Bonferroni), so that all intervals together are right as often as ``level`` says.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sagan.system.errors import UserError

Floats = NDArray[np.float64]
Method = Literal["t", "sign flips", "bootstrap"]

LEVEL = 0.95
MOST_FLIPPED = 16  # values whose 2^n signs are all tried; more are drawn at random
MOST_RESAMPLED = 6  # values whose n^n resamples are all made; more are drawn at random
DRAWS = 10_000
_ROUNDING = 1e-9  # of a value: what differs less differs by rounding


@dataclass(frozen=True)
class Interval:
    """An interval that holds the true value with probability ``level`` or more, if what ``method`` assumes is true."""

    low: float
    high: float
    level: float
    method: Method

    def excludes(self, value: float) -> bool:
        """Whether a value is outside."""
        return value < self.low or value > self.high


# ---- one sample


def mean(values: ArrayLike) -> float:
    """The mean. Raises UserError for no values, and for values that are no numbers."""
    return float(_checked(values).mean())


def spread(values: ArrayLike) -> float | None:
    """The standard deviation over seeds (n - 1 below the line); None for one value."""
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


def bootstrap_interval(values: ArrayLike, level: float = LEVEL, seed: int = 0) -> Interval | None:
    """The percentile bootstrap's interval for the mean; None for one value.

    Of up to `MOST_RESAMPLED` values all n^n resamples are made, of more `DRAWS` are drawn. It is too narrow for few
    values: of three it is their range, which holds the mean of a symmetric distribution with probability 1 - 2^-2.

    Source: Efron (1979), "Bootstrap methods: another look at the jackknife", Annals of Statistics 7.
    """
    checked = _checked(values)
    count = len(checked)
    if count == 1:
        return None
    if count <= MOST_RESAMPLED:
        chosen = np.indices((count,) * count).reshape(count, -1).T
    else:
        chosen = np.random.default_rng(seed).integers(count, size=(DRAWS, count))
    means = checked[chosen].mean(axis=1)
    tail = (1 - level) / 2
    low, minus_high = (float(np.quantile(each, tail, method="inverted_cdf")) for each in (means, -means))
    return Interval(low, -minus_high, level, "bootstrap")


# ---- Student's distribution


def t_probability(t: float, df: int) -> float:
    """P(|T| <= t) of Student's distribution with a whole number of degrees of freedom, 1 or more.

    Source: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4, finite sums in the angle atan(t / sqrt(df)).
    """
    if df < 1:
        raise UserError(f"degrees of freedom must be 1 or more, got {df}")
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
    """The t within which Student's distribution lies, to both sides, with probability ``level`` (0 to below 1)."""
    if not 0 <= level < 1:
        raise UserError(f"a level must be from 0 to below 1, got {level}")
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
    """Fisher's exact two-sided p: the share of the 2^n choices of signs whose mean is as far from 0 as the real one.

    Exact where differences are symmetric about 0 if there is no effect, which they are when arm and baseline could be
    exchanged. Never below 2 / 2^n: 0.25 for three seeds. Of more than `MOST_FLIPPED` values `DRAWS` choices are drawn,
    and the real one counts among them, which keeps p valid (Phipson and Smyth, 2010).

    Source: Fisher (1935), "The design of experiments", section 21.
    """
    checked = _checked(differences)
    observed = abs(checked.sum())
    if len(checked) <= MOST_FLIPPED:
        sums = _subset_sums(2 * checked)[0] - checked.sum()  # flipping all but a subset
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(DRAWS, len(checked)))
        sums = np.append(signs @ checked, observed)
    slack = 1e-12 * np.abs(checked).sum()  # sums of the same numbers in another order
    return float(np.mean(np.abs(sums) >= observed - slack))


def smallest_sign_flip_p(count: int) -> float:
    """The smallest p that `sign_flip_p` can give for so many values."""
    return 2 / 2**count if count <= MOST_FLIPPED else 1 / (DRAWS + 1)


def sign_flip_interval(differences: ArrayLike, level: float = LEVEL) -> Interval | None:
    """The interval of all shifts that `sign_flip_p` does not reject; None for too few values, or too many to try all.

    The means of the 2^n - 1 subsets cut the line into 2^n pieces that hold the centre of a symmetric distribution
    with equal probability. So from the k-th smallest mean to the k-th largest it is held with 1 - 2k / 2^n exactly.

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
    """P values adjusted for their number: reject those at or below a level, and the probability of any false rejection
    is at most that level, however the tests depend on each other.

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
    """An arm less the baseline, over the seeds that both have.

    ``interval`` is one of several that are right all together; None below two seeds, and where all pairs differ alike.
    ``p`` is `sign_flip_p` adjusted by
    `holm`, and ``smallest_p`` what it could be at the least; both None without a seed.
    """

    seeds: tuple[int, ...]
    difference: float | None
    interval: Interval | None
    p: float | None
    smallest_p: float | None

    @property
    def shown(self) -> bool:
        """Whether there is a difference that the interval vouches for."""
        return self.interval is not None and self.interval.excludes(0)


def compare(
    arms: Sequence[Mapping[int, float]], baseline: Mapping[int, float], level: float = LEVEL
) -> list[Comparison]:
    """Each arm's scores, by seed, against the baseline's of the same seeds.

    The intervals hold all true differences together with probability ``level``; arms without a common seed count too.
    """
    own = 1 - (1 - level) / max(1, len(arms))
    paired = [sorted(set(arm) & set(baseline)) for arm in arms]
    differences = [[arm[seed] - baseline[seed] for seed in seeds] for arm, seeds in zip(arms, paired, strict=True)]
    p_values = holm([sign_flip_p(values) if values else 1.0 for values in differences])
    return [_comparison(*each, len(arms), own) for each in zip(paired, differences, p_values, strict=True)]


def _comparison(seeds: list[int], differences: list[float], p: float, arms: int, level: float) -> Comparison:
    if not seeds:
        return Comparison((), None, None, None, None)
    alike = np.ptp(differences) <= _ROUNDING * np.abs(differences).max()  # which says nothing of how much they vary
    interval = None if alike else sign_flip_interval(differences, level) or t_interval(differences, level)
    smallest = min(1.0, arms * smallest_sign_flip_p(len(seeds)))
    return Comparison(tuple(seeds), mean(differences), interval, p, min(smallest, p))


# ---- times to a threshold


def first_reached(steps: Sequence[int], values: Sequence[float], threshold: float, *, lower: bool = True) -> int | None:
    """The first step at which a score is at the threshold or better; None where none is."""
    for step, value in sorted(zip(steps, values, strict=True)):
        if value <= threshold if lower else value >= threshold:
            return step
    return None


def censored_median(times: Sequence[float], reached: Sequence[bool]) -> float | None:
    """The median time to an event, where some were watched only until their time and had not reached it (censored).

    It is the first time by which the Kaplan-Meier estimate of those still without the event is half or less; None
    where it stays above.

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
        raise UserError(f"statistics need one value or more in a row, got an array of shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise UserError("statistics need numbers, and one of the values is NaN or infinite")
    return checked
