"""Files that hold many images each: which belong together, and whether they are the same as before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagan.data.sources.contents import file_stamp, hash_files, refuse_changed
from sagan.data.sources.names import digest, natural, short_name
from sagan.data.sources.source import Source, unseen
from sagan.data.sources.splits import choose_splits, split_of, split_of_file
from sagan.system.callbacks import Progress

Files = Mapping[str, Path]
"""Files by their name within the place that was given, which is "" for that place itself."""


class ShardsSource(Source):
    """Images of several files, in the order of these. ``lines``: what else tells which images they are."""

    def __init__(self, place: Path, files: Files, lines: Sequence[str] = ()) -> None:
        self.place, self.files = place, files
        self.stamps = {name: file_stamp(path) for name, path in files.items()}
        self.mark(lines)

    def mark(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.signature = digest([*(f"{name} {stamp}" for name, stamp in self.stamps.items()), *lines])

    def identify(self, progress: Progress = unseen) -> str:
        found = hash_files(list(self.files.items()), progress)
        for name in self.files:
            self.refuse_changed(name)
        assert self.place is not None
        return f"{short_name(self.place)}:{digest([*found, *self.lines])}"

    def refuse_changed(self, name: str) -> None:
        """Raises OSError if a file is no longer the one that was opened."""
        refuse_changed(self.files[name], self.stamps[name])


def in_order(files: Files) -> dict[str, Path]:
    return {name: files[name] for name in sorted(files, key=natural)}


def pick_shards(files: Files, split: str, where: str) -> tuple[dict[str, Path], str]:
    """The files of a split, in natural order, and a sentence about the others, or "". A file's name begins with its
    split, or it lies in a folder of this name; unless all do, there are no splits."""
    splits = {name: split_of_shard(name) for name in files}
    counts = Counter(splits.values())
    taken, said = choose_splits({} if "" in counts else counts, split, where, "file")
    return in_order({name: path for name, path in files.items() if not taken or splits[name] in taken}), said


def split_of_shard(name: str) -> str:
    """The split that the name of a file, or of a folder that it is in, tells; "" for none."""
    *folders, file = name.split("/")
    return split_of_file(file) or next(filter(None, map(split_of, reversed(folders))), "")
