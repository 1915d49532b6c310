"""Starting a command in several processes of this machine, as ``torchrun`` does."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from sagan.system.errors import UserError

_TO_SAVE = 110  # seconds between a signal and the end of processes that have not saved by then


def run_on_gpus(gpus: int, device: str, words: Sequence[str]) -> int:
    """Runs a command of `sagan` in a process for each of ``gpus`` GPUs.

    Returns the exit status: 0, or that of the first process that fails. With the device ``cpu`` no GPU is needed.
    Raises UserError where this machine has fewer.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if gpus < 1:
        raise UserError(f"`gpus` must be 1 or more, got {gpus}")
    found = torch.cuda.device_count()
    if device != "cpu" and gpus > found:
        raise UserError(f"`gpus` must be at most the number of GPUs here, {found}, got {gpus}; --device cpu needs none")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_TO_SAVE))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes speak for themselves
    config = LaunchConfig(1, 1, gpus, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="sagan", max_restarts=0)
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "sagan", *words)  # no code of the current folder
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        code = int(failed.get_first_failure()[1].exitcode)
        return code if code > 0 else 2  # negative: a signal ended it
    return 0
