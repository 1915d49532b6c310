"""The protocol through which all images are read, and files that several threads and processes share.

Every source returns RGB images by index, in an order that depends only on their names. An image that cannot be read is
an error that names it; images that are left out on purpose are mentioned in the source's ``description``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from PIL import Image


@runtime_checkable
class Source(Protocol):
    """Images by index.

    ``description`` is a phrase for a person ("2,000 JPEG files under data/CelebA"). ``identity`` is
    "short-name:digest"; it changes whenever images are added, removed or changed, and identifies the prepared store.
    ``name(index)`` names an image in messages. ``read(index)`` returns it in mode RGB, may be called from several
    threads at once, and raises UserError or OSError if the image is damaged.

    ``class_of(index)`` is the name of the image's class, which may change only if ``identity`` does. Either every image
    has a class and ``no_classes`` is empty, or none has (None) and ``no_classes`` tells a person why.
    ``drawn_faces``: the images are those of `sagan.data.faces`, whose eyes and symmetry can be measured.
    """

    description: str
    identity: str
    no_classes: str = "only a folder or a zip with a folder for each class has classes"
    drawn_faces: bool = False

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def read(self, index: int) -> Image.Image: ...

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
