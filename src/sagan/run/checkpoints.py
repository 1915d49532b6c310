"""Which checkpoint a run is resumed from: its last one, or an older one where that is torn or lost."""

from __future__ import annotations

from pathlib import Path

from sagan.run.folder import Run, snapshot_step
from sagan.run.weights import Checkpoint, load_checkpoint, saved_step
from sagan.system.errors import UserError
from sagan.system.files import keep_as
from sagan.system.sentences import command


def find_run(place: Path) -> tuple[Run, Path | None]:
    """The run in a folder; or the run that a checkpoint file is of, and that file, to resume from it.

    Raises UserError for anything else.
    """
    if not place.is_file():
        return Run.open(place), None
    folder = place.parent.parent
    run = Run(folder)
    known = place.parent.name == "checkpoints" and place.name in _names(run)
    if not known or not run.config_file.is_file():
        hint = f"; `{_command(folder)}` resumes its run" if run.config_file.is_file() else ""
        raise UserError(f"{place} is not a checkpoint in a run's folder, which is what a run is resumed from{hint}")
    return run, place


def chosen_checkpoint(run: Run, path: Path | None) -> Checkpoint | None:
    """The checkpoint that `find_run` gave, by default the last one, if there is one."""
    if path is not None:
        return _load(run, path)
    return last_checkpoint(run) if run.checkpoint_file.exists() else None


def _load(run: Run, path: Path) -> Checkpoint:
    return last_checkpoint(run) if path == run.checkpoint_file else load_checkpoint(path)


def last_checkpoint(run: Run) -> Checkpoint:
    """The last checkpoint of a run. Raises UserError where it cannot be read, with an older one that can."""
    try:
        return load_checkpoint(run.checkpoint_file)
    except UserError as error:
        raise UserError(f"{error}; {_older(run)}") from error


def refuse_lost(run: Run) -> None:
    """Raises UserError where a run has lost its last checkpoint, but not older ones, or what it started from."""
    if not run.checkpoint_file.exists() and (run.healthy_file.exists() or run.pending_file.exists()):
        raise UserError(f"{run.checkpoint_file} is missing; {_older(run)}")
    started = run.config().model.start_from
    if started is not None and not run.checkpoint_file.exists() and not run.start_file.exists():
        raise UserError(
            f"{run.start_file} is missing, which holds what the run started from: start it again from {started}, with "
            "another --run_dir"
        )


def pending_step(run: Run) -> int:
    """The step of ``pending.pt``. Raises UserError, with what to do, for a torn one."""
    try:
        return load_checkpoint(run.pending_file).step
    except UserError as error:
        raise UserError(f"{error}; `{_command(run.checkpoint_file)}` goes on without it") from error


def go_on_from(run: Run, path: Path) -> None:
    """Makes a checkpoint of a run its last one; the former one, torn or not, is kept as ``replaced.pt``. Others that
    are torn are removed: the run would not go on beside them."""
    checkpoint = _load(run, path)
    with run.locked():
        for other in (run.healthy_file, run.pending_file):
            if other.exists() and saved_step(other) is None:
                other.unlink()
        if path == run.checkpoint_file:
            return
        if run.checkpoint_file.exists():
            run.checkpoint_file.replace(run.checkpoint_file.with_name("replaced.pt"))
        keep_as(path, run.checkpoint_file)
        run.forget_rollbacks(checkpoint.attempt)


def _older(run: Run) -> str:
    """What can be done without the last checkpoint."""
    whole = []
    for path in (run.healthy_file, run.pending_file):
        try:
            whole.append((load_checkpoint(path).step, path))
        except (UserError, OSError):
            continue
    if whole:
        step, path = max(whole)
        return f"`{_command(path)}` goes on from an older one, of step {step:,}"
    if snapshots := [*run.snapshots(), *run.latest_snapshots()]:
        newest = max(snapshots, key=snapshot_step)
        return f"there is no older one, but its generator of step {snapshot_step(newest):,} is in {newest}"
    return "there is no older one, so the run must be started again with another --run_dir"


def _command(place: Path) -> str:
    return command("resume", place)


def _names(run: Run) -> set[str]:
    files = run.checkpoint_file, run.healthy_file, run.pending_file, run.start_file
    return {path.name for path in files} | {"replaced.pt"}
