"""The public functions: train, resume, evaluate, open and load.

    run = sagan.train("quick", data="photos", imsize=32, span=3)

trains and returns a run. An existing run is opened, and its generator loaded, like this:

    >>> import sagan
    >>> run = sagan.open_run("runs/faces")
    >>> run.step
    4
    >>> generator = run.load()
    >>> generator.sample(3, seed=1).shape
    (3, 16, 16, 3)
    >>> [row["step"] for row in run.records() if row["kind"] == "train"]
    [2, 4]

Everything here is also a command: `sagan train`, `sagan resume`, `sagan sample`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sagan.core.networks.interface import Generator
from sagan.core.sampling import numbered_images
from sagan.run.checkpoints import find_run
from sagan.run.classes import class_number
from sagan.run.config import Config, override
from sagan.run.folder import Run, find_snapshot
from sagan.run.presets import PRESETS, check_preset
from sagan.run.records import ScoreRecord, TrainRecord
from sagan.run.weights import load_snapshot
from sagan.system.console import Console
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.images import grid
from sagan.system.typed import plain, to_plain

Row = dict[str, object]


# ---- images


class Images(Sequence[Image.Image]):
    """A batch of images as PIL images, which a notebook shows as a grid."""

    def __init__(self, pixels: npt.NDArray[np.uint8]):
        self.pixels = pixels
        """uint8 (n, height, width, channels)."""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return Images(self.pixels[index])
        return Image.fromarray(self.pixels[index])

    def __iter__(self) -> Iterator[Image.Image]:
        return map(Image.fromarray, self.pixels)

    def grid(self, columns: int = 8) -> Image.Image:
        """All images in one picture, with ``columns`` in each row."""
        return Image.fromarray(grid(torch.from_numpy(self.pixels).permute(0, 3, 1, 2), columns=columns))

    def _repr_html_(self) -> str:
        return _embed(self.grid()) if len(self) else "no images"


def _embed(picture: Image.Image) -> str:
    """A picture as self-contained HTML; small pictures keep sharp pixels when they are enlarged."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    source = base64.b64encode(data.getvalue()).decode()
    return f'<img src="data:image/png;base64,{source}" width="{picture.width}" style="image-rendering: pixelated">'


# ---- generators


@dataclass(frozen=True, eq=False)
class LoadedGenerator:
    """A trained generator, ready to sample from.

    ``module`` is the network, in eval mode on ``device``: it takes z (n, z_dim) float32 and, if it is conditional,
    labels (n,) int64, and returns images (n, channels, height, width) in [-1, 1].
    """

    module: Generator
    config: Config
    step: int
    device: torch.device
    classes: tuple[str, ...] = ()
    """The names of the classes by number; empty without classes, and if an earlier version wrote the snapshot."""

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 for an unconditional generator."""
        return self.module.num_classes

    def sample(self, n: int, *, seed: int = 0, label: str | int | None = None) -> npt.NDArray[np.uint8]:
        """Images 0 to n - 1 of a seed, uint8 (n, height, width, channels): the same as ``sagan sample`` writes.

        Image i depends only on the seed and i. Classes take turns, or all images are of the class ``label``: a text is
        its name or, if no class has this name, its number. Raises UserError if ``n`` is less than 1 or there is no such
        class.
        """
        n, seed, label = plain((n, seed, label))
        if n < 1:
            raise UserError(f"n must be 1 or more, got {n}")
        number = None if label is None else class_number(label, self.classes, self.num_classes)
        images = numbered_images(self.module, seed, range(n), device=self.device, label=number)
        return np.stack([image.permute(1, 2, 0).numpy() for _, image in images])

    def images(self, n: int, *, seed: int = 0, label: str | int | None = None) -> Images:
        """The same images as PIL images."""
        return Images(self.sample(n, seed=seed, label=label))


def load(path: str | Path, step: int | None = None, device: str | torch.device | None = None) -> LoadedGenerator:
    """The averaged generator of a run's folder or a snapshot file.

    Args:
        path: a run's folder, or a file ``*.safetensors`` from its ``snapshots``.
        step: the step of the run's snapshot; by default the newest.
        device: where to sample; by default a GPU if there is one, else the CPU.

    Raises UserError if there is no such snapshot or it is damaged.
    """
    snapshot = load_snapshot(find_snapshot(Path(path).expanduser(), plain(step)))
    place = choose_device("auto" if device is None else str(device))
    return LoadedGenerator(snapshot.generator.to(place), snapshot.config, snapshot.step, place, snapshot.classes)


# ---- runs


@dataclass(frozen=True)
class OpenedRun:
    """A run's folder: its settings, its records and scores as plain rows, and its samples."""

    folder: Path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self._run.config()

    @property
    def step(self) -> int:
        """The last recorded step; 0 before the first record."""
        return max((record.step for record in self._run.records_of(TrainRecord)), default=0)

    def records(self) -> list[Row]:
        """Every record as a plain dictionary, with its ``kind``: train, guard, score, rollback or stopped."""
        return [{"kind": record.kind, **to_plain(record)} for record in self._run.records()]

    def scores(self) -> list[Row]:
        """Every score as a flat row, including the fields of its card, for a table or a ``DataFrame``."""
        return [_flat(score) for score in self._run.records_of(ScoreRecord)]

    def newest_grid(self) -> Path | None:
        """The newest grid of samples, if there is one."""
        folder = Path(self.config.run.sample_dir or self.folder / "samples")
        grids = [path for path in folder.glob("*_fake.png") if path.name.partition("_")[0].isdecimal()]
        return max(grids, key=lambda path: int(path.name.partition("_")[0]), default=None)

    def load(self, step: int | None = None, device: str | torch.device | None = None) -> LoadedGenerator:
        """The averaged generator of a step, or the newest; see `sagan.load`."""
        return load(self.folder, step, device)

    @property
    def _run(self) -> Run:
        return Run.open(self.folder)

    def _repr_html_(self) -> str:
        total, model = self.config.run.total_step, self.config.model
        line = f"{self.folder.name}: step {self.step:,} of {total:,}, {model.imsize}x{model.imsize}, span {model.span}"
        picture = self.newest_grid()
        shown = "" if picture is None else _embed(Image.open(picture))
        return f"<p>{html.escape(line)}</p>{shown}"


def _flat(score: ScoreRecord) -> Row:
    row: Row = to_plain(score)
    card = row.pop("card")
    assert isinstance(card, dict), "a card is a dataclass"
    return {**row, **{f"card_{name}": value for name, value in card.items()}}


def open_run(path: str | Path) -> OpenedRun:
    """A run that `sagan train` made. Raises UserError if there is none."""
    return OpenedRun(Run.open(Path(path).expanduser()).folder)


def train(config: Config | str = "best", *, quiet: bool = False, **settings: object) -> OpenedRun:
    """Trains a run from its first step to its last, as ``sagan train`` does, and returns it.

    Args:
        config: all settings, or the name of a preset.
        quiet: print only warnings.
        settings: settings to change, by the names of the command's flags: ``data="photos", imsize=64, span=3``.
            With ``eval_every`` the run is scored during training.

    Ctrl-C saves and stops early, so that ``step`` is less than ``config.run.total_step``. Raises UserError for wrong
    settings and for a run that has collapsed.
    """
    from sagan.evaluation.while_training import score_while_training
    from sagan.training.start import train_new

    if isinstance(config, str):
        check_preset(config)
        config = PRESETS[config]
    config, console = override(config, settings), Console(quiet=quiet)
    return OpenedRun(train_new(config, console, score_while_training(config, console)).run.folder)


def evaluate(
    path: str | Path,
    *,
    reference: str | Path | None = None,
    extractor: str | None = None,
    weights: str | Path | None = None,
    num: int = 10_000,
    repeats: int = 1,
    step: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    quiet: bool = False,
) -> list[Row]:
    """Scores a snapshot of a run against real images, as ``sagan evaluate`` does, and returns flat rows.

    Args:
        path: the run's folder. The scores are also added to its records.
        reference: the real images, a folder, a zip, a store ...; by default those that the run was trained on.
        extractor: the network whose features are compared, as for the command; by default the best available.
        weights: the extractor's weights file.
        num: the number of images in each draw from the snapshot.
        repeats: the number of draws; several give a mean and a spread.
        step: the step of the snapshot; by default the newest.
        seed: the seed of the first draw; later draws have the next seeds.
        device: where to sample and score; by default a GPU if there is one, else the CPU.
        quiet: print only warnings.

    Raises UserError if there is no such snapshot, no extractor, or too few images.
    """
    from sagan.evaluation.snapshots import run_scorer

    num, repeats, step, seed = plain((num, repeats, step, seed))
    run, console = Run.open(Path(path).expanduser()), Console(quiet=bool(quiet))
    snapshot = run.snapshot(step)
    scorer = run_scorer(
        run,
        snapshot,
        console,
        samples=num,
        repeats=repeats,
        seed=seed,
        extractor=extractor,
        weights=None if weights is None else Path(weights),
        device="auto" if device is None else str(device),
        reference=None if reference is None else Path(reference).expanduser(),
        cache=Path(run.config().data.prepared),
    )
    before = len(run.records_of(ScoreRecord))
    scorer.score_snapshot(run, snapshot, console)
    return [_flat(score) for score in run.records_of(ScoreRecord)[before:]]


def resume(path: str | Path, *, quiet: bool = False, **settings: object) -> OpenedRun:
    """Resumes a run from its last checkpoint, as ``sagan resume`` does, and returns it.

    ``settings``: lengths and intervals that may change, such as ``total_step=20_000``. Raises UserError for settings
    that may not.
    """
    from sagan.evaluation.while_training import score_while_training
    from sagan.training.start import train_on

    place, console = Path(path).expanduser(), Console(quiet=quiet)
    config = override(find_run(place)[0].config(), settings)
    return OpenedRun(train_on(place, settings, console, score_while_training(config, console)).run.folder)
