"""Which class an image is of: by its folder, or by the labels of a StyleGAN data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sagan.data.sources.names import class_level, doubtful_classes
from sagan.system.errors import UserError
from sagan.system.typed import shorten

LARGEST_LABELS = 2**28  # bytes of dataset.json


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


def classes_of(paths: Sequence[str], dataset_json: bytes | None, where: str) -> Classes:
    """The classes of images with these relative paths (slashes), and perhaps a StyleGAN ``dataset.json`` beside them,
    found ``where``. Raises UserError where that file does not name each image's label."""
    if dataset_json is not None and (labels := _stylegan_labels(dataset_json, where)) is not None:
        return _stated(paths, labels, where)
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
        raise UserError(f"{where} has no label for {missing[0]} and {len(missing) - 1:,} more: complete it, or move it")
    names = tuple(str(numbers[path]) for path in paths)
    return Classes(names, stated=names)
