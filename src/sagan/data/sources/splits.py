"""The parts of a data set that are kept apart for training and for testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sagan.data.sources.names import shared_folders
from sagan.system.errors import UserError
from sagan.system.sentences import plural

AUTO, ALL = "auto", "all"
_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}


def split_of(name: str) -> str:
    """The split that a folder or file of this name holds, such as "valid" for ``val``; "" for any other name."""
    return _SPLIT_OF.get(name.lower(), "")


def split_of_file(name: str) -> str:
    """The split of a file whose name begins with one, such as ``train-00000-of-00008.parquet``; "" for others."""
    word = name.lower()
    for number, letter in enumerate(word):
        if not letter.isalpha():
            word = word[:number]
            break
    return split_of(word)


def split_level(paths: Sequence[str]) -> int | None:
    """The level of the folder of each path (separated by slashes) that is its split; None where there are no splits: at
    least two folders at the outermost level that the paths do not share, each of which is named like one."""
    level = len(shared_folders(paths))
    found = set()
    for path in paths:
        parts = path.split("/", level + 1)
        if len(parts) < level + 2 or not split_of(parts[level]):
            return None
        found.add(split_of(parts[level]))
    return level if len(found) > 1 else None


def choose_splits(found: Mapping[str, int], asked: str, where: str, noun: str = "image") -> tuple[frozenset[str], str]:
    """The splits to take of those ``found``, by the number of their images (or of another ``noun``), and a sentence
    about the others, or "".

    ``asked``: the name of a split; "all"; or "auto", which is train where there is one, and else all. Raises UserError
    for a split that is not there.
    """
    wanted = split_of(asked) if asked not in (AUTO, ALL) else "train" * (asked == AUTO and "train" in found)
    if not wanted:
        return frozenset(found), ""
    if not found:
        raise UserError(f"{where} is not divided into splits such as train and test: leave out `split` {asked}")
    listed = {split: f"{split} ({plural(found[split], noun)})" for split in _NAMES if split in found}
    if wanted not in found:
        raise UserError(f"{where} has no split {asked}: it has {', '.join(listed.values())}; or give `split` all")
    others = [text for split, text in listed.items() if split != wanted]
    if asked != AUTO or not others:
        return frozenset([wanted]), ""
    sentence = f"of {where} the split {listed[wanted]} is taken; there is also {', '.join(others)}: give `split` "
    return frozenset([wanted]), f"{sentence}{' or '.join(split for split in listed if split != wanted)}, or all"
