"""The published data sets: where their downloads unpack, and how they are cropped."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from sagan.data.sources.folder import walk
from sagan.data.sources.names import is_image
from sagan.system.errors import UserError
from sagan.system.files import expand

# Where the downloads unpack and where the published program looked, most specific first; "." is image_path itself, used
# only if it has one of the NAMES or if images (or data.mdb) are directly in it.
PLACES = {
    "celeb": (
        "CelebA/img_align_celeba/img_align_celeba",
        "CelebA/img_align_celeba",
        "CelebA",
        "img_align_celeba/img_align_celeba",
        "img_align_celeba",
        ".",
        "CelebA/celeba-dataset.zip",
        "CelebA/img_align_celeba.zip",
        "celeba-dataset.zip",
        "img_align_celeba.zip",
    ),
    "lsun": (
        "LSUN/church_outdoor_train_lmdb",
        "church_outdoor_train_lmdb",
        "LSUN/lsunchurch",
        "lsunchurch",
        "LSUN",
        "lsun-church",
        "CelebA/church_outdoor_train_lmdb",
        ".",
        "LSUN/lsunchurch.zip",
        "lsunchurch.zip",
    ),
}
NAMES = {
    "celeb": ("celeba", "img_align_celeba", "celeba-dataset"),
    "lsun": ("lsun", "lsunchurch", "lsun-church", "church_outdoor_train_lmdb"),
}
PUBLISHED_CROPS = {"celeb": "160", "lsun": "squash"}  # as the published program trains on them
DOWNLOADS = {
    "celeb": ("jessicali9530/celeba-dataset", "CelebA"),
    "lsun": ("ajaykgp12/lsunchurch", "LSUN"),
}


def find_dataset(dataset: str, image_path: str | os.PathLike[str]) -> Path:
    """The path, for ``open_source``, of a known data set ("celeb" or "lsun") below ``image_path``.

    Searches the places where the Kaggle downloads unpack and where the published program looked, ignoring the case of
    names. Raises UserError with the places searched and what to download.
    """
    if dataset not in PLACES:
        allowed = ", ".join(PLACES)
        raise UserError(f"`dataset` must be one of {allowed}, got {dataset!r} (or name your own: `data` PATH)")
    root = expand(image_path)
    for place in PLACES[dataset]:
        candidate = in_any_case(root, place)
        if candidate is not None and (found := images_at(candidate, dataset, itself=place == ".")):
            return found
    download, folder = DOWNLOADS[dataset]
    tried = ", ".join(str(root / place) for place in PLACES[dataset])
    raise UserError(
        f"the data set {dataset!r} was not found (looked at {tried}): download the Kaggle data set {download} and "
        f"unpack it as {root / folder}, or name a folder, zip, LMDB or .npy of images with `data` PATH"
    )


def images_at(place: Path, dataset: str, *, itself: bool) -> Path | None:
    """The path to open at a place where the data set may be: the place, an LMDB up to two levels below it, or None."""
    if place.is_file():
        return place
    named = any(word in (place.absolute().name.lower(), place.resolve().name.lower()) for word in NAMES[dataset])
    if itself and not named:
        return place if (place / "data.mdb").is_file() or any(is_image(p.name) for p in place.iterdir()) else None
    if dataset == "lsun":
        databases = [file.parent for depth in ("", "*/", "*/*/") for file in sorted(place.glob(f"{depth}data.mdb"))]
        training = [folder for folder in databases if "train" in folder.name]
        if databases:
            return (training or databases)[0]
    return place if any(map(is_image, walk(place).files)) else None


def in_any_case(root: Path, place: str) -> Path | None:
    """``root / place`` in the spelling of the disk, an exact match first; None if it does not exist."""
    path = root
    for part in PurePosixPath(place).parts:
        if not (path / part).exists():
            same = [p.name for p in sorted(path.iterdir()) if p.name.lower() == part.lower()] if path.is_dir() else []
            if not same:
                return None
            part = same[0]
        path = path / part
    return path if path.exists() else None
