"""A folder of image files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from sagan.data.sources.classes import classes_of
from sagan.data.sources.contents import digest_files, stamp
from sagan.data.sources.decode import decode
from sagan.data.sources.names import (
    COPIES,
    FORMATS,
    PACKED,
    digest,
    is_image,
    kind_of,
    plural,
    short_name,
    visible,
)
from sagan.data.sources.own import what_is_ours
from sagan.data.sources.source import Source, unseen
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError


class FolderSource(Source):
    """Every image file under ``root``, at any depth, sorted by relative path. Folders of images are classes: see
    ``class_level``; a ``dataset.json`` of StyleGAN directly in ``root`` says them instead.

    Left out, and named in the description: hidden files and folders, those that systems make (thumbnails, recycle
    bins), folders that hold a run, a sweep, prepared images or samples of this program, and any folder below ``root``
    named ``transformed_images*`` (name that folder itself to read it). Files that are no images are counted there.
    Raises UserError when nothing is left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        found = walk(root)
        if found.root_is:
            raise UserError(f"{root} holds {found.root_is} of sagan, not images to train on")
        self.dangling = {relative for relative, state in found.files.items() if state is None}
        stamps = {name: "" if state is None else stamp(state) for name, state in found.files.items() if is_image(name)}
        others = len(found.files) - len(stamps)
        if not stamps:
            raise UserError(no_images(root, others, found))
        self.paths = sorted(stamps)
        self.classes = classes_of(self.paths, _dataset_json(root, found), str(root / "dataset.json"))
        self.no_classes, self.remarks = self.classes.why_none, self.classes.remarks
        aside = f" ({plural(others, 'other file')} ignored)" if others else ""
        self.description = f"{plural(len(self.paths), kind_of(self.paths) + ' file')} under {root}{aside}"
        self.description += "".join(f" (left out {root / path}: {why})" for path, why in sorted(found.left_out.items()))
        self.signature = digest([os.path.realpath(root), *(f"{path} {stamps[path]}" for path in self.paths)])

    def identify(self, progress: Progress = unseen) -> str:
        files = [(path, None if path in self.dangling else self.root / path) for path in self.paths]
        return f"{short_name(self.root)}:{digest_files(files, self.classes.stated, progress)}"

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def read(self, index: int) -> Image.Image:
        path = self.root / self.paths[index]
        if self.paths[index] in self.dangling:
            raise UserError(f"{path} is a link to a file that is not there")
        return decode(path.read_bytes(), str(path), self.max_pixels)

    def class_of(self, index: int) -> str | None:
        return self.classes.of(index)


def _dataset_json(root: Path, found: Walk) -> bytes | None:
    return (root / "dataset.json").read_bytes() if found.files.get("dataset.json") else None


@dataclass
class Walk:
    """What is below a folder: every visible file by its relative path (slashes), None for a link to nothing; and the
    folders left out, with the reason."""

    files: dict[str, os.stat_result | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    root_is: str = ""  # what of this program the folder itself is


def walk(root: Path) -> Walk:
    """Links to folders are followed, but not into a folder that is being walked already. Raises OSError where a folder
    or a file that was listed cannot be reached."""
    found = Walk()
    _walk(root, "", (os.path.realpath(root),), found)
    return found


def _walk(folder: Path, prefix: str, above: tuple[str, ...], found: Walk) -> None:
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda e: e.name)
    ours = what_is_ours(entry.name for entry in entries)
    if ours and not prefix:
        found.root_is = ours if ours != "samples or figures" else ""  # which may be scored
    elif ours:
        found.left_out[prefix.rstrip("/")] = f"{ours} of sagan"
        return
    for entry in entries:
        relative = prefix + entry.name
        if not visible(PurePosixPath(entry.name)):
            if entry.is_dir() and not entry.name.startswith("."):
                found.left_out[relative] = "made by the system"
        elif entry.is_dir():
            real = os.path.realpath(entry.path)
            if entry.name.startswith(COPIES):
                found.left_out[relative] = "copies made by the published program"
            elif real not in above:
                _walk(Path(entry.path), f"{relative}/", (*above, real), found)
        elif entry.is_file():  # not a pipe or a device
            found.files[relative] = entry.stat()
        elif entry.is_symlink() and not Path(entry.path).exists():
            found.files[relative] = None


def no_images(root: Path, others: int, walked: Walk) -> str:
    found = f"found {plural(others, 'other file')}" if others else "found no files at all"
    hint = "".join(
        f", and left out {root / path} ({why}; name that folder itself to read it)"
        for path, why in sorted(walked.left_out.items())[:1]
    )
    packed = [p for p in sorted(root.iterdir()) if p.suffix.lower() in PACKED or (p / "data.mdb").is_file()]
    if packed:
        hint += f"; to read {packed[0]}, name it itself"
    return f"no images found under {root}: looked for {', '.join(FORMATS)}; {found}{hint}"
