"""Image data sets in parquet, as hubs have them: encoded images in a column, and perhaps their classes in another."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sagan.data.sources.classes import checked_label
from sagan.data.sources.decode import FILES, MAX_BYTES, decode
from sagan.data.sources.packed import Labels, joined, numbered, refuse_many_labels
from sagan.data.sources.room import hold
from sagan.data.sources.shards import Files, ShardsSource, pick_shards, split_of_shard
from sagan.data.sources.source import PerProcess
from sagan.data.sources.splits import choose_splits
from sagan.system.errors import UserError, is_of_the_machine
from sagan.system.files import open_regular
from sagan.system.sentences import plural
from sagan.system.typed import shorten

_IMAGES = ("image", "img", "images", "jpg", "png", "picture", "bytes")
_LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "y")
_LARGEST_GROUP = 2**30  # bytes of the images of a row group, which is read as a whole
_LARGEST_FOOTER = 2**26  # bytes, and items, of what describes a file
_LONGEST_REASON = 200  # characters of what pyarrow says
_KEPT = 2  # row groups: threads are at the end of one and at the beginning of the next


class ParquetSource(ShardsSource):
    """The images of one parquet file, or of several in natural order of names, row by row.

    An image is encoded, in a column of bytes or of ``{bytes, path}``. The classes are those of a column of whole
    numbers or text; the names of numbers are taken from the metadata that hubs' data sets have. Needs the ``pyarrow``
    package (``pip install 'sagan-attention[parquet]'``, UserError without it). One row group is in memory at a time, or
    two.
    """

    def __init__(self, place: Path, files: Files, split: str) -> None:
        named = len(files) > 1 or any(map(split_of_shard, files))
        chosen, said = pick_shards(files, split, str(place)) if named else (dict(files), "")
        if not named:
            choose_splits({}, split, str(place))
        super().__init__(place, chosen)
        self.keys, self.remarks = list(chosen), (said,) if said else ()
        self.shards = [Shard(path) for path in chosen.values()]
        self.ends = list(itertools.accumulate(shard.count for shard in self.shards))
        if not self.ends[-1]:
            raise UserError(f"no images found in {place}: it has no rows")
        self.labels = joined([shard.labels() for shard in self.shards])
        self.no_classes = "" if self.labels.numbers is not None else self.labels.why_none
        packs = f" in {plural(len(chosen), 'parquet file')}" if len(chosen) > 1 else ""
        self.description = f"{plural(len(self), 'image')}{packs} in {place}"

    def __len__(self) -> int:
        return self.ends[-1]

    def _find(self, index: int) -> tuple[int, int]:
        number = bisect.bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    def name(self, index: int) -> str:
        return f"{self.place}: {self.name_within(index)}"

    def name_within(self, index: int) -> str:
        number, row = self._find(index)
        return f"{self.keys[number]} row {row}".lstrip()

    def read(self, index: int) -> Image.Image:
        number, row = self._find(index)
        try:
            data = self.shards[number].image_bytes(row)
            if len(data) > MAX_BYTES:
                raise UserError(f"it has {len(data):,} bytes, more than {MAX_BYTES:,}")
        except UserError as error:
            self.refuse_changed(self.keys[number])
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        hold(FILES, len(data))
        return decode(data, self.name(index), self.max_pixels)

    def class_of(self, index: int) -> str | None:
        numbers = self.labels.numbers
        return None if numbers is None else self.labels.names[numbers[index]]


@dataclass
class _Opened:
    """A file of pyarrow's, and its last row groups."""

    file: Any
    groups: dict[int, Any]


class Shard:
    """One parquet file: which columns hold the images and their labels, and where its row groups end."""

    def __init__(self, path: Path) -> None:
        self.path, self.opened = path, PerProcess(functools.partial(_open, path))
        with _explained(path):
            file = self.opened.get().file
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            schema = file.schema_arrow
            features = _features(schema.metadata or {})
            kinds = {name: str(feature.get("_type")) for name, feature in features.items()}
            self.image = _image_column(schema, kinds, path)
            self.label = _label_column(schema, kinds, self.image)
            self.class_names = _class_names(features.get(self.label or "", {}), path)
            sizes = [_bytes_of(group, self.image) for group in groups]
        size = path.stat().st_size
        self.ends = list(itertools.accumulate(group.num_rows for group in groups))
        self.count = self.ends[-1] if self.ends else 0
        if any(not 0 <= group.num_rows <= size for group in groups):
            raise UserError(f"{path} is damaged: it says that it has more rows than bytes")
        if sizes and max(sizes) > _LARGEST_GROUP:
            raise UserError(
                f"{path} has a row group with {max(sizes):,} bytes of images, and at most {_LARGEST_GROUP:,} are read "
                "at once: write it with a smaller row_group_size"
            )

    def image_bytes(self, row: int) -> bytes:
        """The encoded image in a row."""
        number = bisect.bisect_right(self.ends, row)
        opened = self.opened.get()
        with self.opened.lock:
            if number not in opened.groups:
                while len(opened.groups) >= _KEPT:
                    opened.groups.pop(next(iter(opened.groups)))
                with _explained(self.path):
                    table = opened.file.read_row_group(number, columns=[self.image], use_threads=False)
                    opened.groups[number] = table.column(0)
            column = opened.groups[number]
        with _explained(self.path):
            value = column[row - (self.ends[number - 1] if number else 0)].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            only = f", only a path ({shorten(value['path'])})" if isinstance(value, dict) and value.get("path") else ""
            raise UserError(f"the row holds no image{only}")
        return data

    def labels(self) -> Labels:
        """The class of each image, read without the images."""
        if self.label is None:
            return Labels(None, why_none=f"{self.path} has no column of labels, such as label")
        refuse_many_labels(self.count, 0, str(self.path))
        where, found = f"{self.path}, column {self.label},", list[npt.NDArray[Any]]()
        file = self.opened.get().file
        for number in range(len(self.ends)):
            with _explained(self.path):
                column = file.read_row_group(number, columns=[self.label], use_threads=False).column(0)
                if column.null_count:
                    return Labels(None, why_none=f"{where} has no label for some images")
                values = _values(column, where)
            if values is None:
                return Labels(None, why_none=f"{where} holds {column.type}, not a class for each image")
            if len(values) != self.ends[number] - (self.ends[number - 1] if number else 0):
                raise UserError(f"{where} is damaged: it has {len(values):,} labels in row group {number}")
            found.append(values)
        labels = numbered(np.concatenate(found), where) if found else Labels(np.zeros(0, np.int64))
        if not self.class_names or labels.numbers is None:
            return labels
        if "-1" in labels.names:
            return Labels(None, why_none=f"{where} has no label for some images")
        unknown = [name for name in labels.names if not name.isdecimal() or int(name) >= len(self.class_names)]
        if unknown:
            raise UserError(f"{where} has the label {unknown[0]}, and names for {len(self.class_names)} classes")
        return Labels(labels.numbers, [self.class_names[int(name)] for name in labels.names])


def _open(path: Path) -> _Opened:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError(f"reading {path} needs the pyarrow package: pip install 'sagan-attention[parquet]'") from error
    opened = open_regular(path)
    limits = {"thrift_string_size_limit": _LARGEST_FOOTER, "thrift_container_size_limit": _LARGEST_FOOTER}
    with _explained(path):
        file = pyarrow.parquet.ParquetFile(opened, **limits)
    weakref.finalize(file, opened.close)
    return _Opened(file, {})


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What pyarrow says about damage as a UserError; it raises nearly anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_of_the_machine(error):
            raise
        reason = str(error).partition("\n")[0][:_LONGEST_REASON] or type(error).__name__
        raise UserError(f"{path} cannot be read as parquet, it is damaged ({reason}): download it again") from error


def _features(metadata: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """What the hub's library noted about the columns, by name; nothing where that is damaged."""
    try:
        found = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def _class_names(feature: dict[str, Any], path: Path) -> list[str]:
    names = feature.get("names")
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        return []
    return [checked_label(str(name), str(path)) for name in names]


def _image_column(schema: Any, kinds: dict[str, str], path: Path) -> str:
    """The column of encoded images: the one that is said to be, or of a known name, or the only one of bytes."""
    suited = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
    stated = [name for name in suited if kinds.get(name) == "Image"]
    known = [name for name in _IMAGES if name in suited]
    for names in (stated, known, suited if len(suited) == 1 else []):
        if names:
            return names[0]
    raise UserError(
        f"{path} has no column of images: looked for {', '.join(_IMAGES)}, of bytes or of bytes and path, and found "
        f"{shorten(', '.join(schema.names))}"
    )


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(schema: Any, kinds: dict[str, str], image: str) -> str | None:
    """The column of labels: of a known name, or the only one that is said to hold classes."""
    stated = [name for name in schema.names if kinds.get(name) == "ClassLabel"]
    known = [name for name in _LABELS if name in schema.names and name != image]
    return known[0] if known else stated[0] if len(stated) == 1 else None


def _values(column: Any, where: str) -> npt.NDArray[Any] | None:
    """A column of whole numbers or text as an array; None for anything else."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_integer(kind) or types.is_boolean(kind):
        return np.asarray(column.cast(pyarrow.int64()).to_numpy())
    if types.is_string(kind) or types.is_large_string(kind):
        texts = column.to_pylist()
        checked_label(max(texts, key=len, default=""), where)  # an array has room for the longest, in each row
        return np.array(texts, dtype=np.str_)
    return None


def _bytes_of(group: Any, column: str) -> int:
    """The bytes of a column in a row group, as its description says."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)
