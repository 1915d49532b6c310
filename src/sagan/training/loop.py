"""A training run from its config to its last step: the one place where settings, data, networks and files meet."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from sagan.config import Config, GameConfig, differences, from_dict, to_dict
from sagan.console import Console
from sagan.data.batches import Batches
from sagan.data.store import Store
from sagan.images import grid, save_png
from sagan.losses import LOSSES, PENALTIES
from sagan.models.build import SNAPSHOT_FORMAT, build_discriminator, build_generator
from sagan.models.published import save_published_pair
from sagan.models.sampling import generate
from sagan.randomness import generator as random_generator
from sagan.randomness import latents
from sagan.runs import Run
from sagan.training.checkpoint import load_checkpoint, save_checkpoint, save_snapshot
from sagan.training.ema import AveragedGenerator
from sagan.training.guard import FiniteWatch
from sagan.training.step import discriminator_step, generator_step

_BATCH_NORM_BATCHES = 16  # of 64 images each, to measure the averaged generator's statistics


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at its last step, or earlier because a signal asked for it."""

    step: int
    last_sample: Path | None
    signal: int | None = None


class Training:
    """What a run is made of between two steps: networks, optimisers, average, and the step it has reached."""

    def __init__(self, config: Config, device: torch.device):
        self.config, self.device = config, device
        game = config.game
        seed = config.run.seed
        self.generator = build_generator(config.model, seed).to(device)
        self.discriminator = build_discriminator(config.model, seed).to(device)
        self.average = AveragedGenerator(self.generator, game.ema_halflife)
        self.g_optimizer = _adam(self.generator, game.g_lr, game)
        self.d_optimizer = _adam(self.discriminator, game.d_lr, game)
        self.step = 0
        self._measured_step = -1
        self.seconds = 0.0  # spent training, over all the processes that worked on the run

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on, and nothing else: randomness and data order follow from the step."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "config": json.dumps(to_dict(self.config)),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.module.state_dict(),
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.module.load_state_dict(state["average"])
        self.g_optimizer.load_state_dict(state["g_optimizer"])
        self.d_optimizer.load_state_dict(state["d_optimizer"])

    def advance(self, batches: Batches) -> dict[str, Tensor]:
        """One generator step with its discriminator steps before it. Returns detached scalars, left on the device."""
        game, precision = self.config.game, self.config.run.precision
        loss = LOSSES[game.adv_loss]
        self._set_learning_rates(self.step * game.n_critic // batches.batches_per_epoch)
        self.generator.train()
        self.discriminator.train()
        for critic_step in range(self.step * game.n_critic, (self.step + 1) * game.n_critic):
            measured = discriminator_step(
                self.generator,
                self.discriminator,
                self.d_optimizer,
                batches.batch(critic_step),
                self.draw_z("z of a discriminator step", critic_step),
                loss=loss,
                penalty=self._penalty(critic_step),
                precision=precision,
            )
        measured |= generator_step(
            self.generator,
            self.discriminator,
            self.g_optimizer,
            self.draw_z("z of a generator step", self.step),
            loss=loss,
            precision=precision,
        )
        self.step += 1
        self.average.update(self.generator, self.step * game.batch_size, game.batch_size)
        return measured

    def draw_z(self, purpose: str, step: int) -> Tensor:
        z = latents(self.config.run.seed, purpose, self.config.game.batch_size, self.config.model.z_dim, step=step)
        return z.to(self.device)

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average.module}

    def gammas(self) -> dict[str, float]:
        """The gate of each attention layer, named by network and map: ``{"G16": 0.01, "D8": ...}``."""
        networks: list[tuple[str, Any]] = [("G", self.generator), ("D", self.discriminator)]
        return {f"{name}{size}": layer.gamma.item() for name, net in networks for size, layer in net.attention.items()}

    def measured_average(self) -> nn.Module:
        """The averaged generator, ready for use: its batch norm measured, once a step, on a fixed set of z."""
        if self._measured_step == self.step:
            return self.average.module
        seed, z_dim = self.config.run.seed, self.config.model.z_dim
        batches = (
            latents(seed, "z for batch norm", 64, z_dim, step=number).to(self.device)
            for number in range(_BATCH_NORM_BATCHES)
        )
        self.average.measure_batch_norm(batches)
        self._measured_step = self.step
        return self.average.module

    def _penalty(self, critic_step: int) -> Callable[[Tensor, Tensor], Tensor] | None:
        game = self.config.game
        if game.adv_loss not in PENALTIES:
            return None
        draw = random_generator(self.config.run.seed, "points of the gradient penalty", step=critic_step)
        penalty = partial(PENALTIES[game.adv_loss], self.discriminator, generator=draw)
        return lambda real, fake: game.lambda_gp * penalty(real, fake)

    def _set_learning_rates(self, epoch: int) -> None:
        game = self.config.game
        if game.lr_decay is not None:
            self.g_optimizer.param_groups[0]["lr"] = game.g_lr * game.lr_decay**epoch
            self.d_optimizer.param_groups[0]["lr"] = game.d_lr * game.lr_decay**epoch


def _adam(network: nn.Module, rate: float, game: GameConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), rate, (float(game.beta1), float(game.beta2)), fused=True)


def data_order(seed: int, count: int, epoch: int) -> Tensor:
    """The order in which an epoch visits ``count`` images: a permutation decided by the seed and the epoch alone."""
    return torch.randperm(count, generator=random_generator(seed, "data order", step=epoch))


OnSnapshot = Callable[[Run, Store, Path], None]


def train(config: Config, run: Run, store: Store, console: Console, on_snapshot: OnSnapshot | None = None) -> Outcome:
    """Trains until the config's last step, from the run's checkpoint if there is one, else from the start.

    Writes records, sample grids, snapshots and checkpoints into the run's folder. Every ``eval_every`` steps it writes
    a snapshot and calls ``on_snapshot`` with it, off the run's clock: that is where scoring comes in. A first SIGINT or
    SIGTERM ends the run after the step at hand, with everything saved. Raises `Diverged` when a loss or a weight is
    no number, ValueError for a checkpoint of another config and for other images, OSError where a file cannot be
    written.
    """
    with run.locked():
        device = choose_device(config.run.device)
        training = Training(config, device)
        if run.checkpoint_file.exists():
            training.load(_matching_checkpoint(run, config, store))
            if training.step > config.run.total_step:
                raise ValueError(
                    f"{run.folder} is at step {training.step:,} already: total_step must be more, "
                    f"got {config.run.total_step:,}"
                )
            if training.step < config.run.total_step:
                console.say(f"going on from step {training.step:,} of {config.run.total_step:,}")
        if run.config() != to_dict(config):
            run.write_config(to_dict(config))  # only now that the checkpoint has agreed to it
        run.rewind_records(training.step)
        order = partial(data_order, config.run.seed, store.count)
        batches = Batches(store.images, config.game.batch_size, order, device, channels_last=True)
        with exact_convolutions(config.run.precision):
            return _run_steps(training, batches, run, store, console, on_snapshot)


def _run_steps(
    training: Training, batches: Batches, run: Run, store: Store, console: Console, on_snapshot: OnSnapshot | None
) -> Outcome:
    settings = training.config.run
    pace = _Pace(training)
    watch = FiniteWatch(training.networks(), run.checkpoint_file, training.step)
    board = _tensorboard(run, training.step) if settings.tensorboard else None
    last_sample = None
    with _stop_signals() as stopped, console.training(training.step, settings.total_step) as show:
        while training.step < settings.total_step and not stopped:
            measured = training.advance(batches)
            step = training.step
            watch.add(step, measured)
            due = partial(_due, step, settings.total_step)
            record = None
            if due(settings.log_step):
                watch.check()
                record = _record(training, measured, pace)
                run.append(record)
                if board:
                    _write_board(board, record)
            show(step, record)
            if due(settings.sample_step):
                watch.check()
                last_sample = _write_samples(training, run)
            evaluating = on_snapshot is not None and settings.eval_every is not None and due(settings.eval_every)
            if due(settings.snapshot_every) or evaluating:
                watch.check()
                _write_snapshot(training, run)
            if due(settings.checkpoint_every):
                watch.check()
                watch.saved = _save(training, run, store, pace)
            if on_snapshot is not None and evaluating:
                with pace.standing():
                    on_snapshot(run, store, run.snapshot_file(step))
        if watch.saved < training.step:  # a signal came between two checkpoints
            watch.check()
            _save(training, run, store, pace)
    if board:
        board.close()
    return Outcome(training.step, last_sample, stopped[0] if stopped else None)


def _save(training: Training, run: Run, store: Store, pace: _Pace) -> int:
    pace.stop()
    run.sync_records()
    save_checkpoint(run.checkpoint_file, {**training.state(), "images": store.hash})
    return training.step


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


def _record(training: Training, measured: dict[str, Tensor], pace: _Pace) -> dict[str, Any]:
    return {
        "kind": "train",
        "step": training.step,
        "images": training.step * training.config.game.batch_size,
        **{name: float(value) for name, value in measured.items()},
        "gamma": training.gammas(),
        "images_per_second": round(pace.images_per_second(), 2),
        "seconds": round(training.seconds, 3),
    }


def _write_samples(training: Training, run: Run) -> Path:
    settings = training.config.run
    z = latents(settings.seed, "z of the sample grids", settings.sample_count, training.config.model.z_dim)
    images = generate(training.measured_average(), z.to(training.device))
    folder = Path(settings.sample_dir) if settings.sample_dir else run.folder / "samples"
    path = folder / f"{training.step}_fake.png"
    save_png(grid(images), path)
    return path


def save_generator(path: Path, generator: nn.Module, config: Config, step: int) -> None:
    """Writes a snapshot that `models.build.load_snapshot` reads: the weights with the config and the step inside."""
    facts = {"format": SNAPSHOT_FORMAT, "config": json.dumps(to_dict(config)), "step": str(step)}
    save_snapshot(path, generator, facts)


def _write_snapshot(training: Training, run: Run) -> None:
    save_generator(run.snapshot_file(training.step), training.measured_average(), training.config, training.step)
    if training.config.run.published_checkpoints:
        save_published_pair(run.folder, training.step, training.generator, training.discriminator)


def _matching_checkpoint(run: Run, config: Config, store: Store) -> dict[str, Any]:
    state = load_checkpoint(run.checkpoint_file)
    trained = from_dict(json.loads(state["config"]))
    refuse_other_settings(trained, config, run.folder)
    if state["images"] not in (None, store.hash):  # None: imported weights, which do not know
        raise ValueError(
            f"the run in {run.folder} was trained on other images than {store.folder} holds now; "
            "bring those back, or start a new run with another --run_dir"
        )
    return state


# what may change when a run goes on: it decides how long and how often, not what is computed
CHANGEABLE = {
    "total_step", "log_step", "sample_step", "checkpoint_every", "snapshot_every", "device", "tensorboard", "run_dir",
    "sample_dir", "published_checkpoints", "data", "dataset", "image_path", "prepared", "strict", "eval_every",
    "eval_num", "extractor",
}  # fmt: skip


def refuse_other_settings(trained: Config, wanted: Config, folder: Path) -> None:
    """Raises ValueError, naming the settings, where a run would go on with others than it was trained with."""
    fixed = {name: values for name, values in differences(trained, wanted).items() if name not in CHANGEABLE}
    if fixed:
        listed = ", ".join(f"{name} {old} (not {new})" for name, (old, new) in fixed.items())
        raise ValueError(f"the run in {folder} was trained with {listed}; a run goes on with its own settings")


def exact_convolutions(precision: str) -> contextlib.AbstractContextManager[None]:
    """cuDNN with the same bits every time and, for fp32, without rounding to TF32; the CPU is so by itself."""
    allow_tf32 = precision != "fp32"
    flags = torch.backends.cudnn.flags
    return flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=allow_tf32)


def choose_device(name: str) -> torch.device:
    """The device meant by ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; ValueError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"  # mps by its name only: it has never been tried
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM into a list, to be looked at between steps. A second one interrupts at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    former = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere signals are someone else's business
        heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        former = {number: signal.signal(number, note) for number in heeded}
    try:
        yield caught
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _tensorboard(run: Run, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ValueError("--tensorboard needs an extra: pip install 'sagan[tensorboard]'") from error
    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)


def _write_board(board: Any, record: dict[str, Any]) -> None:
    step = record["step"]
    for name, value in record.items():
        if name == "gamma":
            for layer, gamma in value.items():
                board.add_scalar(f"gamma/{layer}", gamma, step)
        elif isinstance(value, float):
            board.add_scalar(name, value, step)
