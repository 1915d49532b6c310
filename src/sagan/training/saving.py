"""What a training run leaves at a step: its checkpoint, a snapshot, a grid of samples; and what it may go on from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sagan.core.sampling import classes_in_turn, generate
from sagan.published.keys import save_published_pair
from sagan.run.config import Config, differences, names_of
from sagan.run.folder import Run
from sagan.run.store import Store
from sagan.run.weights import Checkpoint, Snapshot, load_checkpoint, save_checkpoint, save_snapshot
from sagan.system.errors import UserError
from sagan.system.images import grid, save_png
from sagan.system.randomness import latents
from sagan.training.trainer import Trainer


def write_checkpoint(training: Trainer, run: Run, store: Store) -> None:
    """Writes everything the run goes on from, and sees that the records before it are on the disk."""
    run.sync_records()
    save_checkpoint(run.checkpoint_file, training.state(_identity(store, training.config)))


def write_snapshot(training: Trainer, run: Run, store: Store) -> None:
    """Writes the averaged generator, to use."""
    snapshot = Snapshot(training.measured_average(), training.config, training.step, store.hash)
    save_snapshot(run.snapshot_file(training.step), snapshot)
    if training.config.run.published_checkpoints:
        save_published_pair(run.folder, training.step, training.generator, training.discriminator)


def write_samples(training: Trainer, run: Run) -> Path:
    """Writes a grid of images from the same z at every step; gives its path."""
    settings = training.config.run
    z = latents(settings.seed, "z of the sample grids", settings.sample_count, training.config.model.z_dim)
    labels = classes_in_turn(range(settings.sample_count), training.config.model.num_classes)
    images = generate(training.measured_average(), z.to(training.device), labels)
    folder = Path(settings.sample_dir) if settings.sample_dir else run.folder / "samples"
    path = folder / f"{training.step}_fake.png"
    save_png(grid(images), path)
    return path


# ---- going on


def matching_checkpoint(path: Path, run: Run, config: Config, store: Store) -> Checkpoint:
    """A checkpoint of the run. Raises UserError for one of another config, or that was trained on other images."""
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
