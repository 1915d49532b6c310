"""Checkpoints of the published program: `{step}_G.pth` and `{step}_D.pth`, state dicts of its 64x64 networks.

They hold the same weights as our networks under other names: its spectral norm keeps the raw weight as ``weight_bar``,
and its attention consists of 1x1 convolutions. The files do not contain the span. Its generators take the input
channels as the rows of a transposed convolution's spectral norm, so ours must be built with ``norm_axis="input"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from sagan.run.weights import check_stored
from sagan.system.errors import UserError
from sagan.system.sentences import plural
from sagan.system.torch_files import read_torch_file, write_torch_file

Network = Literal["generator", "discriminator"]

_STAGES = {
    "generator": {"l1": "4", "l2": "8", "l3": "16", "l4": "32"},
    "discriminator": {"l1": "32", "l2": "16", "l3": "8", "l4": "4"},
}
_ATTENTION = {"generator": {"attn1": "16", "attn2": "32"}, "discriminator": {"attn1": "8", "attn2": "4"}}
_ORDER = ("l4", "l1", "l2", "l3", "last", "attn1", "attn2")  # the order in which that program's files list them
_CONVOLUTION = {"bias": "bias", "weight_u": "u", "weight_v": "v", "weight_bar": "weight"}
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def key_pairs(network: Network) -> dict[str, str]:
    """Maps each key of a published file to the key of our state dict, in the published order."""
    pairs: dict[str, str] = {}
    for part in _ORDER:
        if part in _STAGES[network]:
            ours = f"stages.{_STAGES[network][part]}"
            pairs |= {f"{part}.0.module.{theirs}": f"{ours}.0.{mine}" for theirs, mine in _CONVOLUTION.items()}
            if network == "generator":
                pairs |= {f"{part}.1.{name}": f"{ours}.1.{name}" for name in _BATCH_NORM}
        elif part in _ATTENTION[network]:
            ours = f"attention.{_ATTENTION[network][part]}"
            pairs[f"{part}.gamma"] = f"{ours}.gamma"
            for name in ("query", "key", "value"):
                pairs |= {f"{part}.{name}_conv.{kind}": f"{ours}.{name}.{kind}" for kind in ("weight", "bias")}
        else:
            pairs |= {f"{part}.0.{kind}": f"{part}.{kind}" for kind in ("weight", "bias")}
    return pairs


def to_published(network: Network, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the published keys and shapes. Raises UserError for networks which that program lacks."""
    pairs = key_pairs(network)
    if set(pairs.values()) != set(state):
        raise UserError(
            f"only the published 64x64 {network}, with attention at its two published maps, can be written as a "
            "published checkpoint"
        )
    return {theirs: _reshape_out(theirs, state[ours]).detach().cpu() for theirs, ours in pairs.items()}


def from_published(network: Network, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under our keys and shapes; the ``module.`` of a DataParallel file is removed.

    Raises UserError, naming keys, for anything else.
    """
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    pairs = key_pairs(network)
    wrong = sorted(set(state) ^ set(pairs))
    if wrong:
        raise UserError(
            f"this is not a published 64x64 {network}: {plural(len(wrong), 'key')} missing or unknown, such as "
            f"{wrong[0]}"
        )
    try:
        return {ours: _reshape_in(theirs, state[theirs]) for theirs, ours in pairs.items()}
    except RuntimeError:
        raise UserError("a gamma in this file is not a single number, as it is in the published networks") from None


def read_published(path: Path, network: Network) -> dict[str, Tensor]:
    """The state dict of a published file under our keys, on the CPU; runs no code from the file."""
    state = read_torch_file(path)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path} is not a state dict of the published program")
    known = key_pairs(network)
    for name, value in state.items():
        if name.removeprefix("module.") in known:
            check_stored(value, f"{path} is not a state dict of the published program: {name[:60]}")
    try:
        return from_published(network, state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def save_published_pair(folder: Path, step: int, generator: nn.Module, discriminator: nn.Module) -> None:
    """Writes ``{step}_G.pth`` and ``{step}_D.pth`` into a folder; ``generator`` is the one in training, not its EMA."""
    states = {
        "G": to_published("generator", generator.state_dict()),
        "D": to_published("discriminator", discriminator.state_dict()),
    }
    for letter, state in states.items():
        write_torch_file(folder / f"{step}_{letter}.pth", state)


def _reshape_out(key: str, value: Tensor) -> Tensor:
    if key.endswith("gamma"):
        return value.reshape(1)
    return value[:, :, None, None] if key.endswith("_conv.weight") else value


def _reshape_in(key: str, value: Tensor) -> Tensor:
    if key.endswith("gamma"):
        return value.reshape(())
    return value.flatten(1) if key.endswith("_conv.weight") else value
