"""Published weights: finding, downloading and verifying their files."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sagan.system.errors import UserError
from sagan.system.files import expand, file_sha256, own_cache, read_regular
from sagan.system.sentences import typed
from sagan.system.torch_files import from_safetensors, read_torch_file


@dataclass(frozen=True)
class PublishedWeights:
    """A published weights file; the environment variable ``variable`` may name a copy of it."""

    title: str
    filenames: tuple[str, ...]
    url: str
    sha256: str
    variable: str

    @property
    def remedy(self) -> str:
        """What to do where there is no local copy."""
        return (
            f"fetch {self.url} and put it in {own_cache()}, or give its path as `weights` or in the environment"
            f" variable {self.variable}"
        )


INCEPTION = PublishedWeights(
    title="the FID Inception weights",
    # One file under two names: pytorch-fid's and torch-fidelity's have the same bytes.
    filenames=("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    variable="SAGAN_INCEPTION_WEIGHTS",
)


# ---- finding and downloading


def hub_cache() -> Path:
    """Where torch.hub keeps the files that it and other programs downloaded."""
    folder = torch.hub.get_dir()
    return (own_cache() if folder.startswith("~") else Path(folder)) / "checkpoints"  # "~": there is no home


def find_weights(published: PublishedWeights) -> Path | None:
    """The local copy: the file that the environment variable names, else one under its name in torch.hub's cache or in
    ours. UserError where the variable names no file."""
    if named := os.environ.get(published.variable):
        return existing_file(Path(named), f"the environment variable {published.variable}")
    places = [folder / name for folder in (hub_cache(), own_cache()) for name in published.filenames]
    return next((place for place in places if place.is_file()), None)


def existing_file(path: Path, source: str) -> Path:
    """``path`` with ``~`` expanded; UserError, saying that ``source`` gave it, where no file is there."""
    path = expand(path)
    if not path.is_file():
        raise UserError(f"{source} names {path}, which is not a file")
    return path


def download_weights(published: PublishedWeights) -> Path:
    """Downloads into torch.hub's cache, whole and with the right sha256 or not at all; OSError where that fails."""
    target = hub_cache() / published.filenames[0]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            published.url, str(target), hash_prefix=published.sha256, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError, http.client.HTTPException) as error:  # RuntimeError: the sha256 differs
        raise OSError(
            f"{published.title} are not on this machine and could not be downloaded ({error}): {published.remedy}"
        ) from error
    return target


# ---- verifying and reading


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """One hash of names, dtypes, shapes and values, for weights that have no file."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def published_sha256(path: Path, published: PublishedWeights) -> str:
    """The file's sha256; UserError where the file has a published name but other content."""
    found = file_sha256(path)
    if path.name in published.filenames and found != published.sha256:
        raise UserError(
            f"{path} is damaged or is not what its name says: its sha256 is {found}, that of {published.title} is"
            f" {published.sha256}; delete it and fetch {published.url} again"
        )
    return found


_WITHIN = ("state_dict_ema", "model_ema", "state_dict", "model")  # where checkpoints of training keep the weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name in a file of safetensors or of torch.save, of which nothing is run, also within a checkpoint
    of timm's or other training; UserError for anything else, such as a truncated file."""
    try:
        plain = path.suffix == ".safetensors"
        read = from_safetensors(read_regular(path))[1] if plain else read_torch_file(path, "weights")
    except (UserError, SafetensorError) as error:
        first_line = next(iter(str(error.__cause__ or error).splitlines()), "it is empty")
        raise UserError(
            f"{path} is not a weights file, or is truncated ({first_line}); a TorchScript file is named as"
            f" {typed(f'torchscript:{path}')}"
        ) from error
    if isinstance(read, dict):
        read = next((read[name] for name in _WITHIN if isinstance(read.get(name), dict)), read)
    if not isinstance(read, dict) or not read or not all(isinstance(value, Tensor) for value in read.values()):
        raise UserError(f"{path} is not a weights file: it must hold tensors by name, a state dict")
    return {str(name).removeprefix("module."): value for name, value in read.items()}


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Gives ``module``, which may be on the meta device, these weights in float32. UserError, naming what differs,
    where they are not of such a module or hold NaN or infinity."""
    own = module.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # not in old files; eval needs none
    alike = sorted(n for n in own.keys() & weights.keys() if own[n].shape == weights[n].shape)
    differences = {
        "missing": sorted(own.keys() - weights.keys() - counters),
        "unknown": sorted(weights.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape),
        "with NaN or infinity": [name for name in alike if not weights[name].isfinite().all()],
    }
    found = [f"{len(names)} {what} (first {names[0]})" for what, names in differences.items() if names]
    if found:
        raise UserError(f"{source} does not hold the weights of {type(module).__name__}: tensors {', '.join(found)}")
    module.load_state_dict(weights, assign=True)  # which starts absent counters at 0
    module.float()
