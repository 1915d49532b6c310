"""Going back: which checkpoints a run may go back to, the return to one of them, and what is left of a run without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from sagan.run.folder import Run
from sagan.run.records import RollbackRecord, State, StoppedRecord
from sagan.run.scores import best_score, read_scores
from sagan.run.store import Store
from sagan.run.weights import Checkpoint, load_checkpoint
from sagan.system.files import keep_as
from sagan.training.guard import Diverged, Guard, Verdict
from sagan.training.saving import matching_checkpoint, write_checkpoint, write_snapshot
from sagan.training.trainer import Trainer

# by verdict: what the rates and the gradient penalties are multiplied by when a run goes back
REMEDIES: dict[State, dict[str, float]] = {
    "diverged": {"g_lr": 0.5, "d_lr": 0.5, "penalties": 1.0},
    "D winning": {"g_lr": 1.0, "d_lr": 0.5, "penalties": 2.0},
    "diversity falling": {"g_lr": 0.5, "d_lr": 0.5, "penalties": 2.0},
}


def describe_remedy(remedy: Mapping[str, float]) -> str:
    """A remedy in words: "other z and images, g_lr x 0.5, d_lr x 0.5"."""
    return ", ".join(["other z and images", *(f"{name} x {by:g}" for name, by in remedy.items() if by != 1)])


_ENDS: dict[State, str] = {  # what a verdict means for a run
    "diverged": "training has diverged",
    "D winning": "the discriminator has won, training has collapsed",
    "diversity falling": "the samples have lost their diversity, training has collapsed",
}


class Recovery:
    """Takes a run back to a state that has proved healthy, to go on from there more carefully; or gives it up.

    ``saved`` is the step of the run's last checkpoint.
    """

    def __init__(self, training: Trainer, run: Run, store: Store):
        self.training, self.run, self.store = training, run, store
        self.settings = training.config.run
        self.saved = training.step
        self.proved: ProvedStates | None = None
        if self.settings.guard == "recover":
            self.proved = ProvedStates(run, self.settings.checkpoint_every, self.settings.guard_every)

    def open(self, guard: Guard) -> None:
        """Finds what there is to go back to, at the start and after a rollback."""
        if self.proved is not None:
            self.proved.open(self.training.step, guard)

    def take_in(self, guard: Guard) -> None:
        """Takes note of the checkpoint that was just written: if it was due it may become the one to go back to."""
        self.saved = self.training.step
        if self.proved is not None:
            self.proved.take_in(self.saved, guard)

    def go_back(self, trouble: Diverged, guard: Guard) -> str:
        """Takes training and folder back; gives a sentence about it. Raises the trouble, with what is left of the run,
        where it may not go back or has nothing to go back to."""
        training, run = self.training, self.run
        if self.proved is None or training.attempt >= self.settings.max_rollbacks:
            raise self._last_words(trouble, guard)
        path = self.proved.find(trouble, guard)
        if path is None and not self.proved.may_start_anew(guard):
            raise self._last_words(trouble, guard)
        remedy = roll_back(training, None if path is None else self._state(path), trouble)
        aside = run.attempt_folder(training.attempt - 1)
        aside.mkdir(exist_ok=True)
        if self.saved > training.step:
            keep_as(run.checkpoint_file, aside / "last.pt")
        write_checkpoint(training, run, self.store)  # first of all: what is left to do can be done from it
        self.saved = training.step
        finish_rollback(training, run)
        return (
            f"{trouble.verdict.reason}: back to step {training.step:,} with {describe_remedy(remedy)}; what came after "
            f"it is in {aside}"
        )

    def _state(self, path: Path) -> Checkpoint:
        return matching_checkpoint(path, self.run, self.training.config, self.store)

    def _good_file(self, trouble: Diverged, guard: Guard) -> Path | None:
        """The checkpoint to use of a run that is given up, or None; one that may not go back has only its last."""
        if self.proved is not None:
            return self.proved.find(trouble, guard)
        return self.run.checkpoint_file if self.run.checkpoint_file.exists() else None

    def _last_words(self, trouble: Diverged, guard: Guard) -> Diverged:
        """The trouble that ends the run, with what is left of it in words; it is recorded, too."""
        count, good, verdict = self.training.attempt, self._good_file(trouble, guard), trouble.verdict
        self.run.append(StoppedRecord(step=trouble.step, verdict=verdict.state, reason=verdict.reason))
        path, kept = good or self.run.checkpoint_file, "nothing was saved yet"
        if path.exists():
            self.training.load(self._state(path))
            sound = good is not None and not (path == self.run.checkpoint_file and guard.verdict.collapsed)
            what = "the last good state" if sound else "the last state, of which it is not known whether it is good"
            kept = f"{what}, step {self.training.step:,}, is in {path}, {self._best_snapshot(guard, sound)}"
        tried = f" after {count} rollback{'s' if count > 1 else ''}" if count else ""
        more = f", or `sagan resume {self.run.folder} --max_rollbacks {count + 3}`" if count else ""
        reason = (
            f"{verdict.reason}: {_ENDS[verdict.state]} and was stopped{tried} at step {trouble.step:,}; {kept}. "
            f"The usual cure is a new run with lower learning rates (--g_lr, --d_lr){more}"
        )
        return Diverged(Verdict(verdict.state, reason), trouble.step)

    def _best_snapshot(self, guard: Guard, sound: bool) -> str:
        """Which snapshot to use of a run that is given up: the one of the best score, if there are scores, else one of
        the state that the training is in; but where that is not known to be sound, one from before the collapse, if
        there is one."""
        if read_scores(self.run, "frechet"):
            best = best_score(self.run)
            return f"the best snapshot ({best.label} {best.value:.4g}) is {self.run.snapshot_file(best.step)}"
        if not sound:
            began = guard.began() if guard.verdict.collapsed else math.inf
            earlier = [path for path in self.run.snapshots() if int(path.stem) < began]
            if earlier:
                return f"and the newest snapshot from before it went wrong is {earlier[-1]}"
        path = self.run.snapshot_file(self.training.step)
        if not path.is_file():
            write_snapshot(self.training, self.run, self.store)
        return f"and its generator, to use, is {path}"


def roll_back(training: Trainer, state: Checkpoint | None, trouble: Diverged) -> dict[str, float]:
    """Takes a training back to a state, or to the start, to go on from there with other randomness and more carefully.

    Gives what rates and penalties are multiplied by, on top of earlier remedies; penalties only where there are any.
    ``training.rollback`` then is the record of it.
    """
    penalized = training.config.game.penalized
    remedy = {name: by for name, by in REMEDIES[trouble.verdict.state].items() if penalized or name != "penalties"}
    attempt, seconds = training.attempt + 1, training.seconds
    caution = {name: by * remedy.get(name, 1.0) for name, by in training.caution.items()}
    training.load(Trainer(training.config, training.device).state() if state is None else state)
    training.attempt, training.seconds, training.caution = attempt, seconds, caution
    training.rollback = RollbackRecord(
        step=training.step,
        from_step=trouble.step,
        attempt=attempt,
        verdict=trouble.verdict.state,
        reason=trouble.verdict.reason,
        remedy=remedy,
    )
    training.capture_anew()
    return remedy


def finish_rollback(training: Trainer, run: Run) -> None:
    """Sets aside what a rollback took back and records it, unless that is done."""
    record = training.rollback
    if record is None or any(each.attempt == record.attempt for each in run.records_of(RollbackRecord)):
        return
    sample_dir = training.config.run.sample_dir
    run.set_aside(record.step, record.attempt - 1, [Path(sample_dir)] if sample_dir else [])
    run.append(record)


class ProvedStates:
    """A checkpoint that was due is pending until the guard has proved it; then it is the healthy one.

    One is pending at a time, the newest before the guard's look. Checkpoints that were not due are not, and what comes
    after the looks that prove one does not matter: so where a run was stopped or scored makes no difference to what it
    goes back to. The guard is given each time, for a run that goes back has another one.

    Args:
        run: whose ``pending_file`` and ``healthy_file`` they are; both are kept while ``checkpoint_file`` is replaced.
        every: steps between checkpoints that are due.
        looks_every: steps between the guard's looks.
    """

    def __init__(self, run: Run, every: int, looks_every: int):
        self.run, self.every, self.looks_every = run, every, looks_every
        file = run.pending_file
        self.pending = load_checkpoint(file).step if file.exists() else None  # its step

    def open(self, step: int, guard: Guard) -> None:
        """Finds what there is, for a run that is at a step: the pending checkpoint may be of what was taken back, and
        the last one may not have become pending yet. A run that had no such guard until now, or was trained by another
        program, has nothing: its last checkpoint becomes pending, due or not."""
        if self.pending is not None and self.pending > step:
            self.run.pending_file.unlink()
            self.pending = None
        if self.run.checkpoint_file.exists():
            self.take_in(step, guard)
            if self.pending is None and not self.run.healthy_file.exists() and step >= self.every:
                self._wait(step)

    def take_in(self, step: int, guard: Guard) -> None:
        """Lets the run's checkpoint, of a step, wait for its proof, if it was due and no older one waits."""
        self._prove(guard)
        due = step > 0 and step % self.every == 0
        if due and (self.pending is None or not guard.may_prove(self.pending)):
            self._wait(step)

    def find(self, trouble: Diverged, guard: Guard) -> Path | None:
        """The last checkpoint that was proved; else the pending one, unless it was made after the first look that was
        bad; else None."""
        self._prove(guard)
        if self.run.healthy_file.exists():
            return self.run.healthy_file
        began = guard.began() if guard.verdict.collapsed else trouble.step
        return self.run.pending_file if self.pending is not None and self.pending < began else None

    def may_start_anew(self, guard: Guard) -> bool:
        """Whether a run that has nothing to go back to is at its first checkpoints still. One that was only watched
        until now, perhaps into its collapse, or was trained by another program, may have days to lose."""
        watched = any(look.collapsed for look in guard.looks[:-1])
        return not watched and (self.pending is None or self.pending <= max(self.every, self.looks_every))

    def _wait(self, step: int) -> None:
        keep_as(self.run.checkpoint_file, self.run.pending_file)
        self.pending = step

    def _prove(self, guard: Guard) -> None:
        if self.pending is not None and guard.proved_since(self.pending):
            self.run.pending_file.replace(self.run.healthy_file)
            self.pending = None
