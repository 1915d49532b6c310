"""The protocol through which all images are read, and files that several threads and processes share.

Every source returns images by index, in the modes of `decode`, in an order that depends only on their names. An image
that cannot be read is an error that names it; images that are left out on purpose are mentioned in the source's
``description``.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from PIL import Image

from sagan.data.sources.decode import MAX_PIXELS
from sagan.system.callbacks import Progress


def unseen(done: int, total: int) -> None:
    """A progress that nobody follows."""


@runtime_checkable
class Source(Protocol):
    """Images by index.

    ``description`` is a phrase for a person ("2,000 JPEG files under data/CelebA"); ``remarks`` are warnings.
    ``name(index)`` names an image in messages, ``name_within(index)`` the same image wherever the source is.
    ``read(index)`` returns it in a mode of `decode` and may be called from several threads at once. It raises UserError
    if the image is damaged or has more than ``max_pixels``, and OSError if it cannot be reached, which says nothing
    about the image.

    ``identity`` is "short-name:digest"; it changes whenever images are added, removed or changed, and identifies the
    prepared store. ``identify(progress)`` computes it at first use, by reading every byte. ``signature`` is a cheap
    digest that changes on this machine whenever the identity does; it is empty if the identity itself is cheap.

    ``class_of(index)`` is the name of the image's class, which may change only if ``identity`` does. Either every image
    has a class and ``no_classes`` is empty, or none has (None) and ``no_classes`` tells a person why.
    ``place`` is where the images are, which need not be told to others. ``ours``: what of this program they are, if
    that can be scored but is nothing to train on. ``former``: the identities that earlier versions gave them, as far as
    they are known; ``former_signature``: the signature that they had then, if another.
    ``drawn_faces``: the images are those of `sagan.data.faces`, whose eyes and symmetry can be measured.
    """

    description: str
    remarks: tuple[str, ...] = ()
    signature: str = ""
    no_classes: str = "neither folders nor labels tell them apart"
    drawn_faces: bool = False
    place: Path | None = None
    ours: str = ""
    former: tuple[str, ...] = ()
    former_signature: str = ""
    max_pixels: int = MAX_PIXELS

    @functools.cached_property
    def identity(self) -> str:
        return self.identify()

    def identify(self, progress: Progress = unseen) -> str:
        raise AssertionError("a source sets its identity, or says how it is found out")

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def read(self, index: int) -> Image.Image: ...

    def name_within(self, index: int) -> str:
        return self.name(index)

    def class_of(self, index: int) -> str | None:
        return None


Handle = TypeVar("Handle")


class PerProcess(Generic[Handle]):
    """A handle that each process opens at its first use, so that it survives fork and pickling, unlike an open file."""

    def __init__(self, opener: Callable[[], Handle]) -> None:
        self.opener = opener
        self.lock = threading.Lock()
        self.held: tuple[int, Handle] | None = None

    def get(self) -> Handle:
        held = self.held
        if held is None or held[0] != os.getpid():
            with self.lock:
                if self.held is None or self.held[0] != os.getpid():
                    self.held = (os.getpid(), self.opener())
                held = self.held
        return held[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self.opener,)
