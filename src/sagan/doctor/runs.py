"""Whether a run is healthy and its files whole, and what to do next: from its folder alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagan.data import choose_source
from sagan.doctor.findings import Finding, Severity, first_names
from sagan.run.config import Config
from sagan.run.folder import Run, snapshot_step
from sagan.run.keeping import free_bytes, warning_of_little_space
from sagan.run.records import LookRecord, Record, RecordReader, RollbackRecord, ScoreRecord, TrainRecord
from sagan.run.scores import like_groups
from sagan.run.status import STATES, RunStatus, Watched
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.console import duration
from sagan.system.errors import UserError, describe
from sagan.system.files import file_sha256, partial_files
from sagan.system.sentences import binary, command, plural

_RECENT = 20  # looks and records
_WINNING = 0.99  # share of pairs that the discriminator tells apart, from which it hardly teaches
_UNUSED, _SEEN = 0.01, 1000  # a gate, and the steps after which it says that a layer is not used
_WORSE = 1.2  # times the best score
_SLOWER = 2.0  # times the usual pace


@dataclass(frozen=True)
class Health:
    """What was found of a run, and the commands to give next, the best first, each with the reason."""

    findings: tuple[Finding, ...]
    next: tuple[tuple[str, str], ...]


def examine_run(folder: Path, progress: Callable[[int, int], object] = lambda done, total: None) -> Health:
    """All findings about a run. Raises UserError if there is none."""
    run = Run.open(folder)
    try:
        config = run.config()
    except UserError as error:
        finding = Finding("stop", "config", str(error), "bring config.json back from a copy; snapshots hold it too")
        return Health((finding,), tuple(_use_snapshots(run)))
    damaged = list[UserError]()
    records = list[Record]()
    try:
        records = RecordReader(run.records_file).read(damaged.append)
    except UserError as error:
        damaged.append(error)
    status = Watched(folder).look()
    files, whole = _files(run, records, progress)
    findings = [
        *_state(status),
        *_records(damaged),
        *_health(records, status),
        *_scores(records),
        *files,
        *_space(run, config),
        *_images(config, run, status),
    ]
    return Health(tuple(findings), tuple(_next(run, status, records, whole)))


def _state(status: RunStatus) -> Iterator[Finding]:
    total = "" if status.total is None else f" of {status.total:,}"
    left = (
        ""
        if status.seconds_left is None or status.state == "done"
        else f", about {duration(status.seconds_left)} to go"
    )
    yield Finding(
        "warning" if status.state == "failed" else "note",
        "state",
        f"{STATES[status.state]}: step {status.step:,}{total}{left}" + (f"; {status.reason}" if status.reason else ""),
    )


def _records(damaged: Sequence[UserError]) -> Iterator[Finding]:
    if damaged:
        text = f"{plural(len(damaged), 'record')} cannot be read, the first: {damaged[0]}"
        remedy = "training goes on without them; remove those lines from records.jsonl"
        yield Finding("warning", "records", text, remedy, len(damaged), tuple(map(str, damaged)))


# ---- health


def _health(records: Sequence[Record], status: RunStatus) -> Iterator[Finding]:
    looks = [record for record in records if isinstance(record, LookRecord)]
    train = [record for record in records if isinstance(record, TrainRecord)]
    rollbacks = [record for record in records if isinstance(record, RollbackRecord)]
    if looks:
        last = looks[-1]
        grade: Severity = "sound" if last.verdict == "healthy" else "stop" if last.verdict == "diverged" else "warning"
        said = f": {last.reason}" if last.reason else ""
        remedy = "" if grade == "sound" else "lower learning rates (--g_lr, --d_lr), or --guard recover, in a new run"
        yield Finding(grade, "guard", f"the guard at step {last.step:,}: {last.verdict}{said}", remedy)
        ill = sum(look.verdict != "healthy" for look in looks)
        if ill and last.verdict == "healthy":
            yield Finding(
                "note", "guard", f"{ill:,} of {len(looks):,} earlier looks of the guard were not healthy", count=ill
            )
        yield from _confidence(looks[-_RECENT:])
    elif train:
        yield Finding("note", "guard", "the guard has not looked yet, or is off (--guard off)")
    if rollbacks:
        reasons = tuple(f"step {each.from_step:,}: {each.reason}" for each in rollbacks)
        text = f"rolled back {plural(len(rollbacks), 'time')}: {first_names(reasons)}"
        yield Finding("warning", "rollbacks", text, "lower learning rates, if it goes on", len(rollbacks), reasons)
    if train:
        yield from _losses(train)
    elif status.step == 0:
        yield Finding("note", "records", "no step was recorded yet")


def _confidence(looks: Sequence[LookRecord]) -> Iterator[Finding]:
    told = statistics.median(look.separation for look in looks)
    text = f"the discriminator tells {told:.1%} of pairs of real image and fake (median of the last {len(looks)} looks)"
    if told > _WINNING and len(looks) == _RECENT:
        yield Finding(
            "warning", "confidence", text, "it hardly teaches: --r1 10, --lecam 0.1 or --augment, in a new run"
        )
    else:
        yield Finding("sound", "confidence", text)
    spread = statistics.median(look.pixel_spread for look in looks)
    yield Finding("note", "diversity", f"the fakes vary {spread:.2f} times as much as the real images, in pixels")


def _losses(train: Sequence[TrainRecord]) -> Iterator[Finding]:
    last, recent = train[-1], train[-_RECENT:]
    figures = {
        name: statistics.median(getattr(each, name) for each in recent)
        for name in ("d_loss", "g_loss", "d_real", "d_fake")
    }
    text = "losses: D {d_loss:.3f}, G {g_loss:+.3f}, D(real) {d_real:+.2f}, D(fake) {d_fake:+.2f}".format(**figures)
    yield Finding("note", "losses", f"{text} (medians of the last {len(recent)} records)")
    if last.gamma:
        gates = " ".join(f"{layer} {value:+.3f}" for layer, value in last.gamma.items())
        unused = [layer for layer, value in last.gamma.items() if abs(value) < _UNUSED]
        hint = f"; {', '.join(unused)} hardly attends" if unused and last.step >= _SEEN else ""
        yield Finding("note", "gammas", f"gates of attention (gamma): {gates}{hint}")
    if len(train) > 2 * _RECENT:
        usual = statistics.median(each.images_per_second for each in train[:-_RECENT])
        now = statistics.median(each.images_per_second for each in recent)
        if now * _SLOWER < usual:
            yield Finding(
                "warning", "pace", f"{now:.3g} images a second, where {usual:.3g} were usual: what else is running?"
            )


def _scores(records: Sequence[Record]) -> Iterator[Finding]:
    scores = [each for each in records if isinstance(each, ScoreRecord) and each.metric == "frechet"]
    groups = like_groups([score for score in scores if score.card.truncation is None])
    if not groups:
        return
    best, last = min(groups[0], key=lambda score: score.value), groups[0][-1]
    text = f"{best.label} {last.value:.4g} at step {last.step:,}, best {best.value:.4g} at step {best.step:,}"
    if last.value > _WORSE * best.value:
        yield Finding("warning", "scores", f"it gets worse: {text}", f"use the snapshot of step {best.step:,}")
    else:
        yield Finding("sound", "scores", text)


# ---- files


def _files(
    run: Run, records: Sequence[Record], progress: Callable[[int, int], object]
) -> tuple[list[Finding], dict[Path, int]]:
    """Findings on the files of a run, each of which is read as a whole; and the step of each that is whole."""
    folders = [run.folder, *sorted(run.folder.glob("attempt-*"))]
    snapshots = [*run.snapshots(), *run.latest_snapshots()]
    checkpoints = [
        path for folder in folders for path in sorted({*folder.glob("*.pt"), *folder.glob("checkpoints/*.pt")})
    ]
    steps, damaged = dict[Path, int](), list[str]()
    for done, path in enumerate([*snapshots, *checkpoints], 1):
        try:
            steps[path] = (load_checkpoint if path.suffix == ".pt" else load_snapshot)(path).step
        except (UserError, OSError) as error:
            damaged.append(describe(error))
        progress(done, len(snapshots) + len(checkpoints))
    found = [*_damaged(damaged, steps, run), *_other_hashes(snapshots, records)]
    folders = [run.folder, run.folder / "snapshots", run.checkpoint_file.parent]
    unfinished = tuple(path.name for folder in folders for path in partial_files(folder))
    if unfinished:
        text = f"{plural(len(unfinished), 'file')} left unfinished by a killed process: {first_names(unfinished)}"
        remedy = f"`{command('resume', run.folder)}` removes them"
        found.append(Finding("note", "partial files", text, remedy, len(unfinished), unfinished))
    return found, steps


def _damaged(damaged: Sequence[str], steps: dict[Path, int], run: Run) -> Iterator[Finding]:
    if damaged:
        last = run.checkpoint_file
        stops = last.exists() and last not in steps
        remedy = "bring them back from a copy; other files of the run are not harmed"
        text = f"{plural(len(damaged), 'file')} cannot be read: {first_names(damaged)}"
        yield Finding("stop" if stops else "warning", "files", text, remedy, len(damaged), tuple(damaged))
    if steps:
        kinds = [sum(path.suffix == suffix for path in steps) for suffix in (".safetensors", ".pt")]
        text = f"{plural(kinds[0], 'snapshot')} and {plural(kinds[1], 'checkpoint')} are whole, read tensor by tensor"
        yield Finding("sound", "files", text, count=len(steps))


def _other_hashes(snapshots: Sequence[Path], records: Sequence[Record]) -> Iterator[Finding]:
    """Snapshots that are not those that were scored, by their hashes."""
    known: dict[int, set[str]] = {}
    for record in records:
        if isinstance(record, ScoreRecord) and record.snapshot_sha256 is not None:
            known.setdefault(record.step, set()).add(record.snapshot_sha256)
    paths = [path for path in snapshots if path.stem.isdecimal() and snapshot_step(path) in known]
    other = tuple(path.name for path in paths if file_sha256(path) not in known[snapshot_step(path)])
    if other:
        text = f"{plural(len(other), 'snapshot')} changed since it was scored: {first_names(other)}"
        yield Finding("warning", "hashes", text, "`sagan evaluate RUN` scores what is there now", len(other), other)
    elif paths:
        yield Finding(
            "sound", "hashes", f"{plural(len(paths), 'snapshot')} are those that were scored, by their hashes"
        )


def _space(run: Run, config: Config) -> Iterator[Finding]:
    if warning := warning_of_little_space(config, run.folder):
        yield Finding("warning", "disk", warning)
    else:
        yield Finding(
            "sound", "disk", f"{binary(free_bytes(run.folder))} are free on its disk, enough for the rest of it"
        )


def _images(config: Config, run: Run, status: RunStatus) -> Iterator[Finding]:
    if status.state == "done":
        return
    try:
        found = choose_source(config.data, config.model.imsize, config.model.channels)
    except (UserError, OSError) as error:
        place = "image_path" if config.data.dataset else "data"
        remedy = f"`{command('resume', run.folder, f'--{place}', 'FOLDER')}` says where they are now"
        yield Finding("warning", "images", f"its images are not found: {describe(error)}", remedy)
        return
    yield Finding("sound", "images", f"its images are there: {found.description}")


# ---- what next


def _next(run: Run, status: RunStatus, records: Sequence[Record], whole: dict[Path, int]) -> Iterator[tuple[str, str]]:
    if status.state in ("running", "scoring"):
        yield command("status", run.folder.parent), "a process works on it: wait, and look again"
        return
    if run.checkpoint_file.exists() and run.checkpoint_file not in whole:
        older = [path for path in (run.healthy_file, run.pending_file) if path in whole]
        for path in sorted(older, key=lambda each: whole[each], reverse=True):
            yield command("resume", path), f"its last checkpoint is damaged; this one is of step {whole[path]:,}"
    elif status.state == "cut":
        yield command("resume", run.folder), "it was stopped before its last step"
    elif status.state == "failed" and run.healthy_file in whole:
        yield (
            command("resume", run.healthy_file),
            "the last state that proved healthy; better with a new run's lower rates",
        )
    if status.state == "done" and status.score is None:
        yield command("evaluate", run.folder), "it is trained, and not scored yet"
    yield from _use_snapshots(run, status.best.step if status.best else None)
    if not records and not whole:
        yield command("resume", run.folder), "nothing was saved yet: it begins at step 0"


def _use_snapshots(run: Run, best: int | None = None) -> Iterator[tuple[str, str]]:
    for path in [*run.snapshots(), *run.latest_snapshots()][-1:]:
        step = [] if best is None else ["--step", best]
        which = f"the snapshot of step {snapshot_step(path):,}" if best is None else f"its best snapshot, step {best:,}"
        yield command("sample", run.folder, *step, "--num", 64, "--out", "DIR"), f"images from {which}"
