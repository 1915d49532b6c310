"""`sagan prepare`: images decoded ahead of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import read
from sagan.cli.train import check_image_path
from sagan.run.config import AnyChannels, DataConfig, ModelConfig
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.sentences import typed
from sagan.system.typed import fill


@dataclass(frozen=True)
class PrepareFlags:
    """Decode, crop and resize a data set once, so that training starts at once.
    `sagan train` does this too, when it is needed."""

    source: Annotated[str | None, Positional] = None
    """Images: a folder, a zip, tar, parquet, LMDB, .npy or .npz; hf:OWNER/NAME; or 'faces' (drawn faces).
    Or give --dataset."""
    imsize: int | str = 64
    """Size of the prepared images: 64, or 64x96 for height x width."""
    channels: AnyChannels = "auto"
    """1 for grey, 3, or 4 with transparency; 'auto': what the images are, as for `sagan train`."""
    data: DataConfig = field(default_factory=lambda: DataConfig(range="auto"))


def prepare(words: Sequence[str], console: Console) -> int:
    """Decode and resize a data set once, ahead of training."""
    given = read(PrepareFlags, words, "sagan prepare")
    check_image_path(given)
    flags = fill(PrepareFlags, given)
    ModelConfig(imsize=flags.imsize, channels=flags.channels)  # checks these
    data = flags.data
    if flags.source is not None:
        if data.data is not None:
            raise UserError(f"give the source once: {flags.source!r} or {typed('--data', data.data)}")
        data = dataclasses.replace(data, data=flags.source)
    if data.data is None and data.dataset is None:
        raise UserError(
            "give the images to prepare, as in `sagan prepare my_photos`; for drawn ones `sagan prepare faces`"
        )
    from sagan.data import prepared_store

    store = prepared_store(data, flags.imsize, console, channels=flags.channels)
    console.say(f"prepared in {store.folder}")
    return 0
