"""Drawing for pages: one model of each snapshot in memory, requests drawn in batches by one thread.

A drawn picture keeps what its attention layers made of it, so that pointing at it draws nothing anew.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sagan.core.latents import check_truncation, principal_directions, slerp
from sagan.core.networks.interface import Discriminator, Generator
from sagan.core.sampling import numbered_latents
from sagan.core.shapes import refuse_other_than_rgb_squares
from sagan.run.folder import Run
from sagan.run.weights import Snapshot, load_discriminator, load_snapshot
from sagan.system.errors import UserError
from sagan.system.typed import Count
from sagan.viewing.maps import LayerAttention, discriminator_attention, generator_attention

MOST_PICTURES = 256
"""In one request."""
DIRECTIONS = 8
REACH = 10.0
LEAST_TRUNCATION = 0.1  # of a smaller one, entries of z are drawn anew too often
_MODELS = 4  # in memory
_KEPT = 512  # drawn pictures in memory, with the queries and keys of their layers
_AT_ONCE = 16  # pictures that are drawn together
_WAITING = 1000  # pictures that may wait


_File = tuple[Path, int, int]  # and when it was written, and its length: another file may take its name


class Model:
    """A snapshot that is drawn from, and its main directions, which take longer to find than a picture to draw."""

    def __init__(self, file: _File, snapshot: Snapshot):
        self.file, self.snapshot = file, snapshot

    @functools.cached_property
    def directions(self) -> tuple[Tensor, Tensor]:
        """(rows, strengths) of at most `DIRECTIONS`, as `principal_directions`, on the CPU, where z is drawn."""
        generator = self.snapshot.generator
        rows, strengths = principal_directions(generator, min(DIRECTIONS, *generator.first_matrix().shape))
        return rows.cpu(), strengths.cpu()


@dataclass(frozen=True)
class Ask:
    """Pictures of a seed: those of ``count`` numbers from ``number`` on or, with ``pins``, the one at ``at`` on the
    closed way through the pictures of these numbers, 1.5 being half way from the second to the third. ``along``: how
    far to move along the main directions. ``label``: the class; by default classes take turns."""

    seed: Count = 0
    number: Count = 0
    count: Count = 1
    pins: tuple[int, ...] = ()
    at: float = 0.0
    truncation: float | None = None
    label: int | None = None
    along: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_PICTURES:
            raise UserError(f"count must be from 1 to {MOST_PICTURES} pictures at once, got {self.count:,}")
        if max(self.seed, self.number) > 2**53:
            raise UserError(f"seed and number must be at most 2^53, got {self.seed} and {self.number}")
        if self.pins and not (len(self.pins) <= 64 and all(0 <= pin <= 2**53 for pin in self.pins)):
            raise UserError("pins must be at most 64 numbers, each 0 or more")
        if self.pins and not 0 <= self.at <= len(self.pins):
            raise UserError(f"at must be from 0 to the number of pins, {len(self.pins)}, got {self.at}")
        if len(self.along) > DIRECTIONS or any(abs(far) > REACH for far in self.along):
            raise UserError(f"along must be at most {DIRECTIONS} numbers from -{REACH:g} to {REACH:g}")
        check_truncation(self.truncation)
        if self.truncation is not None and self.truncation < LEAST_TRUNCATION:
            raise UserError(f"truncation must be {LEAST_TRUNCATION} or more here, got {self.truncation}")

    def latents(self, model: Model) -> tuple[Tensor, Tensor | None]:
        """z (count, z_dim) and classes. Raises UserError for a class that there is not."""
        generator = model.snapshot.generator
        if self.pins:
            each = [self._numbered(generator, range(pin, pin + 1)) for pin in self.pins]
            start, share = int(self.at) % len(each), self.at % 1
            z, labels = each[start]
            z = slerp(z, each[(start + 1) % len(each)][0], share)
        else:
            z, labels = self._numbered(generator, range(self.number, self.number + self.count))
        if any(self.along):
            rows, _ = model.directions
            along = torch.tensor(self.along[: len(rows)], dtype=z.dtype)
            z = z + along @ rows[: len(along)]
        return z, labels

    def _numbered(self, generator: Generator, numbers: range) -> tuple[Tensor, Tensor | None]:
        return numbered_latents(generator, self.seed, numbers, self.label, self.truncation)


@dataclass(frozen=True)
class Drawn:
    """A picture, uint8 (3, height, width), and where each attention layer looked in it."""

    picture: Tensor
    layers: tuple[LayerAttention, ...]


@dataclass
class _Job:
    """One picture to draw."""

    model: Model
    z: Tensor
    label: int | None
    future: Future[Drawn] = field(default_factory=Future)


class Painter:
    """Draws pictures in a thread of its own; `close` ends it."""

    def __init__(self, device: torch.device):
        self.device = device
        self._models: OrderedDict[_File, Model] = OrderedDict()
        self._drawn: OrderedDict[tuple[_File, bytes, int | None], Drawn] = OrderedDict()
        self._judge: tuple[_File, Discriminator, int] | None = None
        self._loading, self._judging = threading.Lock(), threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._lock, self._work = threading.Lock(), threading.Event()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="painter", daemon=True)
        self._thread.start()

    def model(self, path: Path) -> Model:
        """The snapshot of a file, loaded once for as long as it is among the last ones used. Raises UserError for a
        file that holds none."""
        state = path.stat()
        key = path, state.st_mtime_ns, state.st_size
        with self._loading:
            if key not in self._models:
                model = Model(key, load_snapshot(path))
                refuse_other_than_rgb_squares(model.snapshot.generator.shape, "drawing here")
                model.snapshot.generator.to(self.device)
                self._models[key] = model
                while len(self._models) > _MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(key)
            return self._models[key]

    def judged(self, run: Run, picture: Tensor) -> list[LayerAttention]:
        """Where the layers of a run's discriminator, that of its checkpoint, look in a picture. Raises UserError where
        there is none."""
        try:
            state = run.checkpoint_file.stat()
        except OSError as error:
            raise UserError("this run has no checkpoint, which alone holds a discriminator") from error
        key = run.checkpoint_file, state.st_mtime_ns, state.st_size
        with self._judging:
            if self._judge is None or self._judge[0] != key:
                self._judge = key, *load_discriminator(run)
            _, discriminator, step = self._judge
            return discriminator_attention(discriminator.to(self.device), step, picture[None])

    async def draw(self, path: Path, ask: Ask) -> list[Drawn]:
        """The pictures that are asked for. Where the task is cancelled, as the asker is gone, those not yet drawn are
        left out. Raises UserError as `Ask.latents`, and where too many wait."""
        model = await asyncio.to_thread(self.model, path)
        z, labels = await asyncio.to_thread(ask.latents, model)
        found: list[Drawn | Future[Drawn]] = []
        jobs = []
        with self._lock:
            for number, one in enumerate(z):
                label = None if labels is None else int(labels[number])
                key = model.file, one.numpy().tobytes(), label
                if key in self._drawn:
                    self._drawn.move_to_end(key)
                    found.append(self._drawn[key])
                else:
                    jobs.append(_Job(model, one, label))
                    found.append(jobs[-1].future)
            if len(self._jobs) + len(jobs) > _WAITING:
                raise UserError("too many pictures are waiting to be drawn: ask again in a moment")
            self._jobs.extend(jobs)
        self._work.set()
        try:
            return [each if isinstance(each, Drawn) else await asyncio.wrap_future(each) for each in found]
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()
            raise

    def close(self) -> None:
        """Ends the thread; what waits is not drawn."""
        self._open = False
        self._work.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._work.wait()
            if not self._open:
                return
            batch = self._next_batch()
            if batch:
                self._draw_batch(batch)

    def _next_batch(self) -> list[_Job]:
        """The next jobs of one snapshot, whoever asks for them."""
        with self._lock:
            waiting = [job for job in self._jobs if not job.future.cancelled()]
            batch = [job for job in waiting if job.model is waiting[0].model][:_AT_ONCE] if waiting else []
            self._jobs = deque(job for job in waiting if not any(job is taken for taken in batch))
            if not self._jobs:
                self._work.clear()
        return [job for job in batch if job.future.set_running_or_notify_cancel()]

    def _draw_batch(self, batch: Sequence[_Job]) -> None:
        try:
            snapshot = batch[0].model.snapshot
            z = torch.stack([job.z for job in batch]).to(self.device)
            labels = None if batch[0].label is None else torch.tensor([job.label for job in batch], device=self.device)
            pictures, layers = generator_attention(snapshot.generator, snapshot.step, z, labels)
            drawn = [
                Drawn(picture, tuple(each.only(number) for each in layers)) for number, picture in enumerate(pictures)
            ]
        except BaseException as error:  # it is the asker's, whatever it is
            for job in batch:
                job.future.set_exception(error)
            return
        with self._lock:
            for job, one in zip(batch, drawn, strict=True):
                self._drawn[job.model.file, job.z.numpy().tobytes(), job.label] = one
            while len(self._drawn) > _KEPT:
                self._drawn.popitem(last=False)
        for job, one in zip(batch, drawn, strict=True):
            job.future.set_result(one)
