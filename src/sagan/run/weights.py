"""The two kinds of saved weights: a checkpoint holds everything needed to resume, a snapshot a generator to use.

Both readers check every field and every tensor before they return anything: tensors must be finite and have the names,
shapes and dtypes of the networks that the file's own config describes. Nothing in a file is executed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from sagan.core.game.average import batch_norm_latents, measure_batch_norm
from sagan.core.networks.folding import folded as fold
from sagan.core.networks.interface import Discriminator, Generator
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, ModelConfig, from_dict, to_dict, without_places
from sagan.run.folder import Run, snapshot_step
from sagan.run.records import FACTORS, RollbackRecord, check_factors
from sagan.system.errors import UserError
from sagan.system.files import expand, read_regular, write_whole
from sagan.system.torch_files import from_safetensors, read_torch_file, read_without_tensors, write_torch_file
from sagan.system.typed import Count, Seconds, check_format, from_plain, newer, parse_json, shorten, to_plain

CHECKPOINT_FORMAT = 1
SNAPSHOT_FORMAT = "sagan-generator-1"
_LARGEST_SNAPSHOT, _LARGEST_FACTS = 2**34, 2**24  # bytes; the facts hold the names of up to a million classes

Tensors = Mapping[str, Tensor]

_NO_CAUTION = dict.fromkeys(FACTORS, 1.0)


# ---- snapshots


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A generator in eval mode on the CPU, and the config it was trained with.

    ``images`` is the hash of its training images, None if unknown. ``classes``: the names of its classes by number;
    empty without classes, and if they are unknown, as in files of earlier versions.
    """

    generator: Generator
    config: Config
    step: int
    images: str | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Facts:
    """A snapshot's metadata except its config."""

    step: Count
    images: str | None = None
    classes: tuple[str, ...] = ()
    stored: Literal["float32", "float16"] = "float32"
    folded: bool = False


def save_snapshot(path: Path, snapshot: Snapshot, *, half: bool = False, folded: bool = False) -> None:
    """Writes a snapshot as safetensors, completely or not at all. Equal snapshots give equal bytes.

    ``half``: in half precision, in which the file is half as large; it is read as float32 all the same. ``folded``: the
    generator comes from `sagan.core.networks.folding.folded`.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.generator.state_dict().items()}
    facts: dict[str, Any] = {
        "format": SNAPSHOT_FORMAT,
        "config": to_dict(without_places(snapshot.config)),
        "step": snapshot.step,
    }
    if snapshot.images is not None:
        facts["images"] = snapshot.images
    if snapshot.classes:
        facts["classes"] = snapshot.classes
    if half:
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        facts["stored"] = "float16"
    if folded:
        facts["folded"] = True
    # one entry, as the library writes several in random order
    data = safetensors_bytes(tensors, metadata={"sagan": json.dumps(facts)})
    write_whole(path, lambda file: file.write(data))


def load_snapshot(path: str | Path) -> Snapshot:
    """The snapshot in a file, or that of the averaged generator in a checkpoint (``*.pt``).

    Raises UserError for a file that is not a complete snapshot or checkpoint of this program.
    """
    path = expand(path)
    if not path.is_file():
        raise UserError(f"{path} is not a snapshot file, but a folder" if path.is_dir() else f"{path} does not exist")
    if path.suffix == ".pt":
        return _snapshot_of(load_checkpoint(path))
    data = read_regular(path, _LARGEST_SNAPSHOT, "snapshot file")
    try:
        metadata, tensors = from_safetensors(data)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole snapshot: it is torn, or not a safetensors file") from error
    config, facts = _read_metadata(metadata, str(path))
    _check_name(path, facts.step)
    generator = _empty_generator(config.model, str(path))
    if facts.folded:
        generator = fold(generator)
    _check_classes(facts.classes, config.model, str(path))
    if facts.stored == "float16":
        tensors = {name: tensor.float() if tensor.dtype == torch.half else tensor for name, tensor in tensors.items()}
    _check_tensors(tensors, generator.state_dict(), f"{path}")
    generator.load_state_dict(tensors, assign=True)
    return Snapshot(generator.eval().requires_grad_(False), config, facts.step, facts.images, facts.classes)


def _check_name(path: Path, step: int) -> None:
    """Raises UserError for a file that is named as a run names its snapshot of another step."""
    named = re.fullmatch(r"(latest-)?([0-9]{8,19})", path.stem)
    if named and int(named[2]) != step:
        raise UserError(
            f"{path} is a snapshot of step {step:,}, and not of the step that its name says: rename it, or bring back "
            "the file of that step"
        )


def _snapshot_of(checkpoint: Checkpoint) -> Snapshot:
    """What training writes as a snapshot at the checkpoint's step."""
    generator = build_generator(checkpoint.config.model)
    generator.load_state_dict(checkpoint.average)
    generator.eval().requires_grad_(False)
    measure_batch_norm(generator, batch_norm_latents(generator, checkpoint.config.run.seed))
    images = checkpoint.images.split()[0] if checkpoint.images else None  # behind it is the hash of the labels
    return Snapshot(generator, checkpoint.config, checkpoint.step, images, checkpoint.classes)


def _read_metadata(metadata: dict[str, str], where: str) -> tuple[Config, _Facts]:
    if "sagan" in metadata:
        values = parse_json(metadata["sagan"].encode(), where, _LARGEST_FACTS)
    elif "config" in metadata:  # as versions up to 0.1 wrote it: one entry per fact, all of them text
        values = {**metadata, "config": parse_json(metadata["config"].encode(), where)}
        number = metadata.get("step", "")
        values["step"] = int(number) if re.fullmatch("[0-9]{1,19}", number) else number
    else:
        raise UserError(f"{where} is not a snapshot of sagan: its metadata is {shorten(metadata)}")
    if isinstance(values, dict) and values.get("network") == "discriminator":
        raise UserError(f"{where} is a discriminator that `sagan export` wrote, and draws nothing: give a generator")
    if not isinstance(values, dict) or not {"format", "config"} <= values.keys():
        raise UserError(f"{where} is damaged: its metadata holds no format and config")
    found, config = values.pop("format"), values.pop("config")
    if found != SNAPSHOT_FORMAT:
        known = isinstance(found, str) and found.startswith("sagan-generator-")
        wrong = newer([f"the format {shorten(found)}"]) if known else f"is damaged: its format is {shorten(found)}"
        raise UserError(f"{where} {wrong}")
    return from_dict(config, where), from_plain(_Facts, values, where)


def _empty_generator(model: ModelConfig, where: str) -> Generator:
    """The generator without memory for its weights, which a damaged config may make of any size."""
    if model.num_classes == "auto":
        raise UserError(f"{where} is damaged: num_classes must be a whole number, got 'auto'")
    with _building(where):
        return build_generator(model)


@contextlib.contextmanager
def _building(where: str) -> Iterator[None]:
    """Networks are built without memory inside this context. Settings that no networks have are damage."""
    try:
        with torch.device("meta"):
            yield
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error


def _check_classes(classes: tuple[str, ...], model: ModelConfig, where: str) -> None:
    """Raises UserError unless these are the names of all classes of the networks, or there are none."""
    if classes and not len(classes) == len(set(classes)) == model.num_classes:
        raise UserError(
            f"{where} is damaged: classes must be the different names of {model.num_classes:,} classes, "
            f"got {shorten(classes)}"
        )


# ---- checkpoints


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """Everything that the next step depends on. Randomness and the order of the images follow from the step."""

    step: int
    seconds: float
    """Spent training, over all the processes that worked on the run."""
    config: Config
    generator: Tensors
    discriminator: Tensors
    average: Tensors
    """Of the averaged generator."""
    g_optimizer: Mapping[str, Any]
    """Adam's state dict; its state is empty before the first step and after an import."""
    d_optimizer: Mapping[str, Any]
    anchors: Tensor | None = None
    """The LeCam penalty's means of past logits, float32 (2,)."""
    attempt: int = 0
    """The number of rollbacks so far."""
    caution: Mapping[str, float]
    """The product of the remedies of all rollbacks: factors of both learning rates and of the penalties."""
    rollback: RollbackRecord | None = None
    """The last one."""
    penalty: float | None = None
    """The last gradient penalty, which not every step computes."""
    images: str | None = None
    """The hash of the training images; None if unknown, as after an import."""
    classes: tuple[str, ...] = ()
    """The names of the classes by number; empty without classes, and in files of earlier versions."""


@dataclass(frozen=True, kw_only=True)
class _Values:
    """The parts of a checkpoint that hold no tensors."""

    step: Count
    seconds: Seconds
    config: str
    images: str | None
    attempt: Count = 0
    caution: Mapping[str, float] | None = None
    rollback: RollbackRecord | None = None
    penalty: float | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.caution is not None:
            if self.caution.keys() != _NO_CAUTION.keys():
                raise UserError(f"caution must hold {', '.join(FACTORS)}, got {shorten(dict(self.caution))}")
            check_factors("caution", self.caution, self.attempt)
        made = 0 if self.rollback is None else self.rollback.attempt
        if made != self.attempt:
            raise UserError(f"attempt must be the number of rollbacks, {made:,}, got {self.attempt:,}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint as `write_torch_file` does: an error leaves the old file."""
    config = json.dumps(to_dict(without_places(checkpoint.config)))
    values = vars(checkpoint) | {"format": CHECKPOINT_FORMAT, "config": config}
    classes = list(values.pop("classes"))
    if classes:  # else the file is as earlier versions wrote it
        values["classes"] = classes
    rollback = checkpoint.rollback
    values["rollback"] = None if rollback is None else {"kind": rollback.kind, **to_plain(rollback)}
    write_torch_file(path, {**values, "caution": dict(checkpoint.caution)})


_TENSORS = ("generator", "discriminator", "average", "g_optimizer", "d_optimizer", "anchors")


def load_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint that `save_checkpoint` wrote, on the CPU.

    Raises UserError for a torn file, a file of another kind, and values or tensors that no run has.
    """
    where, state = str(path), read_torch_file(path)
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{where} is not a checkpoint of sagan")
    check_format(state.pop("format"), CHECKPOINT_FORMAT, where)
    parts = {name: state.pop(name, None) for name in _TENSORS}
    if isinstance(state.get("rollback"), dict):
        kind = state["rollback"].pop("kind", RollbackRecord.kind)
        if kind != RollbackRecord.kind:
            raise UserError(f"{where} is damaged: the kind of rollback must be 'rollback', got {shorten(kind)}")
    values = from_plain(_Values, state, where)
    config = from_dict(parse_json(values.config.encode(errors="surrogateescape"), where), where)
    generator = _empty_generator(config.model, where)
    _check_classes(values.classes, config.model, where)
    with _building(where):
        discriminator = build_discriminator(config.model)
    parts["d_optimizer"] = _without_frozen(parts["d_optimizer"], discriminator)
    networks: dict[str, nn.Module] = {"generator": generator, "average": generator, "discriminator": discriminator}
    for name, network in networks.items():
        _check_tensors(parts[name], network.state_dict(), f"{where}, {name},")
    for name, network in (("g_optimizer", generator), ("d_optimizer", discriminator)):
        _check_optimizer(parts[name], network, f"{where}, {name},")
    _refuse_shared([parts["g_optimizer"], parts["d_optimizer"]], where)
    if config.game.lecam:
        means = torch.empty(2, dtype=torch.float32, device="meta")
        _check_tensors({"anchors": parts["anchors"]}, {"anchors": means}, where)
    elif parts["anchors"] is not None:
        raise UserError(f"{where} is damaged: anchors must be None without lecam, got {shorten(parts['anchors'])}")
    known = vars(values) | {"config": config, "caution": values.caution or _NO_CAUTION}
    return Checkpoint(**parts, **known)


def saved_step(path: Path) -> int | None:
    """The step of a checkpoint, read without its tensors; None where there is no such file or it is torn."""
    state = read_without_tensors(path)
    step = state.get("step") if isinstance(state, dict) else None
    return step if isinstance(step, int) else None


def load_discriminator(run: Run) -> tuple[Discriminator, int]:
    """The discriminator of a run's last checkpoint, in eval mode on the CPU, and its step. Raises UserError for a
    damaged checkpoint."""
    checkpoint = load_checkpoint(run.checkpoint_file)
    discriminator = build_discriminator(checkpoint.config.model)
    discriminator.load_state_dict(checkpoint.discriminator)
    return discriminator.eval().requires_grad_(False), checkpoint.step


def step_of(path: Path) -> int:
    """The step of what `load_snapshot` reads: by the name of a snapshot's file, or as a checkpoint says."""
    if path.suffix != ".pt":
        return snapshot_step(path)
    step = saved_step(path)
    return load_checkpoint(path).step if step is None else step  # which says what is wrong with a torn one


# ---- tensors


def _check_tensors(found: Any, expected: Tensors, where: str) -> None:
    """Raises UserError unless these are finite dense CPU tensors of the expected names, shapes and dtypes."""
    if not isinstance(found, Mapping):
        raise UserError(f"{where} is damaged: it holds no tensors, but {shorten(found)}")
    unmatched = sorted(name if isinstance(name, str) else shorten(name) for name in found.keys() ^ expected.keys())
    if unmatched:
        what = "is missing" if unmatched[0] in expected else "does not belong there"
        raise UserError(f"{where} is damaged: the tensor {unmatched[0][:60]} {what}")
    for name, like in expected.items():
        _check_tensor(found[name], like, f"{where} is damaged: {name}")


def _check_tensor(tensor: Any, like: Tensor, name: str) -> None:
    if isinstance(tensor, Tensor) and (tensor.shape != like.shape or tensor.dtype != like.dtype):
        wanted, got = (f"{x.dtype} {tuple(x.shape)}" for x in (like, tensor))
        raise UserError(f"{name} must be {wanted}, got {got}")
    check_stored(tensor, name)


def check_stored(tensor: object, name: str) -> None:
    """Raises UserError, which begins with ``name``, unless this is a finite dense CPU tensor whose numbers are all in
    the file that it was read from."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.layout} on {tensor.device}" if isinstance(tensor, Tensor) else shorten(tensor)
        raise UserError(f"{name} must be a dense tensor, got {kind}")
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    if not (tensor.is_contiguous() or channels_last):  # an update in place would write outside its memory
        raise UserError(f"{name} must be contiguous, got strides {tensor.stride()}")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise UserError(f"{name} is not finite")


def _without_frozen(found: Any, network: nn.Module) -> Any:
    """Adam's state dict without the moments of frozen parameters, which are 0: earlier versions kept them."""
    trained = [parameter.requires_grad for parameter in network.parameters()]
    state = found.get("state") if isinstance(found, Mapping) else None
    if all(trained) or not isinstance(state, Mapping) or set(state) != set(range(len(trained))):
        return found
    return {**found, "state": dict(enumerate(state[number] for number, each in enumerate(trained) if each))}


def _check_optimizer(found: Any, network: nn.Module, where: str) -> None:
    """Raises UserError unless this is the state dict of Adam for a network's trained parameters, fresh or after a
    step."""
    state = found.get("state") if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping):
        raise UserError(f"{where} is damaged: it holds no state, but {shorten(found)}")
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if state and (set(state) != set(range(len(parameters))) or any(isinstance(number, bool) for number in state)):
        raise UserError(f"{where} is damaged: it must have a state for each of {len(parameters)} parameters")
    for number, parameter in enumerate(parameters) if state else ():
        like = parameter.detach()
        moments = {"step": torch.empty((), dtype=torch.float32, device="meta"), "exp_avg": like, "exp_avg_sq": like}
        part = f"{where} parameter {number},"
        _check_tensors(state[number], moments, part)
        if state[number]["step"] < 1 or state[number]["exp_avg_sq"].min() < 0:
            raise UserError(f"{part} is damaged: step must be 1 or more, and no number of exp_avg_sq below 0")


def _refuse_shared(optimizers: list[Mapping[str, Any]], where: str) -> None:
    """Raises UserError where two of the optimizers' tensors lie in the same memory: they are updated in place."""
    found = [tensor for each in optimizers for moments in each["state"].values() for tensor in moments.values()]
    if len({tensor.untyped_storage().data_ptr() for tensor in found}) < len(found):
        raise UserError(f"{where} is damaged: two of the optimizers' tensors share their memory")
