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
import contextlib
import html
import io
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import SupportsIndex, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sagan.core.networks.interface import Generator
from sagan.core.sampling import numbered_images
from sagan.run.checkpoints import find_run
from sagan.run.classes import class_number
from sagan.run.config import Config, override
from sagan.run.folder import Run, snapshot_step
from sagan.run.places import find_snapshot, pretrained_card, pretrained_file, pretrained_names
from sagan.run.presets import PRESETS, check_preset
from sagan.run.records import Record, ScoreRecord, TrainRecord
from sagan.run.trust import images_folder, resumed_config
from sagan.run.weights import load_snapshot, step_of
from sagan.system.console import Console
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.files import expand
from sagan.system.images import as_picture, grid, read_png
from sagan.system.typed import plain, shorten
from sagan.system.world import joined

Row = dict[str, object]
R = TypeVar("R", bound=Record)


# ---- images


class Images(Sequence[Image.Image]):
    """A batch of images as PIL images, which a notebook shows as a grid."""

    def __init__(self, pixels: npt.NDArray[np.uint8]):
        self.pixels = pixels
        """uint8 (n, height, width, channels)."""

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Images: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Image.Image | Images:
        if isinstance(index, slice):
            return Images(self.pixels[index])
        return as_picture(self.pixels[operator.index(index)])

    def __iter__(self) -> Iterator[Image.Image]:
        return map(as_picture, self.pixels)

    def grid(self, columns: int = 8) -> Image.Image:
        """All images in one picture, with ``columns`` in each row. Raises UserError if there are none."""
        columns = _whole("columns", columns, least=1)
        if not len(self):
            raise UserError("there are no images for a grid: these are 0 images")
        return as_picture(grid(torch.from_numpy(self.pixels).permute(0, 3, 1, 2), columns=columns))

    def _repr_html_(self) -> str:
        return _embed(self.grid()) if len(self) else "no images"


def _embed(picture: Image.Image) -> str:
    """A picture as self-contained HTML; small pictures keep sharp pixels when they are enlarged."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    source = base64.b64encode(data.getvalue()).decode()
    return f'<img src="data:image/png;base64,{source}" width="{picture.width}" style="image-rendering: pixelated">'


def _whole(name: str, value: object, least: int | None = None) -> int:
    """A whole number that a person gave, as an int. Raises UserError, with its name, for anything else."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        raise UserError(f"{name} must be a whole number, got {shorten(value)}")
    number = operator.index(value)
    if least is not None and number < least:
        raise UserError(f"{name} must be {least} or more, got {number}")
    return number


# ---- generators


@dataclass(frozen=True, eq=False)
class LoadedGenerator:
    """A trained generator, ready to sample from.

    ``module`` is the network, in eval mode on ``device``: it takes z (n, z_dim) float32 and, if it is conditional,
    labels (n,) int64, and returns images (n, channels, height, width) in [-1, 1]. A notebook shows its first 8 images.
    """

    module: Generator
    config: Config
    step: int
    device: torch.device
    source: Path
    """The run's folder or the snapshot file that it was loaded from."""
    classes: tuple[str, ...] = ()
    """The names of the classes by number; empty without classes, and if an earlier version wrote the snapshot."""

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 for an unconditional generator."""
        return self.module.num_classes

    def sample(
        self, n: int, seed: int = 0, label: str | int | None = None, truncation: float | None = None
    ) -> npt.NDArray[np.uint8]:
        """Images 0 to n - 1 of a seed, uint8 (n, height, width, channels): the same as ``sagan sample`` writes.

        Image i depends only on the seed and i. Classes take turns, or all images are of the class ``label``: a text is
        its name or, if no class has this name, its number. ``truncation`` is the largest magnitude of an entry of z:
        those beyond it are drawn again; smaller values give more typical and less diverse images. Raises UserError if
        ``n`` is less than 1, ``n`` or ``seed`` is not a whole number, there is no such class, or ``truncation`` is less
        than 0.01.
        """
        n, seed = _whole("n", n, least=1), _whole("seed", seed)
        if label is not None:
            asked = label if isinstance(label, str) else _whole("label", label)
            label = class_number(asked, self.classes, self.num_classes)
        images = numbered_images(
            self.module, seed, range(n), device=self.device, label=label, truncation=plain(truncation)
        )
        return np.stack([image.permute(1, 2, 0).numpy() for _, image in images])

    def images(self, n: int, seed: int = 0, label: str | int | None = None, truncation: float | None = None) -> Images:
        """The same images as PIL images."""
        return Images(self.sample(n, seed, label, truncation))

    def __repr__(self) -> str:
        return f"LoadedGenerator({self._describe()})"

    def _describe(self) -> str:
        weights, shape = sum(each.numel() for each in self.module.parameters()), self.config.model.shape
        classes = f", {self.num_classes} classes" if self.num_classes else ""
        return f"{self.source}, step {self.step:,}, {shape}{classes}, {weights:,} parameters"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._describe())}</p>{self.images(8)._repr_html_()}"


def load(path: Place, step: int | None = None, device: str | torch.device | None = None) -> LoadedGenerator:
    """The averaged generator of a run's folder, a snapshot file, or a place that `sagan sample` takes as well.

    Args:
        path: a run or its folder, a file ``*.safetensors`` from its ``snapshots``, a folder that ``sagan export --to
            hub`` wrote, ``"pretrained:faces64"`` (see `sagan.pretrained`), or ``"hf:OWNER/NAME"``.
        step: the step of the run's snapshot; by default the newest.
        device: where to sample; by default a GPU if there is one, else the CPU.

    Raises UserError if there is no such snapshot or it is damaged.
    """
    source = _place(path)
    snapshot = load_snapshot(find_snapshot(source, plain(step)))
    chosen = choose_device("auto" if device is None else str(device))
    module = snapshot.generator.to(chosen)
    return LoadedGenerator(module, snapshot.config, snapshot.step, chosen, source, snapshot.classes)


def pretrained() -> list[Row]:
    """The generators that come with the package, a row each: what ``sagan.load("pretrained:NAME")`` gives.

    ``name``, ``image_size``, ``num_classes``, ``step``, ``parameters``, ``bytes`` of its file, and ``card``, the model
    card in Markdown.
    """
    return [_pretrained_row(name) for name in pretrained_names()]


def _pretrained_row(name: str) -> Row:
    path = pretrained_file(name)
    snapshot = load_snapshot(path)
    model = snapshot.config.model
    return {
        "name": name,
        "image_size": str(model.shape),
        "num_classes": model.num_classes,
        "step": snapshot.step,
        "parameters": sum(each.numel() for each in snapshot.generator.parameters()),
        "bytes": path.stat().st_size,
        "card": pretrained_card(name),
    }


# ---- runs


@dataclass(frozen=True)
class OpenedRun:
    """A run's folder: its settings, its records and scores as flat rows, and its samples.

    Everything is read from the files when it is asked for, so it is also right while another process trains the run.
    """

    folder: Path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self._run.config()

    @property
    def step(self) -> int:
        """The last step that was recorded or of which there is a snapshot; 0 before."""
        run = self._run
        recorded = [record.step for record in run.records_of(TrainRecord)]
        return max([0, *recorded, *map(snapshot_step, [*run.snapshots(), *run.latest_snapshots()])])

    @property
    def finished(self) -> bool:
        """Whether it has reached its last step, ``config.run.total_step``; if not, `sagan.resume` continues it."""
        return self._run.is_finished()

    def records(self) -> list[Row]:
        """Every record as a flat row, with its ``kind``: train, guard, score, rollback or stopped.

        Rows of one kind have the same columns, all plain values: None where there is none, and a column for each value
        of a group, such as ``gamma_G16`` or ``card_extractor``. The layers of ``gamma`` are those of the run.
        """
        return [{"kind": record.kind, **_flat(record)} for record in _frechet_first(self._run.records())]

    def scores(self) -> list[Row]:
        """Every score as a flat row, for a table or a ``DataFrame``: all fields, None where there is no value.

        The fields of its card are columns too: ``card_extractor``, ``card_versions_torch`` and so on.
        """
        return [_flat(score) for score in _frechet_first(self._run.records_of(ScoreRecord))]

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
        line = f"{self.folder.name}: step {self.step:,} of {total:,}, {model.shape}, span {model.span}"
        line += "" if self.finished else ", not finished"
        picture, shown = self.newest_grid(), ""
        with contextlib.suppress(OSError, UserError):  # a grid that a power failure has torn
            shown = "" if picture is None else _embed(read_png(picture))
        return f"<p>{html.escape(line)}</p>{shown}"


Place = str | os.PathLike[str] | OpenedRun
"""Where a run is: its folder, or the run as `train`, `resume` and `open_run` return it."""


def _place(given: Place) -> Path:
    if isinstance(given, OpenedRun):
        return given.folder
    if not isinstance(given, (str, os.PathLike)):
        raise UserError(f"a run is given as its folder, or as sagan.open_run returns it, got {shorten(given)}")
    return expand(given)


def _frechet_first(records: Iterable[R]) -> Iterator[R]:
    """Records in order, but of scores that were made together the Fréchet distance first; in the file it is last."""
    waiting: list[R] = []
    for record in records:
        if waiting and _made_with(record) != _made_with(waiting[-1]):
            yield from waiting
            waiting.clear()
        if isinstance(record, ScoreRecord) and record.metric != "frechet":
            waiting.append(record)
        else:
            yield record
            yield from waiting
            waiting.clear()
    yield from waiting


def _made_with(record: Record) -> tuple[object, ...] | None:
    if not isinstance(record, ScoreRecord):
        return None
    return record.step, record.seconds, record.card.extractor, record.card.truncation


def _flat(record: Record) -> Row:
    """All fields of a record as plain values."""
    return dict(_columns("", record))


def _columns(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A value as columns: those of a dataclass or a mapping have its name before their own."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, held in value.items():
        yield from _columns(f"{name}_{key}" if name else str(key), held)


def open_run(path: Place) -> OpenedRun:
    """A run that `sagan train` made. Raises UserError if there is none."""
    return OpenedRun(Run.open(_place(path)).folder)


def train(config: Config | str = "best", *, quiet: bool = False, **settings: object) -> OpenedRun:
    """Trains a run from its first step to its last, as ``sagan train`` does, and returns it.

    Args:
        config: all settings, or the name of a preset, whose networks are those of ``start_from`` if that is given.
        quiet: print only warnings.
        settings: settings to change, by the names of the command's flags: ``data="photos", imsize=64, span=3``.
            Paths may be ``Path``, and several values a list. With ``eval_every`` the run is scored during training.

    Ctrl-C during training ends it after the current step: everything is saved, a line says where (unless ``quiet``),
    and the run is returned early. Its ``step`` says how far it came, its ``finished`` is false, and `sagan.resume`
    continues it. A second Ctrl-C raises KeyboardInterrupt. The processes of a script that ``torchrun`` starts train one
    run together. Raises UserError for wrong or misspelt settings and for a run that has collapsed.
    """
    from sagan.evaluation.while_training import score_while_training
    from sagan.training.checks import refuse_one_shard
    from sagan.training.start import report_end, train_new
    from sagan.training.start_from import with_networks_of

    changes, console = _plain(settings), Console(quiet=quiet)
    base = _start(config, settings)
    if isinstance(config, str) and (place := changes.get("start_from")) is not None:
        base = with_networks_of(base, str(place))
    config = override(base, changes)
    with joined() as world:
        refuse_one_shard(settings, world.size)
        scoring = score_while_training(config, console) if world.leads else None
        outcome = train_new(config, console, scoring, world=world)
    report_end(outcome, console)
    return OpenedRun(outcome.run.folder)


def _start(config: Config | str, settings: Mapping[str, object]) -> Config:
    """The settings to start from. Raises UserError for anything but a Config or the name of a preset."""
    if "preset" in settings:
        raise UserError(f"a preset is named first: sagan.train({shorten(settings['preset'])}, ...)")
    if isinstance(config, Config):
        return config
    if not isinstance(config, str):
        several = ", and single settings by name: sagan.train(imsize=64)" if isinstance(config, Mapping) else ""
        allowed = f"a Config or the name of a preset, {' or '.join(PRESETS)}"
        raise UserError(f"config must be {allowed}, got {shorten(config)}{several}")
    check_preset(config)
    return PRESETS[config]


def _plain(settings: dict[str, object]) -> dict[str, object]:
    """Settings with a torch device by its name, and with a folder ``faces`` distinguished from the drawn faces."""
    named = {name: str(value) if isinstance(value, torch.device) else value for name, value in settings.items()}
    return {**named, "data": "./faces"} if settings.get("data") == Path("faces") else named


def evaluate(
    path: Place,
    *,
    reference: str | Path | None = None,
    extractor: str | None = None,
    weights: str | Path | None = None,
    num: int = 10_000,
    repeats: int = 1,
    step: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    prepared: str | Path | None = None,
    quiet: bool = False,
) -> list[Row]:
    """Scores a snapshot of a run against real images, as ``sagan evaluate`` does, and returns flat rows.

    Args:
        path: the run or its folder. The scores are also added to its records.
        reference: the real images, a folder, a zip, a store ...; by default those that the run was trained on.
        extractor: the network whose features are compared, as for the command; by default the best available.
        weights: the extractor's weights file.
        num: the number of images in each draw from the snapshot.
        repeats: the number of draws; several give a mean and a spread.
        step: the step of the snapshot; by default the newest.
        seed: the seed of the first draw; later draws have the next seeds.
        device: where to sample and score; by default a GPU if there is one, else the CPU.
        prepared: the folder for features of real images; by default the run's own, which must be inside the run, be
            ``./prepared`` or hold prepared images already.
        quiet: print only warnings.

    The Fréchet distance comes first. Raises UserError if there is no such snapshot, no extractor, or too few images.
    """
    from sagan.evaluation.snapshots import run_scorer

    num, repeats, step, seed = plain((num, repeats, step, seed))
    run, console = Run.open(_place(path)), Console(quiet=bool(quiet))
    snapshot = run.snapshot(step)
    scorer = run_scorer(
        run,
        snapshot,
        console,
        samples=num,
        repeats=repeats,
        seed=seed,
        extractor=extractor,
        weights=None if weights is None else expand(weights),
        device="auto" if device is None else str(device),
        reference=None if reference is None else expand(reference),
        cache=images_folder(run.config(), run.folder) if prepared is None else expand(prepared),
        cache_named=prepared is not None,
    )
    before = len(run.records_of(ScoreRecord))
    scorer.score_once(run, snapshot, console, again=True)
    wanted = step_of(snapshot), scorer.extractor.name, seed
    made = run.records_of(ScoreRecord)[before:]  # other processes may have scored other snapshots meanwhile
    scores = [score for score in made if (score.step, score.card.extractor, score.card.seed) == wanted]
    return [_flat(score) for score in _frechet_first(scores)]


def resume(path: Place, *, quiet: bool = False, **settings: object) -> OpenedRun:
    """Resumes a run from its last checkpoint, as ``sagan resume`` does, and returns it.

    ``settings``: lengths and intervals that may change, such as ``total_step=20_000``. An ``extractor`` that runs code,
    and a ``sample_dir`` or ``prepared`` outside the run's folder, are given again, as that may be a stranger's. Ctrl-C
    ends it early, as in `train`. Raises UserError for misspelt settings, and for those that may not change.
    """
    from sagan.evaluation.while_training import score_while_training
    from sagan.training.start import report_end, train_on

    place, changes, console = _place(path), _plain(settings), Console(quiet=quiet)
    config = resumed_config(find_run(place)[0], changes)
    with joined() as world:
        scoring = score_while_training(config, console) if world.leads else None
        outcome = train_on(place, changes, console, scoring, world)
    report_end(outcome, console)
    return OpenedRun(outcome.run.folder)
