"""Images that were prepared before: a store, as a source."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from sagan.core.shapes import ImageShape
from sagan.data.sources.contents import file_stamp
from sagan.data.sources.decode import as_it_is, refuse_too_large
from sagan.data.sources.names import digest, short_name
from sagan.data.sources.source import Source, unseen
from sagan.run.config import AnyChannels, ValueRange
from sagan.run.store import IMAGES, Store, refuse_cut
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.images import as_picture
from sagan.system.sentences import plural


class StoreSource(Source):
    """The images of a prepared store. Where they are wanted as they are, `served` gives the store itself."""

    def __init__(self, folder: Path) -> None:
        self.store = store = Store.open(folder)
        self.no_classes = store.no_classes
        self.drawn_faces = bool(store.meta.drawn_faces)
        self.description = f"{plural(store.count, 'prepared image')} of {store.shape} in {folder}"
        content = store.hash
        if store.labels is not None:
            lines = [content, *store.classes, hashlib.sha256(store.labels.tobytes()).hexdigest()]
            content = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
        self.stated = f"{short_name(folder)}:{content}"
        self.signature = digest([file_stamp(folder / IMAGES), self.stated])
        self.place, self.remarks = folder, tuple(map(str, store.meta.remarks))

    @functools.cached_property
    def names(self) -> list[str] | None:
        return self.store.names()

    def identify(self, progress: Progress = unseen) -> str:
        """The identity that the store states. Raises UserError where its pixels are not those that were prepared."""
        self.store.verify(progress)
        return self.stated

    def served(
        self,
        size: int | str,
        crop: str,
        filter: str,
        channels: AnyChannels = "auto",
        range: ValueRange = "auto",
    ) -> Store:
        """The store. Raises UserError where it holds images of another size, or prepared in another way: what is auto
        may be anything, and any filter is as good as bilinear, the default."""
        meta, folder = self.store.meta, self.store.folder
        if meta.size != ImageShape.of(size).size:
            raise UserError(
                f"{folder} holds images that are prepared at {meta.shape}, and imsize is {size}: give "
                f"--imsize {meta.size}, or the images themselves instead of the prepared ones"
            )
        crop = "square" if crop == "fill" and meta.shape.height == meta.shape.width else crop
        wanted = {"crop": crop, "filter": filter, "channels": channels, "range": range}
        usual = {"crop": "auto", "filter": "bilinear", "channels": "auto", "range": "auto"}
        holds = {"crop": meta.crop, "filter": meta.filter, "channels": meta.channels, "range": meta.range or "full"}
        for name, value in wanted.items():
            found = holds[name]
            if value not in (usual[name], found):
                raise UserError(
                    f"{folder} holds images that are prepared with --{name} {_spelt(found)}, not {_spelt(value)}: "
                    f"leave out --{name}, "
                    "or give the images themselves instead of the prepared ones"
                )
        return self.store

    def __len__(self) -> int:
        return self.store.count

    def name(self, index: int) -> str:
        return f"{self.store.folder}:{self.name_within(index)}"

    def name_within(self, index: int) -> str:
        return f"image {index}" if self.names is None else self.names[index]

    def read(self, index: int) -> Image.Image:
        refuse_cut(self.store.images)
        try:
            refuse_too_large(self.store.shape.width, self.store.shape.height, self.max_pixels)
        except UserError as error:
            raise UserError(f"{self.name(index)} cannot be read: {error}") from None
        return as_it_is(as_picture(np.array(self.store.images[index])))

    def class_of(self, index: int) -> str | None:
        return None if self.store.labels is None else self.store.classes[self.store.labels[index]]


def _spelt(value: object) -> str:
    """A setting as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
