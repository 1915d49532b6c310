"""Which class an image is of: by its folder, or by the labels of a StyleGAN data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sagan.data.sources.names import class_level, doubtful_classes, shared_folders
from sagan.system.errors import UserError
from sagan.system.typed import shorten

LARGEST_LABELS = 2**26  # bytes of dataset.json
_LABEL = 1024  # of these for each image


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


def labels_files(files: Iterable[str], images: Sequence[str]) -> tuple[str | None, list[str]]:
    """Of the files (relative paths with slashes) the ``dataset.json`` in a folder that holds all images, the outermost
    of several, and the others of that name, which no class can be taken from."""
    shared = shared_folders(images)
    found = sorted((file for file in files if file.rpartition("/")[2].lower() == "dataset.json"), key=_outermost)
    above = [file for file in found if file.split("/")[:-1] == shared[: file.count("/")]]
    return (above[0] if above else None), [file for file in found if file not in above[:1]]


def labels_folder(file: str | None) -> str:
    """The folder of a file, ending in a slash, or ""."""
    return "" if file is None else file[: file.rfind("/") + 1]


def not_above(files: Sequence[str]) -> tuple[str, ...]:
    """Sentences about labels that are not read."""
    more = f" and {len(files) - 1:,} more are" if len(files) > 1 else " is"
    return (f"{files[0]}{more} not read: its folder does not hold all images",) if files else ()


def _outermost(file: str) -> tuple[int, bool, str]:
    return file.count("/"), not file.endswith("dataset.json"), file


def classes_of(paths: Sequence[str], dataset_json: bytes | None, where: str, folder: str = "") -> Classes:
    """The classes of images with these relative paths (slashes), and perhaps a StyleGAN ``dataset.json``, found
    ``where``, in a ``folder`` above them. Raises UserError where that file does not name each image's label."""
    if dataset_json is not None and (labels := _stylegan_labels(dataset_json, where)) is not None:
        return _stated([path.removeprefix(folder) for path in paths], labels, where)
    level, why_none = class_level(paths)
    if level is None:
        return Classes(None, why_none)
    names = tuple(path.split("/")[level] for path in paths)
    doubt = doubtful_classes(set(names))
    return Classes(names, remarks=(doubt,) if doubt else ())


def _stylegan_labels(data: bytes, where: str) -> list[object] | None:
    """The list of ``labels``, empty for null; None where the file is of another kind."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}): correct it, or move it away") from None
    if not isinstance(content, dict) or "labels" not in content:
        return None
    labels = content["labels"]
    if not isinstance(labels, list | None):
        raise UserError(f"labels in {where} must be a list of names and numbers, got {shorten(labels)}")
    return labels or []


def _stated(paths: Sequence[str], labels: list[object], where: str) -> Classes:
    if not labels:
        return Classes(None, f"{where} says that they have no labels")
    numbers: dict[str, int] = {}
    for entry in labels:
        match entry:
            case [str(name), int(number)] if not isinstance(number, bool):
                numbers[name.replace("\\", "/")] = number
            case _:
                raise UserError(
                    f"each entry of labels in {where} must be an image's name and its class's number, "
                    f"got {shorten(entry)}; classes of another kind are not read: move {where} away to use the folders"
                )
    missing = [path for path in paths if path not in numbers]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise UserError(f"{where} has no label for {missing[0]}{more}: complete it, or move it")
    names = tuple(str(numbers[path]) for path in paths)
    return Classes(names, stated=names)
