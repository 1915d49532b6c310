"""The comparison of arms in sentences and rows that claim no more than the data show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sagan.experiments.results import BETTER, Arm, Group, Results, comparison_step
from sagan.experiments.statistics import LEVEL, Comparison, Interval, compare, mean, spread
from sagan.run.config import roles
from sagan.system.sentences import plural


@dataclass(frozen=True)
class ComparedArm:
    """An arm's scores by seed, and their comparison with the baseline's."""

    arm: Arm
    scores: dict[int, float]
    comparison: Comparison
    planned: set[int]
    """The seeds for which a run of the arm and one of the baseline are planned."""
    failed: set[int]
    """The seeds for which one of the two failed."""
    rolled_back: set[int]
    """The seeds for which the guard rolled one of the two back, which then went on with other latents and images."""


@dataclass(frozen=True)
class Compared:
    """Arms compared with their baseline at one step. ``base``: the baseline's scores by seed."""

    metric: str
    step: int
    baseline: Arm
    base: dict[int, float]
    arms: list[ComparedArm]

    def pairs(self) -> list[list[float]]:
        """The differences of each arm, one for each of its paired seeds."""
        return [[each.scores[seed] - self.base[seed] for seed in each.comparison.seeds] for each in self.arms]

    @property
    def level(self) -> float:
        """The level of each interval, with which all hold together at `LEVEL`."""
        return 1 - (1 - LEVEL) / max(1, len(self.arms))


def compare_arms(results: Results, group: Group, metric: str, step: int | None = None) -> Compared:
    """All arms against the baseline, at a step or, by default, at the `comparison_step`."""
    at = comparison_step(results, group) if step is None else step
    base, base_runs = group.at(results, results.baseline, at), results.of(results.baseline)
    arms = [arm for arm in results.arms if arm != results.baseline]
    scores = [group.at(results, arm, at) for arm in arms]
    compared = []
    for arm, own, comparison in zip(arms, scores, compare(scores, base), strict=True):
        both = base_runs + results.of(arm)
        planned = {run.seed for run in base_runs} & {run.seed for run in results.of(arm)}
        failed = {run.seed for run in both if run.state == "failed"}
        rolled_back = {run.seed for run in both if run.rolled_back_before(at)}
        compared.append(ComparedArm(arm, own, comparison, planned, failed, rolled_back))
    return Compared(metric, at, results.baseline, base, compared)


# ---- sentences


def findings(compared: Compared) -> list[str]:
    """A sentence for each arm but the baseline."""
    return [_finding(compared, each) for each in compared.arms]


def _finding(compared: Compared, each: ComparedArm) -> str:
    arm, base, found = each.arm.label, compared.baseline.label, each.comparison
    if found.difference is None:
        return f"{arm} cannot be compared with {base}: no seed has a score of both at {plural(compared.step, 'step')}"
    where = f"at {plural(compared.step, 'step')} ({plural(len(found.seeds), 'paired seed')}{_remarks(each)})"
    if found.interval is None:
        difference = number(found.difference, abs(found.difference))
        if len(found.seeds) > 1:
            return (
                f"nothing shown about {arm} and {base}: all pairs differ by the same {difference}, which gives no "
                f"measure of chance, {where}"
            )
        return f"one pair of runs shows nothing about {arm} and {base}: their difference is {difference} {where}"
    if not found.shown:
        figures = _with_interval(found.difference, found.interval)
        return f"no difference shown between {arm} and {base}: {figures} {where}"
    way = "higher" if found.difference > 0 else "lower"
    better = BETTER.get(compared.metric)
    word = way if better is None else "better" if way == better else "worse"
    ends = found.interval
    interval = ends if found.difference > 0 else replace(ends, low=-ends.high, high=-ends.low)
    return f"{arm} is {word} than {base} by {_with_interval(abs(found.difference), interval)} {where}"


def _remarks(each: ComparedArm) -> str:
    """Which pairs are missing and why, and which share less than they should."""
    paired = set(each.comparison.seeds)
    lacking = each.planned - paired
    remarks = [
        (lacking & each.failed, "without {}, where a run failed"),
        (lacking - each.failed, "without {}, where a score is missing"),
        (each.rolled_back & paired, "in {} the guard rolled a run back, which went on with other latents and images"),
    ]
    return "".join("; " + words.format(_listed_seeds(seeds)) for seeds, words in remarks if seeds)


def _listed_seeds(seeds: set[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, sorted(seeds)))


def describe_method(compared: Compared, *, asked: bool) -> str:
    """How the figures were computed, and what they can show with so few seeds. ``asked``: a person chose the step."""
    comparisons = [each.comparison for each in compared.arms]
    methods = {found.interval.method for found in comparisons if found.interval}
    few = min((len(found.seeds) for found in comparisons if found.seeds), default=0)
    why = "asked for" if asked else "chosen by which scores exist, not by their values"
    sentences = [
        _ABOUT_NOTHING,
        f"Step {compared.step:,} was {why}; nothing here corrects for looking at other steps, metrics or tables too.",
        f"{_about_pairs(compared)} A difference is an arm's score minus that of {compared.baseline.label} with the "
        "same seed, averaged over the pairs.",
        *(_ABOUT[method] for method in sorted(methods)),
    ]
    if few > 1 and len(compared.arms) > 1:
        sentences.append(
            f"Each interval holds with probability {percent(compared.level)} or more, so that all "
            f"{len(compared.arms)} hold together with {percent(LEVEL)} (Bonferroni)."
        )
    if _shows_p(compared):
        sentences.append(_ABOUT_P)
    elif few:
        best = min(found.smallest_p for found in comparisons if found.smallest_p is not None)
        pairs, arms = plural(few, "pair"), plural(len(compared.arms), "arm")
        sentences.append(
            "A test that assumes only symmetry, by flipping the signs of the differences, could show nothing with "
            f"{pairs}: its p, adjusted for {arms} by Holm's method, is {best:.2g} or more."
        )
    return " ".join([*sentences, _ABOUT_SPREAD])


def _about_pairs(compared: Compared) -> str:
    """What runs of one seed have in common, which depends on the settings that are varied."""
    varied = {name for each in compared.arms for name, _ in each.arm.settings}
    known = roles()
    others = sorted(name for name in varied if not known[name].pairs)
    if not others:
        return "Runs of one seed are a pair: they share their initial weights, latents and order of images."
    return (
        f"Runs of one seed are treated as a pair, though they need not share their initial weights, latents and order "
        f"of images where {', '.join(others)} differ{'s' if len(others) == 1 else ''}."
    )


_ABOUT = {
    "t": (
        "Intervals are Student's and assume that the differences are normal; so few seeds cannot test that, and allow "
        "no weaker assumption."
    ),
    "sign flips": (
        "Intervals are those of sign flips, where there are enough seeds: exact for differences that are symmetric "
        "about their centre."
    ),
}
_ABOUT_P = (
    "p is Fisher's, from flipping the signs of the differences, adjusted by Holm's method; it assumes only that they "
    "are symmetric. Beside it is the smallest p possible with so many pairs."
)
_ABOUT_NOTHING = "Where no difference is shown there may still be one: any value in the interval is possible."
_ABOUT_SPREAD = "The spread is the standard deviation over seeds."


# ---- rows


def table_rows(compared: Compared) -> list[list[str]]:
    """Rows for a person, the first of them headings."""
    head = ["arm", "seeds", "mean", "spread", f"minus {compared.baseline.label}", f"interval {percent(compared.level)}"]
    rows = [[*head, "p, sign flips", "smallest p"]]
    rows.append([compared.baseline.label, *_own_cells(compared.base), "baseline", "", "", ""])
    for each in compared.arms:
        rows.append([each.arm.label, *_own_cells(each.scores), *_difference_cells(each.comparison)])
    return rows if _shows_p(compared) else [row[:-2] for row in rows]


def _shows_p(compared: Compared) -> bool:
    """Whether there are enough pairs for the test by sign flips to be significant."""
    smallest = [each.comparison.smallest_p for each in compared.arms]
    return any(p is not None and p <= 1 - LEVEL for p in smallest)


def _own_cells(scores: dict[int, float]) -> list[str]:
    values = list(scores.values())
    return [str(len(values)), *(mean_and_spread(values) if values else ("", ""))]


def mean_and_spread(values: Sequence[float]) -> tuple[str, str]:
    """An arm's mean and its standard deviation over seeds ("" for one seed), with the decimals worth showing."""
    deviation = spread(values)
    scale = deviation or abs(mean(values)) / 10
    return number(mean(values), scale), "" if deviation is None else number(deviation, scale)


def _difference_cells(found: Comparison) -> list[str]:
    if found.difference is None:
        return ["", "", "", ""]
    scale = _half(found.interval) if found.interval else abs(found.difference)
    ends = _ends(found.interval, scale) if found.interval else ""
    return [number(found.difference, scale), ends, f"{found.p:.3g}", f"{found.smallest_p:.3g}"]


def csv_rows(compared: Compared) -> Iterable[Sequence[Any]]:
    """The same for a program, unrounded, the first of them headings."""
    yield (
        *("metric", "step", "arm", "seeds", "mean", "spread"),
        *("pairs", "difference", "low", "high", "level", "method", "p", "smallest_p"),
    )
    arms = [(each.arm, each.scores, each.comparison) for each in compared.arms]
    for arm, scores, found in [(compared.baseline, compared.base, Comparison()), *arms]:
        values, ends = list(scores.values()), found.interval
        own = (mean(values), spread(values)) if values else (None, None)
        interval = (ends.low, ends.high, ends.level, ends.method) if ends else (None,) * 4
        difference = (len(found.seeds), found.difference, *interval, found.p, found.smallest_p)
        yield compared.metric, compared.step, arm.label, len(scores), *own, *difference


# ---- words and numbers


def percent(level: float) -> str:
    return f"{100 * level:.4g}%"


def number(value: float, scale: float) -> str:
    """A number with as many decimals as the first two digits of an uncertainty ``scale`` have."""
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
