"""Self-attention GANs with sparse attention. The public names; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Config": "sagan.config",
    "Discriminator": "sagan.models.dcgan",
    "ExcludeLocal": "sagan.attention",
    "Full": "sagan.attention",
    "Generator": "sagan.models.dcgan",
    "Local": "sagan.attention",
    "SelfAttention2d": "sagan.layers.self_attention",
    "attend": "sagan.attention",
    "load_snapshot": "sagan.models.build",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sagan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
