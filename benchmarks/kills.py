"""Kills commands at many moments of their lives, lets them go on, and compares what is there at the end.

    python -m benchmarks.kills [--points 100] [--only training scoring ...]

A point: a copy of the folder that a command starts from, the command, SIGKILL, and the same command again, or the
`sagan resume` that its error names, until it ends well. Then every file must be as after an undisturbed command:
tensors to all bits, records and scores without their clocks, everything else byte for byte. And at the moment of the
kill every file of an earlier report must be there, or that of the new one.

Half of the points are operations on files: before the n-th opening for writing, fsync, rename, link, removal or new
folder, or in the middle of the n-th write. The other half are moments. Both are spread evenly over the command's life,
with a random place in each part. At every second operation of a sweep only the process that came to it dies: the sweep,
or a training or scoring that it started; else all die at once. Networks and images are tiny. Linux only.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import random
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.killing import Ended, reap, run  # first: it keeps numpy and torch from starting threads

# isort: split
import numpy as np
import torch
from PIL import Image

NETWORKS = "--data photos.npy --network dcgan --imsize 16 --z_dim 4 --g_conv_dim 8 --d_conv_dim 8 --batch_size 8"
TINY = f"{NETWORKS} --device cpu --sample_count 4 --total_step 8 --log_step 1 --snapshot_every 4"
TRAIN = f"train {TINY} --checkpoint_every 2 --guard_every 2 --run_dir R"
SCORE = "--extractor random-conv --eval_num 25"
SWEEP = f"sweep {TINY} {SCORE} --span 0 1 --sweep_dir S"
WORKS = {  # by name: the commands that come before, and the one that is killed
    "training": ([], TRAIN),
    "scoring": ([], f"{TRAIN} {SCORE} --eval_every 4"),
    "evaluate": ([TRAIN], "evaluate R --extractor random-conv --num 25"),
    "sweep": ([], SWEEP),
    "prepare": ([], "prepare photos.zip --imsize 16"),
    "sample": ([TRAIN], "sample R --num 40 --out images"),
    "report": ([SWEEP, "report S --metric kernel"], "report S"),
    "attention": ([TRAIN], "attention R --num 2"),
}
REPORT = "S/report"  # where every file is at any moment that of the old report or that of the new one
CLOCKS = ("seconds", "images_per_second")
IGNORED = re.compile(r"\.log$|/identities/")  # what was printed; what is known by the inode of a file
LEFT_OVER = re.compile(r"(^|/)\.(?!sagan$)|\.lock$")  # unfinished files and folders, and locks
TRIES = 4  # of going on


def make_images(folder: Path) -> None:
    """The images that everything starts from."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    np.save(folder / "photos.npy", draw.integers(0, 256, (24, 20, 16, 3)).astype(np.uint8))
    with zipfile.ZipFile(folder / "photos.zip", "w") as packed:
        for number in range(700):  # more than two chunks of the journal
            with packed.open(f"class{number % 3}/{number}.png", "w") as file:
                Image.fromarray(draw.integers(0, 256, (20, 16, 3)).astype(np.uint8)).save(file, format="PNG")
        packed.writestr("class0/broken.png", b"no image")


def go_on(command: str, place: Path) -> str:
    """Repeats a command, or the `sagan resume` that it names, until it ends well; else returns its last words."""
    said = ""
    for _ in range(TRIES):
        ended = run(command, place)
        reap(kill=False)
        said = place.with_name("LOG").read_text().strip().rpartition("\n")[2]
        if ended.status == 0:
            return ""
        named = re.search("`sagan (resume [^`]+)`", said)
        command = named[1] if named else command
    return f"{said} {ended.where}".strip()


def names(folder: Path) -> list[str]:
    """The paths of everything in a folder, seen from there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def contents(folder: Path) -> dict[str, object]:
    """What each file holds that must be the same, by its path."""
    return {
        name: content(folder / name)
        for name in names(folder)
        if (folder / name).is_file() and not IGNORED.search(name) and not LEFT_OVER.search(name)
    }


def content(path: Path) -> object:
    data = path.read_bytes()
    if path.name == "records.jsonl" and data.endswith(b"\n"):  # else its last line is cut
        records = map(json.loads, data.splitlines())
        return sorted(json.dumps({k: v for k, v in record.items() if k not in CLOCKS}) for record in records)
    if path.suffix == ".pt":
        return list(flat(torch.load(path, weights_only=True)))
    return re.sub(rb"<dc:date>[^<]*|[mp][0-9a-f]{10}", b"", data) if path.suffix == ".svg" else data


def flat(value: object, name: str = "") -> Iterator[tuple[object, ...]]:
    """The tensors, as bytes, and the other values in nested dictionaries and lists, without clocks."""
    if isinstance(value, torch.Tensor):
        yield name, value.dtype, value.shape, value.numpy().tobytes()
    elif isinstance(value, dict | list | tuple):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in CLOCKS:
                yield from flat(each, f"{name}/{key}")
    else:
        yield name, value


def differing(found: dict[str, object], wanted: dict[str, object]) -> list[str]:
    return [
        f"{name}{'' if name in wanted else ' (more)'}{'' if name in found else ' (missing)'}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]


def kill_at_points(name: str, points: int, scratch: Path) -> None:
    """Kills one command at all points, and prints a line for each that lost something, and one for all."""
    preparing, command = WORKS[name]
    before, place = scratch / "before", scratch / "work"

    def undisturbed(command: str) -> tuple[Ended, dict[str, object]]:
        copy_afresh(before, place)
        ended = run(command, place)
        assert ended.status == 0, place.with_name("LOG").read_text()
        return ended, contents(place)

    shutil.rmtree(before, ignore_errors=True)
    make_images(before)
    for each in preparing:
        undisturbed(each)
        copy_afresh(place, before)
    (first, wanted), (whole, again) = undisturbed(command), undisturbed(command)
    assert again == wanted, f"{name} is not repeatable: {differing(again, wanted)}"
    new, old = contents(place / REPORT), contents(before / REPORT)
    killed = lost = left_over = 0
    began, draw, kinds = time.monotonic(), random.Random(name), collections.Counter[str]()
    for number in range(points):
        share = (number + draw.random()) / points
        copy_afresh(before, place)
        if number % 2:
            ended = run(command, place, seconds=share * min(first.seconds, whole.seconds))
        else:
            last = 1 + int(share * whole.operations)
            ended = run(command, place, last, alone=name == "sweep" and number % 4 == 0)
        killed += ended.where != ""
        present = contents(place / REPORT)
        cut = [f"{each} at the kill" for each in old | new if present.get(each) not in (old.get(each), new.get(each))]
        failed = "" if contents(place) == wanted else go_on(command, place)
        left_over += any(map(LEFT_OVER.search, names(place)))
        unlike = cut + ([failed] if failed else differing(contents(place), wanted))
        if unlike:
            lost += 1
            kinds.update(re.sub("[0-9]+", "N", each) for each in unlike)
            print(f"  {name}, killed {ended.where}: {'; '.join(unlike[:5])}", flush=True)
    seconds = (time.monotonic() - began) / points
    listed = ", ".join(f"{each} x {count}" for each, count in kinds.most_common(5))
    print(f"{name:10} {killed:6} {lost:4} {left_over:9} {seconds:12.2f}  {listed}", flush=True)


def copy_afresh(folder: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--only", nargs="+", default=list(WORKS), choices=WORKS)
    flags = parser.parse_args()
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: processes that a killed sweep leaves become children here
    print(f"{'command':10} {'killed':>6} {'lost':>4} {'left over':>9} {'seconds each':>12}  what differed")
    with tempfile.TemporaryDirectory() as scratch:
        for name in flags.only:
            kill_at_points(name, flags.points, Path(scratch))


if __name__ == "__main__":
    main()
