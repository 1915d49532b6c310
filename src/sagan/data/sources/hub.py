"""Data sets on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from sagan.data.sources.classes import LABELS
from sagan.data.sources.names import FORMATS, PACKED
from sagan.run.places import HUB, hub_errors
from sagan.system.errors import UserError

_FETCHED = (".parquet", ".tar", ".zip", ".npz", ".npy", *FORMATS)


def on_the_hub(place: str) -> str:
    """The ``OWNER/NAME``, perhaps ``@REVISION``, of a place ``hf:OWNER/NAME``; "" for any other."""
    return place.removeprefix(HUB) if place.startswith(HUB) else ""


def fetch_dataset(name: str) -> Path:
    """The folder, or the one packed file in it, of a data set ``OWNER/NAME`` or ``OWNER/NAME@REVISION``, from the hub's
    cache where it is there. Only images and files of images are fetched, never code.

    Raises UserError for a name that is not on the hub, without a network, and where there are no images.
    """
    with hub_errors(name, "data set", "it has no images"):
        from huggingface_hub import snapshot_download

        repository, _, revision = name.partition("@")
        patterns = [f"*{ending}" for suffix in _FETCHED for ending in (suffix, suffix.upper())]
        folder = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=[*patterns, *(f"*{file}" for file in LABELS)],
            library_name="sagan",
        )
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    if not any(path.suffix.lower() in _FETCHED for path in files):
        raise UserError(f"{HUB}{name} holds no images: looked for {', '.join(_FETCHED)}")
    packed = [path for path in files if path.suffix.lower() in PACKED]
    alone = len(packed) == 1 and not any(path.suffix.lower() in FORMATS for path in files)
    return packed[0] if alone and packed[0].suffix.lower() not in (".tar", ".parquet") else Path(folder)
