"""Decode, crop and resize every image of a source once, into a store; an interrupted preparation goes on where it was.

The store grows in ``FOLDER.partial`` and is renamed at the end, so a folder without that ending is always whole. A
journal beside the pixels records, chunk by chunk, how far the source was read and the hash of all pixels up to there;
what the journal does not vouch for is cut off before going on.

The classes of the images follow from the source's names alone. They are numbered at the end, over the images that were
kept; a store made before there were classes is given them, in memory, when it is opened with its source.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from sagan.data.sources import Source
from sagan.run.store import (
    AGAIN,
    CHANNELS,
    FORMAT,
    HEADER_BYTES,
    PIXELS,
    Skipped,
    Store,
    StoreMeta,
    array_header,
    crop_label,
    image_bytes,
    meta_file,
)
from sagan.system.errors import UserError
from sagan.system.files import alone

LOGGER = logging.getLogger(__name__)
CHUNK_IMAGES = 256  # journalled together: the most that an interruption can cost
CHUNK_BYTES = 32 * 2**20
SKIPS_REPORTED = 10  # one by one; meta.json names them all

Progress = Callable[[int, int], None]
Report = Callable[[str], None]


# ---- the recipe


@dataclass(frozen=True)
class Recipe:
    """How an image becomes ``size`` x ``size`` pixels.

    ``crop``: "square", the largest centred square; "squash", the whole image pressed into a square (what the published
    program did to LSUN); or a number of pixels such as "160", the centred square of that side (what it did to CelebA).
    ``filter``: the antialiased resampling, "bilinear" as published, or "lanczos", "bicubic", "box".
    """

    size: int
    crop: str = "square"
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size must be 1 pixel or more, got {self.size}")
        if self.crop not in CROPS and not is_pixels(self.crop):
            raise UserError(f"crop must be {', '.join(CROPS)} or a number of pixels such as 160, got {self.crop!r}")
        if self.filter not in FILTERS:
            raise UserError(f"filter must be one of {', '.join(FILTERS)}, got {self.filter!r}")


def is_pixels(crop: str) -> bool:
    return crop.isascii() and crop.isdecimal() and not crop.startswith("0")


def cut_centre(image: Image.Image, side: int) -> Image.Image:
    """The centred square of ``side`` pixels; half pixels are rounded to even, as in the published program."""
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def cut_pixels(image: Image.Image, side: int) -> Image.Image:
    """As ``cut_centre``, but UserError when the image is smaller: it is not padded."""
    if min(image.size) < side:
        raise UserError(f"it is {image.width}x{image.height}, smaller than the {side}x{side} pixels to cut out")
    return cut_centre(image, side)


CROPS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "square": lambda image: cut_centre(image, min(image.size)),
    "squash": lambda image: image,
}
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Prepared:
    """One image of the source: its pixel bytes (size, size, 3), or the reason why there are none."""

    name: str
    pixels: bytes | None
    enlarged: bool = False
    reason: str = ""


def prepare_image(source: Source, index: int, recipe: Recipe) -> Prepared:
    name = source.name(index)
    try:
        image = source.read(index)
        cut = cut_pixels(image, int(recipe.crop)) if is_pixels(recipe.crop) else CROPS[recipe.crop](image)
    except (UserError, OSError) as error:
        return Prepared(name, None, reason=str(error).removeprefix(name).lstrip(" :"))
    enlarged = min(cut.size) < recipe.size
    return Prepared(name, cut.resize((recipe.size, recipe.size), FILTERS[recipe.filter]).tobytes(), enlarged)


# ---- the whole


def open_or_prepare(
    source: Source,
    recipe: Recipe,
    root: str | os.PathLike[str],
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> Store:
    """The store of this source and recipe under ``root``, prepared now unless it is there. Arguments as ``prepare``."""
    folder = store_folder(root, source, recipe)
    return prepare(source, recipe, folder, strict=strict, workers=workers, progress=progress, report=report)


def store_folder(root: str | os.PathLike[str], source: Source, recipe: Recipe) -> Path:
    """Where the store of this source and recipe belongs: ``root/NAME-SIZE-KEY``, KEY ten hex digits of both."""
    key = hashlib.sha256(json.dumps(key_of(source, recipe)).encode()).hexdigest()[:10]
    return Path(root) / f"{source.identity.split(':')[0]}-{recipe.size}-{key}"


def key_of(source: Source, recipe: Recipe) -> dict[str, Any]:
    return {"format": FORMAT, "identity": source.identity, **asdict(recipe)}


def prepare(
    source: Source,
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> Store:
    """Make the store of ``source`` at ``folder``, or open it if it is there already, and return it.

    The result depends on source and recipe alone, not on ``workers`` (threads; by default the processor's cores) or on
    interruptions. Images that cannot be used are skipped, named to ``report`` and in ``meta.json``; with ``strict`` the
    first one is a UserError. Of several processes preparing one folder, one works and the others wait for it.

    ``progress(done, total)`` is called after every image, ``report(sentence)`` for what a person should know (default:
    the log). Raises UserError when no image can be used or ``folder`` holds something else; OSError when the disk is
    full, after which the same call goes on where it was.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers must be 1 or more, got {workers}")
    folder = Path(folder)
    if taken(folder):  # no lock: a store appears whole, and it may lie on a read-only disk
        return ready(source, recipe, folder, strict)
    report = report or LOGGER.warning
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = functools.partial(report, f"another process is preparing {folder}: waiting until it is done")
    with disk_full_explained(folder), alone(folder.with_name(f".{folder.name}.lock"), waiting):
        if not taken(folder):  # it may have been made while we waited
            make(source, recipe, folder, strict, workers or cores(), progress, report)
    return ready(source, recipe, folder, strict)


def taken(folder: Path) -> bool:
    """Whether something is at ``folder``, an empty folder being nothing."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def make(
    source: Source, recipe: Recipe, folder: Path, strict: bool, workers: int, progress: Progress | None, report: Report
) -> None:
    """Write the store: everything of ``prepare`` after the lock is held and the folder known to be missing."""
    partial = Partial(folder.with_name(f"{folder.name}.partial"), key_of(source, recipe), recipe.size, report)
    with contextlib.closing(partial):
        total = len(source)
        if partial.read:
            report(f"going on with an interrupted preparation: {partial.read:,} of {total:,} images are done")
        if strict and partial.skipped:
            raise UserError(refusal(partial.skipped[0]))
        warn_of_little_space(partial, total, report)
        if progress:
            progress(partial.read, total)
        for done, image in enumerate(prepared_images(source, recipe, partial.read, workers), partial.read + 1):
            if image.pixels is None and strict:
                partial.flush()
                raise UserError(refusal({"name": image.name, "reason": image.reason}))
            if image.pixels is None and len(partial.skipped) < SKIPS_REPORTED:
                report(f"skipped {image.name}: {image.reason}")
            partial.add(image)
            if progress:
                progress(done, total)
        partial.flush()
        if len(partial.skipped) > SKIPS_REPORTED:
            report(f"skipped {len(partial.skipped):,} images in all; meta.json names each")
        if not partial.count:
            raise UserError(nothing_left(source, recipe, partial.skipped))
        if partial.enlarged:
            report(
                f"{partial.enlarged:,} images were smaller than {recipe.size}x{recipe.size} pixels and were enlarged"
            )
        meta = meta_of(source, recipe, partial)
        labels = None
        if not source.no_classes:
            classes, labels = number_classes(source, partial.kept())
            meta = replace(meta, classes=tuple(classes))
        partial.finish(folder, meta, labels)


def prepared_images(source: Source, recipe: Recipe, start: int, workers: int) -> Iterator[Prepared]:
    """The source's images from ``start`` on, in order, made by ``workers`` threads (decoders let go of the GIL)."""
    ahead: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        try:
            for index in range(start, len(source)):
                ahead.append(pool.submit(prepare_image, source, index, recipe))
                if len(ahead) >= 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def meta_of(source: Source, recipe: Recipe, partial: Partial) -> StoreMeta:
    return StoreMeta(
        identity=source.identity,
        **asdict(recipe),
        source=source.description,
        source_count=len(source),
        count=partial.count,
        channels=CHANNELS,
        pixels=PIXELS,
        enlarged=partial.enlarged,
        skipped=tuple(Skipped(**each) for each in partial.skipped),
        decoder=f"Pillow {PIL.__version__}",
        sha256=partial.hash.hexdigest(),
    )


def ready(source: Source, recipe: Recipe, folder: Path, strict: bool) -> Store:
    """The store at ``folder``, checked to be of this source and recipe and, if ``strict``, to lack no image."""
    store = Store.open(folder)
    wanted = {"identity": source.identity, **asdict(recipe)}
    unlike = [name for name, value in wanted.items() if getattr(store.meta, name) != value]
    if unlike:
        raise UserError(
            f"{folder} holds another store, {store.describe()}, unlike in {', '.join(unlike)}: "
            f"name another folder, or {AGAIN}"
        )
    if strict and store.skipped:
        raise UserError(refusal(asdict(store.skipped[0])) + f"; the store {folder} was prepared without --strict")
    return store if store.labels is not None else with_classes(store, source)


# ---- classes


def number_classes(source: Source, kept: list[int]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The sorted names of the classes of the images ``kept``, and the number of each image's class among them.

    A class none of whose images was kept is no class.
    """
    names = [source.class_of(index) for index in kept]
    assert None not in names, "a source with classes has one for every image"
    classes = sorted(set(map(str, names)))
    number = {name: i for i, name in enumerate(classes)}
    return classes, np.array([number[str(name)] for name in names], dtype=np.int64)


def with_classes(store: Store, source: Source) -> Store:
    """A store without labels, with the classes of its source; nothing is written. They cannot be told when images were
    skipped whose names are not those of the source any more, because its folder has moved since.
    """
    if source.no_classes:
        return replace(store, no_classes=source.no_classes)
    skipped = {entry.name for entry in store.skipped}
    kept = [index for index in range(len(source)) if source.name(index) not in skipped]
    if len(kept) != store.count:
        moved = f"the names of skipped images in {store.folder} are not those of the source any more"
        return replace(store, no_classes=f"{moved}; {AGAIN}")
    classes, labels = number_classes(source, kept)
    return replace(store, meta=replace(store.meta, classes=tuple(classes)), labels=labels, no_classes="")


# ---- the half-made store


class Partial:
    """The half-made store in a folder of its own: ``images.npy`` with a count of 0, and ``journal.jsonl``.

    The journal's first line is the key of source and recipe; each line after it vouches for one chunk: images of the
    source ``read``, images in the store, those newly skipped and, as ``unused``, their numbers in the source, and the
    SHA-256 of all pixels so far. Opening goes on from the last chunk whose pixels are there and have that hash, or
    starts clean when the key is another.
    """

    def __init__(self, folder: Path, key: dict[str, Any], size: int, report: Report) -> None:
        self.folder, self.size = folder, size
        self.read = self.count = self.enlarged = 0
        self.skipped: list[dict[str, str]] = []
        self.unused: list[int] = []  # the numbers of the skipped images in the source
        self.hash = hashlib.sha256()
        self.chunk: list[Prepared] = []
        self.chunk_images = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // image_bytes(size)))
        folder.mkdir(exist_ok=True)
        (folder / "labels.npy").unlink(missing_ok=True)  # of who was stopped at the very end; finish writes ours
        self.pixels = open_to_change(folder / "images.npy")
        self.journal = open_to_change(folder / "journal.jsonl")
        first = json.dumps(key).encode() + b"\n"
        found = self.journal.read().splitlines(keepends=True)
        if found and found[0] != first:
            report(f"{folder} is of another source or recipe, or damaged: starting over")
            found = []
        vouched = self.recover(found[1:])
        self.journal.seek(0)
        write_all(self.journal, first)
        cut(self.journal, len(first) + vouched)
        header = array_header(0, size)
        self.pixels.seek(0)
        write_all(self.pixels, header)
        cut(self.pixels, len(header) + self.count * image_bytes(size))

    def recover(self, lines: list[bytes]) -> int:
        """Take over every chunk that these journal lines vouch for; the number of bytes of the lines that held good."""
        good = 0
        self.pixels.seek(HEADER_BYTES)
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None or "unused" not in entry:  # as an earlier version left it
                break
            digest = self.hash.copy()
            digest.update(self.pixels.read((entry["count"] - self.count) * image_bytes(self.size)))
            if digest.hexdigest() != entry["sha256"]:
                break
            self.hash = digest
            self.read, self.count, self.enlarged = entry["read"], entry["count"], entry["enlarged"]
            self.skipped += entry["skipped"]
            self.unused += entry["unused"]
            good += len(line)
        return good

    def kept(self) -> list[int]:
        """The numbers in the source of the images in the store, in its order."""
        unused = set(self.unused)
        return [index for index in range(self.read) if index not in unused]

    def add(self, image: Prepared) -> None:
        self.chunk.append(image)
        if image.pixels is None:
            self.skipped.append({"name": image.name, "reason": image.reason})
        if len(self.chunk) >= self.chunk_images:
            self.flush()

    def flush(self) -> None:
        """Write the images added since the last time: first the pixels and, once they are safe, the journal's line."""
        if not self.chunk:
            return
        made = [image.pixels for image in self.chunk if image.pixels is not None]
        pixels = b"".join(made)
        write_all(self.pixels, pixels)
        os.fsync(self.pixels.fileno())
        self.hash.update(pixels)
        unused = [index for index, image in enumerate(self.chunk, self.read) if image.pixels is None]
        self.unused += unused
        self.read += len(self.chunk)
        self.count += len(made)
        self.enlarged += sum(image.enlarged for image in self.chunk)
        entry = {
            "read": self.read,
            "count": self.count,
            "enlarged": self.enlarged,
            "skipped": self.skipped[len(self.skipped) - len(unused) :],
            "unused": unused,
            "sha256": self.hash.hexdigest(),
        }
        write_all(self.journal, json.dumps(entry).encode() + b"\n")
        os.fsync(self.journal.fileno())
        self.chunk = []

    def finish(self, folder: Path, meta: StoreMeta, labels: npt.NDArray[np.int64] | None) -> None:
        """Fill in the count, write the labels (if any) and ``meta.json``, and give the folder its name: from here on it
        is a store."""
        self.pixels.seek(0)
        write_all(self.pixels, array_header(self.count, self.size))
        os.fsync(self.pixels.fileno())
        self.close()
        if labels is not None:
            write_new(self.folder / "labels.npy", array_file(labels))
        write_new(self.folder / "meta.json", meta_file(meta))
        self.folder.rename(folder)
        (folder / "journal.jsonl").unlink()

    def close(self) -> None:
        self.pixels.close()
        self.journal.close()


def open_to_change(path: Path) -> IO[bytes]:
    """The file for reading and writing, made if missing; unbuffered, so that closing after a failed write is quiet."""
    path.touch()
    return path.open("r+b", buffering=0)


def cut(file: IO[bytes], length: int) -> None:
    """Make ``length`` the end of the file and the place where writing goes on."""
    file.truncate(length)
    file.seek(length)


def write_new(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        write_all(file, data)
        os.fsync(file.fileno())


def array_file(array: npt.NDArray[np.int64]) -> bytes:
    """What ``numpy.save`` writes for the array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


# ---- circumstances


@contextlib.contextmanager
def disk_full_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = OSError(
            f"the disk is full: {folder} could not be finished; make room and run the same again, and it goes on from "
            f"{folder.name}.partial, or delete that folder to give up"
        )
        told.errno = error.errno
        raise told from error


def warn_of_little_space(partial: Partial, total: int, report: Report) -> None:
    needed = (total - partial.read) * image_bytes(partial.size)
    free = shutil.disk_usage(partial.folder).free
    if needed > free:
        report(
            f"preparing needs {needed / 1e6:,.0f} MB more, but only {free / 1e6:,.0f} MB is free at {partial.folder}"
        )


def cores() -> int:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refusal(skipped: dict[str, str]) -> str:
    return f"{skipped['name']} {skipped['reason']} (refused by --strict; without it such images are skipped and named)"


def nothing_left(source: Source, recipe: Recipe, skipped: list[dict[str, str]]) -> str:
    first = f"{skipped[0]['name']}: {skipped[0]['reason']}" if skipped else "the source is empty"
    return f"no image of {source.description} could be used ({crop_label(recipe.crop)}); the first: {first}"
