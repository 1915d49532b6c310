"""Pictures, and sources of every kind that hold them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sagan.data import Source, open_source

SHARED = Path(__file__).parents[4] / "shared" / "data"


def picture(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, image: Image.Image, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image, kind))


def make_lmdb(folder: Path, entries: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return folder


def make_source(kind: str, folder: Path) -> Source:
    """The pictures 0..3 in a source of each kind; the folder and the zip are nested."""
    if kind == "folder":
        for i in range(4):
            put(folder / "set" / ("a" if i < 2 else "b") / f"{i}.png", picture(i))
        return open_source(folder / "set")
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for i in (2, 0, 3, 1):
                archive.writestr(f"deep/er/{i}.PNG", encoded(picture(i)))
        return open_source(folder / "set.zip")
    if kind == "lmdb":
        return open_source(make_lmdb(folder / "set_lmdb", {b"k%d" % i: encoded(picture(i)) for i in (3, 1, 0, 2)}))
    np.save(folder / "set.npy", np.stack([np.asarray(picture(i)) for i in range(4)]))
    return open_source(folder / "set.npy")


KINDS = ["folder", "zip", "lmdb", "npy"]


def tree(kind: str, folder: Path, *names: str, contents: dict[str, str | bytes] | None = None) -> Source:
    """A folder or a zip of images with these names, in which nothing but the names is right, and of texts."""
    contents = contents or {}
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
            for name, text in contents.items():
                archive.writestr(name, text)
        return open_source(folder / "set.zip")
    for name in names:
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(b"x")
    for name, text in contents.items():
        (folder / "set" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(folder / "set")


def classes(source: Source) -> list[str | None]:
    return [source.class_of(i) for i in range(len(source))]
