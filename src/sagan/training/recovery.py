"""Rollback: which checkpoints a run may go back to, how it does, and how it ends when it cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from sagan.run.checkpoints import pending_step
from sagan.run.folder import Run, snapshot_step
from sagan.run.records import RollbackRecord, State, StoppedRecord
from sagan.run.scores import best_score, read_scores
from sagan.run.store import Store
from sagan.run.weights import Checkpoint
from sagan.system.files import keep_as
from sagan.system.sentences import command, plural
from sagan.training.guard import Diverged, Guard, Verdict
from sagan.training.saving import matching_checkpoint, write_checkpoint, write_snapshot
from sagan.training.trainer import Trainer

# by verdict: the factors that a rollback applies to the learning rates and the gradient penalties
REMEDIES: dict[State, dict[str, float]] = {
    "diverged": {"g_lr": 0.5, "d_lr": 0.5, "penalties": 1.0},
    "D winning": {"g_lr": 1.0, "d_lr": 0.5, "penalties": 2.0},
    "diversity falling": {"g_lr": 0.5, "d_lr": 0.5, "penalties": 2.0},
}


def describe_remedy(remedy: Mapping[str, float]) -> str:
    """A remedy in words: "other z and images, g_lr x 0.5, d_lr x 0.5"."""
    return ", ".join(["other z and images", *(f"{name} x {by:g}" for name, by in remedy.items() if by != 1)])


_ENDINGS: dict[State, str] = {
    "diverged": "training has diverged",
    "D winning": "the discriminator has won, training has collapsed",
    "diversity falling": "the samples have lost their diversity, training has collapsed",
}


class Recovery:
    """Takes a run back to a checkpoint that has proved healthy, to continue more carefully, or ends the run.

    A checkpoint that was due is pending until enough of the guard's looks after it have seen no collapse; then it
    becomes the healthy one, to go back to. Only one checkpoint is pending at a time. Checkpoints that were not due
    (by time, after a signal, before scoring) are not considered, nor are looks after those that prove a checkpoint
    healthy: so where a run was stopped or scored does not change where it goes back to.

    ``saved`` is the step of the run's last checkpoint.
    """

    def __init__(self, trainer: Trainer, run: Run, store: Store):
        self.trainer, self.run, self.store = trainer, run, store
        self.settings = trainer.config.run
        self.enabled = self.settings.guard == "recover"
        self.saved = trainer.step
        self.guard = Guard()
        pending = self.enabled and run.pending_file.exists()
        self.pending = pending_step(run) if pending else None  # its step

    def start(self, guard: Guard) -> None:
        """Finds what there is to go back to, at the start of a run and after a rollback; ``guard`` is the one that
        judges from then on."""
        self.guard = guard
        if not self.enabled:
            return
        if self.pending is not None and self.pending > self.saved:  # it belongs to what was rolled back
            self.run.pending_file.unlink()
            self.pending = None
        if self.run.checkpoint_file.exists():
            self._consider_checkpoint()
            if (
                self.pending is None
                and not self.run.healthy_file.exists()
                and self.saved >= self.settings.checkpoint_every
            ):
                # a run that could not go back until now, or of another program, has only its last checkpoint
                self._make_pending()

    def checkpoint_written(self) -> None:
        """Takes note of the checkpoint that was just written."""
        self.saved = self.trainer.step
        if self.enabled:
            self._consider_checkpoint()

    def go_back(self, trouble: Diverged) -> str:
        """Takes the trainer and the run's folder back; returns a sentence that says so.

        Raises `Diverged`, with what is left of the run, if the run may not go back or has nothing to go back to.
        """
        trainer, run = self.trainer, self.run
        path = self._good_checkpoint(trouble)
        allowed = self.enabled and trainer.attempt < self.settings.max_rollbacks
        if not allowed or (path is None and not self._may_restart()):
            raise self._ended(trouble, path)
        path = run.start_file if path is None and run.start_file.exists() else path
        remedy = roll_back(trainer, None if path is None else self._load(path), trouble)
        folder = run.attempt_folder(trainer.attempt - 1)
        folder.mkdir(exist_ok=True)
        if self.saved > trainer.step:
            keep_as(run.checkpoint_file, folder / "last.pt")
        write_checkpoint(trainer, run, self.store)  # first: if this process ends here, the next can do the rest from it
        self.saved = trainer.step
        finish_rollback(trainer, run)
        return (
            f"{trouble.verdict.reason}: back to step {trainer.step:,} with {describe_remedy(remedy)}; what came after "
            f"it is in {folder}"
        )

    # ---- which checkpoint

    def _consider_checkpoint(self) -> None:
        """Makes the run's checkpoint pending if it was due and no older one may still prove healthy."""
        self._promote_pending()
        due = self.saved > 0 and self.saved % self.settings.checkpoint_every == 0
        if due and (self.pending is None or not self.guard.may_prove(self.pending)):
            self._make_pending()

    def _make_pending(self) -> None:
        keep_as(self.run.checkpoint_file, self.run.pending_file)
        self.pending = self.saved

    def _promote_pending(self) -> None:
        if self.pending is not None and self.guard.proved_since(self.pending):
            self.run.pending_file.replace(self.run.healthy_file)
            self.pending = None

    def _good_checkpoint(self, trouble: Diverged) -> Path | None:
        """The last checkpoint that has proved healthy; else the pending one, if it was made before the first bad look;
        else None. Of a run that may never go back, the last checkpoint."""
        if not self.enabled:
            return self.run.checkpoint_file if self.run.checkpoint_file.exists() else None
        self._promote_pending()
        if self.run.healthy_file.exists():
            return self.run.healthy_file
        began = self.guard.began() if self.guard.verdict.collapsed else trouble.step
        return self.run.pending_file if self.pending is not None and self.pending < began else None

    def _may_restart(self) -> bool:
        """Whether a run with no checkpoint to go back to may start from step 0: only at its first checkpoints. One that
        was only watched until now, perhaps into its collapse, or comes from another program, may have days to lose."""
        watched = any(look.collapsed for look in self.guard.looks[:-1])
        first = max(self.settings.checkpoint_every, self.settings.guard_every)
        return not watched and (self.pending is None or self.pending <= first)

    def _load(self, path: Path) -> Checkpoint:
        return matching_checkpoint(path, self.run, self.trainer.config, self.store)[0]

    # ---- the end of a run

    def _ended(self, trouble: Diverged, good: Path | None) -> Diverged:
        """The error that ends the run, which says what is left of it; records the end."""
        count, verdict = self.trainer.attempt, trouble.verdict
        self.run.append(StoppedRecord(step=trouble.step, verdict=verdict.state, reason=verdict.reason))
        path, kept = good or self.run.checkpoint_file, "nothing was saved yet"
        if path.exists():
            self.trainer.load(self._load(path))
            sound = good is not None and not (path == self.run.checkpoint_file and self.guard.verdict.collapsed)
            what = "the last good state" if sound else "the last state, of which it is not known whether it is good"
            kept = f"{what}, step {self.trainer.step:,}, is in {path}, {self._best_snapshot(sound)}"
        tried = f" after {plural(count, 'rollback')}" if count else ""
        more = f", or `{command('resume', self.run.folder, '--max_rollbacks', count + 3)}`" if count else ""
        reason = (
            f"{verdict.reason}: {_ENDINGS[verdict.state]} and was stopped{tried} at step {trouble.step:,}; {kept}. "
            f"The usual remedy is a new run with lower learning rates (--g_lr, --d_lr){more}"
        )
        return Diverged(Verdict(verdict.state, reason), trouble.step)

    def _best_snapshot(self, sound: bool) -> str:
        """Which snapshot of the run to use: the one with the best score, if there are scores; else, unless the state of
        the trainer is known to be sound, the newest from before the collapse, if any; else one of that state."""
        if read_scores(self.run, "frechet"):
            best = best_score(self.run)
            return f"the best snapshot ({best.label} {best.value:.4g}) is {self.run.snapshot_file(best.step)}"
        if not sound:
            began = self.guard.began() if self.guard.verdict.collapsed else math.inf
            earlier = [path for path in self.run.snapshots() if snapshot_step(path) < began]
            if earlier:
                return f"and the newest snapshot from before it went wrong is {earlier[-1]}"
        path = self.run.snapshot_file(self.trainer.step)
        if not path.is_file():
            write_snapshot(self.trainer, self.run, self.store)
        return f"and its generator, to use, is {path}"


def roll_back(trainer: Trainer, state: Checkpoint | None, trouble: Diverged) -> dict[str, float]:
    """Takes a trainer back to a checkpoint, or to step 0, to continue with other randomness and more carefully.

    Returns the factors of rates and penalties, which multiply those of earlier rollbacks; ``penalties`` only if the run
    has any. ``trainer.rollback`` becomes the record of this one.
    """
    penalized = trainer.config.game.penalized
    remedy = {name: by for name, by in REMEDIES[trouble.verdict.state].items() if penalized or name != "penalties"}
    attempt, seconds = trainer.attempt + 1, trainer.seconds
    caution = {name: by * remedy.get(name, 1.0) for name, by in trainer.caution.items()}
    trainer.load(Trainer(trainer.config, trainer.device, trainer.world).state() if state is None else state)
    trainer.attempt, trainer.seconds, trainer.caution = attempt, seconds, caution
    trainer.rollback = RollbackRecord(
        step=trainer.step,
        from_step=trouble.step,
        attempt=attempt,
        verdict=trouble.verdict.state,
        reason=trouble.verdict.reason,
        remedy=remedy,
    )
    trainer.forget_captures()
    return remedy


def finish_rollback(trainer: Trainer, run: Run) -> None:
    """Moves what a rollback took back into the attempt's folder and records the rollback, unless that is done."""
    record = trainer.rollback
    if record is None or any(each.attempt == record.attempt for each in run.records_of(RollbackRecord)):
        return
    sample_dir = trainer.config.run.sample_dir
    run.set_aside(record.step, record.attempt - 1, [Path(sample_dir)] if sample_dir else [])
    run.append(record)
