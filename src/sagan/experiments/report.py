"""The report of a sweep: an HTML page and the same as Markdown, with figures and tables as files beside them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sagan.data.sources.own import MARK, appearing_together, is_unused, mark_as_ours
from sagan.evaluation.metrics.frechet import few_images_warning
from sagan.experiments.document import (
    Block,
    Code,
    Folded,
    Heading,
    Items,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)
from sagan.experiments.findings import (
    compare_arms,
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
    is_readable,
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
from sagan.run.config import Config
from sagan.system.callbacks import Say
from sagan.system.errors import UserError
from sagan.system.files import write_whole
from sagan.system.images import save_png
from sagan.system.paths import command_without_paths, last_name
from sagan.system.sentences import plural
from sagan.system.typed import to_plain

FID_THRESHOLD = 30.0
"""The default threshold of a sweep scored by FID."""

Place = Callable[[RunResult, int], float | None]
"""Where a step of a run is on an axis of steps or of time; None where that is not known."""

_OWN = re.compile(
    r"(scores(-by-arm|-by-time)?|comparison(-\d+)?|threshold)\.(csv|png|svg)|samples-seed\d+\.png|events\.csv|"
    r"report\.(html|md)"
)
"""The names of the files of a report."""

_MANY = 3  # of more arms, one figure with all is hard to read
_SHORT = 4  # sentences of a list that is not folded
_STRIP = 2  # rows shown of a grid of samples


@dataclass
class Report:
    """A report while it is written: what its sections are made from, and the findings so far."""

    results: Results
    folder: Path
    """Where it is written, until it is whole."""
    metric: str
    threshold: float | None
    step: int | None
    groups: list[Group] = field(default_factory=list)
    published: list[PublishedCurve] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    """Of the published figures."""
    left_out: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    """What to know before believing a finding."""
    findings: list[str] = field(default_factory=list)

    @property
    def better(self) -> str | None:
        """Which scores are better: "lower", "higher", or None where neither is."""
        return BETTER.get(self.metric)


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
    """Writes the report of a sweep's folder into the folder ``out``; returns the page and its findings.

    ``step``: where arms are compared, by default the last one planned, or while the sweep is running the last with most
    pairs. ``published`` draws the published FIDs behind the curves. The same files give the same report. Raises
    UserError where scores cannot be compared, and where nothing was scored at ``step``.
    """
    results = read_results(sweep)
    report = Report(results, out, metric, threshold, step)
    report.groups = shared_groups(results, metric, report.left_out.append)
    report.cautions = list(_few_samples(report))
    for sentence in report.left_out + report.cautions:
        warn(sentence)
    _check(report, published)
    if threshold is None and metric == "frechet" and report.groups and report.groups[0].card.is_fid:
        report.threshold = FID_THRESHOLD
    mark_as_ours(out)
    with appearing_together(out, _OWN) as folder:
        report.folder = folder
        scores, samples = _scores(report), _samples(report)
        report.findings = report.findings or [_nothing_compared(report)]
        blocks = [*_summary(report), *samples, *scores, *_events(report), *_attention(report), *_origin(report)]
        title = _title(report, sweep)
        _write(folder / "report.html", to_html(title, blocks, folder))
        _write(folder / "report.md", to_markdown(title, blocks))
    return out / "report.html", report.findings


def _title(report: Report, sweep: Path) -> str:
    """The sweep's name, its images, and the day of its last record."""
    images = {_images(run.config) for run in report.results.runs}
    files = [run.run.records_file for run in report.results.runs if run.run]
    written = [file.stat().st_mtime for file in files if file.is_file()]
    day = f", {datetime.fromtimestamp(max(written), UTC):%Y-%m-%d}" if written else ""
    return f"Sweep {sweep.resolve().name}: {', '.join(sorted(images))}{day}"


def _images(config: Config) -> str:
    data = config.data
    return f"{data.dataset or last_name(data.data or 'faces')} {config.model.shape}"


def refuse_foreign_folder(out: Path) -> None:
    """Raises UserError unless a report may be written into a folder: it is missing or empty, or holds one, whole or
    not."""
    if is_unused(out) or (out / "report.html").is_file():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if MARK not in names or not all(_OWN.fullmatch(name) for name in names - {MARK}):
        raise UserError(f"{out} is neither empty nor an earlier report: give another --out")


def _few_samples(report: Report) -> Iterable[str]:
    """A sentence for each kind of score whose samples are few for its features."""
    for group in report.groups if report.metric == "frechet" else ():
        dim = group.card.dim
        if dim is not None and (sentence := few_images_warning(group.card.samples, dim)):
            yield f"{group.label}: {sentence}"


def _check(report: Report, published: bool) -> None:
    """Raises UserError for what is wrong before anything is written."""
    if report.threshold is not None and report.better is None:
        raise UserError(f"--threshold needs a metric of which more or less is better, got {report.metric}")
    if report.threshold is not None and not math.isfinite(report.threshold):
        raise UserError(f"`threshold` must be a number, got {report.threshold}")
    scored = report.groups[0].steps() if report.groups else []
    if report.step is not None and report.step not in scored:
        only = f"only at {', '.join(map(str, scored))}" if scored else "nor at any other"
        raise UserError(f"no run was scored at step {report.step}, {only}")
    if not published:
        return
    if not report.groups:
        raise UserError("--published needs scores, and no run has been scored")
    found = comparable_dataset(report.groups[0].card, report.metric, report.results.runs[0].config.data)
    report.published, report.caveats = published_curves(found), caveats(found)
    first, last = min(curve.points[0].step for curve in report.published), max(scored)
    if last < first:
        raise UserError(f"the published figures begin at step {first:,}, and the last score here is of step {last:,}")


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _write(path, text.getvalue())


# ---- the summary


def _nothing_compared(report: Report) -> str:
    """The finding where no arms are compared."""
    if not report.groups:
        return "Nothing has been scored yet, so nothing can be said."
    group, arm = report.groups[0], report.results.baseline
    step = comparison_step(report.results, group) if report.step is None else report.step
    values = list(group.at(report.results, arm, step).values())
    if not values:
        return f"There is one arm, {arm.label}, and no score of it at {plural(step, 'step')}."
    middle, deviation = mean_and_spread(values)
    around = f" ± {deviation} over {plural(len(values), 'seed')}" if deviation else ""
    return (
        f"There is one arm, {arm.label}, so nothing is compared; its {group.label} at {plural(step, 'step')} is "
        f"{middle}{around}."
    )


def _summary(report: Report) -> list[Block]:
    results = report.results
    done = sum(run.step >= run.config.run.total_step for run in results.runs)
    arms = "; ".join(arm.label for arm in results.arms)
    seeds = ", ".join(map(str, results.seeds))
    text = f"{plural(len(results.runs), 'run')}, {done} of them trained to the last step. Arms: {arms}. Seeds: {seeds}."
    if report.groups:
        text += f" Differences are an arm's score minus that of {results.baseline.label}."
        text += f" {report.better.capitalize()} is better." if report.better else ""
    blocks: list[Block] = [Paragraph(text), Items([*report.findings, *report.cautions])]
    lacking = missing(results, report.groups) + report.left_out
    if lacking:
        blocks += [Heading("What is missing"), *_folded_if_long(lacking)]
    return blocks


def _folded_if_long(sentences: Sequence[str]) -> list[Block]:
    if len(sentences) <= _SHORT:
        return [Items(sentences)]
    return [Folded(f"{plural(len(sentences), 'sentence')}, beginning with: {sentences[0]}", [Items(sentences)])]


# ---- scores


def _scores(report: Report) -> list[Block]:
    """The comparisons, curves and times; nothing where there are no scores."""
    if not report.groups:
        return []
    _write_csv(report.folder / "scores.csv", _score_rows(report))
    blocks = [block for place, group in enumerate(report.groups) for block in _comparison(report, group, place)]
    return [*blocks, *_curves(report), *_times(report)]


def _score_rows(report: Report) -> Iterable[Sequence[object]]:
    card = ("metric", "label", "extractor", "samples", "reference")
    yield (*card, "run", "arm", "seed", "step", "training_seconds", "value", "spread", "error")
    for group in report.groups:
        for run in report.results.runs:
            for score in group.scores.get(run.name, []):
                made, seconds = score.card, run.seconds_at(score.step)
                trained = "" if seconds is None else round(seconds, 3)
                yield (
                    *(report.metric, group.label, made.extractor, made.samples, made.reference),
                    *(run.name, run.arm.label, run.seed, score.step, trained, score.value, score.spread, score.error),
                )


def _comparison(report: Report, group: Group, place: int) -> list[Block]:
    """The arms at one step: a sentence for each, a table and a figure."""
    asked = report.step in group.steps()
    compared = compare_arms(report.results, group, report.metric, report.step if asked else None)
    of = f", by {group.label} of {group.card.samples:,} samples" if len(report.groups) > 1 else ""
    report.findings += [sentence + of for sentence in findings(compared)]
    name = "comparison" if place == 0 else f"comparison-{place + 1}"
    _write_csv(report.folder / f"{name}.csv", csv_rows(compared))
    title = f"{group.label} at step {compared.step:,}, {group.card.samples:,} samples a score"
    blocks: list[Block] = [Heading(title), Table(table_rows(compared))]
    if any(each.comparison.seeds for each in compared.arms):
        base = compared.baseline.label
        side = {"lower": " (below 0 is better)", "higher": " (above 0 is better)"}.get(report.better or "", "")
        labels, comparisons = zip(*((each.arm.label, each.comparison) for each in compared.arms), strict=True)
        figure = draw_differences(labels, comparisons, compared.pairs(), f"{group.label}, minus that of {base}{side}")
        save_figure(figure, report.folder / name)
        caption = f"Differences from {base}: diamonds are means, with their intervals; hollow dots are pairs of runs."
        blocks.append(Picture(f"{name}.svg", caption))
    method = Paragraph(describe_method(compared, asked=asked))
    return [*blocks, Folded("How this was computed, and what it can show", [method])]


# ---- curves


def _curves(report: Report) -> list[Block]:
    group, base = report.groups[0], report.results.baseline.label
    if len(group.steps()) < 2 and not report.published:
        return []  # one point of each run, which the comparison shows
    floor, threshold = group.newest.floor, report.threshold
    curves = _curves_over(report, _at_step)
    figure = draw_scores(
        curves, "generator steps", group.label, floor=floor, threshold=threshold, published=report.published
    )
    save_figure(figure, report.folder / "scores")
    caption = (
        "Thin lines: one seed each. Thick lines: the mean, at the steps at which every seed that has begun is scored."
    )
    if floor is not None:
        half = group.newest.floor_samples
        caption += f" Dotted: half of the real images against the other half, {half:,} each."
    pictures = [Picture("scores.svg", " ".join([caption, *report.caveats]))]
    if base in [curve.label for curve in curves]:
        panels = draw_arms(curves, base, "generator steps", group.label)
        save_figure(panels, report.folder / "scores-by-arm")
        by_arm = Picture("scores-by-arm.svg", f"Every seed of each arm; grey: the mean of {base}.")
        pictures.insert(0 if len(curves) > _MANY else 1, by_arm)
    blocks: list[Block] = [Heading("Score over steps"), *pictures]
    unit, at_time = _clock(report)
    timed = _curves_over(report, at_time)
    if timed:
        figure = draw_scores(timed, f"{unit} of training", group.label, floor=floor, threshold=threshold)
        save_figure(figure, report.folder / "scores-by-time")
        caption = (
            "Time of training, including steps that were rolled back and excluding scoring. It depends on the machine "
            "of each run and on its other load."
        )
        blocks += [Heading("Score over time"), Picture("scores-by-time.svg", caption)]
    return blocks


def _curves_over(report: Report, place: Place) -> list[Curve]:
    """The scores of each arm that has any on the axis."""
    curves = [_curve(report, arm, place) for arm in report.results.arms]
    return [curve for curve in curves if curve.seeds]


def _curve(report: Report, arm: Arm, place: Place) -> Curve:
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


def _at_step(run: RunResult, step: int) -> float:
    return float(step)


def _clock(report: Report) -> tuple[str, Place]:
    """The unit of the axes of time, and where a step is on them."""
    group = report.groups[0]
    longest = max((run.seconds_at(step) or 0 for run in report.results.runs for step in group.values(run)), default=0)
    unit, seconds = ("hours", 3600) if longest >= 7200 else ("minutes", 60) if longest >= 120 else ("seconds", 1)

    def place(run: RunResult, step: int) -> float | None:
        found = run.seconds_at(step)
        return None if found is None else found / seconds

    return unit, place


# ---- times to a threshold


class _Reach(NamedTuple):
    """The step at which a run reached the threshold or, where it has not, the last at which it was scored."""

    run: RunResult
    step: int
    reached: bool


def _times(report: Report) -> list[Block]:
    """When each run reached the threshold; nothing where there is none."""
    threshold = report.threshold
    if threshold is None or report.better is None:
        return []
    reaches = []
    for run in report.results.runs:
        values = report.groups[0].values(run)
        if values:
            step = first_reached(values, threshold, lower=report.better == "lower")
            reaches.append(_Reach(run, max(values) if step is None else step, step is not None))
    head = "metric", "threshold", "arm", "seed", "reached", "step", "training_seconds"
    scored = (
        (report.metric, threshold, run.arm.label, run.seed, reached, step, run.seconds_at(step))
        for run, step, reached in reaches
    )
    _write_csv(report.folder / "threshold.csv", [head, *scored])
    unit, at_time = _clock(report)
    rows = [["arm", *(f"seed {seed}" for seed in report.results.seeds), "median steps", f"median {unit}"]]
    times = []
    for arm in report.results.arms:
        own = {each.run.seed: each for each in reaches if each.run.arm == arm}
        cells = [_time_cell(own[seed], at_time, unit) if seed in own else "not scored" for seed in report.results.seeds]
        medians = _median_cell(own.values(), _at_step, ",.0f"), _median_cell(own.values(), at_time, ".3g")
        rows.append([arm.label, *cells, *medians])
        reached, censored = (
            {seed: float(each.step) for seed, each in own.items() if each.reached == kind} for kind in (True, False)
        )
        times.append(Times(arm.label, reached, censored))
    way = "at most" if report.better == "lower" else "at least"
    text = (
        f"The first scored step at which a run's {report.groups[0].label} is {way} {threshold:g}; '>' marks a run that "
        "had not reached it by its last score. Medians count such runs as censored (Kaplan and Meier); '>' before a "
        "median means that too few runs have reached the threshold to tell. A noisy curve may cross it early by "
        "chance, and one that is scored rarely crosses it late."
    )
    caption = (
        f"Steps to {threshold:g}. Filled markers: a seed each; hollow: the last score of a run that had not reached it."
    )
    blocks: list[Block] = [Heading(f"Time to {threshold:g}"), Table(rows)]
    if len({each.step for each in reaches}) > 1:  # else all markers are at one place
        save_figure(draw_times(times, f"generator steps to {threshold:g}"), report.folder / "threshold")
        blocks.append(Picture("threshold.svg", caption))
    return [*blocks, Folded("What these times are", [Paragraph(text)])]


def _time_cell(reach: _Reach, at_time: Place, unit: str) -> str:
    time = at_time(reach.run, reach.step)
    return ("" if reach.reached else "> ") + f"{reach.step:,}" + ("" if time is None else f" ({time:.3g} {unit})")


def _median_cell(reaches: Iterable[_Reach], place: Place, form: str) -> str:
    known = [(time, each.reached) for each in reaches if (time := place(each.run, each.step)) is not None]
    if not known:
        return ""
    times, reached = zip(*known, strict=True)
    median = censored_median(times, reached)
    return f"> {max(times):{form}}" if median is None else f"{median:{form}}"


# ---- samples, collapse, attention, origin


def _samples(report: Report) -> list[Block]:
    """Samples of the same latents side by side, a picture for each seed."""
    blocks: list[Block] = []
    for seed in report.results.seeds:
        runs = [run for run in report.results.runs if run.seed == seed and run.run]
        step = _common_grid(runs)
        if step is None:
            continue
        shown = [run for run in runs if is_readable(run.samples / f"{step}_fake.png")]
        if not shown:
            continue
        name = f"samples-seed{seed}.png"
        shape = shown[0].config.model.shape
        picture = stack_samples([run.samples / f"{step}_fake.png" for run in shown], shape, rows=_STRIP)
        save_png(picture, report.folder / name, sync=True)
        listed = [run.arm.label for run in shown]
        strips = "two rows" if picture.shape[0] > len(shown) * (shape.height + 8) else "one row"
        caption = (
            f"Seed {seed} at step {step:,}. The images of a column are drawn from the same latent. "
            f"From the top, {strips} each: {'; '.join(listed)}."
        )
        lacking = [run.arm.label for run in runs if run not in shown]
        caption += f" Without such samples: {'; '.join(lacking)}." if lacking else ""
        blocks.append(Picture(name, caption, pixels=True, rows=listed))
    return [Heading("Samples of the same latents"), *blocks] if blocks else []


def _common_grid(runs: Sequence[RunResult]) -> int | None:
    """The latest step at which most of the runs have a grid of samples."""
    names = (path.name.removesuffix("_fake.png") for run in runs for path in run.samples.glob("*_fake.png"))
    steps = Counter(int(name) for name in names if name.isdecimal())
    return max(steps, key=lambda step: (steps[step], step), default=None)


def _events(report: Report) -> list[Block]:
    runs = [run for run in report.results.runs if run.run]
    found = [event for run in runs for event in events(run)]
    blocks: list[Block] = [Heading("Collapse, and what the guard found")]
    failed = [f"{run.name} failed: {run.reason}" for run in report.results.runs if run.state == "failed"]
    if failed:
        blocks.append(Items(failed))
    unchecked = [run.name for run in runs if not run.checks]
    if unchecked:
        blocks.append(Paragraph(f"Never checked: {', '.join(unchecked)}."))
    if not found:
        checks = plural(sum(run.checks for run in runs), "time")
        checked = plural(len(runs) - len(unchecked), "run")
        text = f"The guard checked {checked} {checks} in all and found nothing wrong."
        return [*blocks, Paragraph(text)] if len(unchecked) < len(runs) else blocks
    rows = [["run", "steps", "verdict", "reason", "what was done"]]
    for event in found:
        steps = f"{event.first:,}" if event.first == event.last else f"{event.first:,} to {event.last:,}"
        rows.append([event.run, steps, event.verdict, event.reason, event.action])
    _write_csv(report.folder / "events.csv", rows)
    return [*blocks, Table(rows)]


def _attention(report: Report) -> list[Block]:
    rows = [["arm", "layers, and the share of keys a query sees"]]
    for arm in report.results.arms:
        lines = describe_attention(report.results.of(arm)[0].config.model)
        rows += [[arm.label if number == 0 else "", line] for number, line in enumerate(lines)]
    return [Heading("What attention sees"), Table(rows)]


def _origin(report: Report) -> list[Block]:
    """How the scores were computed, and how to reproduce everything."""
    blocks: list[Block] = []
    if report.groups:
        own = ("samples", "seed", "repeats", "versions", "commit")
        card = to_plain(report.groups[0].card)
        rows = [["card", ""], *([name, str(value)] for name, value in card.items() if name not in own)]
        rows.insert(2, ["samples", ", ".join(f"{group.card.samples:,}" for group in report.groups)])
        scores = [score for group in report.groups for found in group.scores.values() for score in found]
        for name in ("seed", "repeats", "commit"):
            rows.append([name, ", ".join(sorted({str(getattr(score.card, name)) for score in scores}))])
        rows.append(["versions", "; ".join(sorted({_versions(score.card.versions) for score in scores}))])
        blocks += [Heading("How scores were computed"), Table(rows)]
    runs = report.results.runs
    made = f"This report: {_versions(versions())}, commit {commit() or 'unknown'}."
    plan = command_without_paths(report.results.sweep.plan.command)
    anew = "The whole sweep; where its folder is, give another --sweep_dir, as this one goes on with what is there:"
    whole: list[Block] = [Paragraph(anew), Code([plan])] if plan else []
    each = Folded("Or run by run, with its scores", [Code([run.command for run in runs])])
    return [*blocks, Heading("How to reproduce this"), *whole, each, Paragraph(made)]


def _versions(found: object) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items()) if isinstance(found, dict) else str(found)
