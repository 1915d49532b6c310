"""Which machine this is: a time means nothing without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from sagan.data.prepare import cores

_PACKAGES = ("torch", "triton", "numpy", "pillow")


def machine_card(device: torch.device) -> dict[str, Any]:
    """Processors, memory in bytes, threads and versions: JSON-ready."""
    versions = {name: version for name in _PACKAGES if (version := _version(name))}
    card: dict[str, Any] = {
        "device": str(device),
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory": total_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **versions},
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        card |= {"gpu": properties.name, "gpu_memory": properties.total_memory, "cuda": torch.version.cuda}
    return card


def describe_machine(card: dict[str, Any]) -> str:
    """The card as one line."""
    parts = [card["gpu"]] if "gpu" in card else []
    parts += [card["cpu"], f"{card['cores']} cores, torch threads: {card['threads']}"]
    if card["memory"]:
        parts.append(f"{card['memory'] / 2**30:.0f} GiB")
    return ", ".join([*parts, *(f"{name} {version}" for name, version in card["versions"].items())])


def cpu_name() -> str:
    """The processor's name, from Linux or else from Python."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def total_memory() -> int | None:
    """Bytes of memory of this machine, or None where the system does not report it."""
    return _system_bytes("SC_PHYS_PAGES")


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not report it.

    On Linux this is MemAvailable, or what is left of the limit of this control group (a container) or of this process
    (``ulimit -v`` and ``-d``) where that is less.
    """
    free = _system_bytes("SC_AVPHYS_PAGES")
    info = Path("/proc/meminfo")
    if info.is_file():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else free
    limits = [limit for limit in (free, _left_in_group(), *_left_in_process()) if limit is not None]
    return min(limits, default=None)


def free_memory(device: torch.device) -> int | None:
    """Bytes that a run on a device can have; None where the system does not report it."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return available_memory() if device.type == "cpu" else None


def _left_in_group() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or its limit is the word "max"
        return None
    return max(0, limit - used + int(fields.get("inactive_file", 0)))  # cached files make room


def _left_in_process() -> list[int]:
    """What is left of each limit on the memory of this process."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return []
    import resource

    used = dict(line.split(":", 1) for line in status.read_text().splitlines())
    kinds = {"VmSize": resource.RLIMIT_AS, "VmData": resource.RLIMIT_DATA}
    limits = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return [
        max(0, limit - int(used[name].split()[0]) * 1024)
        for name, limit in limits.items()
        if limit != resource.RLIM_INFINITY and name in used
    ]


def _system_bytes(pages: str) -> int | None:
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
