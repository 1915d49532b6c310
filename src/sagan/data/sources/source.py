"""The protocol through which all images are read."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from PIL import Image


@runtime_checkable
class Source(Protocol):
    """Images by number.

    ``description`` is a phrase for a person ("2,000 JPEG files under data/CelebA"). ``identity`` is
    "short-name:digest"; it changes whenever images are added, removed or changed, and a prepared store is found by it.
    ``name(index)`` says which image is meant in a message. ``read(index)`` returns the image in mode RGB, may be called
    from several threads at once, and raises UserError or OSError with a sentence when that image is damaged.

    ``class_of(index)`` is the name of the image's class, which follows from what ``identity`` covers. Either every
    image has a class and ``no_classes`` is empty, or none has (None) and ``no_classes`` says why, for a person.
    ``drawn_faces``: the images are those of `sagan.data.faces`, in which eyes and sides can be measured.
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
