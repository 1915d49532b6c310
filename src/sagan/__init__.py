"""Self-attention GANs with sparse attention. The public names; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sagan.system.errors import UserError

if TYPE_CHECKING:
    from sagan.api import Images, LoadedGenerator, OpenedRun, evaluate, load, open_run, resume, train
    from sagan.core.attention import ExcludeLocal, Full, Local, attend
    from sagan.core.layers.self_attention import SelfAttention2d
    from sagan.core.networks.interface import Discriminator, Generator
    from sagan.run.config import Config
    from sagan.run.weights import Snapshot, load_snapshot

_HOMES = {
    "Config": "sagan.run.config",
    "Discriminator": "sagan.core.networks.interface",
    "ExcludeLocal": "sagan.core.attention",
    "Full": "sagan.core.attention",
    "Generator": "sagan.core.networks.interface",
    "Images": "sagan.api",
    "LoadedGenerator": "sagan.api",
    "Local": "sagan.core.attention",
    "OpenedRun": "sagan.api",
    "SelfAttention2d": "sagan.core.layers.self_attention",
    "Snapshot": "sagan.run.weights",
    "attend": "sagan.core.attention",
    "evaluate": "sagan.api",
    "load": "sagan.api",
    "load_snapshot": "sagan.run.weights",
    "open_run": "sagan.api",
    "resume": "sagan.api",
    "train": "sagan.api",
}

__all__ = [
    "Config",
    "Discriminator",
    "ExcludeLocal",
    "Full",
    "Generator",
    "Images",
    "LoadedGenerator",
    "Local",
    "OpenedRun",
    "SelfAttention2d",
    "Snapshot",
    "UserError",
    "__version__",
    "attend",
    "evaluate",
    "load",
    "load_snapshot",
    "open_run",
    "resume",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("sagan")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sagan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
