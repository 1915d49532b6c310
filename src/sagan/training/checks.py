"""What can be known about a run before any work is done for it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from sagan.data.sources.own import refuse_foreign_images
from sagan.run.build import check_networks
from sagan.run.config import Config, RunConfig
from sagan.run.folder import check_free
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.files import expand, refuse_unwritable
from sagan.system.sentences import plural


def check_new_run(config: Config) -> torch.device:
    """The device of a run that is to begin. Raises UserError where its folder is in use, and as `check_run`."""
    run = config.run
    if run.run_dir is not None:
        check_free(expand(run.run_dir))
    if run.sample_dir is not None and any(expand(run.sample_dir).glob("*_fake.png")):
        raise UserError(
            f"{run.sample_dir} already holds samples of another run: move them away, or give another `sample_dir`"
        )
    return check_run(config, expand(run.run_dir or "runs"))


def check_run(config: Config, folder: Path) -> torch.device:
    """The device of a run in a folder. Raises UserError for networks that cannot be built, a device that is not
    available, an extra that is not installed, places that cannot be written to and samples among other images."""
    run = config.run
    if run.sample_dir is not None:
        refuse_foreign_images(expand(run.sample_dir), "--sample_dir")
    check_networks(config.model)
    device = usable_device(run)
    if run.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("`tensorboard` needs an extra: pip install 'sagan-attention[tensorboard]'")
    places = {"`run_dir`": folder, "`sample_dir`": run.sample_dir, "`prepared`": config.data.prepared}
    for name, place in places.items():
        if place is not None:
            refuse_unwritable(expand(place), name)
    return device


def check_shards(config: Config, processes: int) -> None:
    """Raises UserError where processes cannot divide the shards of a run evenly."""
    shards = config.game.shards
    if shards % processes:
        fitting = [str(size) for size in range(1, shards + 1) if shards % size == 0]
        raise UserError(
            f"{plural(processes, 'process')} cannot divide the {plural(shards, 'shard')} of the run evenly: "
            f"start {' or '.join(fitting)}"
        )


def refuse_one_shard(given: Mapping[str, object], processes: int) -> None:
    """Raises UserError where one shard was asked for by name, and there are several processes."""
    if processes > 1 and given.get("shards") == 1:
        raise UserError(
            f"`shards` must be a multiple of the {processes} processes, got 1; by default it is {processes}"
        )


def usable_device(run: RunConfig) -> torch.device:
    """The run's device. Raises UserError if it is not available, or if the run wants CUDA graphs on another kind
    or to be compiled without a compiler."""
    device = choose_device(run.device)
    if run.cuda_graphs and device.type != "cuda":
        raise UserError(f"`cuda_graphs` needs a CUDA device, and this run's is {device}: omit it, or set it to false")
    if run.compile and device.type == "cpu":
        _refuse_without_compiler()
    return device


def _refuse_without_compiler() -> None:
    """Raises UserError where torch.compile finds no C++ compiler for the processor's code."""
    if sys.platform == "win32" or "TORCH_INDUCTOR_INSTALL_GXX" in os.environ:  # torch finds, or installs, its own
        return
    named = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch
    try:
        subprocess.run([named, "--version"], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"`compile` needs a C++ compiler, and {named!r} does not work here: install one, name one in the "
            "environment variable CXX, or set `compile` to false"
        ) from error
