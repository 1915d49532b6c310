"""Self-attention GANs with sparse attention. The public names; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Config": "sagan.run.config",
    "Discriminator": "sagan.core.networks.dcgan",
    "ExcludeLocal": "sagan.core.attention",
    "Full": "sagan.core.attention",
    "Generator": "sagan.core.networks.dcgan",
    "Local": "sagan.core.attention",
    "SelfAttention2d": "sagan.core.layers.self_attention",
    "attend": "sagan.core.attention",
    "load_snapshot": "sagan.run.weights",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sagan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
