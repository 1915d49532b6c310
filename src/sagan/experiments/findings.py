"""What a comparison of arms comes to, in sentences and rows that claim no more than the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sagan.experiments.results import BETTER, Arm, Group, Results, comparison_step
from sagan.experiments.statistics import (
    LEVEL,
    MOST_RESAMPLED,
    Comparison,
    Interval,
    bootstrap_interval,
    compare,
    mean,
    spread,
)
from sagan.run.config import roles


@dataclass(frozen=True)
class Compared:
    """Arms beside their baseline at one step: of each its scores by seed, and what comes of them."""

    metric: str
    step: int
    baseline: Arm
    base: dict[int, float]
    arms: list[Arm]
    scores: list[dict[int, float]]
    comparisons: list[Comparison]
    planned: list[set[int]]
    """The seeds of which an arm and the baseline should both have a run."""
    failed: list[set[int]]
    """Those of them of which a run failed."""
    rolled_back: list[set[int]]
    """Those of which the guard took a run back, which then went on with other z and images."""

    def pairs(self) -> list[list[float]]:
        """The differences of each arm, one for each of its paired seeds."""
        every = zip(self.scores, self.comparisons, strict=True)
        return [[own[seed] - self.base[seed] for seed in found.seeds] for own, found in every]

    @property
    def level(self) -> float:
        """What each interval holds with, so that all do together with `LEVEL`."""
        return 1 - (1 - LEVEL) / max(1, len(self.arms))


def compare_arms(results: Results, group: Group, metric: str, step: int | None = None) -> Compared:
    """All arms against the baseline, at a step or, by default, where `comparison_step` says."""
    at = comparison_step(results, group) if step is None else step
    arms = [arm for arm in results.arms if arm != results.baseline]
    base = group.at(results, results.baseline, at)
    scores = [group.at(results, arm, at) for arm in arms]
    own = {run.seed for run in results.of(results.baseline)}
    planned = [own & {run.seed for run in results.of(arm)} for arm in arms]
    both = [results.of(results.baseline) + results.of(arm) for arm in arms]
    failed = [{run.seed for run in runs if run.state == "failed"} for runs in both]
    rolled_back = [{run.seed for run in runs if run.rolled_back_before(at)} for runs in both]
    comparisons = compare(scores, base)
    return Compared(metric, at, results.baseline, base, arms, scores, comparisons, planned, failed, rolled_back)


# ---- sentences


def findings(compared: Compared) -> list[str]:
    """A sentence for each arm but the baseline."""
    return [_finding(compared, number) for number in range(len(compared.arms))]


def _finding(compared: Compared, number_of_arm: int) -> str:
    ours, base = compared.arms[number_of_arm].label, compared.baseline.label
    found = compared.comparisons[number_of_arm]
    if found.difference is None:
        return f"{ours} cannot be compared with {base}: no seed has a score of both at {compared.step:,} steps"
    where = f"at {compared.step:,} steps ({counted(len(found.seeds), 'paired seed')}{_beside(compared, number_of_arm)})"
    if found.interval is None:
        difference = number(found.difference, abs(found.difference))
        if len(found.seeds) > 1:
            return (
                f"nothing shown about {ours} and {base}: all pairs differ by the same {difference}, which gives no "
                f"measure of chance, {where}"
            )
        return f"one pair of runs shows nothing about {ours} and {base}: their difference is {difference} {where}"
    if not found.shown:
        figures = _with_interval(found.difference, found.interval)
        return f"no difference shown between {ours} and {base}: {figures} {where}"
    way = "higher" if found.difference > 0 else "lower"
    better = BETTER.get(compared.metric)
    word = way if better is None else "better" if way == better else "worse"
    return f"{ours} is {word} than {base} by {_with_interval(*_upright(found.difference, found.interval))} {where}"


def _beside(compared: Compared, number_of_arm: int) -> str:
    """What must be said of the pairs: which are not there and why, and which share less than they should."""
    there, failed = set(compared.comparisons[number_of_arm].seeds), compared.failed[number_of_arm]
    lacking = compared.planned[number_of_arm] - there
    back = compared.rolled_back[number_of_arm] & there
    parts = [
        (sorted(lacking & failed), "without {}, where a run failed"),
        (sorted(lacking - failed), "without {}, where a score is missing"),
        (sorted(back), "in {} the guard took a run back, which went on with other z and images"),
    ]
    return "".join("; " + words.format(_counted(seeds)) for seeds, words in parts if seeds)


def _upright(difference: float, interval: Interval) -> tuple[float, Interval]:
    """A difference and its interval by how much it is, whichever way it goes."""
    if difference >= 0:
        return difference, interval
    return -difference, Interval(-interval.high, -interval.low, interval.level, interval.method)


def _counted(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def describe_method(compared: Compared, asked: bool) -> str:
    """How the figures were made, and what they are worth with so few seeds; ``asked``: a person chose the step."""
    methods = {found.interval.method for found in compared.comparisons if found.interval}
    few = min((len(found.seeds) for found in compared.comparisons if found.seeds), default=0)
    why = "asked for" if asked else "chosen by what has been scored and not by what came out"
    sentences = [
        f"Step {compared.step:,} was {why}; whoever looks at other steps, metrics or tables too looks more often, "
        "which nothing here corrects.",
        f"{_about_pairs(compared)} A difference is an arm's score less that of {compared.baseline.label} with the same "
        "seed, averaged over the pairs.",
        *(_ABOUT[method] for method in sorted(methods)),
    ]
    if few > 1 and len(compared.arms) > 1:
        sentences.append(
            f"Each interval holds with {percent(compared.level)} or more, so that all {len(compared.arms)} hold "
            f"together with {percent(LEVEL)} (Bonferroni)."
        )
    if _flips_can_show(compared):
        sentences.append(_ABOUT_P)
    elif few:
        best = min(found.smallest_p for found in compared.comparisons if found.smallest_p is not None)
        pairs, arms = counted(few, "pair"), counted(len(compared.arms), "arm")
        sentences.append(
            "A test that assumes no more than symmetry, by flipping the signs of the differences, could show nothing "
            f"with {pairs}: its p, adjusted for {arms} by Holm, is {best:.2g} or more."
        )
    return " ".join([_ABOUT_NOTHING, *sentences, *([_ABOUT_SPREAD] if 0 < few <= MOST_RESAMPLED else [])])


def _about_pairs(compared: Compared) -> str:
    """What runs of one seed have in common, which depends on what else is varied."""
    varied = {name for arm in compared.arms for name, _ in arm.settings}
    known = roles()
    others = sorted(name for name in varied if not known[name].pairs)
    if not others:
        return "Runs of one seed are a pair: they share their first weights, z and the order of images."
    return (
        f"Runs of one seed are taken as a pair, though they need not share their first weights, z and order of images "
        f"where {', '.join(others)} differ{'s' if len(others) == 1 else ''}."
    )


_ABOUT = {
    "t": (
        "Intervals are Student's, of differences that are taken to be normal: so few seeds cannot prove that they are, "
        "and allow nothing weaker."
    ),
    "sign flips": (
        "Intervals are those of sign flips, where there are seeds enough: exact for differences that are symmetric "
        "about their middle."
    ),
}
_ABOUT_P = (
    "p is Fisher's, of flipping the signs of the differences, adjusted by Holm: it takes them to be symmetric and no "
    "more; beside it stands how small it could be with so many pairs."
)
_ABOUT_NOTHING = "Where no difference is shown there may be one: any that the interval holds."
_ABOUT_SPREAD = (
    "The spread is the standard deviation over seeds. A bootstrap of so few seeds is too narrow: of 3 it is their "
    "range, which holds the middle of a symmetric distribution three times in four and not 95 times in 100."
)


# ---- rows


def table_rows(compared: Compared) -> list[list[str]]:
    """Rows for a person, the first of them headings."""
    head = ["arm", "seeds", "mean", "spread", f"bootstrap {LEVEL:.0%}", f"less {compared.baseline.label}"]
    rows = [[*head, f"interval {percent(compared.level)}", "p, sign flips", "at best"]]
    rows.append([compared.baseline.label, *_own_cells(list(compared.base.values())), "baseline", "", "", ""])
    for arm, scores, found in zip(compared.arms, compared.scores, compared.comparisons, strict=True):
        rows.append([arm.label, *_own_cells(list(scores.values())), *_difference_cells(found)])
    return rows if _flips_can_show(compared) else [row[:-2] for row in rows]


def _flips_can_show(compared: Compared) -> bool:
    """Whether there are pairs enough for a test by sign flips to come out at all."""
    return any(found.smallest_p is not None and found.smallest_p <= 1 - LEVEL for found in compared.comparisons)


def _own_cells(values: list[float]) -> list[str]:
    if not values:
        return ["0", "", "", ""]
    interval = bootstrap_interval(values)
    ends = "" if interval is None else _ends(interval, _own_scale(values))
    return [str(len(values)), *mean_and_spread(values), ends]


def mean_and_spread(values: Sequence[float]) -> tuple[str, str]:
    """An arm's mean and its standard deviation over seeds, with decimals that are worth showing; one seed has no
    second."""
    deviation, scale = spread(values), _own_scale(values)
    return number(mean(values), scale), "" if deviation is None else number(deviation, scale)


def _own_scale(values: Sequence[float]) -> float:
    return spread(values) or abs(mean(values)) / 10


def _difference_cells(found: Comparison) -> list[str]:
    if found.difference is None:
        return ["", "", "", ""]
    scale = _half(found.interval) if found.interval else abs(found.difference)
    ends = _ends(found.interval, scale) if found.interval else ""
    return [number(found.difference, scale), ends, f"{found.p:.3g}", f"{found.smallest_p:.3g}"]


def csv_rows(compared: Compared) -> Iterable[Sequence[Any]]:
    """The same for a program, unrounded, the first of them headings."""
    yield (
        *("metric", "step", "arm", "seeds", "mean", "spread", "bootstrap_low", "bootstrap_high"),
        *("pairs", "difference", "low", "high", "level", "method", "p", "smallest_p"),
    )
    none = Comparison((), None, None, None, None)
    arms = [compared.baseline, *compared.arms], [compared.base, *compared.scores], [none, *compared.comparisons]
    for arm, scores, found in zip(*arms, strict=True):
        own: list[Any] = [None] * 4
        if values := list(scores.values()):
            around = bootstrap_interval(values)
            own = [mean(values), spread(values), *((around.low, around.high) if around else (None, None))]
        ends = found.interval
        interval = (ends.low, ends.high, ends.level, ends.method) if ends else (None,) * 4
        difference = (len(found.seeds), found.difference, *interval, found.p, found.smallest_p)
        yield compared.metric, compared.step, arm.label, len(scores), *own, *difference


# ---- words and numbers


def counted(count: int, what: str) -> str:
    """Such as "1 run" and "2 runs"."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def percent(level: float) -> str:
    return f"{100 * level:.4g}%"


def number(value: float, scale: float) -> str:
    """A number with the decimals that are worth showing beside an uncertainty: the first two digits of that."""
    decimals = 1 - math.floor(math.log10(scale)) if scale > 0 else 3
    text = f"{value:.{min(max(decimals, 0), 8)}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _with_interval(difference: float, interval: Interval) -> str:
    scale = _half(interval)
    return f"{number(difference, scale)} {_ends(interval, scale)}"


def _half(interval: Interval) -> float:
    """Half of an interval's width, or less where an end is so near to 0 that it would be rounded to it."""
    nearest = min(abs(interval.low), abs(interval.high))
    return min((interval.high - interval.low) / 2, 10 * nearest or math.inf)


def _ends(interval: Interval, scale: float) -> str:
    return f"[{number(interval.low, scale)}, {number(interval.high, scale)}]"
