"""What follows from the names of files in any container: which are images, of which split and class, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sagan.data.sources.classes import Classes, classes_of, labels_files, largest_labels, not_above
from sagan.data.sources.names import is_image, natural
from sagan.data.sources.splits import ALL, AUTO, choose_splits, split_level, split_of

NATURAL = "natural order"


@dataclass(frozen=True)
class Arranged:
    """The images of a container by name, in natural order, and their classes. ``mark``: a line for its identity where
    these are other images than earlier versions took, or in another order; else ""."""

    names: list[str]
    classes: Classes
    remarks: tuple[str, ...] = ()
    mark: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """What an identity holds beside names and contents of the images."""
        return (*self.classes.stated, *([self.mark] if self.mark else []))

    def stated_before(self) -> list[tuple[str, str]]:
        """Of each image its name and its line of ``classes.stated``, if any, in the order of earlier versions."""
        stated = self.classes.stated or [""] * len(self.names)
        return sorted(zip(self.names, stated, strict=True))


def arrange(
    files: Collection[str], where: str, split: str, read: Callable[[str, int], bytes], place: Callable[[str], str]
) -> Arranged:
    """The images among files, by their relative paths (with slashes); of none, no names.

    ``where``: the container, and ``place(file)`` a file in it, for sentences. ``read(file, most)``: the bytes of a file
    of labels, at most so many. Raises UserError for a split that is not there, and for labels that cannot be taken.
    """
    everything = sorted(filter(is_image, files))
    if not everything:
        return Arranged([], Classes(None))
    level, said = split_level(everything), ""
    names = bare = sorted(everything, key=natural)
    marks = [NATURAL] if names != everything else []
    if level is not None:
        counts = Counter(split_of(name.split("/")[level]) for name in names)
        taken, said = choose_splits(counts, split, where)
        names = [name for name in names if split_of(name.split("/")[level]) in taken]
        bare = [_without(name, level) for name in names]
        marks += [f"split {each}" for each in sorted(taken) if taken != counts.keys()]
    elif split not in (AUTO, ALL):
        choose_splits({}, split, where)
    file, unread = labels_files(files, names)
    content = None if file is None else read(file, largest_labels(len(names)))
    classes = classes_of(names, bare, file or "", content, "" if file is None else place(file))
    return Arranged(names, classes, (*([said] if said else []), *classes.remarks, *not_above(unread)), ", ".join(marks))


def _without(path: str, level: int) -> str:
    parts = path.split("/")
    return "/".join(parts[:level] + parts[level + 1 :])
