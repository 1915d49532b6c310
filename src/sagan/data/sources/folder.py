"""A folder of image files."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from sagan.data.sources.arrange import NATURAL, arrange
from sagan.data.sources.classes import LABELS
from sagan.data.sources.contents import hash_files, stamp
from sagan.data.sources.decode import FILES, MAX_BYTES, decode
from sagan.data.sources.names import (
    COPIES,
    FORMATS,
    PACKED,
    digest,
    is_image,
    kind_of,
    short_name,
    visible,
)
from sagan.data.sources.own import FIGURES, KNOWN, what_is_ours
from sagan.data.sources.room import hold
from sagan.data.sources.source import Source, unseen
from sagan.data.sources.splits import AUTO
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import is_of_the_system, is_regular, read_regular
from sagan.system.sentences import plural


class FolderSource(Source):
    """Every image file under ``root``, at any depth, in natural order of relative paths. Folders of images are classes:
    see ``class_level``; a ``dataset.json`` of StyleGAN or a ``labels.csv`` says them instead. Of folders that are
    splits, such as train and test, one is taken: see ``choose_splits``.

    Left out, and named in the description: hidden files and folders, those that systems make (thumbnails, recycle
    bins), folders that hold a run, a sweep, prepared images or samples of this program, and any folder below ``root``
    named ``transformed_images*`` (name that folder itself to read it). Files that are no images are counted there.
    Raises UserError when nothing is left.
    """

    def __init__(self, root: Path, split: str = AUTO, found: Walk | None = None) -> None:
        self.root = self.place = root
        found = walk(root) if found is None else found
        if found.root_is not in ("", FIGURES):
            raise UserError(f"{root} holds {found.root_is} of sagan, not images to train on")
        self.ours = found.root_is
        _refuse_gone(root, found)
        self.unusable = {relative: why for relative, state in found.files.items() if (why := _why_unusable(state))}
        others = sum(not is_image(name) for name in found.files)
        if others == len(found.files):
            raise UserError(no_images(root, others, found))
        self.arranged = arrange(
            found.files,
            str(root),
            split,
            read=lambda file, most: read_regular(root / file, most),
            place=lambda file: str(root / file),
        )
        self.paths, self.classes = self.arranged.names, self.arranged.classes
        self.no_classes, self.remarks = self.classes.why_none, self.arranged.remarks
        aside = f" ({plural(others, 'other file')} ignored)" if others else ""
        self.description = f"{plural(len(self.paths), kind_of(self.paths) + ' file')} under {root}{aside}"
        if found.special:
            self.description += f" (left out {len(found.special):,}: pipes, devices or files of the system, such as "
            self.description += f"{found.special[0]})"
        self.description += describe_left_out(root, found.left_out)
        stamps = {path: "" if (state := found.files[path]) is None else stamp(state) for path in self.paths}
        where, lines = os.path.realpath(root), [f"{path} {stamps[path]}" for path in self.paths]
        self.signature = digest([where, *lines, *self.arranged.lines])
        if self.arranged.mark == NATURAL:
            before = self.arranged.stated_before()
            lines = [f"{path} {stamps[path]}" for path, _ in before]
            self.former_signature = digest([where, *lines, *(line for _, line in before if line)])

    def identify(self, progress: Progress = unseen) -> str:
        files = [(path, None if path in self.unusable else self.root / path) for path in self.paths]
        lines = hash_files(files, progress)
        if self.arranged.mark == NATURAL:
            before, known = self.arranged.stated_before(), dict(zip(self.paths, lines, strict=True))
            stated = [line for _, line in before if line]
            self.former = (f"{short_name(self.root)}:{digest([*(known[path] for path, _ in before), *stated])}",)
        return f"{short_name(self.root)}:{digest([*lines, *self.arranged.lines])}"

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def name_within(self, index: int) -> str:
        return self.paths[index]

    def read(self, index: int) -> Image.Image:
        path = self.root / self.paths[index]
        if why := self.unusable.get(self.paths[index]):
            raise UserError(f"{path} {why}")
        hold(FILES, path.stat().st_size)
        return decode(read_regular(path, MAX_BYTES), str(path), self.max_pixels)

    def class_of(self, index: int) -> str | None:
        return self.classes.of(index)


def _why_unusable(state: os.stat_result | None) -> str:
    """Why a file is not read, whatever it holds; "" for others."""
    if state is None:
        return "is a link to a file that is not there"
    return f"cannot be read: it has {state.st_size:,} bytes, more than {MAX_BYTES:,}" * (state.st_size > MAX_BYTES)


_OURS = " of sagan"
_NAMED = 4  # folders that are left out for one reason and named each
_NOUNS = {
    f"{what}{_OURS}": noun
    for what, noun in {
        "a run": "run",
        "a sweep": "sweep",
        "prepared images": "store",
        FIGURES: "folder of samples or figures",
    }.items()
}
_LONE_LINKS = 10
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}")  # of files, which folders rarely have


def _refuse_gone(root: Path, found: Walk) -> None:
    """Raises UserError where links lead to nothing that were more than lone images: folders, labels, or many images,
    as when the disk that they are on is not there."""
    gone = [name for name, state in found.files.items() if state is None]
    images = [name for name in gone if is_image(name)]
    total = sum(map(is_image, found.files))
    if len(images) > 1 and (len(images) > _LONE_LINKS or 2 * len(images) >= total):
        raise UserError(
            f"{len(images):,} of the {plural(total, 'image')} under {root} are links to files that are not there, the "
            f"first {images[0]}: bring those files back, or remove the links"
        )
    for name in gone:
        path = PurePosixPath(name)
        needed = _SUFFIX.fullmatch(path.suffix) is None or path.name.lower() in LABELS
        if not is_image(name) and needed and not _is_loop(root / name):
            raise UserError(
                f"{root / name} is a link to something that is not there: bring it back, or remove the link"
            )


def _is_loop(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@dataclass
class Walk:
    """What is below a folder: every visible file by its relative path (slashes), None for a link to nothing; the
    images' names that are no files on a disk; and the folders left out, with the reason."""

    files: dict[str, os.stat_result | None] = field(default_factory=dict)
    special: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    root_is: str = ""  # what of this program the folder itself is


def walk(root: Path) -> Walk:
    """What is below a folder. Raises OSError if a folder or a file that was listed cannot be reached.

    A folder is walked once: links to folders come last, and only those are followed that lead somewhere new. Pipes,
    devices and what the system shows as files (/proc) are left out. Folders may be nested to any depth.
    """
    found, links, walked = Walk(), list[tuple[str, str]](), {os.path.realpath(root)}
    _walk(str(root), "", found, links, walked)
    for folder, relative in links:  # grows meanwhile
        real = os.path.realpath(folder)
        if real not in walked:
            walked.add(real)
            _walk(folder, f"{relative}/", found, links, walked)
    return found


def _walk(start: str, prefix: str, found: Walk, links: list[tuple[str, str]], walked: set[str]) -> None:
    stack = [(os.path.realpath(start), prefix, _entries(start, prefix, found))]
    while stack:
        real, prefix, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        relative = prefix + entry.name
        try:
            state = _state(entry)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            found.left_out[f"{relative[:60]}..."] = "the path of what is in it is too long for this system"
            continue
        is_folder = state is not None and stat.S_ISDIR(state.st_mode)
        if not visible(PurePosixPath(entry.name)):
            if is_folder and not entry.name.startswith("."):
                found.left_out[relative] = "made by the system"
        elif is_folder and state is not None and is_of_the_system(state):
            found.special.append(relative)
        elif is_folder and entry.name.startswith(COPIES):
            found.left_out[relative] = "copies made by the published program"
        elif is_folder and entry.is_symlink():
            links.append((entry.path, relative))
        elif is_folder:
            below = os.path.join(real, entry.name)  # noqa: PTH118 - its real path: it is no link
            if below not in walked:
                walked.add(below)
                stack.append((below, f"{relative}/", _entries(entry.path, f"{relative}/", found)))
        elif state is None or is_regular(state):
            found.files[relative] = state
        elif is_image(entry.name):
            found.special.append(relative)


def _entries(folder: str, prefix: str, found: Walk) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, by name; nothing where the folder is one of ours, which is noted."""
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    ours = what_is_ours(entry.name for entry in entries)
    if ours and not prefix:
        found.root_is = ours
    elif ours:
        found.left_out[prefix.rstrip("/")] = f"{ours}{_OURS}"
        return iter(())
    return iter(entries)


def _state(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What an entry or the target of a link is; None for a link to nothing or to itself."""
    try:
        return entry.stat()
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise


def describe_left_out(root: Path, left_out: Mapping[str, str]) -> str:
    """What was left out, in brackets: each folder with the reason or, where a reason is that of many or of several
    of ours, their number."""
    reasons: dict[str, list[str]] = {}
    for path, why in sorted(left_out.items()):
        reasons.setdefault(why, []).append(path)
    reasons.pop(f"{KNOWN}{_OURS}", None)
    own = {_NOUNS[why]: len(paths) for why, paths in reasons.items() if why in _NOUNS}
    text = ""
    if sum(own.values()) > 1:
        *first, last = [plural(count, noun) for noun, count in own.items()]
        text = f" (left out {', '.join(first)}{' and ' * bool(first)}{last} of sagan)"
        reasons = {why: paths for why, paths in reasons.items() if why not in _NOUNS}
    for why, paths in reasons.items():
        few = [f"{root / path}" for path in paths] if len(paths) <= _NAMED else []
        for what in few or [f"{len(paths):,} folders, such as {root / paths[0]}"]:
            text += f" (left out {what}: {why})"
    return text


def no_images(root: Path, others: int, walked: Walk) -> str:
    found = f"found {plural(others, 'other file')}" if others else "found no files at all"
    hint = "".join(
        f", and left out {root / path} ({why}{'' if why.endswith(_OURS) else '; name that folder itself to read it'})"
        for path, why in sorted(walked.left_out.items())[:1]
    )
    packed = [p for p in sorted(root.iterdir()) if p.suffix.lower() in PACKED or (p / "data.mdb").is_file()]
    if packed:
        hint += f"; to read {packed[0]}, name it itself"
    return f"no images found under {root}: looked for {', '.join(FORMATS)}; {found}{hint}"
