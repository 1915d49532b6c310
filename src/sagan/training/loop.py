"""A training run from its config to its last step: the one place where settings, data, networks and files meet."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from sagan.data.batches import Batches
from sagan.run.folder import Run
from sagan.run.records import LookRecord, TrainRecord
from sagan.run.store import Store
from sagan.system.console import Console, heeding
from sagan.system.errors import UserError
from sagan.system.randomness import generator as random_generator
from sagan.system.typed import to_plain
from sagan.training.guard import Diverged, FiniteWatch, Guard
from sagan.training.recovery import Recovery, finish_rollback
from sagan.training.saving import matching_checkpoint, write_checkpoint, write_samples, write_snapshot
from sagan.training.session import Session
from sagan.training.trainer import Trainer, purpose


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at its last step, or earlier because a signal asked for it."""

    run: Run
    step: int
    total: int
    last_sample: Path | None
    signal: int | None = None


def data_order(seed: int, count: int, epoch: int, attempt: int = 0) -> Tensor:
    """The order in which an epoch visits ``count`` images: a permutation decided by these numbers alone."""
    return torch.randperm(count, generator=random_generator(seed, purpose("data order", attempt), step=epoch))


OnSnapshot = Callable[[Run, Store, Path], None]


def train(session: Session, run: Run, console: Console, on_snapshot: OnSnapshot | None = None) -> Outcome:
    """Trains until the session's last step, from the run's checkpoint if there is one, else from the start.

    Writes records, sample grids, snapshots and checkpoints into the run's folder. Every ``eval_every`` steps it writes
    a snapshot and calls ``on_snapshot`` with it, off the run's clock: that is where scoring comes in. A first SIGINT or
    SIGTERM ends the run after the step at hand, with everything saved. Raises `Diverged` when a run has gone wrong and
    may not or can no longer go back, UserError for a checkpoint of another config and for other images, OSError where
    a file cannot be written.
    """
    config, store = session.config, session.store
    with run.locked():
        training = Trainer(config, session.device)
        if run.checkpoint_file.exists():
            training.load(matching_checkpoint(run.checkpoint_file, run, config, store))
            if training.step > config.run.total_step:
                raise UserError(
                    f"{run.folder} is at step {training.step:,} already: total_step must be more, "
                    f"got {config.run.total_step:,}"
                )
            if training.step < config.run.total_step:
                console.say(f"going on from step {training.step:,} of {config.run.total_step:,}")
        recovery = Recovery(training, run, store)
        run.records()  # what is damaged is found out before anything is changed
        if run.config() != config:
            run.write_config(config)
        finish_rollback(training, run)
        run.rewind_records(training.step)
        console.say(training.describe_backends())
        with exact_convolutions(config.run.precision):
            return _Loop(training, run, store, console, on_snapshot, recovery).run_steps()


class _Loop:
    """The steps of a run, and what is due after each."""

    def __init__(
        self,
        training: Trainer,
        run: Run,
        store: Store,
        console: Console,
        on_snapshot: OnSnapshot | None,
        recovery: Recovery,
    ) -> None:
        self.training, self.run, self.store, self.console, self.on_snapshot = training, run, store, console, on_snapshot
        self.settings = training.config.run
        self.pace = _Pace(training)
        self.watch = FiniteWatch(training.networks())
        self.guard = self._open_guard()
        self.batches = self._open_batches()
        self.recovery = recovery
        recovery.open(self.guard)
        self.board = _tensorboard(run, training.step) if self.settings.tensorboard else None
        self.last_sample: Path | None = None

    def run_steps(self) -> Outcome:
        training, total = self.training, self.settings.total_step
        if training.compiled and training.step < total:
            self.console.say("compiling the networks: the first steps take up to a minute")
        with _stop_signals() as stopped, self.console.training(training.step, total) as show:
            while training.step < total and not stopped:
                try:
                    record = self._take_step()
                    show(training.step, record)
                except Diverged as trouble:
                    self._go_back(trouble)
            if self.recovery.saved < training.step:  # a signal came between two checkpoints
                try:
                    self.watch.check()
                    self._save()
                except Diverged as trouble:
                    self._go_back(trouble)
        if training.step == total and not self.run.snapshot_file(total).is_file():
            write_snapshot(training, self.run, self.store)  # it was lost since
        if self.board:
            self.board.close()
        return Outcome(self.run, training.step, total, self.last_sample, stopped[0] if stopped else None)

    def _take_step(self) -> TrainRecord | None:
        """One step and everything that is due after it; gives the record, where one was due."""
        settings, training = self.settings, self.training
        measured = training.advance(self.batches)
        step = training.step
        self.watch.add(step, measured)
        due = partial(_due, step, settings.total_step)
        record = None
        if settings.guard != "off" and step % settings.guard_every == 0:
            self._look()
        if due(settings.log_step):
            self.watch.check()
            record = _record(training, measured, self.pace, self.guard)
            self.run.append(record)
            if self.board:
                _write_board(self.board, record)
        if due(settings.sample_step):
            self.watch.check()
            self.last_sample = write_samples(training, self.run)
        evaluating = self.on_snapshot is not None and settings.eval_every is not None and due(settings.eval_every)
        if due(settings.snapshot_every) or evaluating:
            self.watch.check()
            write_snapshot(training, self.run, self.store)
        if due(settings.checkpoint_every):
            self.watch.check()
            self._save()
        if self.on_snapshot is not None and evaluating:
            if self.recovery.saved < step:  # scoring takes a while, in which a person may press Ctrl-C twice
                self._save()
            with self.pace.standing():
                self.on_snapshot(self.run, self.store, self.run.snapshot_file(step))
        return record

    def _open_batches(self) -> Batches:
        config = self.training.config
        return Batches(
            self.store.images,
            config.game.batch_size,
            self._data_order(),
            self.training.device,
            config.run.resident,
            labels=self.store.needed_labels() if config.model.num_classes else None,
            channels_last=True,
        )

    def _open_guard(self) -> Guard:
        return Guard(self.run.records_of(LookRecord), critic=self.training.config.game.adv_loss == "wgan-gp")

    def _data_order(self) -> Callable[[int], Tensor]:
        return partial(data_order, self.settings.seed, self.store.count, attempt=self.training.attempt)

    def _look(self) -> None:
        """Lets the guard look at the run. Raises `Diverged` where it must go back."""
        self.watch.check()
        before = self.guard.verdict
        self.run.append(self.guard.add(self.training.look(self.batches)))
        verdict = self.guard.verdict
        if self.settings.guard == "recover" and verdict.collapsed:
            raise Diverged(verdict, self.training.step)
        if verdict.collapsed and (before.state, before.collapsed) != (verdict.state, True):
            self.console.warn(f"step {self.training.step:,}: {verdict.reason}")

    def _go_back(self, trouble: Diverged) -> None:
        """Goes on from an earlier state. Raises the trouble, with what is left of the run, where that cannot be."""
        self.pace.stop()
        sentence = self.recovery.go_back(trouble, self.guard)
        self.watch.unseen.clear()
        self.pace = _Pace(self.training)
        self.guard = self._open_guard()
        self.recovery.open(self.guard)
        self.batches.reorder(self._data_order())
        if self.board:
            self.board.close()
            self.board = _tensorboard(self.run, self.training.step)
        self.console.warn(sentence)

    def _save(self) -> None:
        """Writes the checkpoint; one that was due may become the state to go back to."""
        self.pace.stop()
        write_checkpoint(self.training, self.run, self.store)
        self.recovery.take_in(self.guard)


def _due(step: int, total: int, every: int) -> bool:
    return step % every == 0 or step == total


class _Pace:
    """Keeps the run's clock: seconds of training, and images a second since the last record."""

    def __init__(self, training: Trainer):
        self.training = training
        self.last_step, self.last_seconds = training.step, training.seconds
        self.mark = time.monotonic()

    def stop(self) -> None:
        """Brings ``training.seconds`` up to now."""
        now = time.monotonic()
        self.training.seconds += now - self.mark
        self.mark = now

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Time that is not the training's."""
        self.stop()
        yield
        self.mark = time.monotonic()

    def images_per_second(self) -> float:
        self.stop()
        steps, seconds = self.training.step - self.last_step, self.training.seconds - self.last_seconds
        self.last_step, self.last_seconds = self.training.step, self.training.seconds
        return steps * self.training.config.game.batch_size / max(seconds, 1e-9)


def _record(training: Trainer, measured: dict[str, Tensor], pace: _Pace, guard: Guard) -> TrainRecord:
    lately = measured if training.penalty is None else {"penalty": training.penalty, **measured}
    return TrainRecord(
        step=training.step,
        images=training.step * training.config.game.batch_size,
        **{name: float(value) for name, value in lately.items()},
        gamma=training.gammas(),
        verdict=guard.verdict.state if guard.looks else None,
        images_per_second=round(pace.images_per_second(), 2),
        seconds=round(training.seconds, 3),
    )


def exact_convolutions(precision: str) -> contextlib.AbstractContextManager[None]:
    """cuDNN with the same bits every time and, for fp32, without rounding to TF32; the CPU is so by itself."""
    allow_tf32 = precision != "fp32"
    flags = torch.backends.cudnn.flags
    return flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=allow_tf32)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM into a list, to be looked at between steps. A second one interrupts at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    with heeding((signal.SIGINT, signal.SIGTERM), note):
        yield caught


def _tensorboard(run: Run, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise UserError("--tensorboard needs an extra: pip install 'sagan[tensorboard]'") from error
    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)


def _write_board(board: Any, record: TrainRecord) -> None:
    for layer, gamma in record.gamma.items():
        board.add_scalar(f"gamma/{layer}", gamma, record.step)
    for name, value in to_plain(record).items():
        if isinstance(value, float):
            board.add_scalar(name, value, record.step)
