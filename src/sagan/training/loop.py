"""A training run from its config to its last step: the one place where settings, data, networks and files meet."""

from __future__ import annotations

import contextlib
import os
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
from sagan.run.classes import list_classes
from sagan.run.config import Config
from sagan.run.folder import Run, snapshot_step
from sagan.run.keeping import checkpoint_bytes, free_bytes, remove_old_snapshots, snapshot_bytes
from sagan.run.records import LookRecord, TrainRecord
from sagan.run.scores import read_scores
from sagan.run.store import Store
from sagan.run.weights import Checkpoint
from sagan.system.callbacks import Say
from sagan.system.console import Console, Pace, handling_signals
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import order as random_order
from sagan.system.sentences import binary
from sagan.system.typed import to_plain
from sagan.system.world import SINGLE_PROCESS, World, nothing
from sagan.training.guard import Diverged, FiniteWatch, Guard
from sagan.training.outlook import EARLY_GRIDS, describe_outlook
from sagan.training.recovery import Recovery, finish_rollback
from sagan.training.saving import (
    identity,
    matching_checkpoint,
    write_checkpoint,
    write_latest_snapshot,
    write_samples,
    write_snapshot,
)
from sagan.training.trainer import Trainer, purpose

_HANGUP = signal.SIGHUP if hasattr(signal, "SIGHUP") else None  # there is none on Windows
STOP_SIGNALS = [each for each in (signal.SIGINT, signal.SIGTERM, _HANGUP) if each is not None]
_OUTLOOK_AFTER = 5.0  # seconds
_FIRST_CHECKPOINT_AFTER = 120.0  # seconds, of a run that has none
_GO, _BACK, _COMPARE, _WAIT, _END = range(5)  # the leading process's word to the others; they say the first
_SAME_SIGNAL = 3.0  # seconds in which a signal that comes again to one of several processes is the same one


@dataclass(frozen=True)
class Session:
    """What a run is computed from: settings with nothing left open (precision, paths, classes), device and images."""

    config: Config
    device: torch.device
    store: Store


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at its last step, or earlier because of a signal."""

    run: Run
    step: int
    total: int
    last_sample: Path | None
    signal: int | None = None
    caught_up: bool = False
    """Whether snapshots of an earlier process were scored."""


def data_order(seed: int, count: int, epoch: int, attempt: int = 0) -> Tensor:
    """The order in which an epoch visits ``count`` images: a permutation that depends only on these numbers."""
    return random_order(count, random_generator(seed, purpose("data order", attempt), step=epoch))


OnSnapshot = Callable[[Run, Store, Path], None]


@dataclass(frozen=True)
class _Terms:
    """What the leading process tells the others before the first step."""

    config: Config
    images: str  # identify them, with their classes
    classes: tuple[str, ...]
    state: Checkpoint


def train(
    session: Session,
    run: Run,
    console: Console,
    on_snapshot: OnSnapshot | None = None,
    world: World = SINGLE_PROCESS,
) -> Outcome:
    """Trains until the session's last step, from the run's checkpoint if there is one, else from step 0, or from
    what it starts from (``start.pt``).

    Writes records, sample grids, snapshots and checkpoints into the run's folder. Every ``eval_every`` steps it writes
    a snapshot and calls ``on_snapshot`` with it, while the run's clock is stopped: this is where scoring is done. A
    first SIGINT or SIGTERM ends the run after the current step, with everything saved. Raises `Diverged` if the run has
    gone wrong and cannot go back, UserError for a checkpoint of another config or of other images, OSError if a file
    cannot be written. Of several processes only the leading one is here; the others are in `follow`.
    """
    config, store = session.config, session.store
    with run.locked(), _computing_alike(config, session.device):
        run.remove_partial_files()
        trainer = Trainer(config, session.device, world)
        if run.checkpoint_file.exists():
            state, store = matching_checkpoint(run.checkpoint_file, run, config, store)
            trainer.load(state)
            if trainer.step > config.run.total_step:
                raise UserError(
                    f"{run.folder} is at step {trainer.step:,} already: `total_step` must be more, "
                    f"got {config.run.total_step:,}"
                )
            if trainer.step < config.run.total_step:
                console.say(f"continuing from step {trainer.step:,} of {config.run.total_step:,}")
        elif run.start_file.exists():
            state, store = matching_checkpoint(run.start_file, run, config, store)
            trainer.load(state)
        recovery = Recovery(trainer, run, store)
        run.records()  # raises for damaged records, before anything is changed
        if run.config() != config:
            run.write_config(config)
        finish_rollback(trainer, run)
        run.rewind_records(trainer.step)
        console.say(trainer.describe_backends())
        if config.model.num_classes:
            console.say(f"the networks' classes: {list_classes(store.classes)}")
        world.share(lambda: _Terms(config, identity(store, config), store.classes, trainer.state()), "the first state")
        return _Loop(trainer, run, store, console, on_snapshot, recovery).run_steps()


def follow(world: World, device: torch.device, open_store: Callable[[Config], Store]) -> None:
    """Takes the same steps as the leading process, which is in `train`: computes this process's shards, and writes,
    prints and judges nothing.

    ``open_store``: the images of a config, which the leading process has prepared. Raises UserError for other images
    than the leading process has.
    """
    terms: _Terms = world.share(nothing, "the first state")
    config, store = terms.config, open_store(terms.config)
    if sorted(store.classes) == sorted(terms.classes) and store.classes != terms.classes:
        store = store.numbered_as(terms.classes)
    if identity(store, config) != terms.images:
        raise UserError("the images here are not those of rank 0: give every machine the same images")
    with _computing_alike(config, device), _collecting_signals(lambda number: None) as caught:
        trainer = Trainer(config, device, world)
        trainer.load(terms.state)
        batches = _batches(trainer, store)
        while True:
            stop, word = world.largest(caught[0] if caught else 0, _GO)
            if word == _END:
                return
            if word == _COMPARE:
                _compare_states(trainer)
            if word == _BACK:
                trainer.load(world.share(nothing, "the state gone back to"))
                trainer.forget_captures()
                batches.reorder(_data_order(trainer, store))
            if word in (_GO, _BACK) and not stop:
                trainer.advance(batches)


def _compare_states(trainer: Trainer) -> None:
    """Raises UserError, in every process, where one no longer has the same state as the leading one."""
    first, *others = trainer.world.gather(trainer.fingerprint(), "the states")
    unlike = [str(rank) for rank, other in enumerate(others, 1) if other != first]
    if unlike:
        raise UserError(
            f"at step {trainer.step:,} the weights of rank {', '.join(unlike)} are not those of rank 0, so nothing is "
            "saved: all machines need the same kind of processor or GPU, and the same versions"
        )


def _batches(trainer: Trainer, store: Store) -> Batches:
    config = trainer.config
    return Batches(
        store.images,
        config.game.batch_size,
        _data_order(trainer, store),
        trainer.device,
        config.run.resident,
        labels=store.needed_labels() if config.model.num_classes else None,
        channels_last=True,
    )


def _data_order(trainer: Trainer, store: Store) -> Callable[[int], Tensor]:
    return partial(data_order, trainer.config.run.seed, store.count, attempt=trainer.attempt)


class _Loop:
    """The steps of a run, and what is due after each."""

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        store: Store,
        console: Console,
        on_snapshot: OnSnapshot | None,
        recovery: Recovery,
    ) -> None:
        self.trainer, self.run, self.store, self.console, self.on_snapshot = trainer, run, store, console, on_snapshot
        self.recovery = recovery
        config = trainer.config
        self.settings = config.run
        self._start_attempt()
        self.watch = FiniteWatch(trainer.networks())
        self.batches = _batches(trainer, store)
        self.went_back = False  # since the other processes were told
        self.compared = trainer.attempt, trainer.step  # the state that all processes were last known to have
        self.last_sample: Path | None = None
        self.kept = time.monotonic()  # when there was a snapshot last, or when this process began
        self.saved = self.kept  # the same of a checkpoint

    def _start_attempt(self) -> None:
        """What starts afresh after a rollback, as at the start of the run."""
        self.clock = _Clock(self.trainer)
        self.guard = Guard(self.run.records_of(LookRecord), critic=self.trainer.loss.critic)
        self.recovery.start(self.guard)
        self.board = _tensorboard(self.run, self.trainer.step) if self.settings.tensorboard else None

    def run_steps(self) -> Outcome:
        trainer, total = self.trainer, self.settings.total_step
        if trainer.compiled and trainer.step < total:
            self.console.say("compiling the networks: the first steps take up to a minute")
        if trainer.step == 0 and trainer.attempt == 0:
            self.last_sample = write_samples(trainer, self.run)  # noise: what the first weights draw
        if trainer.step == total and not self.run.snapshot_file(total).is_file():
            write_snapshot(trainer, self.run, self.store)  # the last one was deleted
        outlook = _Outlook(trainer, self.console.say)
        with self._stop_signals() as stopped, self.console.training(trainer.step, total) as show:
            with self._saving_when_memory_runs_out():
                caught_up = self._catch_up(stopped)
                while self._goes_on(stopped):
                    try:
                        record = self._take_step()
                        outlook.step_taken()
                        show(trainer.step, record)
                    except Diverged as trouble:
                        self._go_back(trouble)
            if stopped:
                self._stop()
            trainer.world.largest(0, _END)
        if self.board:
            self.board.close()
        return Outcome(self.run, trainer.step, total, self.last_sample, stopped[0] if stopped else None, caught_up)

    @contextlib.contextmanager
    def _saving_when_memory_runs_out(self) -> Iterator[None]:
        """Saves the run where memory runs out between two steps: when it writes, looks or is scored. In the middle of
        a step there is no state to go on from but the last checkpoint."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error) and self.trainer.is_whole and self.recovery.saved < self.trainer.step:
                self._check()
                self._save()
            raise

    def _catch_up(self, stopped: list[int]) -> bool:
        """Scores the snapshots that an earlier process left without a score; returns whether there were any. The last
        one due is given to ``on_snapshot`` in any case, as that process may have ended at any point of it."""
        every, trained = self.settings.eval_every, self.trainer.step
        if self.on_snapshot is None or every is None or trained == 0:
            return False
        paths = {step: path for path in self.run.snapshots() if (step := snapshot_step(path)) <= trained}
        due = [step for step in paths if step % every == 0 or step == self.settings.total_step]
        before = read_scores(self.run, "frechet")
        scored = {score.step for score in before}
        with self.clock.paused():
            for step in due:
                if not stopped and (step not in scored or step == due[-1]):
                    self.on_snapshot(self.run, self.store, paths[step])
        return len(read_scores(self.run, "frechet")) > len(before)

    def _goes_on(self, stopped: list[int]) -> bool:
        """Whether there is another step, as all processes agree before it: neither is this the end, nor did a signal
        stop one of them, which ``stopped`` gets. Tells the others where to go on after a rollback."""
        world, over = self.trainer.world, self.trainer.step == self.settings.total_step
        word = _WAIT if over else _BACK if self.went_back else _GO
        stop, _ = world.largest(stopped[0] if stopped else 0, word)
        if stop and world.size > 1:
            stopped[:] = [stop]
            self._say_stopping(stop)
        if word == _BACK:
            world.share(self.trainer.state, "the state gone back to")
            self.went_back = False
        return not (stop or over)

    def _take_step(self) -> TrainRecord | None:
        """Takes one step and does everything that is due after it; returns the record, if one was due."""
        settings, trainer = self.settings, self.trainer
        measured = trainer.advance(self.batches)
        step = trainer.step
        self.watch.add(step, measured)
        record = None
        if settings.guard != "off" and step % settings.guard_every == 0:
            self._look()
        if self._is_due(settings.log_step):
            self.watch.check()
            record = self._record(measured)
            self.run.append(record)
            if self.board:
                _write_board(self.board, record)
        if self._is_due(settings.sample_step) or step in EARLY_GRIDS:
            self.watch.check()
            self.last_sample = write_samples(trainer, self.run)
        scoring = self.on_snapshot is not None and settings.eval_every is not None and self._is_due(settings.eval_every)
        if step == settings.total_step:  # first, as the last snapshot says that the run is finished
            self._check()
            self._save()
        if self._is_due(settings.snapshot_every) or scoring:
            self._check()
            self._refuse_full_disk()
            write_snapshot(trainer, self.run, self.store)
            self.kept = time.monotonic()
        elif settings.snapshot_minutes and time.monotonic() - self.kept > 60 * settings.snapshot_minutes:
            self._check()
            self._refuse_full_disk()
            write_latest_snapshot(trainer, self.run, self.store)
            self.kept = time.monotonic()
        if (self._is_due(settings.checkpoint_every) or self._waited_long()) and self.recovery.saved < step:
            self._check()
            self._save()
        if self.on_snapshot is not None and scoring:
            if self.recovery.saved < step:  # scoring takes a while, and a second Ctrl-C would interrupt it
                self._save()
            with self.clock.paused():
                self.on_snapshot(self.run, self.store, self.run.snapshot_file(step))
        if self._is_due(settings.snapshot_every) or scoring:
            remove_old_snapshots(self.run, settings)
        return record

    def _is_due(self, interval: int) -> bool:
        return self.trainer.step % interval == 0 or self.trainer.step == self.settings.total_step

    def _waited_long(self) -> bool:
        """Whether the last checkpoint is as old as a snapshot may become or, where there is none, a few minutes passed:
        there may be hours between two that are due."""
        waited, minutes = time.monotonic() - self.saved, self.settings.snapshot_minutes
        if self.recovery.saved == 0:
            return waited > _FIRST_CHECKPOINT_AFTER
        return minutes > 0 and waited > 60 * minutes

    def _record(self, measured: dict[str, Tensor]) -> TrainRecord:
        trainer = self.trainer
        latest = measured if trainer.penalty is None else {"penalty": trainer.penalty, **measured}
        return TrainRecord(
            step=trainer.step,
            images=trainer.step * trainer.config.game.batch_size,
            **{name: float(value) for name, value in latest.items()},
            gamma=trainer.gammas(),
            verdict=self.guard.verdict.state if self.guard.looks else None,
            images_per_second=round(self.clock.images_per_second(), 2),
            seconds=round(trainer.seconds, 3),
        )

    def _look(self) -> None:
        """Lets the guard judge the run. Raises `Diverged` if it should go back."""
        self.watch.check()
        before = self.guard.verdict
        self.run.append(self.guard.add(self.trainer.look(self.batches)))
        verdict = self.guard.verdict
        if self.settings.guard == "recover" and verdict.collapsed:
            raise Diverged(verdict, self.trainer.step)
        if verdict.collapsed and (before.state, before.collapsed) != (verdict.state, True):
            self.console.warn(f"step {self.trainer.step:,}: {verdict.reason}")

    def _go_back(self, trouble: Diverged) -> None:
        """Continues from an earlier state. Raises `Diverged`, with what is left of the run, if that is not possible."""
        self.clock.stop()
        sentence = self.recovery.go_back(trouble)
        self.watch.unchecked.clear()
        if self.board:
            self.board.close()
        self._start_attempt()
        self.batches.reorder(_data_order(self.trainer, self.store))
        self.went_back = True
        self.console.warn(sentence)

    @contextlib.contextmanager
    def _stop_signals(self) -> Iterator[list[int]]:
        """Collects signals, and says what the first one does: at once or, with several processes, once they agree."""
        alone = self.trainer.world.size == 1
        with _collecting_signals(self._say_stopping if alone else lambda number: None, alone=alone) as caught:
            yield caught

    def _say_stopping(self, number: int) -> None:
        if number == _HANGUP:  # nobody is there any more, and the terminal takes no words
            self.console.hang_up()
        saved = self.recovery.saved
        kept = f"with the checkpoint of step {saved:,}" if saved else "with nothing saved"
        name = signal.Signals(number).name
        at_once = "press Ctrl-C to stop at once" if number == signal.SIGINT else f"a second {name} stops it at once"
        self.console.say(f"{name}: stopping after this step and saving; {at_once}, {kept}")

    def _stop(self) -> None:
        """Saves what a signal came between: a checkpoint, and a snapshot to use."""
        try:
            self._check()
            if self.recovery.saved < self.trainer.step:
                self._save()
            if self.trainer.step and not self.run.snapshot_file(self.trainer.step).is_file():
                write_latest_snapshot(self.trainer, self.run, self.store)
        except Diverged as trouble:
            self._go_back(trouble)

    def _check(self) -> None:
        """Makes sure, before a state is written, that it is finite and that all processes have the same."""
        self.watch.check()
        world, state = self.trainer.world, (self.trainer.attempt, self.trainer.step)
        if world.size > 1 and self.compared != state:
            world.largest(0, _COMPARE)
            _compare_states(self.trainer)
            self.compared = state

    def _save(self) -> None:
        self.clock.stop()
        write_checkpoint(self.trainer, self.run, self.store)
        self.recovery.checkpoint_written()
        self.saved = time.monotonic()

    def _refuse_full_disk(self) -> None:
        """Raises OSError, with the run saved, where a snapshot would leave no room for another checkpoint."""
        free, checkpoint = free_bytes(self.run.folder), checkpoint_bytes(self.trainer.config)
        if free >= snapshot_bytes(self.trainer.config) + checkpoint:
            return
        if free >= checkpoint and self.recovery.saved < self.trainer.step:
            self._save()
        kept = f"step {self.recovery.saved:,} is saved" if self.recovery.saved else "nothing is saved yet"
        raise OSError(f"the disk of {self.run.folder} is full but for {binary(free)}: {kept}")


class _Outlook:
    """Says once, after the first steps, how long the run will take."""

    def __init__(self, trainer: Trainer, say: Say):
        self.trainer, self.say, self.new = trainer, say, trainer.step == 0
        self.pace, self.said = Pace(), False

    def step_taken(self) -> None:
        self.pace.step_taken()
        if not self.said and self.pace.passed > _OUTLOOK_AFTER:
            trainer, self.said = self.trainer, True
            on_gpu = trainer.device.type != "cpu"
            for sentence in describe_outlook(trainer.config, trainer.step, self.pace.per_step, on_gpu, self.new):
                self.say(sentence)


class _Clock:
    """Measures the seconds that a run trains, and the images per second since the last record."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.last_step, self.last_seconds = trainer.step, trainer.seconds
        self.mark = time.monotonic()

    def stop(self) -> None:
        """Adds the time since the last call to ``trainer.seconds``."""
        now = time.monotonic()
        self.trainer.seconds += now - self.mark
        self.mark = now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time in here is not counted."""
        self.stop()
        yield
        self.mark = time.monotonic()

    def images_per_second(self) -> float:
        self.stop()
        steps, seconds = self.trainer.step - self.last_step, self.trainer.seconds - self.last_seconds
        self.last_step, self.last_seconds = self.trainer.step, self.trainer.seconds
        return steps * self.trainer.config.game.batch_size / max(seconds, 1e-9)


@contextlib.contextmanager
def _collecting_signals(first: Callable[[int], None], *, alone: bool = False) -> Iterator[list[int]]:
    """Collects signals in a list, which is checked between steps; ``first`` is called with the first one.

    A second one interrupts at once. A process that is not ``alone`` may get the same signal twice, from the terminal
    and from its launcher, so there the second counts from a few seconds after the first.
    """
    caught: list[int] = []
    since = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if not caught:
            since = time.monotonic()
            caught.append(number)
            first(number)
        elif alone or time.monotonic() - since > _SAME_SIGNAL:
            raise KeyboardInterrupt

    with handling_signals(STOP_SIGNALS, note):
        yield caught


@contextlib.contextmanager
def _computing_alike(config: Config, device: torch.device) -> Iterator[None]:
    """What makes results repeatable: exact convolutions and, on a CPU, one thread for a run of several shards, whose
    bits must be those of any number of processes. ``OMP_NUM_THREADS`` chooses another number, for all of them."""
    threads = torch.get_num_threads()
    alike = config.game.shards > 1 and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ
    try:
        torch.set_num_threads(1 if alike else threads)
        with exact_convolutions(config.run.precision):
            yield
    finally:
        torch.set_num_threads(threads)


def exact_convolutions(precision: str) -> contextlib.AbstractContextManager[None]:
    """Makes cuDNN deterministic and, for fp32, keeps it from rounding to TF32; changes nothing on a CPU."""
    allow_tf32 = precision != "fp32"
    flags = torch.backends.cudnn.flags
    return flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=allow_tf32)


def _tensorboard(run: Run, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise UserError("--tensorboard needs an extra: pip install 'sagan-attention[tensorboard]'") from error
    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)


def _write_board(board: Any, record: TrainRecord) -> None:
    for layer, gamma in record.gamma.items():
        board.add_scalar(f"gamma/{layer}", gamma, record.step)
    for name, value in to_plain(record).items():
        if isinstance(value, float):
            board.add_scalar(name, value, record.step)
