"""Pixels without a format of their own, one image after another in a file, and the numbers of their classes."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sagan.data.sources.classes import checked_label
from sagan.data.sources.decode import refuse_too_large, to_rgb
from sagan.data.sources.remarks import decoding
from sagan.data.sources.shards import Files, ShardsSource
from sagan.data.sources.source import PerProcess
from sagan.data.sources.stream import Bytes
from sagan.system.errors import UserError
from sagan.system.sentences import plural

_MOST_LABELS, _LARGEST_LABELS = 2**24, 2**27  # of one set: images, and bytes


@dataclass(frozen=True)
class Block:
    """Images one after another: ``count``, each of ``stride`` bytes, the last of which are its pixels of ``shape``
    (height, width, channels), or with the channels first if ``planar``."""

    file: str
    name: str  # for sentences
    bytes: PerProcess[Bytes]
    start: int
    stride: int
    count: int
    shape: tuple[int, int, int]
    planar: bool = False


@dataclass(frozen=True)
class Labels:
    """The class of each image: an index into ``names``; or None, and why."""

    numbers: npt.NDArray[np.int64] | None
    names: Sequence[str] = ()
    why_none: str = "it has no labels"


class PackedSource(ShardsSource):
    """The images of blocks, one block after another. ``said``: what a person is told about others, or ""."""

    def __init__(
        self, place: Path, files: Files, blocks: Sequence[Block], labels: Labels, lines: Sequence[str], said: str
    ) -> None:
        super().__init__(place, files, lines)
        self.blocks, self.labels = blocks, labels
        self.ends = list(itertools.accumulate(block.count for block in blocks))
        self.no_classes = "" if labels.numbers is not None else labels.why_none
        self.remarks = (said,) if said else ()
        height, width, _ = blocks[0].shape
        sizes = f"of {height}x{width} " if len({block.shape for block in blocks}) == 1 else ""
        self.description = f"{plural(self.ends[-1], 'image')} {sizes}in {place}"

    def __len__(self) -> int:
        return self.ends[-1]

    def name(self, index: int) -> str:
        return f"{self.place}: {self.name_within(index)}"

    def name_within(self, index: int) -> str:
        block, place = self._find(index)
        return f"{block.name}[{place}]"

    def _find(self, index: int) -> tuple[Block, int]:
        number = bisect.bisect_right(self.ends, index)
        return self.blocks[number], index - (self.ends[number - 1] if number else 0)

    def read(self, index: int) -> Image.Image:
        block, place = self._find(index)
        (height, width, channels), size = block.shape, math.prod(block.shape)
        try:
            refuse_too_large(width, height, self.max_pixels)
            data = block.bytes.get().at(block.start + (place + 1) * block.stride - size, size)
        except UserError as error:
            self.refuse_changed(block.file)
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        pixels = np.frombuffer(data, np.uint8)
        if block.planar:
            pixels = np.ascontiguousarray(pixels.reshape(channels, height, width).transpose(1, 2, 0))
        pixels = pixels.reshape((height, width, channels) if channels > 1 else (height, width))
        with decoding(self.name(index)):
            return to_rgb(Image.fromarray(pixels))

    def class_of(self, index: int) -> str | None:
        numbers = self.labels.numbers
        return None if numbers is None else self.labels.names[numbers[index]]


def joined(labels: Sequence[Labels]) -> Labels:
    """The labels of several blocks, which number the same classes; none where one block has none."""
    numbers = [each.numbers for each in labels if each.numbers is not None]
    if len(numbers) < len(labels):
        return next(each for each in labels if each.numbers is None)
    names = {name: number for number, name in enumerate(dict.fromkeys(name for each in labels for name in each.names))}
    known = [np.array([names[name] for name in each.names], np.int64) for each in labels]
    return Labels(np.concatenate([as_one[own] for as_one, own in zip(known, numbers, strict=True)]), tuple(names))


def numbered(values: npt.NDArray[Any], where: str) -> Labels:
    """Classes by the values of an array of one number or text for each image."""
    found, numbers = np.unique(values, return_inverse=True)
    try:
        names = tuple(checked_label(str(name), where) for name in found)
    except (ValueError, SystemError) as error:  # numpy's, of numbers that are no characters
        raise UserError(f"{where} holds labels that are not text: {error}") from error
    return Labels(numbers.reshape(-1).astype(np.int64), names)


def refuse_many_labels(count: int, size: int, where: str) -> None:
    """Raises UserError for labels that would take much memory."""
    if count > _MOST_LABELS or size > _LARGEST_LABELS:
        raise UserError(
            f"{where} has {count:,} labels of {size:,} bytes, more than the {_MOST_LABELS:,} of {_LARGEST_LABELS:,} "
            "bytes that are read"
        )
