"""Fine-tuning: a new run that begins with the weights of another."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sagan.core.layers.spectral_norm import SpectralNorm
from sagan.run.build import build_generator
from sagan.run.config import Config, ModelConfig
from sagan.run.folder import Run
from sagan.run.places import find_snapshot
from sagan.run.weights import Tensors, load_discriminator, load_snapshot
from sagan.system.errors import UserError
from sagan.system.files import expand, file_sha256
from sagan.system.sentences import plural
from sagan.training.trainer import Trainer

_TABLE = re.compile(r"\.norm\d\.(weight|bias)$|^stages\.\d+\.1\.(weight|bias)$|^embedding\.weight$")  # rows are classes
_SIZED = re.compile(r"^(stages|attention)\.(\d+)\.")


@dataclass(frozen=True, eq=False)
class Start:
    """The weights that a run begins with. ``name`` says where they are from: a name without folders, and the hash of
    the snapshot's file; a run's settings keep it as ``start_from``."""

    name: str
    model: ModelConfig
    step: int
    generator: Tensors
    discriminator: Tensors | None
    """None where there is no checkpoint with one: then the new run's is new."""
    classes: tuple[str, ...] = ()
    """The names of its classes by number, if known."""


def open_start(place: str, model: ModelConfig) -> Start:
    """The weights at a place that `find_snapshot` takes, for networks of ``model``.

    Raises UserError where there are none, and for networks that cannot take them: of another kind, of other widths, or
    without classes where these have some.
    """
    path = find_snapshot(expand(place))
    snapshot = load_snapshot(path)
    own = snapshot.config.model
    if own.network != model.network:
        raise UserError(
            f"`start_from` {place} is a {own.network}, and `network` is {model.network}: they share no weights"
        )
    before = snapshot.generator.num_classes
    if before and not model.num_classes:
        raise UserError(f"`start_from` {place} has {plural(before, 'class')}: give `num_classes` auto, or a number")
    run, discriminator = Run(expand(place)), None
    if run.checkpoint_file.is_file():
        discriminator = load_discriminator(run)[0].state_dict()
    _refuse_unfit(place, snapshot.generator.state_dict(), own, model)
    name = f"{Path(place).name or place}, step {snapshot.step}, sha256 {file_sha256(path)}"
    return Start(name, own, snapshot.step, snapshot.generator.state_dict(), discriminator, snapshot.classes)


def begin_from(trainer: Trainer, start: Start, classes: tuple[str, ...] = ()) -> list[str]:
    """Gives the weights to a trainer at step 0: to its generator and its average, and to its discriminator. Returns a
    sentence for each network. ``classes``: the names of the new run's, by which those of the start are found; without
    names on both sides they keep their numbers."""
    state = trainer.state()
    times = trainer.config.model.imsize / start.model.imsize
    known = {name: number for number, name in enumerate(start.classes)}
    count = trainer.generator.num_classes
    rows = [known.get(name) for name in classes] if known and len(classes) == count else None
    generator, of_generator = _taken(start.generator, state.generator, times, rows)
    sentences = [f"generator: {_describe(of_generator)}"]
    discriminator = state.discriminator
    if start.discriminator is None:
        sentences.append("discriminator: new, as the place to start from has no checkpoint with one")
    else:
        discriminator, parts = _taken(start.discriminator, state.discriminator, times, rows)
        sentences.append(f"discriminator: {_describe(parts)}")
    trainer.load(dataclasses.replace(state, generator=generator, discriminator=discriminator, average=generator))
    sources = start.generator, start.generator, start.discriminator or {}
    for network, source in zip(
        (trainer.generator, trainer.average.module, trainer.discriminator), sources, strict=True
    ):
        _restart_norms(network, source, times)
    return sentences


def _refuse_unfit(place: str, generator: Tensors, own: ModelConfig, model: ModelConfig) -> None:
    """Raises UserError where no block of a generator fits the new one."""
    counted = dataclasses.replace(model, num_classes=own.num_classes) if model.num_classes == "auto" else model
    with torch.device("meta"):
        target = build_generator(counted).state_dict()
    _, parts = _taken(generator, target, model.imsize / own.imsize)
    if not any(part.startswith("stage") for part in parts["taken"] + parts["resized"]):
        raise UserError(
            f"nothing of `start_from` {place} fits: `g_conv_dim` is {own.g_conv_dim} there, and {model.g_conv_dim} here"
        )


def _taken(
    source: Tensors, target: Tensors, times: float, rows: Sequence[int | None] | None = None
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """The target's tensors with those of the source where they fit, and the parts of the network by what became of
    them: taken, resized (classes added), or new. ``rows``: which class of the source each class is, if any."""
    renamed = {_at_size(name, times): value for name, value in source.items()}
    found: dict[str, Tensor] = {}
    parts: dict[str, set[str]] = {}
    for name, value in target.items():
        fitting, how = _fitting(name, value, renamed, rows)
        found[name] = value.clone() if fitting is None else fitting.to(value)
        parts.setdefault(_part(name), set()).add(how)
    kinds: dict[str, list[str]] = {"taken": [], "resized": [], "new": []}
    for part, made in parts.items():
        kinds["new" if "new" in made else "resized" if "resized" in made else "taken"].append(part)
    return found, kinds


def _at_size(name: str, times: float) -> str:
    """A tensor's name in networks for images ``times`` as large: blocks keep their channels, so their maps grow."""
    return _SIZED.sub(lambda found: f"{found[1]}.{int(int(found[2]) * times)}.", name)


def _fitting(
    name: str, target: Tensor, source: Mapping[str, Tensor], rows: Sequence[int | None] | None
) -> tuple[Tensor | None, str]:
    """What the source has for a tensor, and how it was made: taken, resized or new."""
    value = source.get(name)
    if _TABLE.search(name) and target.ndim == 2:
        return _table(name, target, source, rows)
    if value is None and ".norm." in name:  # the statistics of conditional batch norm, of a source without classes
        value = source.get(name.replace(".norm.", "."))
    if value is not None and value.shape == target.shape:
        return value, "taken"
    return None, "taken" if name.endswith((".u", ".v")) else "new"  # singular vectors are estimated again


def _table(
    name: str, target: Tensor, source: Mapping[str, Tensor], rows: Sequence[int | None] | None
) -> tuple[Tensor | None, str]:
    """The rows of a class table. A class that the source does not have begins as the mean of those it has, or as its
    one row without classes."""
    value = source.get(name)
    if value is None or value.ndim == 1:
        value = source.get(re.sub(r"\.(weight|bias)$", r".norm.\1", name), value)
    if value is None or value.shape[-1] != target.shape[-1]:
        return None, "new"
    if value.ndim == 1:
        return value.expand_as(target), "resized"
    rows = [number if number < len(value) else None for number in range(len(target))] if rows is None else rows
    mean = value.mean(0)
    made = torch.stack([mean if number is None else value[number] for number in rows])
    return made, "resized" if None in rows else "taken"


def _part(name: str) -> str:
    """The part of a network that a tensor belongs to: "stages 8", "attention 32", "first"."""
    sized = _SIZED.match(name)
    return (
        f"{sized[1].removesuffix('s') if sized[1] == 'stages' else sized[1]} {sized[2]}"
        if sized
        else name.split(".")[0]
    )


def _describe(parts: Mapping[str, list[str]]) -> str:
    words = {"taken": "taken", "resized": "taken, with classes added", "new": "new"}
    return "; ".join(f"{words[kind]}: {', '.join(names)}" for kind, names in parts.items() if names)


def _restart_norms(network: nn.Module, source: Tensors, times: float) -> None:
    """Estimates the spectral norm of every weight that is not the source's."""
    renamed = {_at_size(name, times): value for name, value in source.items()}
    for name, module in network.named_modules():
        if isinstance(module, SpectralNorm):
            weight = renamed.get(f"{name}.weight")
            if weight is None or weight.shape != module.weight.shape or not torch.equal(weight, module.weight.cpu()):
                module.restart()


def refuse_lost_start(config: Config, run: Run) -> None:
    """Raises UserError for a run whose first weights came from elsewhere, and which has no checkpoint with them."""
    if config.run.start_from is not None and not run.checkpoint_file.exists():
        raise UserError(
            f"{run.folder} began with the weights of {config.run.start_from}, and no checkpoint holds them: "
            "start it again, as a new run"
        )
