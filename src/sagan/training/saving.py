"""What a training run writes at a step: a checkpoint, a snapshot, a grid of samples; and what it may resume from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sagan.core.sampling import classes_in_turn, generate
from sagan.data.changes import other_images
from sagan.data.sources.names import natural
from sagan.data.sources.own import SOFTWARE, mark_as_ours
from sagan.published.keys import save_published_pair
from sagan.run.checkpoints import last_checkpoint
from sagan.run.config import Config, differences, names_of
from sagan.run.folder import Run
from sagan.run.store import Store
from sagan.run.weights import Checkpoint, Snapshot, load_checkpoint, save_checkpoint, save_snapshot
from sagan.system.errors import UserError
from sagan.system.images import grid, save_png
from sagan.system.randomness import latents
from sagan.training.trainer import Trainer


def write_checkpoint(trainer: Trainer, run: Run, store: Store) -> None:
    """Writes everything the run resumes from, after making sure that its records so far are on the disk."""
    run.sync_records()
    save_checkpoint(
        run.checkpoint_file, trainer.state(identity(store, trainer.config), learned_classes(store, trainer.config))
    )


def write_snapshot(trainer: Trainer, run: Run, store: Store) -> None:
    """Writes the EMA generator, for use."""
    save_snapshot(run.snapshot_file(trainer.step), _snapshot(trainer, store))
    for former in run.latest_snapshots():
        former.unlink(missing_ok=True)
    if trainer.config.run.published_checkpoints:
        save_published_pair(run.folder, trainer.step, trainer.generator, trainer.discriminator)


def write_latest_snapshot(trainer: Trainer, run: Run, store: Store) -> None:
    """Writes the averaged generator where it replaces the last one written like this: at a stop, and now and then."""
    former = run.latest_snapshots()
    path = run.latest_file(trainer.step)
    save_snapshot(path, _snapshot(trainer, store))
    for each in former:
        if each != path:
            each.unlink(missing_ok=True)


def _snapshot(trainer: Trainer, store: Store) -> Snapshot:
    classes = learned_classes(store, trainer.config)
    return Snapshot(trainer.measured_average(), trainer.config, trainer.step, store.hash, classes)


def write_samples(trainer: Trainer, run: Run) -> Path:
    """Writes a grid of images, from the same z at every step; returns its path."""
    settings = trainer.config.run
    z = latents(settings.seed, "z of the sample grids", settings.sample_count, trainer.config.model.z_dim)
    labels = classes_in_turn(range(settings.sample_count), trainer.config.model.num_classes)
    images = generate(trainer.measured_average(), z.to(trainer.device), labels)
    folder = Path(settings.sample_dir) if settings.sample_dir else run.folder / "samples"
    if settings.sample_dir:
        mark_as_ours(folder)
    path = folder / f"{trainer.step}_fake.png"
    save_png(grid(images), path, software=SOFTWARE, sync=True)
    return path


# ---- resuming


def matching_checkpoint(path: Path, run: Run, config: Config, store: Store) -> tuple[Checkpoint, Store]:
    """Loads a checkpoint of the run. Returns it, and the store with its classes numbered as the run numbers them.

    Raises UserError if it was trained with another config or on other images.
    """
    state = last_checkpoint(run) if path == run.checkpoint_file else load_checkpoint(path)
    refuse_other_settings(state.config, config, run.folder)
    for numbered in _numberings(store, state.classes) if config.model.num_classes else [store]:
        if state.images in (None, identity(numbered, config)):  # None: imported weights
            return state, numbered
    raise UserError(other_images(run.folder, config.data, store, state.images or ""))


def _numberings(store: Store, classes: Sequence[str]) -> Iterator[Store]:
    """The store with its classes in each order that a run may number them in: that of ``classes``, the names that the
    run recorded, or else those in which this version and earlier ones number the classes of a new store."""
    orders = [store.classes, tuple(sorted(store.classes)), tuple(sorted(store.classes, key=natural))]
    for order in [tuple(classes)] if set(classes) == set(store.classes) else dict.fromkeys(orders):
        yield store if order == store.classes else store.numbered_as(order)


def learned_classes(store: Store, config: Config) -> tuple[str, ...]:
    """The names of the classes that the networks learn, by number; empty for unconditional networks."""
    return store.classes if config.model.num_classes else ()


def identity(store: Store, config: Config) -> str:
    """Identifies the images, and their classes for conditional networks; it must not change when a run is resumed."""
    if not config.model.num_classes:
        return store.hash
    return f"{store.hash} {hashlib.sha256(store.needed_labels().tobytes()).hexdigest()}"


def refuse_other_settings(trained: Config, wanted: Config, folder: Path) -> None:
    """Raises UserError, naming the settings, if a run would be resumed with other settings than it was trained with."""
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
        raise UserError(f"the run in {folder} was trained with {listed}; a run keeps its own settings")
