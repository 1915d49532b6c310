"""CIFAR-10 and CIFAR-100 in their binary version."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from sagan.data.sources.classes import checked_label
from sagan.data.sources.packed import Block, Labels, PackedSource, joined, numbered, refuse_many_labels
from sagan.data.sources.shards import Files, in_order
from sagan.data.sources.source import PerProcess
from sagan.data.sources.splits import choose_splits
from sagan.data.sources.stream import Bytes, PlainBytes
from sagan.system.errors import UserError
from sagan.system.files import read_regular

_LARGEST_NAMES = 2**16  # bytes of the names of classes
_CIFAR = re.compile(r"(?P<split>data_batch_[1-9][0-9]*|test_batch|train|test)\.bin", re.IGNORECASE)
_PICKLED = re.compile(r"data_batch_[1-9]|test_batch|batches\.meta")
_SIDE, _PIXELS = 32, 32 * 32 * 3


def is_cifar(name: str) -> bool:
    """Whether a file has the name of one of CIFAR's binary version."""
    return _CIFAR.fullmatch(name.rpartition("/")[2]) is not None


def refuse_pickles(place: Path, names: Collection[str]) -> None:
    """Raises UserError for CIFAR's version for Python, whose files are programs."""
    found = {name.rpartition("/")[2] for name in names}
    if any(map(_PICKLED.fullmatch, found)) or {"train", "test", "meta"} <= found:
        raise UserError(
            f"{place} holds CIFAR's version for Python, pickles, which are never opened: download the binary version "
            "(cifar-10-binary.tar.gz or cifar-100-binary.tar.gz) and unpack it"
        )


def open_cifar(place: Path, files: Files, split: str) -> PackedSource:
    """The images of CIFAR-10 or CIFAR-100 in the binary version: a byte or two of labels, then three planes."""
    names = {}
    for name in in_order(files):
        word = name.rpartition("/")[2].lower()
        names[name] = "test" if word.startswith("test") else "train"
    hundred = any(name.rpartition("/")[2].lower() in ("train.bin", "test.bin") for name in names)
    record = _PIXELS + (2 if hundred else 1)
    blocks = {}
    for name in names:
        size = files[name].stat().st_size
        if not size or size % record:
            raise UserError(
                f"{files[name]} is cut short or not CIFAR's: it has {size:,} bytes, not {record:,} an image"
            )
        opened = PerProcess[Bytes](functools.partial(PlainBytes, files[name]))
        blocks[name] = Block(name, name, opened, 0, record, size // record, (_SIDE, _SIDE, 3), planar=True)
    counts: Counter[str] = Counter()
    for name, part in names.items():
        counts[part] += blocks[name].count
    taken, said = choose_splits(counts if len(counts) > 1 or split in counts else {}, split, str(place))
    chosen = [name for name, part in names.items() if not taken or part in taken]
    known = _cifar_classes(files[chosen[0]].parent / ("fine_label_names.txt" if hundred else "batches.meta.txt"))
    labels = [_cifar_labels(files[name], blocks[name], known) for name in chosen]
    picked = {name: files[name] for name in chosen}
    return PackedSource(place, picked, [blocks[name] for name in chosen], joined(labels), known, said)


def open_cifar_file(path: Path, split: str) -> PackedSource:
    """One file of CIFAR's."""
    choose_splits({}, split, str(path))
    return open_cifar(path, {path.name: path}, "all")


def _cifar_classes(path: Path) -> list[str]:
    """The names of the classes by number; none where there is no such file."""
    if not path.is_file():
        return []
    text = read_regular(path, _LARGEST_NAMES).decode(errors="replace")
    return [checked_label(line.strip(), str(path)) for line in text.splitlines() if line.strip()]


def _cifar_labels(path: Path, block: Block, known: Sequence[str]) -> Labels:
    """The labels, one image's after the other's: memory for all pixels at once is not needed."""
    refuse_many_labels(block.count, block.count, str(path))
    data, at = block.bytes.get(), block.stride - _PIXELS - 1
    values = np.frombuffer(b"".join(data.at(at + number * block.stride, 1) for number in range(block.count)), np.uint8)
    if known and values.max() >= len(known):
        raise UserError(f"{path} is damaged: it has the label {values.max()}, and there are {len(known)} classes")
    labels = numbered(values, str(path))
    return Labels(labels.numbers, [known[int(name)] for name in labels.names]) if known else labels
