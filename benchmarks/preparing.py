"""Times the preparation of images against Pillow's decoder alone, and measures its memory over many images.

    python -m benchmarks.preparing [--count 2000] [--side 256] [--size 64]
    python -m benchmarks.preparing --memory 300000

The first prints images a second with one and with two threads: of Pillow alone, which decodes, crops and resizes the
same JPEGs from memory and keeps nothing, and of `sagan.data.prepare` from a tar, which writes a store. The second
prepares so many tiny PNGs from a tar, and a tenth of them, each in a process of its own, and prints the most memory
that a process had beyond its imports (Linux only).
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.frechet import resident
from sagan.data import Recipe, open_source
from sagan.data.prepare import prepare


def encoded(number: int, side: int, kind: str) -> bytes:
    """A picture with structure at several scales, so that a JPEG of it is about as large as a photograph's."""
    rng, image = np.random.default_rng(number), np.zeros((side, side, 3))
    for scale in (4, 16, 64):
        noise = rng.normal(0, 30, (min(scale, side), min(scale, side), 3)) + 128
        layer = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        image += np.asarray(layer) / 3
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, kind, quality=90)
    return file.getvalue()


def write_tar(path: Path, images: list[bytes], count: int, ending: str) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(count):
            member, data = tarfile.TarInfo(f"{number}.{ending}"), images[number % len(images)]
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def by_pillow(images: list[bytes], count: int, size: int, threads: int) -> float:
    """Seconds for so many images by Pillow alone."""

    def one(number: int) -> int:
        image = Image.open(io.BytesIO(images[number % len(images)])).convert("RGB")
        return len(image.resize((size, size), Image.Resampling.BILINEAR).tobytes())

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, 256):
            list(pool.map(one, range(start, min(start + 256, count))))
    return time.perf_counter() - begin


def by_preparing(path: Path, folder: Path, size: int, threads: int) -> float:
    begin = time.perf_counter()
    prepare(open_source(path), Recipe(size), folder, workers=threads)
    return time.perf_counter() - begin


def speed(count: int, side: int, size: int) -> None:
    images = [encoded(number, side, "JPEG") for number in range(64)]
    print(
        f"{count:,} JPEGs of {side}x{side}, {sum(map(len, images)) // 64 / 1024:.0f} KiB each, to {size}x{size}; img/s"
    )
    print("threads  Pillow alone  prepare  share")
    with tempfile.TemporaryDirectory() as folder:
        write_tar(path := Path(folder, "images.tar"), images, count, "jpg")
        for threads in (1, 2):
            bound = count / by_pillow(images, count, size, threads)
            found = count / by_preparing(path, Path(folder, str(threads)), size, threads)
            print(f"{threads:7}  {bound:12,.0f}  {found:7,.0f}  {found / bound:5.0%}")


def measure(path: Path, folder: Path, results: multiprocessing.Queue[tuple[float, float, float, float]]) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, begin = resident("VmRSS"), time.perf_counter()
    source = open_source(path)
    opened, listed = time.perf_counter() - begin, resident("VmHWM") - before
    prepare(source, Recipe(16), folder, workers=2)
    results.put((opened, listed, time.perf_counter() - begin, resident("VmHWM") - before))


def memory(count: int) -> None:
    images = [encoded(number, 16, "PNG") for number in range(64)]
    print("  images  seconds to open  MB to open  seconds in all  MB in all")
    for some in (count // 10, count):
        with tempfile.TemporaryDirectory() as folder:
            write_tar(path := Path(folder, "images.tar"), images, some, "png")
            context = multiprocessing.get_context("spawn")
            results: multiprocessing.Queue[tuple[float, float, float, float]] = context.Queue()
            process = context.Process(target=measure, args=(path, Path(folder, "store"), results))
            process.start()
            opened, listed, whole, most = results.get()
            process.join()
            print(f"{some:8,}  {opened:15.1f}  {listed:10.0f}  {whole:14.1f}  {most:9.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--memory", type=int, metavar="COUNT", help="measure memory over so many tiny images instead")
    given = parser.parse_args()
    memory(given.memory) if given.memory else speed(given.count, given.side, given.size)


if __name__ == "__main__":
    main()
