"""What a run is computed from and on, decided once before its first step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sagan.data import Source, Store, prepared_store
from sagan.data.batches import check as check_batches
from sagan.run.config import Config, ModelConfig, RunConfig, override
from sagan.system.console import Console
from sagan.system.devices import choose_device
from sagan.system.errors import UserError


@dataclass(frozen=True)
class Session:
    """The settings of a run with nothing left to decide (precision, paths, classes), its device and its images."""

    config: Config
    device: torch.device
    store: Store


def usable_device(run: RunConfig) -> torch.device:
    """The run's device. Raises UserError where it is not there, and for CUDA graphs on one that has none."""
    device = choose_device(run.device)
    if run.cuda_graphs and device.type != "cuda":
        raise UserError(f"cuda_graphs needs a CUDA device, and this run's is {device}: leave it out, or say false")
    return device


def settle(config: Config, device: torch.device) -> Config:
    """The config with what depends on the device decided, as a run keeps it: its precision."""
    if config.run.precision != "auto":
        return config
    native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return override(config, {"precision": "bf16" if native else "fp32"})


def open_store(config: Config, console: Console, source: Source | None = None) -> Store:
    """The images as `prepared_store` gives them. Raises UserError where they are too few for a batch."""
    store = prepared_store(config.data, config.model.imsize, console, source)
    check_batches(store.images, config.game.batch_size)
    return store


def count_classes(model: ModelConfig, store: Store) -> int:
    """How many classes the networks learn. Raises UserError where the images have not as many."""
    if model.num_classes == 0:
        return 0
    store.needed_labels()
    found = len(store.classes)
    if model.num_classes not in ("auto", found):
        raise UserError(
            f"num_classes is {model.num_classes}, but the images have {found} classes: --num_classes auto takes those"
        )
    return found
