"""The two kinds of saved weights: a checkpoint holds everything, to resume; a snapshot holds a generator, to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save as safetensors_bytes
from torch import nn

from sagan.run.torch_files import read_torch_file, write_torch_file
from sagan.system.errors import UserError
from sagan.system.files import write_whole

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a training state of tensors, numbers, strings and containers of them. The old file stays until the new
    one is whole on the disk; raises OSError, and leaves the old one, where it cannot be written."""
    write_torch_file(path, {"format": FORMAT, **state})


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A state that `save_checkpoint` wrote, on the CPU; executes nothing from the file (``weights_only``).

    Raises UserError with one sentence for a torn file or one of another kind.
    """
    state = read_torch_file(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of sagan (format {FORMAT})")
    return state


def save_snapshot(path: Path, generator: nn.Module, facts: dict[str, str]) -> None:
    """Writes a generator's state dict as safetensors with ``facts`` (format, config, step ...) as its metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    data = safetensors_bytes(tensors, metadata=facts)
    write_whole(path, lambda file: file.write(data))
