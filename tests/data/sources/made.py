"""Pictures, and sources of every kind that hold them."""

import gzip
import io
import json
import tarfile
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


def make_tar(path: Path, members: dict[str, bytes | str], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_idx(path: Path, array: np.ndarray) -> Path:
    """An array of bytes as an idx file, packed where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def make_cifar(folder: Path, images: np.ndarray, labels: list[int], names: list[str], file="data_batch_1.bin") -> Path:
    """Images of 32x32 as a file of CIFAR-10's binary version."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    (folder / file).write_bytes(np.concatenate([np.array(labels, np.uint8)[:, None], planes], 1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return folder


def make_parquet(
    path: Path, images: list, labels: list | None = None, names: list[str] | None = None, **options
) -> Path:
    """Images (bytes, or bytes and path) and labels as the hub's library writes them, three rows a group."""
    pyarrow = pytest.importorskip("pyarrow", reason="the pyarrow package is not installed")
    from pyarrow import parquet

    columns, features = {"image": images}, {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = labels
        features["label"] = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    table = pyarrow.table(columns)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=3)
    return path


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
    pixels = np.stack([np.asarray(picture(i)) for i in range(4)])
    if kind == "tar":
        return open_source(make_tar(folder / "set.tar", {f"{i}.png": encoded(picture(i)) for i in (2, 0, 3, 1)}))
    if kind == "parquet":
        return open_source(make_parquet(folder / "set.parquet", [encoded(picture(i)) for i in range(4)]))
    if kind == "npz":
        np.savez(folder / "set.npz", images=pixels)
        return open_source(folder / "set.npz")
    if kind == "packed npz":
        np.savez_compressed(folder / "set.npz", x=pixels)
        return open_source(folder / "set.npz")
    if kind == "idx":
        make_idx(folder / "set" / "images-idx4-ubyte.gz", pixels)
        return open_source(folder / "set")
    np.save(folder / "set.npy", pixels)
    return open_source(folder / "set.npy")


KINDS = ["folder", "zip", "lmdb", "npy", "tar", "parquet", "npz", "packed npz", "idx"]


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
