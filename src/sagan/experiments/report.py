"""The report of a sweep: one HTML page and the same as Markdown, with figures and tables as files beside them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sagan.evaluation.metrics.frechet import few_images_warning
from sagan.experiments.document import Block, Code, Heading, Items, Paragraph, Picture, Table, to_html, to_markdown
from sagan.experiments.findings import (
    compare_arms,
    counted,
    csv_rows,
    describe_method,
    findings,
    mean_and_spread,
    table_rows,
)
from sagan.experiments.plots import (
    Curve,
    Times,
    draw_arms,
    draw_differences,
    draw_scores,
    draw_times,
    save_figure,
    stack_samples,
)
from sagan.experiments.results import (
    BETTER,
    Arm,
    Group,
    Results,
    RunResult,
    comparison_step,
    events,
    missing,
    read_results,
    shared_groups,
)
from sagan.experiments.statistics import censored_median, first_reached, mean
from sagan.published.tables import PublishedCurve, caveats, comparable_dataset, published_curves
from sagan.run.build import describe_attention
from sagan.run.card import commit, versions
from sagan.run.records import ScoreRecord
from sagan.system.callbacks import Say
from sagan.system.errors import UserError
from sagan.system.files import write_whole
from sagan.system.images import save_png
from sagan.system.typed import to_plain

THRESHOLDS = {"frechet": 30.0}
"""Scores of interest by the Inception of papers, by metric, where none is given."""

_OWN = re.compile(
    r"(scores(-by-arm|-by-time)?|comparison(-\d+)?|threshold)\.(csv|png|svg)|samples-seed\d+\.png|events\.csv|"
    r"report\.(html|md)"
)
"""The names of the files of a report."""

_STRIP = 2  # rows of a grid of samples that are shown


@dataclass
class Report:
    """A report while it is written: what a section needs to know, and what sections have said."""

    results: Results
    folder: Path
    metric: str
    threshold: float | None
    step: int | None
    groups: list[Group] = field(default_factory=list)
    published: list[PublishedCurve] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    """What must be known before a finding is believed."""
    findings: list[str] = field(default_factory=list)

    @property
    def lower(self) -> bool:
        return BETTER.get(self.metric) != "higher"


def write_report(
    sweep: Path,
    out: Path,
    metric: str = "frechet",
    threshold: float | None = None,
    step: int | None = None,
    *,
    published: bool = False,
    warn: Say = lambda sentence: None,
) -> tuple[Path, list[str]]:
    """Writes the report of the sweep in a folder into the folder ``out``; gives the page and its findings.

    ``step``: where arms are compared, by default the last one planned, or the last with most pairs while the sweep is
    under way. ``published`` lays the published FIDs under the curves. The same files give the same report. Raises
    UserError where scores cannot be compared, and where nothing was scored at ``step``.
    """
    results = read_results(sweep)
    report = Report(results, out, metric, threshold, step)
    report.groups = shared_groups(results, metric, lambda sentence: _note(sentence, report, warn))
    _check(report, published)
    report.cautions = list(_few_samples(report))
    for sentence in report.cautions:
        warn(sentence)
    if threshold is None and report.groups and report.groups[0].card.is_fid:
        report.threshold = THRESHOLDS.get(metric)
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    sections = [*_scores(report), *_samples(report), *_events(report), *_attention(report), *_origin(report)]
    report.findings = report.findings or [_nothing_compared(report)]
    blocks = [*_summary(report), *sections]
    title = f"Sweep {sweep.resolve().name}"
    page = out / "report.html"
    _write(page, to_html(title, blocks, out))
    _write(out / "report.md", to_markdown(title, blocks))
    return page, report.findings


def _few_samples(report: Report) -> Iterable[str]:
    """A sentence for each kind of score whose samples are few for its features."""
    for group in report.groups if report.metric == "frechet" else ():
        dim = group.card.dim
        if dim is not None and (sentence := few_images_warning(group.card.samples, dim)):
            yield f"{group.label}: {sentence}"


def _note(sentence: str, report: Report, warn: Say) -> None:
    report.left_out.append(sentence)
    warn(sentence)


def _check(report: Report, published: bool) -> None:
    """Raises now what would otherwise be found out when half is written."""
    if report.threshold is not None and BETTER.get(report.metric) is None:
        raise UserError(f"of {report.metric} neither more nor less is better, so it has no --threshold to come to")
    if report.threshold is not None and not math.isfinite(report.threshold):
        raise UserError(f"threshold must be a number, got {report.threshold}")
    if report.step is not None and not report.groups:
        raise UserError(f"no run was scored, so none at step {report.step}")
    if report.groups and report.step is not None and report.step not in report.groups[0].steps():
        steps = ", ".join(map(str, report.groups[0].steps()))
        raise UserError(f"no run was scored at step {report.step}, only at {steps}")
    if not published:
        return
    if not report.groups:
        raise UserError("no run has been scored: there is no axis to lay the published figures on")
    found = comparable_dataset(report.groups[0].card, report.metric, report.results.runs[0].config.data)
    report.published, report.caveats = published_curves(found), caveats(found)
    first, last = min(curve.points[0].step for curve in report.published), max(report.groups[0].steps())
    if last < first:
        raise UserError(f"the published figures begin at step {first:,}, and the last score here is of step {last:,}")


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()), sync=False)


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _write(path, text.getvalue())


def _clear(out: Path) -> None:
    """Removes what an earlier report left there, and nothing else: this one may have fewer parts."""
    for path in out.iterdir():
        if _OWN.fullmatch(path.name) and path.is_file():
            path.unlink()


# ---- what it comes to


def _nothing_compared(report: Report) -> str:
    """What is to be said where no arms are compared."""
    if not report.groups:
        return "Nothing has been scored yet, so nothing can be said."
    group, arm = report.groups[0], report.results.baseline
    step = comparison_step(report.results, group) if report.step is None else report.step
    values = list(group.at(report.results, arm, step).values())
    if not values:
        return f"There is one arm, {arm.label}, and no score of it at {step:,} steps."
    middle, deviation = mean_and_spread(values)
    around = f" ± {deviation} over {counted(len(values), 'seed')}" if deviation else ""
    return (
        f"There is one arm, {arm.label}, so nothing is compared; its {group.label} at {step:,} steps is "
        f"{middle}{around}."
    )


def _summary(report: Report) -> list[Block]:
    results = report.results
    done = sum(run.step >= run.config.run.total_step for run in results.runs)
    arms = "; ".join(arm.label for arm in results.arms)
    seeds = ", ".join(map(str, results.seeds))
    way = {"lower": " Lower is better.", "higher": " Higher is better."}.get(BETTER.get(report.metric, ""), "")
    sign = f"Differences are an arm's score less that of {results.baseline.label}.{way}" if report.groups else ""
    blocks: list[Block] = [
        Paragraph(
            f"{counted(len(results.runs), 'run')}, {done} of them trained to the last step. "
            f"Arms: {arms}; of each, runs with the seeds {seeds}. {sign}".strip()
        ),
        Items([*report.findings, *report.cautions]),
    ]
    lacking = missing(results, report.groups) + report.left_out
    if lacking:
        blocks += [Heading("What is missing"), Items(lacking)]
    return blocks


# ---- scores


def _scores(report: Report) -> list[Block]:
    """Everything that is made of scores; nothing where there are none."""
    if not report.groups:
        return []
    _write_csv(report.folder / "scores.csv", _score_rows(report))
    blocks: list[Block] = []
    for place, group in enumerate(report.groups):
        blocks += _comparison(report, group, place)
    return [*blocks, *_curves(report), *_times(report)]


def _score_rows(report: Report) -> Iterable[Sequence[object]]:
    card = ("metric", "label", "extractor", "samples", "reference")
    yield (*card, "run", "arm", "seed", "step", "training_seconds", "value", "spread", "error")
    for group in report.groups:
        for run in report.results.runs:
            for score in group.scores.get(run.name, []):
                made = score.card
                kind = (report.metric, group.label, made.extractor, made.samples, made.reference)
                yield (*kind, *_score_row(run, score))


def _score_row(run: RunResult, score: ScoreRecord) -> Sequence[object]:
    seconds = run.seconds_at(score.step)
    made = "" if seconds is None else round(seconds, 3)
    return run.name, run.arm.label, run.seed, score.step, made, score.value, score.spread, score.error


def _comparison(report: Report, group: Group, place: int) -> list[Block]:
    """The arms at one step: a sentence for each, a table and a figure."""
    asked = report.step in group.steps()
    compared = compare_arms(report.results, group, report.metric, report.step if asked else None)
    of = f", by {group.label} of {group.card.samples:,} samples" if len(report.groups) > 1 else ""
    report.findings += [sentence + of for sentence in findings(compared)]
    name = "comparison" if place == 0 else f"comparison-{place + 1}"
    _write_csv(report.folder / f"{name}.csv", csv_rows(compared))
    title = f"{group.label} at step {compared.step:,}, {group.card.samples:,} samples a score"
    blocks: list[Block] = [Heading(title), Table(table_rows(compared)), Paragraph(describe_method(compared, asked))]
    if any(found.seeds for found in compared.comparisons):
        base = compared.baseline.label
        better = {"lower": " (below 0 is better)", "higher": " (above 0 is better)"}.get(
            BETTER.get(report.metric, ""), ""
        )
        labels = [arm.label for arm in compared.arms]
        label = f"{group.label}, less that of {base}{better}"
        figure = draw_differences(labels, compared.comparisons, compared.pairs(), label)
        save_figure(figure, report.folder / name)
        caption = f"Differences from {base}: diamonds, their means, with intervals; hollow, each pair of runs."
        blocks.append(Picture(f"{name}.svg", caption))
    return blocks


# ---- curves


def _curves(report: Report) -> list[Block]:
    group, results = report.groups[0], report.results
    by_step = [_curve(report, arm, lambda run, step: float(step)) for arm in results.arms]
    scored = [curve for curve in by_step if curve.seeds]
    floor = group.newest.floor
    threshold = report.threshold
    figure = draw_scores(
        scored, "generator steps", group.label, floor=floor, threshold=threshold, published=report.published
    )
    save_figure(figure, report.folder / "scores")
    caption = (
        "Thin lines: one seed each. Thick lines: the mean, as far as every seed that has begun is scored, so that it "
        "does not change its seeds on the way."
    )
    if floor is not None:
        half = group.newest.floor_samples
        caption += f" Dotted: half of the real images against the other half, {half:,} each."
    caption = " ".join([caption, *report.caveats])
    blocks: list[Block] = [Heading("Score over steps"), Picture("scores.svg", caption)]
    if results.baseline.label in [curve.label for curve in scored]:
        panels = draw_arms(scored, results.baseline.label, "generator steps", group.label)
        save_figure(panels, report.folder / "scores-by-arm")
        blocks.append(
            Picture("scores-by-arm.svg", f"Every seed of each arm; grey, the mean of {results.baseline.label}.")
        )
    unit, seconds = _clock(report)
    by_time = [_curve(report, arm, lambda run, step: _in_units(run, step, seconds)) for arm in results.arms]
    timed = [curve for curve in by_time if curve.seeds]
    if timed:
        figure = draw_scores(timed, f"{unit} of training", group.label, floor=floor, threshold=threshold)
        save_figure(figure, report.folder / "scores-by-time")
        caption = (
            "Time of training, with steps that were rolled back and without scoring; it is of the machine that each "
            "run had, and of what else that did."
        )
        blocks += [Heading("Score over time"), Picture("scores-by-time.svg", caption)]
    return blocks


def _curve(report: Report, arm: Arm, place: Callable[[RunResult, int], float | None]) -> Curve:
    """The scores of an arm, at the places on the axis that its steps have there."""
    group = report.groups[0]
    seeds: dict[int, list[tuple[float, float]]] = {}
    at: dict[int, list[tuple[float, float]]] = {}
    begun = [run for run in report.results.of(arm) if group.values(run)]
    for run in begun:
        for step, value in group.values(run).items():
            x = place(run, step)
            if x is not None:
                seeds.setdefault(run.seed, []).append((x, value))
                at.setdefault(step, []).append((x, value))
    whole = [points for _, points in sorted(at.items()) if len(points) == len(begun)]
    return Curve(arm.label, seeds, [(mean([x for x, _ in each]), mean([y for _, y in each])) for each in whole])


def _clock(report: Report) -> tuple[str, float]:
    """The unit of the axes of time, and its seconds."""
    group = report.groups[0]
    longest = max((run.seconds_at(step) or 0 for run in report.results.runs for step in group.values(run)), default=0)
    return ("hours", 3600.0) if longest >= 7200 else ("minutes", 60.0)


def _in_units(run: RunResult, step: int, seconds: float) -> float | None:
    found = run.seconds_at(step)
    return None if found is None else found / seconds


# ---- times to a threshold


def _times(report: Report) -> list[Block]:
    """When each run came to the threshold; nothing where none is asked for."""
    threshold = report.threshold
    if threshold is None or BETTER.get(report.metric) is None:
        return []
    unit, seconds = _clock(report)
    steps = [_times_of(report, arm, lambda run, step: float(step)) for arm in report.results.arms]
    hours = [_times_of(report, arm, lambda run, step: _in_units(run, step, seconds)) for arm in report.results.arms]
    save_figure(draw_times(steps, f"generator steps to {threshold:g}"), report.folder / "threshold")
    rows = [["arm", *(f"seed {seed}" for seed in report.results.seeds), "median steps", f"median {unit}"]]
    for by_step, by_hour in zip(steps, hours, strict=True):
        cells = [_time_cell(by_step, by_hour, seed, unit) for seed in report.results.seeds]
        rows.append([by_step.label, *cells, _median_cell(by_step, ",.0f"), _median_cell(by_hour, ".3g")])
    _write_csv(report.folder / "threshold.csv", _threshold_rows(report))
    label = report.groups[0].label
    way = "at most" if report.lower else "at least"
    text = (
        f"The first scored step at which a run's {label} is {way} {threshold:g}; '>' marks a run that had not come to "
        "it by its last score. Medians count such runs as not yet there (Kaplan and Meier); '>' there means that they "
        "leave it open. A curve that wavers crosses early by luck, and one that is scored seldom crosses late."
    )
    caption = (
        f"Steps to {threshold:g}: filled markers, each a seed; hollow, the last score of a run that was not there yet."
    )
    return [Heading(f"Time to {threshold:g}"), Table(rows), Picture("threshold.svg", caption), Paragraph(text)]


def _threshold_rows(report: Report) -> Iterable[Sequence[object]]:
    yield "metric", "threshold", "arm", "seed", "reached", "step", "training_seconds"
    for run in report.results.runs:
        values = report.groups[0].values(run)
        if values:
            step = _reached(report, values)
            until = max(values) if step is None else step
            yield (
                report.metric,
                report.threshold,
                run.arm.label,
                run.seed,
                step is not None,
                until,
                run.seconds_at(until),
            )


def _reached(report: Report, values: dict[int, float]) -> int | None:
    """The first step at which a run is at the threshold."""
    assert report.threshold is not None
    return first_reached(list(values), list(values.values()), report.threshold, lower=report.lower)


def _times_of(report: Report, arm: Arm, clock: Callable[[RunResult, int], float | None]) -> Times:
    times = Times(arm.label, {}, {})
    for run in report.results.of(arm):
        values = report.groups[0].values(run)
        step = _reached(report, values)
        time = clock(run, step if step is not None else max(values)) if values else None
        if time is not None:
            (times.censored if step is None else times.reached)[run.seed] = time  # type: ignore[index]
    return times


def _time_cell(steps: Times, hours: Times, seed: int, unit: str) -> str:
    for mark, kind in (("", "reached"), ("> ", "censored")):
        step, hour = getattr(steps, kind).get(seed), getattr(hours, kind).get(seed)
        if step is not None:
            return f"{mark}{step:,.0f}" + ("" if hour is None else f" ({hour:.3g} {unit})")
    return "not scored"


def _median_cell(times: Times, form: str) -> str:
    every = [*times.reached.values(), *times.censored.values()]
    if not every:
        return ""
    median = censored_median(every, [True] * len(times.reached) + [False] * len(times.censored))
    return f"> {max(every):{form}}" if median is None else f"{median:{form}}"


# ---- what is not a score


def _samples(report: Report) -> list[Block]:
    """Samples of the same z side by side, a picture for each seed."""
    blocks: list[Block] = []
    for seed in report.results.seeds:
        runs = [run for run in report.results.runs if run.seed == seed and run.run]
        step = _common_grid(runs)
        if step is None:
            continue
        shown = [run for run in runs if run.sample_grid(step).is_file()]
        name = f"samples-seed{seed}.png"
        size = shown[0].config.model.imsize
        picture = stack_samples([run.sample_grid(step) for run in shown], size, rows=_STRIP)
        save_png(picture, report.folder / name)
        listed = "; ".join(run.arm.label for run in shown)
        two = "two rows" if picture.shape[0] > len(shown) * (size + 8) else "one row"
        caption = f"Seed {seed} at step {step:,}: in every column the same z; from the top, {two} each: {listed}."
        lacking = [run.arm.label for run in runs if run not in shown]
        blocks.append(
            Picture(name, caption + (f" Without such samples: {'; '.join(lacking)}." if lacking else ""), True)
        )
    return [Heading("Samples of the same z"), *blocks] if blocks else []


def _common_grid(runs: Sequence[RunResult]) -> int | None:
    """The latest step at which most of the runs have a grid of samples."""
    steps: dict[int, int] = {}
    for run in runs:
        for path in run.sample_grid(0).parent.glob("*_fake.png"):
            if (number := path.name.removesuffix("_fake.png")).isdecimal():
                steps[int(number)] = steps.get(int(number), 0) + 1
    return max(steps, key=lambda step: (steps[step], step), default=None)


def _events(report: Report) -> list[Block]:
    runs = [run for run in report.results.runs if run.run]
    found = [event for run in runs for event in events(run)]
    blocks: list[Block] = [Heading("Collapse, and what the guard saw")]
    failed = [f"{run.name} failed: {run.reason}" for run in report.results.runs if run.state == "failed"]
    if failed:
        blocks.append(Items(failed))
    unwatched = [run.name for run in runs if not run.looks]
    if unwatched:
        blocks.append(Paragraph(f"Never looked at: {', '.join(unwatched)}."))
    if not found:
        looks = sum(run.looks for run in runs)
        watched = counted(len(runs) - len(unwatched), "run")
        text = f"The guard looked {counted(looks, 'time')} at {watched} and found nothing wrong."
        return [*blocks, Paragraph(text)] if looks else blocks
    rows = [["run", "steps", "verdict", "reason", "what was done"]]
    for event in found:
        steps = f"{event.first:,}" if event.first == event.last else f"{event.first:,} to {event.last:,}"
        rows.append([event.run, steps, event.verdict, event.reason, event.remedy])
    _write_csv(report.folder / "events.csv", rows)
    return [*blocks, Table(rows)]


def _attention(report: Report) -> list[Block]:
    rows = [["arm", "layers, and what share of keys a query sees"]]
    for arm in report.results.arms:
        lines = describe_attention(report.results.of(arm)[0].config.model)
        rows += [[arm.label if number == 0 else "", line] for number, line in enumerate(lines)]
    return [Heading("What attention may look at"), Table(rows)]


def _origin(report: Report) -> list[Block]:
    """How the scores were made, and how to make all of it again."""
    blocks: list[Block] = []
    if report.groups:
        own = ("samples", "seed", "repeats", "versions", "commit")
        card = to_plain(report.groups[0].card)
        rows = [["what a score is of", ""], *([name, str(value)] for name, value in card.items() if name not in own)]
        rows.insert(2, ["samples", ", ".join(f"{group.card.samples:,}" for group in report.groups)])
        scores = [score for group in report.groups for found in group.scores.values() for score in found]
        for name in ("seed", "repeats", "commit"):
            rows.append([name, ", ".join(sorted({str(getattr(score.card, name)) for score in scores}))])
        rows.append(["versions", "; ".join(sorted({_versions(score.card.versions) for score in scores}))])
        blocks += [Heading("The card: how scores were made"), Table(rows)]
    runs = report.results.runs
    made = f"This report: {_versions(versions())}, commit {commit() or 'unknown'}."
    plan = report.results.sweep.plan.command
    whole: list[Block] = [Paragraph("All of it, with another --sweep_dir:"), Code([plan])] if plan else []
    each: list[Block] = [Paragraph("Or a run with its scores, each by itself:"), Code([run.command for run in runs])]
    return [*blocks, Heading("To make it again"), *whole, *each, Paragraph(made)]


def _versions(found: object) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items()) if isinstance(found, dict) else str(found)
