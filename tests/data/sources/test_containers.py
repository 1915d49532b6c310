"""The same images and classes in any container give the same store."""

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sagan.data import Recipe, open_source
from sagan.data.prepare import prepare
from tests.data.made import quiet
from tests.data.sources.made import encoded, make_cifar, make_idx, make_parquet, make_tar

COUNT = 12
NAMES = ["2", "9", "10"]  # of the classes, in natural order
CLASSES = [number // 4 for number in range(COUNT)]
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
PNGS = [encoded(Image.fromarray(image)) for image in PIXELS]
FILES = {f"{NAMES[kind]}/{number}.png": PNGS[number] for number, kind in enumerate(CLASSES)}
FLAT = {f"{number}.png": png for number, png in enumerate(PNGS)}
LABELS = np.array([int(NAMES[kind]) for kind in CLASSES])
SHUFFLED = sorted(FILES, key=lambda name: name[::-1])


def in_zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def in_folder(path: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(path: Path) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], *zip(FLAT, LABELS, strict=True)])
    return path.read_text()


def columns() -> str:
    cells = [",".join(str(int(kind == each)) for each in range(3)) for kind in CLASSES]
    lines = [f"{name},{cell}" for name, cell in zip(FLAT, cells, strict=True)]
    return "\n".join(["file,2,9,10", *lines])


def chunked() -> dict[str, bytes | str]:
    files = {f"0000{number // 5}/img{number:08d}.png": png for number, png in enumerate(PNGS)}
    labels = [[name, int(label)] for name, label in zip(files, LABELS, strict=True)]
    return {**files, "dataset.json": json.dumps({"labels": labels})}


def samples(ending: Callable[[int], tuple[str, str]], some: range = range(COUNT)) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for number in some:
        name, content = ending(int(LABELS[number]))
        found |= {f"{number}.{name}": content, f"{number}.png": PNGS[number], f"{number}.txt": "a caption"}
    return found


def as_cls(label: int) -> tuple[str, str]:
    return "cls", f"{label}\n"


def as_json(label: int) -> tuple[str, str]:
    return "json", json.dumps({"label": label, "url": "x"})


def shards(folder: Path) -> Path:
    for shard, some in enumerate((range(5), range(5, 9), range(9, 12))):
        make_tar(folder / f"set-{shard + 8}.tar", samples(as_cls, some))  # 8, 9, 10
    return folder


def npz(path: Path, save: Callable[..., None], **arrays: np.ndarray) -> Path:
    save(path, **arrays)
    return path


def mnist(folder: Path, ending: str = "") -> Path:
    make_idx(folder / f"train-images-idx4-ubyte{ending}", PIXELS)
    make_idx(folder / f"train-labels-idx1-ubyte{ending}", LABELS.astype(np.uint8))
    return folder


def parquet(path: Path, some: range = range(COUNT), stated: bool = False) -> Path:
    images = [{"bytes": PNGS[number], "path": f"{number}.png"} for number in some]
    labels = [CLASSES[number] if stated else int(LABELS[number]) for number in some]
    return make_parquet(path, images, labels, NAMES if stated else [])


def parquet_shards(folder: Path) -> Path:
    for shard, some in enumerate((range(5), range(5, 9), range(9, 12))):
        parquet(folder / "data" / f"train-{shard + 8}-of-3.parquet", some, stated=True)
    parquet(folder / "data" / "test-0.parquet", range(2), stated=True)
    return folder


CONTAINERS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda at: in_folder(at / "set", FILES),
    "folder, table": lambda at: in_folder(at / "set", {**FLAT, "labels.csv": table(at / "table")}),
    "folder, columns": lambda at: in_folder(at / "set", {**FLAT, "labels.csv": columns()}),
    "folder, StyleGAN": lambda at: in_folder(at / "set", chunked()),
    "zip": lambda at: in_zip(at / "set.zip", {name: FILES[name] for name in SHUFFLED}),
    "zip, table": lambda at: in_zip(at / "set.zip", {**FLAT, "labels.csv": table(at / "table")}),
    "zip, StyleGAN": lambda at: in_zip(at / "set.zip", chunked()),
    "tar": lambda at: make_tar(at / "set.tar", {name: FILES[name] for name in SHUFFLED}),
    "tar, table": lambda at: make_tar(at / "set.tar", {**FLAT, "labels.csv": table(at / "table")}),
    "tar, cls": lambda at: make_tar(at / "set.tar", samples(as_cls)),
    "tar, json": lambda at: make_tar(at / "set.tar", samples(as_json)),
    "shards": lambda at: shards(at / "set"),
    "parquet": lambda at: parquet(at / "set.parquet"),
    "parquet shards": lambda at: parquet_shards(at / "set"),
    "npz": lambda at: npz(at / "set.npz", np.savez, images=PIXELS, labels=LABELS),
    "packed npz": lambda at: npz(at / "set.npz", np.savez_compressed, arr_0=PIXELS, arr_1=LABELS[:, None]),
    "npz of splits": lambda at: npz(at / "set.npz", np.savez, x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:1]),
    "idx": lambda at: mnist(at / "set"),
    "idx, packed": lambda at: mnist(at / "set", ".gz"),
    "idx, one file": lambda at: mnist(at / "set") / "train-images-idx4-ubyte",
    "CIFAR": lambda at: make_cifar(at / "set", PIXELS, CLASSES, NAMES),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_images_in_any_container_give_the_same_store(container, tmp_path):
    source = open_source(CONTAINERS[container](tmp_path))
    store = prepare(source, Recipe(16), tmp_path / "store", **quiet)
    resized = [Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR) for image in PIXELS]
    assert np.array_equal(store.images, np.stack([np.asarray(image) for image in resized]))
    assert store.classes == tuple(NAMES)
    assert store.labels.tolist() == CLASSES
