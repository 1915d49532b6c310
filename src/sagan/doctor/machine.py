"""Whether this machine and this installation can train."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from sagan.bench.machine import available_memory, describe_machine, free_memory, machine_card
from sagan.doctor.findings import Finding
from sagan.run.keeping import free_bytes
from sagan.system.devices import emulates_bfloat16
from sagan.system.errors import UserError, describe
from sagan.system.files import expand, refuse_unwritable, write_whole
from sagan.system.sentences import binary, plural

_LITTLE_DISK, _LITTLE_MEMORY = 2**30, 2**30  # bytes, below which the smallest presets may not fit
_PROBE = 2**20  # bytes that are written to try a disk
_SINCE, _UNTIL = 1_735_689_600, 2_366_841_600  # the beginnings of 2025 and 2045, between which a clock may be right
_ASKEW = 120.0  # seconds between the clock and that of a disk
_DRIVER = Path("/proc/driver/nvidia/version")

EXTRAS = {  # by the name of a module: the extra that brings it, and what it is for
    "efficientnet_lite_pytorch": ("features", "scores of EfficientNet-Lite0, the default without Inception's weights"),
    "lmdb": ("data", "LSUN's LMDBs"),
    "tensorboard": ("tensorboard", "`tensorboard`"),
    "submitit": ("cluster", "sweeps on a cluster"),
    "starlette": ("serve", "`sagan serve`"),
    "imageio_ffmpeg": ("video", "films and walks as mp4"),
    "onnx": ("export", "ONNX, the page that draws in a browser and the Hugging Face hub"),
}


def examine_machine(device: torch.device, places: dict[str, str]) -> list[Finding]:
    """All findings about the machine. ``places``: folders that will be written to, by the settings that name them."""
    findings = [
        Finding("note", "machine", describe_machine(machine_card(device))),
        *_gpu(device),
        *_bfloat16(device),
        *_memory(device),
        *_clock(),
        *_extras(),
    ]
    for name, place in places.items():
        findings += examine_place(name, place)
    return findings


def _gpu(device: torch.device) -> Iterator[Finding]:
    driver = re.search(r"\b\d+\.\d+(\.\d+)?\b", _DRIVER.read_text(errors="replace")) if _DRIVER.is_file() else None
    said = "" if driver is None else f", driver {driver[0]}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("sound", "gpu", f"{', '.join(names)}; CUDA {torch.version.cuda}{said}")
        if importlib.util.find_spec("triton") is None:
            yield Finding(
                "warning", "triton", "triton is not installed, which fused attention needs", "pip install triton"
            )
        if device.type != "cuda":
            yield Finding("warning", "gpu", f"there is a GPU, and training would be on {device}", "leave out --device")
    elif driver is not None:
        built = "built for processors only" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        yield Finding(
            "warning",
            "gpu",
            f"there is an NVIDIA GPU (driver {driver[0]}) that torch {torch.__version__}, {built}, cannot use",
            "install the torch of https://pytorch.org for a CUDA version that the driver supports",
        )
    else:
        yield Finding("note", "gpu", "no GPU that torch can use: training is on the processor, in small sizes")


def _bfloat16(device: torch.device) -> Iterator[Finding]:
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = not emulates_bfloat16(device)
    if native:
        yield Finding("sound", "bfloat16", "bfloat16 is computed by the device itself: --precision bf16 is fast")
    else:
        yield Finding("note", "bfloat16", "the device has no bfloat16: --precision bf16 would be slower than fp32")


def _memory(device: torch.device) -> Iterator[Finding]:
    for where, free in {"this machine": available_memory(), f"{device}": free_memory(device)}.items():
        if where == "cpu":
            continue
        if free is None:
            yield Finding("note", "memory", f"the free memory of {where} is not known")
        elif free < _LITTLE_MEMORY:
            yield Finding("warning", "memory", f"{binary(free)} of memory are free on {where}", "close other programs")
        else:
            yield Finding("sound", "memory", f"{binary(free)} of memory are free on {where}")


def _clock() -> Iterator[Finding]:
    now = time.time()
    said = time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
    if _SINCE <= now <= _UNTIL:
        yield Finding("sound", "clock", f"the clock says {said}")
    else:
        remedy = "set it: files, locks and downloads are told apart by their times"
        yield Finding("warning", "clock", f"the clock says {said}, which cannot be", remedy)


def _extras() -> Iterator[Finding]:
    for module, (extra, purpose) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("note", "extra", f"not installed: {purpose}", f"pip install 'sagan[{extra}]'")
        else:
            yield Finding("sound", "extra", f"installed ({extra}): {purpose}")


def examine_place(name: str, place: str | Path) -> list[Finding]:
    """Whether a folder can be written to, and how much room it has. What is not there yet is not made: then the folder
    is tried in which it would be. ``name``: the setting that names it."""
    folder = expand(place).absolute()
    try:
        refuse_unwritable(folder, f"`{name}`")
        while not folder.is_dir():
            folder = folder.parent
        free, seconds, askew = free_bytes(folder), *_try(folder)
    except UserError as error:
        return [Finding("stop", "write", str(error), f"give another --{name}")]
    except OSError as error:
        return [Finding("stop", "write", f"{place} cannot be written to: {describe(error)}", f"give another --{name}")]
    where = f"{place} ({name})"
    found = [Finding("sound", "write", f"{where} can be written to: {binary(_PROBE)} in {seconds * 1e3:.0f} ms")]
    if free < _LITTLE_DISK:
        found.append(
            Finding("warning", "disk", f"{binary(free)} are free for {where}", "make room, or give another disk")
        )
    else:
        found.append(Finding("sound", "disk", f"{binary(free)} are free for {where}"))
    if abs(askew) > _ASKEW:
        text = f"the clock of the disk of {where} differs by {plural(round(abs(askew)), 'second')} from this machine's"
        found.append(Finding("warning", "clock", text, "set both by the network's time"))
    return found


def _try(folder: Path) -> tuple[float, float]:
    """Writes a file and removes it. Returns the seconds that it took, and by how many the disk's clock is ahead."""
    probe, data = folder / f".sagan-doctor-{os.getpid()}", os.urandom(_PROBE)
    began, now = time.monotonic(), time.time()
    try:
        write_whole(probe, lambda file: file.write(data))
        seconds, written = time.monotonic() - began, probe.stat().st_mtime
        if probe.read_bytes() != data:
            raise OSError(None, "what was written is not what is read", str(folder))
    finally:
        probe.unlink(missing_ok=True)
    return seconds, written - now - seconds
