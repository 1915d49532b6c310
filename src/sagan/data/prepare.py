"""Decodes, crops and resizes every image of a source once, into a store; an interrupted preparation is resumed.

The store grows in ``FOLDER.partial`` and is renamed at the end, so a folder without that ending is always complete.

The classes of the images depend only on the source's names. They are numbered at the end, over the images that were
kept; a store of a version without classes gets them, in memory, when it is opened with its source.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from sagan.core.shapes import ImageShape
from sagan.data.partial import JOURNAL, Partial
from sagan.data.recipe import Prepared, Recipe, prepare_image, unchecked
from sagan.data.sources.decode import MAX_PIXELS
from sagan.data.sources.names import natural
from sagan.data.sources.source import Source, unseen
from sagan.data.sources.stored import StoreSource
from sagan.data.survey import Unforeseen, check_of, first_needs, needs_of, remember_needs, remembered_needs, settled
from sagan.run.store import AGAIN, FORMAT, NAMES, PIXELS, Skipped, Store, StoreMeta, crop_label
from sagan.system.callbacks import Progress, Say
from sagan.system.errors import UserError
from sagan.system.files import exclusive_lock, read_regular, write_whole
from sagan.system.paths import without_paths
from sagan.system.sentences import plural

LOGGER = logging.getLogger(__name__)
IDENTITY = re.compile(r"[\w.-]+:[0-9a-f]{64}")
AHEAD_BYTES = 2**28  # of prepared images that wait to be written
BLOCK_BYTES = 2**26  # of Pillow's memory: malloc keeps smaller blocks for the thread that had them, after use
SKIPS_REPORTED = REMARKS_REPORTED = 10  # individually; meta.json names them all


def open_or_prepare(
    source: Source,
    recipe: Recipe,
    root: Path,
    *,
    strict: bool = False,
    progress: Progress | None = None,
    warn: Say = LOGGER.warning,
) -> Store:
    """The store of this source and recipe under ``root``, prepared now unless it exists. Arguments as of `prepare`.

    What the recipe leaves to the images is found by looking at them, at most at each once before it is prepared."""
    settle_identity(source, root, progress)
    if "auto" not in (recipe.channels, recipe.range):
        return _open_or_prepare(source, recipe, root, strict, progress, warn)
    needs = remembered_needs(source, recipe, root)
    if needs is None:
        needs = first_needs(source)
        guess = settled(recipe, needs)
        if not needs.levels and not taken(store_folder(root, source, guess)):
            with contextlib.suppress(Unforeseen):
                store = _open_or_prepare(source, guess, root, strict, progress, warn, check_of(recipe, needs))
                remember_needs(source, recipe, root, needs)
                return store
        needs = needs_of(source, range(len(source)), cores(), progress or unseen)
        remember_needs(source, recipe, root, needs)
    return _open_or_prepare(source, settled(recipe, needs), root, strict, progress, warn)


def _open_or_prepare(
    source: Source,
    recipe: Recipe,
    root: Path,
    strict: bool,
    progress: Progress | None,
    warn: Say,
    check: Callable[[Image.Image], None] = unchecked,
) -> Store:
    """`open_or_prepare` with a settled recipe; ``check`` as for `prepare`."""
    folder = store_folder(root, source, recipe)
    if not taken(folder) and (store := former_store(root, source, recipe)) is not None:
        verify(store.folder, root, progress)
        return opened(store, source, warn)
    if taken(folder):
        verify(folder, root, progress)
        return prepare(source, recipe, folder, strict=strict, progress=progress, warn=warn)
    store = prepare(source, recipe, folder, strict=strict, progress=progress, warn=warn, check=check)
    made = StoreSource(folder)
    remember_identity(made, made.stated, root)  # its pixels were hashed as they were written
    return store


def verify(folder: Path, root: Path, progress: Progress | None) -> None:
    """Raises UserError unless the pixels of a store are those that were prepared; they are read once, as images are."""
    settle_identity(StoreSource(folder), root, progress)


def former_store(root: Path, source: Source, recipe: Recipe) -> Store | None:
    """The store that an earlier version made of the same images, if there is one; what it skipped is tried again.

    Raises UserError for a damaged one."""
    for identity in source.former:
        folder = store_folder(root, source, recipe, identity)
        if taken(folder):
            store = Store.open(folder)
            if store.meta.identity == identity and not store.skipped:
                return store
    return None


def settle_identity(source: Source, root: Path, progress: Progress | None = None) -> None:
    """Finds the identity of a source: by its signature in a file under ``root``, or else by reading every byte."""
    if not source.signature or "identity" in vars(source):
        return
    if identity := known_identity(root, source.signature):
        source.identity = identity
        former = known_identity(root, source.former_signature) if source.former_signature else ""
        source.former = (former, *source.former) if former else source.former
        return
    remember_identity(source, source.identify(progress or unseen), root)


def known_identity(root: Path, signature: str) -> str:
    """The identity that was remembered for a source of this signature, or ""."""
    with contextlib.suppress(OSError, ValueError):  # it is not there, or damaged
        if IDENTITY.fullmatch(text := read_regular(root / "identities" / signature, 1000).decode()):
            return text
    return ""


def remember_identity(source: Source, identity: str, root: Path) -> None:
    """Settles the identity of a source, also for later sources with its signature."""
    source.identity = identity
    with contextlib.suppress(OSError):  # if it cannot be written, every start reads all again
        write_whole(root / "identities" / source.signature, lambda file: file.write(identity.encode()))


def store_folder(root: Path, source: Source, recipe: Recipe, identity: str = "") -> Path:
    """The folder of the store of this source and recipe: ``root/NAME-SIZE-KEY``, KEY ten hex digits of both.
    ``identity``: of the source, if another one than now."""
    identity = identity or source.identity
    key = hashlib.sha256(json.dumps(key_of(source, recipe, identity)).encode()).hexdigest()[:10]
    return root / f"{identity.split(':')[0]}-{recipe.size}-{key}"


def key_of(source: Source, recipe: Recipe, identity: str) -> dict[str, Any]:
    usual = source.max_pixels == MAX_PIXELS
    return {"format": FORMAT, "identity": identity, **recipe.key} | ({} if usual else {"max_pixels": source.max_pixels})


def prepare(
    source: Source,
    recipe: Recipe,
    folder: Path,
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    warn: Say = LOGGER.warning,
    check: Callable[[Image.Image], None] = unchecked,
) -> Store:
    """The store of ``source`` at ``folder``, prepared now unless it exists.

    The result depends only on source and recipe, not on interruptions or ``workers`` (threads; by default one a core).
    Images that cannot be used are skipped and named to ``warn`` and in ``meta.json``; with ``strict`` the first one is
    a UserError. Of several processes that prepare the same folder, one works and the others wait for it.

    ``progress(done, total)`` is called after every image, ``warn(sentence)`` for warnings. Raises UserError if no image
    can be used or ``folder`` holds anything else; OSError if the disk is full, after which the same call resumes.
    ``check`` sees each image as the source has it; if it raises, nothing is left.
    """
    if taken(folder):  # needs no lock: a store appears complete, and may be on a read-only disk
        return ready(source, recipe, folder, strict, warn)
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = functools.partial(warn, f"another process is preparing {folder}: waiting until it is done")
    with disk_full_explained(folder), exclusive_lock(folder.with_name(f".{folder.name}.lock"), waiting):
        if not taken(folder):  # another process may have made it meanwhile
            make(source, recipe, folder, strict, workers or cores(), progress, warn, check)
    return ready(source, recipe, folder, strict, warn)


def taken(folder: Path) -> bool:
    """Whether there is anything at ``folder`` except an empty folder."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def make(
    source: Source,
    recipe: Recipe,
    folder: Path,
    strict: bool,
    workers: int,
    progress: Progress | None,
    warn: Say,
    check: Callable[[Image.Image], None],
) -> None:
    """Prepares a store that does not exist, while the lock is held."""
    key = key_of(source, recipe, source.identity) | ({} if check is unchecked else {"checked": True})
    partial = Partial(folder.with_name(f"{folder.name}.partial"), key, recipe.shape, warn)
    with _removed_if_unforeseen(partial), contextlib.closing(partial):
        total = len(source)
        if partial.read:
            warn(f"resuming an interrupted preparation: {partial.read:,} of {plural(total, 'image')} done")
        if strict and partial.skipped:
            raise UserError(refusal(partial.skipped[0]))
        warn_of_little_space(partial, total, warn)
        if progress:
            progress(partial.read, total)
        images = prepared_images(source, recipe, partial.read, workers, check)
        for done, image in enumerate(images, partial.read + 1):
            if image.pixels is None and strict:
                partial.flush()
                raise UserError(refusal(Skipped(image.name, image.reason)))
            if image.pixels is None and len(partial.skipped) < SKIPS_REPORTED:
                warn(f"skipped {image.name}: {image.reason}")
            partial.add(image)
            if progress:
                progress(done, total)
        partial.flush()
        if len(partial.skipped) > SKIPS_REPORTED:
            warn(f"skipped {plural(len(partial.skipped), 'image')} in all; meta.json names each")
        if not partial.count:
            raise UserError(nothing_left(source, recipe, partial.skipped))
        if partial.enlarged:
            warn(f"enlarged {plural(partial.enlarged, 'image')} smaller than {recipe.shape} pixels")
        classes, labels = (None, None) if source.no_classes else number_classes(source, partial.kept())
        meta = StoreMeta(
            identity=source.identity,
            **asdict(recipe),
            source=without_paths(source.description, [source.place] if source.place else []),
            source_count=total,
            drawn_faces=source.drawn_faces and recipe.shape == ImageShape.square(recipe.shape.height),
            count=partial.count,
            pixels=PIXELS[recipe.shape.channels],
            enlarged=partial.enlarged,
            skipped=tuple(partial.skipped),
            remarks=tuple(partial.remarks.values()),
            decoder=f"Pillow {PIL.__version__}",
            sha256=partial.hash.hexdigest(),
            classes=classes,
        )
        within = json.dumps([source.name_within(index) for index in partial.kept()])
        write_whole(partial.folder / NAMES, lambda file: file.write(within.encode()))
        partial.finish(folder, meta, labels)


@contextlib.contextmanager
def _removed_if_unforeseen(partial: Partial) -> Iterator[None]:
    """Removes what is prepared in vain."""
    try:
        yield
    except Unforeseen:
        shutil.rmtree(partial.folder)
        raise


def prepared_images(
    source: Source, recipe: Recipe, start: int, workers: int, check: Callable[[Image.Image], None] = unchecked
) -> Iterator[Prepared]:
    """The source's images from ``start`` on, in order, by ``workers`` threads (decoders release the GIL)."""
    Image.core.set_block_size(BLOCK_BYTES)  # type: ignore[attr-defined]
    ahead: deque[Future[Prepared]] = deque()
    most = max(workers, min(4 * workers, AHEAD_BYTES // recipe.shape.numel))
    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        try:
            for index in range(start, len(source)):
                ahead.append(pool.submit(prepare_image, source, index, recipe, check))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def ready(source: Source, recipe: Recipe, folder: Path, strict: bool, warn: Say) -> Store:
    """The store at ``folder``, checked to be of this source and recipe and, if ``strict``, to have no skipped image."""
    store = Store.open(folder)
    wanted = {"identity": source.identity, **asdict(recipe)}
    unlike = [name for name, value in wanted.items() if getattr(store.meta, name) != value]
    if unlike:
        raise UserError(
            f"{folder} holds another store, {store.describe()}, which differs in {', '.join(unlike)}: "
            f"name another folder, or {AGAIN}"
        )
    with contextlib.suppress(OSError):  # missing, as usual, or on a read-only disk
        (folder / JOURNAL).unlink()  # of a process that was killed at its very end
    store = opened(store, source, warn)
    if strict and store.skipped:
        raise UserError(f"{refusal(store.skipped[0])}; the store {folder} was prepared without `strict`")
    return store


def opened(store: Store, source: Source, warn: Say) -> Store:
    """A store that is known to be of this source, with the classes that the source has now, and the places of images
    as they are now: those on the disk tell of no folder. Repeats what was noticed about the images."""
    meta = store.meta
    named = len(source) if meta.skipped or meta.remarks else 0
    places = {source.name_within(index): source.name(index) for index in range(named)}
    skipped = tuple(replace(entry, name=places.get(entry.name, entry.name)) for entry in meta.skipped)
    remarks = tuple(replace(entry, first=places.get(entry.first, entry.first)) for entry in meta.remarks)
    store = replace(store, meta=replace(meta, source=source.description, skipped=skipped, remarks=remarks))
    for remark in store.meta.remarks[:REMARKS_REPORTED]:
        warn(str(remark))
    if (more := len(store.meta.remarks) - REMARKS_REPORTED) > 0:
        warn(f"{plural(more, 'more remark')}: meta.json has each")
    if source.no_classes:
        return replace(store, meta=replace(store.meta, classes=None), labels=None, no_classes=source.no_classes)
    return store if store.labels is not None else with_classes(store, source)


def number_classes(source: Source, kept: list[int]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The names of the classes of the images ``kept``, in natural order, and the index of each image's class."""
    names = [str(source.class_of(index)) for index in kept]
    classes = tuple(sorted(set(names), key=natural))
    number = {name: i for i, name in enumerate(classes)}
    return classes, np.array([number[name] for name in names], dtype=np.int64)


def with_classes(store: Store, source: Source) -> Store:
    """A store without labels, with the classes of its source; nothing is written. The classes are unknown if skipped
    images no longer have the names that the store recorded, because the source's folder was moved."""
    skipped = {entry.name for entry in store.skipped}
    kept = [index for index in range(len(source)) if source.name(index) not in skipped]
    if store.meta.identity in source.former:
        kept.sort(key=source.name_within)  # the order of earlier versions
    if len(kept) != store.count:
        moved = f"the names of skipped images in {store.folder} are no longer those of the source"
        return replace(store, no_classes=f"{moved}; {AGAIN}")
    classes, labels = number_classes(source, kept)
    return replace(store, meta=replace(store.meta, classes=classes), labels=labels, no_classes="")


@contextlib.contextmanager
def disk_full_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = OSError(
            f"the disk is full: {folder} could not be finished; make room and run the same again, which resumes from "
            f"{folder.name}.partial, or delete that folder to give up"
        )
        full.errno = error.errno
        raise full from error


def warn_of_little_space(partial: Partial, total: int, warn: Say) -> None:
    needed = (total - partial.read) * partial.shape.numel
    free = shutil.disk_usage(partial.folder).free
    if needed > free:
        warn(f"preparing needs {needed / 1e6:,.0f} MB more, but only {free / 1e6:,.0f} MB is free at {partial.folder}")


def cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refusal(skipped: Skipped) -> str:
    remedy = "refused by `strict`=true; without it such images are skipped and reported"
    return f"{skipped.name} {skipped.reason} ({remedy})"


def nothing_left(source: Source, recipe: Recipe, skipped: list[Skipped]) -> str:
    first = f"{skipped[0].name}: {skipped[0].reason}" if skipped else "the source is empty"
    return f"no image of {source.description} could be used ({crop_label(recipe.crop)}); the first: {first}"
