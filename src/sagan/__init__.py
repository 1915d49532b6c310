"""Self-attention GANs with sparse attention. The public names; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sagan.system.errors import UserError

if TYPE_CHECKING:
    from sagan.api import Images, LoadedGenerator, OpenedRun, evaluate, load, open_run, pretrained, resume, train
    from sagan.core.attention import ExcludeLocal, Full, Local, attend
    from sagan.core.layers.self_attention import SelfAttention2d
    from sagan.core.networks.interface import Discriminator, Generator
    from sagan.run.config import Config
    from sagan.run.weights import Snapshot, load_snapshot

_HOMES = {
    "sagan.api": (
        "Images",
        "LoadedGenerator",
        "OpenedRun",
        "evaluate",
        "load",
        "open_run",
        "pretrained",
        "resume",
        "train",
    ),
    "sagan.core.attention": ("ExcludeLocal", "Full", "Local", "attend"),
    "sagan.core.layers.self_attention": ("SelfAttention2d",),
    "sagan.core.networks.interface": ("Discriminator", "Generator"),
    "sagan.run.config": ("Config",),
    "sagan.run.weights": ("Snapshot", "load_snapshot"),
}

__version__ = "0.2.0"

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
    "pretrained",
    "resume",
    "train",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'sagan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
