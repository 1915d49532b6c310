"""Folders that this program made: what lies in them is no training image, even inside a folder of images."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from sagan.data.sources.names import is_image
from sagan.system.errors import UserError
from sagan.system.files import exclusive_lock, is_held, partial_files

_UNFINISHED = ".unfinished"  # a folder of files that are not yet all there
_WRITING = ".writing.lock"
MARK = ".sagan"  # a file in folders of samples and figures, which nothing else tells apart
FIGURES = "samples or figures"
SOFTWARE = "sagan"  # in the metadata of grids and figures, which tells them from a person's images
_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x011\0\x02\0\0\0\x06\0\0\0\x1a\0\0\0\0sagan\0"  # one tag, Software
OWN_NOTES: dict[str, tuple[str, str | bytes]] = {
    "PNG": ("Software", SOFTWARE),
    "GIF": ("comment", SOFTWARE.encode()),
    "WEBP": ("exif", _EXIF),
}
"""What of its metadata says that this program wrote a picture, by Pillow's name of its format."""
_RUN = "config.json", {"records.jsonl", "checkpoints", "snapshots", "running.lock"}  # of which one is there
_SWEEP = {"plan.json", "runs"}
_STORES = {"meta.json", "images.npy"}, {"journal.jsonl", "images.npy"}
_IDENTITY = re.compile("[0-9a-f]{64}")  # what `sagan.data.prepare` knows of the images of a source, a file each
KNOWN = "notes on images"
_GRID = re.compile(r"\d+_fake\.png")  # as runs of earlier versions have them in folders without a mark


def what_is_ours(names: Iterable[str]) -> str:
    """What of ours a folder with these entries is, for a person: "a run", or an empty text."""
    names = set(names)
    if _RUN[0] in names and names & _RUN[1]:
        return "a run"
    if names >= _SWEEP:
        return "a sweep"
    if any(store <= names for store in _STORES):
        return "prepared images"
    if names and all(map(_IDENTITY.fullmatch, names)):
        return KNOWN
    return FIGURES if MARK in names else ""


def mark_as_ours(folder: Path) -> None:
    """Makes the folder, and marks what will be written there as no training images."""
    folder.mkdir(parents=True, exist_ok=True)
    mark, text = folder / MARK, "Written by sagan. The images in this folder are not taken for training images.\n"
    if not mark.exists() or not mark.stat().st_size:  # empty: of a process that was killed
        mark.write_text(text, encoding="utf-8")


def is_unused(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing, or only the mark and what a killed process left unfinished."""
    if not folder.is_dir():
        return not folder.exists()
    if _was_moving(folder):
        return True
    unused = {folder / MARK, folder / _UNFINISHED, folder / _WRITING, *partial_files(folder)}
    return unused.issuperset(folder.iterdir())


def is_left_behind(folder: Path) -> bool:
    """Whether a folder holds only what a killed process left unfinished, if anything."""
    return folder.is_dir() and is_unused(folder) and not is_held(folder / _WRITING)


def _was_moving(folder: Path) -> bool:
    """Whether `appearing_together` was killed while it moved files: their page, which comes last, is not there."""
    return (folder / _UNFINISHED).is_dir() and not any(folder.glob("*.html"))


@contextlib.contextmanager
def appearing_together(folder: Path, stale: re.Pattern[str] | None = None) -> Iterator[Path]:
    """A folder to write files into, which are moved into ``folder`` at the end, pages last; on an error none is.

    One process at a time writes: others wait. What a killed one left is removed, and at the end files of ``folder``
    whose names match ``stale`` and that were not written anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / _UNFINISHED
    with exclusive_lock(folder / _WRITING, lambda: None):
        left = {path.name for path in folder.iterdir()} - {MARK, _WRITING} if _was_moving(folder) else set()
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
            made = sorted(aside.iterdir(), key=lambda path: (path.suffix == ".html", path.name))
            for path in made:
                path.replace(folder / path.name)
            names = {path.name for path in made}
            for path in folder.iterdir():
                old = path.name in left or (stale is not None and stale.fullmatch(path.name))
                if old and path.name not in names and path.is_file():
                    path.unlink()
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def refuse_foreign_images(folder: Path, flag: str) -> None:
    """Raises UserError where a folder for pictures holds images that this program did not make: the pictures would
    become training images, or those images would be left out with them. ``flag``: the one that names the folder."""
    places = [str(folder)]
    while places:  # of any depth
        try:
            with os.scandir(place := places.pop()) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError:  # it is not there yet, or cannot be read
            continue
        if what_is_ours(entry.name for entry in entries):
            continue
        files = [entry.name for entry in entries if not entry.is_dir()]
        if found := [name for name in files if is_image(name) and not _GRID.fullmatch(name)]:
            raise UserError(
                f"{folder} holds other images, such as {Path(place, found[0])}, which would be mixed with the pictures "
                f"that are written there: give {flag} a folder of its own"
            )
        places += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
