"""A training run from its config to its last step: the one place where settings, data, networks and files meet."""

from __future__ import annotations

import contextlib
import hashlib
import math
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

from sagan.core.sampling import classes_in_turn, generate
from sagan.data.batches import Batches
from sagan.published.keys import save_published_pair
from sagan.run.card import differences as card_differences
from sagan.run.config import Config, differences, names_of
from sagan.run.folder import Run
from sagan.run.records import LookRecord, RollbackRecord, ScoreRecord, StoppedRecord, TrainRecord
from sagan.run.store import Store
from sagan.run.weights import Checkpoint, Snapshot, load_checkpoint, save_checkpoint, save_snapshot
from sagan.system.console import Console, heeding
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.files import keep_as
from sagan.system.images import grid, save_png
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import latents
from sagan.system.typed import to_plain
from sagan.training.guard import Diverged, FiniteWatch, Guard, Verdict
from sagan.training.recovery import ProvedStates
from sagan.training.trainer import Training, describe_remedy, purpose


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at its last step, or earlier because a signal asked for it."""

    step: int
    last_sample: Path | None
    signal: int | None = None


def data_order(seed: int, count: int, epoch: int, attempt: int = 0) -> Tensor:
    """The order in which an epoch visits ``count`` images: a permutation decided by these numbers alone."""
    return torch.randperm(count, generator=random_generator(seed, purpose("data order", attempt), step=epoch))


OnSnapshot = Callable[[Run, Store, Path], None]


def train(config: Config, run: Run, store: Store, console: Console, on_snapshot: OnSnapshot | None = None) -> Outcome:
    """Trains until the config's last step, from the run's checkpoint if there is one, else from the start.

    Writes records, sample grids, snapshots and checkpoints into the run's folder. Every ``eval_every`` steps it writes
    a snapshot and calls ``on_snapshot`` with it, off the run's clock: that is where scoring comes in. A first SIGINT or
    SIGTERM ends the run after the step at hand, with everything saved. Raises `Diverged` when a run has gone wrong and
    may not or can no longer go back, UserError for a checkpoint of another config and for other images, OSError where
    a file cannot be written.
    """
    with run.locked():
        training = Training(config, choose_device(config.run.device))
        if run.checkpoint_file.exists():
            training.load(_matching_checkpoint(run.checkpoint_file, run, config, store))
            if training.step > config.run.total_step:
                raise UserError(
                    f"{run.folder} is at step {training.step:,} already: total_step must be more, "
                    f"got {config.run.total_step:,}"
                )
            if training.step < config.run.total_step:
                console.say(f"going on from step {training.step:,} of {config.run.total_step:,}")
        if run.config() != config:
            run.write_config(config)  # only now that the checkpoint has agreed to it
        _finish_rollback(training, run)
        run.rewind_records(training.step)
        console.say(training.describe_backends())
        with exact_convolutions(config.run.precision):
            return _Loop(training, run, store, console, on_snapshot).run_steps()


class _Loop:
    """The steps of a run, and what is due after each."""

    def __init__(
        self, training: Training, run: Run, store: Store, console: Console, on_snapshot: OnSnapshot | None
    ) -> None:
        self.training, self.run, self.store, self.console, self.on_snapshot = training, run, store, console, on_snapshot
        self.settings = training.config.run
        self.pace = _Pace(training)
        self.watch = FiniteWatch(training.networks())
        self.guard = self._open_guard()
        self.batches = self._open_batches()
        self.saved = training.step
        self.proved: ProvedStates | None = None
        if self.settings.guard == "recover":
            self.proved = ProvedStates(run, self.settings.checkpoint_every, self.settings.guard_every)
            self.proved.open(training.step, self.guard)
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
                    self._roll_back(trouble)
            if self.saved < training.step:  # a signal came between two checkpoints
                try:
                    self.watch.check()
                    self._save()
                except Diverged as trouble:
                    self._roll_back(trouble)
        if training.step == total and not self.run.snapshot_file(total).is_file():
            _write_snapshot(training, self.run, self.store)  # it was lost since
        if self.board:
            self.board.close()
        return Outcome(training.step, self.last_sample, stopped[0] if stopped else None)

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
            self.last_sample = _write_samples(training, self.run)
        evaluating = self.on_snapshot is not None and settings.eval_every is not None and due(settings.eval_every)
        if due(settings.snapshot_every) or evaluating:
            self.watch.check()
            _write_snapshot(training, self.run, self.store)
        if due(settings.checkpoint_every):
            self.watch.check()
            self._save()
        if self.on_snapshot is not None and evaluating:
            if self.saved < step:  # scoring takes a while, in which a person may press Ctrl-C twice
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

    def _roll_back(self, trouble: Diverged) -> None:
        """Goes back to the last healthy state, more carefully. Raises the trouble where that is not to be."""
        training, run = self.training, self.run
        if self.proved is None or training.attempt >= self.settings.max_rollbacks:
            raise self._last_words(trouble)
        self.pace.stop()
        path = self._good_file(trouble)
        if path is None and not self.proved.may_start_anew(self.guard):
            raise self._last_words(trouble)
        training.roll_back(None if path is None else self._good_state(path), trouble)
        aside = run.attempt_folder(training.attempt - 1)
        aside.mkdir(exist_ok=True)
        if self.saved > training.step:
            keep_as(run.checkpoint_file, aside / "last.pt")
        self._save()  # first of all: what is left to do can be done from it
        _finish_rollback(training, run)
        self.watch.unseen.clear()
        self.pace = _Pace(training)
        self.guard = self._open_guard()
        self.proved.open(training.step, self.guard)
        self.batches.reorder(self._data_order())
        if self.board:
            self.board.close()
            self.board = _tensorboard(run, training.step)
        remedy = describe_remedy(training.remedy(trouble.verdict.state))
        self.console.warn(
            f"{trouble.verdict.reason}: back to step {training.step:,} with {remedy}; what came after it is in {aside}"
        )

    def _good_file(self, trouble: Diverged) -> Path | None:
        """The checkpoint to go back to, or None; a run that may not go back has only its last one."""
        if self.proved is not None:
            return self.proved.find(trouble, self.guard)
        return self.run.checkpoint_file if self.run.checkpoint_file.exists() else None

    def _good_state(self, path: Path) -> Checkpoint:
        return _matching_checkpoint(path, self.run, self.training.config, self.store)

    def _last_words(self, trouble: Diverged) -> Diverged:
        """The trouble that ends the run, with what is left of it in words; it is recorded, too."""
        count, good, verdict = self.training.attempt, self._good_file(trouble), trouble.verdict
        self.run.append(StoppedRecord(step=trouble.step, verdict=verdict.state, reason=verdict.reason))
        path, kept = good or self.run.checkpoint_file, "nothing was saved yet"
        if path.exists():
            self.training.load(self._good_state(path))
            sound = good is not None and not (path == self.run.checkpoint_file and self.guard.verdict.collapsed)
            what = "the last good state" if sound else "the last state, of which it is not known whether it is good"
            kept = f"{what}, step {self.training.step:,}, is in {path}, {self._best_snapshot(sound)}"
        tried = f" after {count} rollback{'s' if count > 1 else ''}" if count else ""
        more = f", or `sagan resume {self.run.folder} --max_rollbacks {count + 3}`" if count else ""
        reason = (
            f"{verdict.reason}: {_ENDS[verdict.state]} and was stopped{tried} at step {trouble.step:,}; {kept}. "
            f"The usual cure is a new run with lower learning rates (--g_lr, --d_lr){more}"
        )
        return Diverged(Verdict(verdict.state, reason), trouble.step)

    def _best_snapshot(self, sound: bool) -> str:
        """Which snapshot to use of a run that is given up: the one of the best score, if there are scores, else one of
        the state that the training is in; but where that is not known to be sound, one from before the collapse, if
        there is one."""
        scores = [score for score in self.run.records_of(ScoreRecord) if score.metric == "frechet"]
        if scores:
            like = [score for score in scores if not card_differences(score.card, scores[-1].card)]
            best = min(like, key=lambda score: score.value)
            return f"the best snapshot ({best.label} {best.value:.4g}) is {self.run.snapshot_file(best.step)}"
        if not sound:
            began = self.guard.began() if self.guard.verdict.collapsed else math.inf
            earlier = [path for path in self.run.snapshots() if int(path.stem) < began]
            if earlier:
                return f"and the newest snapshot from before it went wrong is {earlier[-1]}"
        path = self.run.snapshot_file(self.training.step)
        if not path.is_file():
            _write_snapshot(self.training, self.run, self.store)
        return f"and its generator, to use, is {path}"

    def _save(self) -> None:
        """Writes the checkpoint; one that was due may become the state to go back to."""
        self.pace.stop()
        self.run.sync_records()
        images = _identity(self.store, self.training.config)
        save_checkpoint(self.run.checkpoint_file, self.training.state(images))
        self.saved = self.training.step
        if self.proved is not None:
            self.proved.take_in(self.saved, self.guard)


_ENDS = {  # what a verdict means for a run
    "diverged": "training has diverged",
    "D winning": "the discriminator has won, training has collapsed",
    "diversity falling": "the samples have lost their diversity, training has collapsed",
}


def _finish_rollback(training: Training, run: Run) -> None:
    """Sets aside what a rollback took back and records it, unless that is done."""
    record = training.rollback
    if record is None or any(each.attempt == record.attempt for each in run.records_of(RollbackRecord)):
        return
    sample_dir = training.config.run.sample_dir
    run.set_aside(record.step, record.attempt - 1, [Path(sample_dir)] if sample_dir else [])
    run.append(record)


def _due(step: int, total: int, every: int) -> bool:
    return step % every == 0 or step == total


class _Pace:
    """Keeps the run's clock: seconds of training, and images a second since the last record."""

    def __init__(self, training: Training):
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


def _record(training: Training, measured: dict[str, Tensor], pace: _Pace, guard: Guard) -> TrainRecord:
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


def _write_samples(training: Training, run: Run) -> Path:
    settings = training.config.run
    z = latents(settings.seed, "z of the sample grids", settings.sample_count, training.config.model.z_dim)
    labels = classes_in_turn(range(settings.sample_count), training.config.model.num_classes)
    images = generate(training.measured_average(), z.to(training.device), labels)
    folder = Path(settings.sample_dir) if settings.sample_dir else run.folder / "samples"
    path = folder / f"{training.step}_fake.png"
    save_png(grid(images), path)
    return path


def _write_snapshot(training: Training, run: Run, store: Store) -> None:
    snapshot = Snapshot(training.measured_average(), training.config, training.step, store.hash)
    save_snapshot(run.snapshot_file(training.step), snapshot)
    if training.config.run.published_checkpoints:
        save_published_pair(run.folder, training.step, training.generator, training.discriminator)


def _matching_checkpoint(path: Path, run: Run, config: Config, store: Store) -> Checkpoint:
    state = load_checkpoint(path)
    refuse_other_settings(state.config, config, run.folder)
    if state.images not in (None, _identity(store, config)):  # None: imported weights, which do not know
        raise UserError(
            f"the run in {run.folder} was trained on other images than {store.folder} holds now; "
            "bring those back, or start a new run with another --run_dir"
        )
    return state


def _identity(store: Store, config: Config) -> str:
    """What the images are, and of which classes where that matters: it must not change when a run goes on."""
    if not config.model.num_classes:
        return store.hash
    return f"{store.hash} {hashlib.sha256(store.needed_labels().tobytes()).hexdigest()}"


def refuse_other_settings(trained: Config, wanted: Config, folder: Path) -> None:
    """Raises UserError, naming the settings, where a run would go on with others than it was trained with."""
    if trained.game.lr_schedule != "constant" and trained.run.total_step != wanted.run.total_step:
        raise UserError(
            f"the run in {folder} follows a {trained.game.lr_schedule} schedule to step {trained.run.total_step:,}, so "
            f"it cannot end at step {wanted.run.total_step:,}: start a new run for that"
        )
    fixed = {
        name: values for name, values in differences(trained, wanted).items() if name not in names_of("free", "place")
    }
    if fixed:
        listed = ", ".join(f"{name} {old} (not {new})" for name, (old, new) in fixed.items())
        raise UserError(f"the run in {folder} was trained with {listed}; a run goes on with its own settings")


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
