"""Batches of a store's images as tensors, each a pure function of its index, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sagan.run.store import refuse_cut
from sagan.system.devices import send
from sagan.system.errors import UserError
from sagan.system.images import from_uint8
from sagan.system.sentences import plural

ALL = slice(None)


class Batches:
    """Batches 0, 1, 2, ... without end: ``batch(i)`` depends only on ``i`` and the arguments here.

    An epoch is ``batches_per_epoch`` batches, in which no image is repeated; the images left after its last full batch
    are dropped, different ones in each epoch.

    images: uint8, shape (count, height, width, channels), an array or a memory map.
    batch_size: images in a batch, over all processes together.
    permutation: returns the order of the images in an epoch, int64 of shape (count,), from the epoch's index.
    resident: keep all images on ``device`` as uint8; None: on CUDA, if they take less than half of its free memory.
    channels_last: the memory format of the batches; the values are the same.
    labels: the class of each image, integers from 0 of shape (count,), an array or a memory map; None: no classes.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        batch_size: int,
        permutation: Callable[[int], Tensor],
        device: torch.device | str = "cpu",
        resident: bool | None = None,
        *,
        channels_last: bool = False,
        labels: npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        check(images, batch_size)
        if labels is not None:
            check_labels(labels, len(images))
        self.images = images
        self._labels = labels
        self.device = torch.device(device)
        self.permutation = permutation
        self.batch_size = batch_size
        self.channels_last = channels_last
        self.batches_per_epoch = len(images) // batch_size
        self.resident = fits(images.nbytes, self.device) if resident is None else resident
        self._on_device = copy_to(images, self.device) if self.resident else None
        self._order: tuple[int, Tensor] | None = None  # of the last epoch requested

    def reorder(self, permutation: Callable[[int], Tensor]) -> None:
        """Changes the order of the images from now on; resident images stay on the device."""
        self.permutation, self._order = permutation, None

    def batch(self, index: int, part: slice = ALL) -> Tensor:
        """Batch ``index``, or a part of it, as a network's images: float32 in [-1, 1], shape (n, channels, h, w)."""
        chosen = self.chosen(index)[part]
        if self._on_device is not None:
            pixels = self._on_device[send(chosen, self.device)]
        else:
            refuse_cut(self.images)
            pixels = send(torch.from_numpy(self.images[chosen.numpy()]), self.device)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        pixels = pixels.permute(0, 3, 1, 2).contiguous(memory_format=layout)  # while a value is one byte
        return from_uint8(pixels)

    def labels(self, index: int, part: slice = ALL) -> Tensor:
        """The class of each image of ``batch(index, part)``: int64, shape (n,), on the device.

        Raises UserError if these batches have no labels.
        """
        if self._labels is None:
            raise UserError("these batches have no labels: give Batches the labels of its images")
        return send(torch.from_numpy(self._labels[self.chosen(index)[part].numpy()]).long(), self.device)

    def chosen(self, index: int) -> Tensor:
        """The indices of the images in batch ``index``, int64, on the CPU."""
        if index < 0:
            raise UserError(f"batches are numbered from 0, got {index}")
        epoch, place = divmod(index, self.batches_per_epoch)
        start = place * self.batch_size
        return self.order(epoch)[start : start + self.batch_size]

    def order(self, epoch: int) -> Tensor:
        """The order of all images in ``epoch``, checked to be a permutation."""
        if self._order is None or self._order[0] != epoch:
            order = self.permutation(epoch).cpu()
            if not torch.equal(order.sort().values, torch.arange(len(self.images))):
                raise UserError(f"permutation({epoch}) does not hold each of 0..{len(self.images) - 1} exactly once")
            self._order = (epoch, order)
        return self._order[1]


def check(images: npt.NDArray[np.uint8], batch_size: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise UserError(
            "images must be uint8 of shape (count, height, width, channels) with 1, 3 or 4 channels, "
            f"got {images.dtype} of shape {images.shape}"
        )
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more, got {batch_size}")
    check_count(len(images), batch_size)


def check_count(images: int, batch_size: int) -> None:
    """Raises UserError where there are fewer images than in a batch."""
    if images < batch_size:
        raise UserError(
            f"`batch_size` is {batch_size} but the data set has only {plural(images, 'image')}: "
            f"use a `batch_size` of {images} or less, or more images"
        )


def check_labels(labels: npt.NDArray[np.integer[Any]], count: int) -> None:
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (count,):
        raise UserError(
            f"labels must be whole numbers of shape ({count},), one for each image, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0:
        raise UserError(f"labels must be 0 or more, got {labels.min()} (0 is the first class)")


def fits(nbytes: int, device: torch.device) -> bool:
    """Whether the images should be kept on the device: on CUDA, if half of the free memory is left for training.

    Never on the CPU, where a memory map is as fast once the system has cached it.
    """
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes < free / 2


def copy_to(images: npt.NDArray[np.uint8], device: torch.device, chunk: int = 4096) -> Tensor:
    """All images as one uint8 tensor on the device, copied in chunks so that the host never holds them all."""
    copy = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), chunk):
        refuse_cut(images)
        piece = np.array(images[start : start + chunk])  # a copy, as from_numpy needs writable memory
        copy[start : start + chunk] = torch.from_numpy(piece)
    return copy
