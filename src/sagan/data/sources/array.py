"""A .npy array of images."""

from __future__ import annotations

import errno
import functools
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sagan.data.sources.contents import digest_file, file_stamp
from sagan.data.sources.decode import as_it_is, refuse_too_large
from sagan.data.sources.names import short_name
from sagan.data.sources.remarks import decoding
from sagan.data.sources.source import PerProcess, Source, unseen
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import open_regular
from sagan.system.images import as_picture
from sagan.system.sentences import plural

_LONGEST_HEADER = 2**14  # bytes; numpy takes 10,000, but reads any number before it looks
_LONGEST_REASON = 200  # characters of what numpy says, which may quote a whole header


class ArraySource(Source):
    """The images of a ``.npy`` file of uint8, shape (count, height, width, channels) with 1, 3 or 4 channels.

    One channel is grey; four are RGBA. Images are read one by one: a file that is shortened
    meanwhile, or on a disk that is gone, is an error, where a memory map would end the process. Raises UserError for
    another type or shape.
    """

    def __init__(self, path: Path) -> None:
        self.path = self.place = path
        self.signature = file_stamp(path)
        images = open_array(path)
        self.shape: tuple[int, ...] = images.shape
        self.start: int = images.offset
        self.by_column = images if not images.flags.c_contiguous else None  # the numbers of an image are far apart
        self.file = PerProcess(functools.partial(open_regular, path))
        count, height, width, channels = self.shape
        kind = {1: "grey", 3: "RGB", 4: "RGBA"}[channels]
        self.description = f"{plural(count, f'{kind} image')} of {height}x{width} in {path}"
        self.end = self.start + images.nbytes
        if more := path.stat().st_size - self.end:
            self.remarks = (f"{path} has {more:,} bytes after the {plural(count, 'image')} that it says it holds",)

    def identify(self, progress: Progress = unseen) -> str:
        return f"{short_name(self.path)}:{digest_file(self.path, self.signature, progress)}"

    def __len__(self) -> int:
        return self.shape[0]

    def name(self, index: int) -> str:
        return f"{self.path}[{index}]"

    def name_within(self, index: int) -> str:
        return f"image {index}"

    def read(self, index: int) -> Image.Image:
        _, height, width, _ = self.shape
        try:
            refuse_too_large(width, height, self.max_pixels)
        except UserError as error:
            raise UserError(f"{self.name(index)} cannot be read: {error}") from None
        pixels = self._read_bytes(index) if self.by_column is None else self._copy(self.by_column, index)
        with decoding(self.name(index)):
            return as_it_is(as_picture(pixels))

    def _read_bytes(self, index: int) -> npt.NDArray[np.uint8]:
        size = math.prod(self.shape[1:])
        file = self.file.get()
        with self.file.lock:  # one file position for all threads
            file.seek(self.start + index * size)
            data = file.read(size)
        if len(data) < size:
            raise self._became_shorter()
        return np.frombuffer(data, np.uint8).reshape(self.shape[1:])

    def _copy(self, images: npt.NDArray[np.uint8], index: int) -> npt.NDArray[np.uint8]:
        if os.fstat(self.file.get().fileno()).st_size < self.end:  # reading what is gone would end the process
            raise self._became_shorter()
        return np.array(images[index])

    def _became_shorter(self) -> OSError:
        return OSError(errno.ESTALE, "the file became shorter while it was read", str(self.path))


def _refuse_long_header(path: Path) -> None:
    with open_regular(path) as file:
        start = file.read(12)
    if start.startswith(b"\x93NUMPY") and start[6:7] > b"\1" and int.from_bytes(start[8:], "little") > _LONGEST_HEADER:
        raise ValueError("its header is too long")


def open_array(path: Path) -> np.memmap[Any, np.dtype[np.uint8]]:
    try:
        with warnings.catch_warnings():  # of a file that Python 2 wrote, and of a shape that overflows
            warnings.simplefilter("ignore")
            _refuse_long_header(path)
            images: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a header that lies makes numpy raise nearly anything: OverflowError, TypeError, ...
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # it cannot be reached, or mapped into memory; a MemoryError is Python's for a nested header
        reason = str(error).partition("\n")[0][:_LONGEST_REASON] or type(error).__name__
        raise UserError(f"{path} is not a complete .npy array ({reason}): save it again with numpy.save") from error
    if isinstance(images, np.ndarray) and math.prod(map(int, images.shape)) > path.stat().st_size:  # numpy overflows
        raise UserError(
            f"{path} is not a complete .npy array (its shape is {images.shape}): save it again with numpy.save"
        )
    if not isinstance(images, np.ndarray):
        raise UserError(f"{path} is a zip of arrays (.npz), not one array: save the images with numpy.save")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4) or 0 in images.shape:
        first = images.ndim == 4 and images.shape[1] in (1, 3, 4)
        hint = "; this looks like channels first: save images.transpose(0, 2, 3, 1)" if first else ""
        raise UserError(
            f"{path} must hold uint8 images of shape (count, height, width, channels) with 1, 3 or 4 channels, "
            f"got {images.dtype} of shape {images.shape}{hint}"
        )
    return images
