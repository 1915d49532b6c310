"""The checkpoints that a run may go back to: those after which the guard has looked enough and seen no collapse."""

from __future__ import annotations

from pathlib import Path

from sagan.run.folder import Run
from sagan.run.weights import load_checkpoint
from sagan.system.files import keep_as
from sagan.training.guard import Diverged, Guard


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
        self.pending: int | None = None  # its step

    def open(self, step: int, guard: Guard) -> None:
        """Finds what there is, for a run that is at a step: the pending checkpoint may be of what was taken back, and
        the last one may not have become pending yet. A run that had no such guard until now, or was trained by another
        program, has nothing: its last checkpoint becomes pending, due or not."""
        file = self.run.pending_file
        self.pending = load_checkpoint(file).step if file.exists() else None
        if self.pending is not None and self.pending > step:
            file.unlink()
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
