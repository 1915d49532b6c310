"""Which class an image is of: by its folder, or by a file of labels, StyleGAN's ``dataset.json`` or a table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sagan.data.sources.names import class_level, doubtful_classes, shared_folders
from sagan.system.errors import UserError
from sagan.system.typed import shorten

LARGEST_LABELS = 2**26  # bytes of dataset.json
_LABEL = 1024  # of these for each image
_LONGEST_LABEL = 255  # characters, as in the name of a folder


def largest_labels(count: int) -> int:
    """The bytes that a dataset.json for so many images may have, as reading it takes some fifty times its size."""
    return min(LARGEST_LABELS, 2**17 + _LABEL * count)


@dataclass(frozen=True)
class Classes:
    """The class of each image by its number, None where there are no classes; then ``why_none`` says why.

    ``stated``: lines that say the classes where the images' names do not. ``remarks``: sentences for a person.
    """

    names: tuple[str, ...] | None
    why_none: str = ""
    stated: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def of(self, index: int) -> str | None:
        return None if self.names is None else self.names[index]


LABELS = ("dataset.json", "labels.csv")


def labels_files(files: Iterable[str], images: Sequence[str]) -> tuple[str | None, list[str]]:
    """Of the files (relative paths with slashes) that of labels in a folder that holds all images, the outermost of
    several, and the others, which no class can be taken from."""
    shared = shared_folders(images)
    found = sorted((file for file in files if file.rpartition("/")[2].lower() in LABELS), key=_outermost)
    above = [file for file in found if file.split("/")[:-1] == shared[: file.count("/")]]
    return (above[0] if above else None), [file for file in found if file not in above[:1]]


def not_above(files: Sequence[str]) -> tuple[str, ...]:
    """Sentences about labels that are not read."""
    more = f" and {len(files) - 1:,} more are" if len(files) > 1 else " is"
    return (f"{files[0]}{more} not read: its folder does not hold all images",) if files else ()


def _outermost(file: str) -> tuple[int, int, bool, str]:
    name = file.rpartition("/")[2]
    return file.count("/"), LABELS.index(name.lower()), name not in LABELS, file


def classes_of(
    paths: Sequence[str], bare: Sequence[str], file: str = "", content: bytes | None = None, where: str = ""
) -> Classes:
    """The classes of images with these relative paths (slashes): by a ``file`` of labels in a folder above them, which
    sentences call ``where``, or else by their folders; ``bare``: their paths without the folders of splits.

    Raises UserError where that file does not name each image's label."""
    remarks: tuple[str, ...] = ()
    if content is not None:
        below = [path.removeprefix(file[: file.rfind("/") + 1]) for path in paths]
        stylegan = file.lower().endswith(LABELS[0])
        labels = _stylegan_labels(content, where) if stylegan else _table_labels(content, where)
        if labels is not None:
            return _stated(below, labels, where)
        if not stylegan:
            remarks = (f"{where} is not read: its first line must be file,label, or file and a name for each label",)
    level, why_none = class_level(bare)
    if level is None or is_chunked(bare, level):
        why_none = why_none or "its folders are numbered parts of one set, not classes"
        return Classes(None, why_none, remarks=remarks)
    known: dict[str, str] = {}  # one text for each class, not for each image
    names = tuple(known.setdefault(name := path.split("/")[level], name) for path in bare)
    doubt = doubtful_classes(known)
    return Classes(names, remarks=(*remarks, doubt) if doubt else remarks)


Labels = dict[str, str]  # the class of each image, by its path from the folder of the file


def _stylegan_labels(data: bytes, where: str) -> Labels | None:
    """The ``labels`` of a dataset.json, empty for null; None where the file is of another kind."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}): correct it, or move it away") from None
    if not isinstance(content, dict) or "labels" not in content:
        return None
    labels = content["labels"]
    if not isinstance(labels, list | None):
        raise UserError(f"labels in {where} must be a list of names and numbers, got {shorten(labels)}")
    found: Labels = {}
    for entry in labels or ():
        match entry:
            case [str(name), int(number)] if not isinstance(number, bool):
                found[name.replace("\\", "/")] = str(number)
            case _:
                raise UserError(
                    f"each entry of labels in {where} must be an image's name and its class's number, "
                    f"got {shorten(entry)}; classes of another kind are not read: move {where} away to use the folders"
                )
    return found


_FILE = {"file", "filename", "file_name", "image", "path", "name"}
_LABEL_OF = {"label", "class"}


def _table_labels(data: bytes, where: str) -> Labels | None:
    """The labels of a CSV whose lines are an image and its class or, in a column for each class, 0 or 1; None where
    its first line says that it is of another kind."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not text in UTF-8 ({error}): save it so, or move it away") from None
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        head = [name.strip() for name in next(rows, [])]
        if len(head) < 2 or head[0].lower() not in _FILE:
            return None
        one = len(head) == 2 and head[1].lower() in _LABEL_OF
        if not one and len(set(head)) < len(head):
            raise UserError(f"the first line of {where} names a label twice: correct it, or move it away")
        found: Labels = {}
        for row in rows:
            if row:
                found[row[0].strip().replace("\\", "/").removeprefix("./")] = _row_label(row, head, one, where)
        return found
    except csv.Error as error:
        raise UserError(
            f"line {rows.line_num} of {where} cannot be read ({error}): correct it, or move it away"
        ) from None


def _row_label(row: list[str], head: list[str], one: bool, where: str) -> str:
    """The class in a line of a table."""
    cells = [cell.strip() for cell in row]
    if len(cells) != len(head):
        raise UserError(f"{where} has {len(cells)} cells for {shorten(row[0])}, and {len(head)} in its first line")
    if one:
        if not cells[1]:
            raise UserError(f"{where} has no label for {shorten(row[0])}: complete it, or move it away")
        return checked_label(cells[1], where)
    found = [name for name, cell in zip(head[1:], cells[1:], strict=True) if cell == "1"]
    if len(found) != 1 or any(cell not in ("0", "1") for cell in cells[1:]):
        raise UserError(
            f"{where} must have one 1 in the line of each image, and 0 for its other labels, got "
            f"{shorten(','.join(row))}: images of several labels have no class; move it away to use the folders"
        )
    return checked_label(found[0], where)


def checked_label(label: str, where: str) -> str:
    """A label from a file. Raises UserError for one that cannot name a class: records keep text, on one line."""
    if len(label) > _LONGEST_LABEL:
        raise UserError(f"{where} has a label of {len(label):,} characters, more than the {_LONGEST_LABEL} of a class")
    if "\0" in label or any("\ud800" <= letter <= "\udfff" for letter in label):
        raise UserError(f"{where} has the label {shorten(label)}, which is not text: correct it, or move it away")
    return label


def is_chunked(paths: Sequence[str], level: int) -> bool:
    """Whether the folders at this level only keep many files apart, as those of StyleGAN and FFHQ do: numbers of five
    digits, of which an image's number is the beginning, or the next multiple below."""
    for path in paths:
        *_, folder, name = path.split("/")
        number = "".join(filter(str.isdecimal, name.rpartition(".")[0]))
        chunk = re.fullmatch("[0-9]{5}", folder) is not None and path.count("/") == level + 1 and number.isascii()
        begins = len(number) == 8 and number.startswith(folder)
        multiple = len(number) == 5 and folder.endswith("000") and number[:2] == folder[:2]
        if not (chunk and (begins or multiple)):
            return False
    return True


def _stated(paths: Sequence[str], labels: Labels, where: str) -> Classes:
    if not labels:
        return Classes(None, f"{where} says that they have no labels")
    missing = [path for path in paths if path not in labels]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise UserError(f"{where} has no label for {missing[0]}{more}: complete it, or move it")
    names = tuple(labels[path] for path in paths)
    return Classes(names, stated=names)
