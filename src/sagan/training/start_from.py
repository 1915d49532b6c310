"""Starting a run from trained networks: what of them fits is taken, and the rest is new.

For images of another size a generator's blocks are matched by the size of their map, from z on, and a discriminator's
by their distance from the image. Of a layer with other numbers of channels the common ones are taken: an output channel
that both have is computed as before, but for a factor, as the spectral norm is that of the whole layer; it hears added
input channels through weights that start at 0. An added output channel has the weights of a new network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sagan.core.game.average import AveragedGenerator
from sagan.core.layers.conditional_batch_norm import ConditionalBatchNorm2d
from sagan.core.layers.self_attention import SelfAttention2d
from sagan.core.layers.spectral_norm import SpectralNorm, spectral_layers
from sagan.core.networks.interface import Discriminator, Generator
from sagan.core.shapes import ImageShape
from sagan.run.build import build_discriminator, build_generator, frozen_blocks
from sagan.run.classes import list_classes
from sagan.run.config import Config, ModelConfig
from sagan.run.folder import Run
from sagan.run.places import find_snapshot
from sagan.run.store import Store
from sagan.run.weights import Checkpoint, load_checkpoint, load_snapshot
from sagan.system.errors import UserError
from sagan.system.files import expand, file_sha256
from sagan.training.saving import identity, learned_classes
from sagan.training.trainer import Trainer

Fate = Literal["taken", "resized", "new"]
Norm = nn.BatchNorm2d | ConditionalBatchNorm2d
Network = Generator | Discriminator
Weighted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

_NORMS = nn.BatchNorm2d, ConditionalBatchNorm2d
_WEIGHTED = nn.Conv2d, nn.ConvTranspose2d, nn.Linear

_MEANINGS: dict[Fate, str] = {
    "taken": "taken as it is",
    "resized": "resized, with what both have taken",
    "new": "new",
}


@dataclass(frozen=True, eq=False)
class Start:
    """Trained networks that a run starts from."""

    place: str
    sha256: str
    """Of the file that they are in."""
    step: int
    model: ModelConfig
    generator: Generator
    """The averaged one."""
    discriminator: Discriminator | None
    classes: tuple[str, ...]
    """The names of its classes by number; empty without classes, and if they are unknown."""


def open_start(place: str, sha256: str | None = None) -> Start:
    """The networks of a place that ``start_from`` may name: both from a run with a checkpoint, or from a checkpoint
    file; else a generator.

    Raises UserError where there are none, where they can no longer be trained, and for a file with another hash.
    """
    path = _file(place)
    found = file_sha256(path)
    if sha256 not in (None, found):
        raise UserError(
            f"{place} has changed: `start_sha256` must be {sha256}, and the hash of {path} is {found}; bring back the "
            "former file, or start from this one without `start_sha256`"
        )
    if path.suffix == ".pt":
        state = load_checkpoint(path)
        model = dataclasses.replace(state.config.model, freeze_d=0)
        generator, discriminator = build_generator(model), build_discriminator(model)
        generator.load_state_dict(state.average)
        discriminator.load_state_dict(state.discriminator)
        return Start(place, found, state.step, model, generator, discriminator, state.classes)
    snapshot = load_snapshot(path)
    if any(layer.folded for layer in spectral_layers(snapshot.generator)):
        raise UserError(f"{place} is folded for use alone, and cannot be trained: start from what it was made of")
    return Start(place, found, snapshot.step, snapshot.config.model, snapshot.generator, None, snapshot.classes)


def _file(place: str) -> Path:
    path = expand(place)
    last = Run(path).checkpoint_file
    return last if last.is_file() else find_snapshot(path)


def with_networks_of(base: Config, place: str) -> Config:
    """The settings to start from where a run starts from a place: ``base``, with the source's networks. The classes are
    those of the images, if the source has any."""
    start = open_start(place)
    return dataclasses.replace(
        base,
        model=dataclasses.replace(
            start.model,
            num_classes="auto" if start.model.num_classes else 0,
            start_from=place,
            start_sha256=start.sha256,
            freeze_d=0,
        ),
    )


def refuse_unfit(start: Start, model: ModelConfig) -> None:
    """Raises UserError where nothing of the networks would fit, or a block to freeze would not be theirs."""
    its = start.model
    if its.network != model.network:
        raise UserError(f"{start.place} has networks of the kind {its.network}: `network` cannot be {model.network}")
    if not model.freeze_d:
        return
    if start.discriminator is None:
        raise UserError(
            f"`freeze_d` needs a discriminator, and {start.place} holds only a generator: start from a run with a "
            "checkpoint"
        )
    with torch.device("meta"):  # only the shapes
        one, other = (
            build_discriminator(dataclasses.replace(each, num_classes=0, freeze_d=0)) for each in (model, its)
        )
        fates = {_part(name, model.shape): fate for name, fate in graft(one, other, []).items() if fate != "taken"}
    for size in frozen_blocks(model):
        for part in (f"{model.shape.map_name(size)} {kind}" for kind in ("block", "attention")):
            if part in fates:
                raise UserError(
                    f"`freeze_d` {model.freeze_d} would freeze the {part} of the discriminator, which is not as in "
                    f"{start.place}, but {fates[part]}"
                )


# ---- the first state of a run


def first_state(start: Start, config: Config, store: Store, device: torch.device) -> tuple[Checkpoint, list[str]]:
    """The state of a run at step 0 that starts from trained networks, and sentences that say what is taken, resized and
    new. ``config``: its settings, with the number of classes known."""
    refuse_unfit(start, config.model)
    classes = learned_classes(store, config)
    rows = _rows(start, classes, int(config.model.num_classes))
    generator = build_generator(config.model, config.run.seed)
    discriminator = build_discriminator(config.model, config.run.seed)
    sentences = [f"starting from {start.place}, step {start.step:,}"]
    sentences += describe_fates("generator", graft(generator, start.generator, rows), generator.shape)
    if start.discriminator is None:
        sentences.append(f"discriminator: all new, as {start.place} holds only a generator")
    else:
        sentences += describe_fates("discriminator", graft(discriminator, start.discriminator, rows), generator.shape)
    if frozen := frozen_blocks(config.model):
        sentences.append(f"discriminator: frozen are the blocks {', '.join(map(config.model.shape.map_name, frozen))}")
    if classes and start.model.num_classes:
        sentences.append(_describe_classes(classes, rows))
    elif classes:
        sentences.append("classes: all start as what the source draws without classes")
    elif start.model.num_classes:
        sentences.append("classes: none any more; the generator starts with the mean of the source's")
    average = AveragedGenerator(generator.to(device), config.game.ema_halflife)
    trainer = Trainer(config, device, networks=(generator, discriminator.to(device), average))
    return trainer.state(identity(store, config), classes), sentences


def _rows(start: Start, classes: Sequence[str], count: int) -> list[int | None]:
    """For each class of the run the number of the same one of the source, by name, or by number where its names are
    not known; None for a new one."""
    if start.classes and classes:
        return [start.classes.index(name) if name in start.classes else None for name in classes]
    known = int(start.model.num_classes)
    return [number if number < known else None for number in range(count)]


def _describe_classes(classes: Sequence[str], rows: Sequence[int | None]) -> str:
    taken = [number for number, row in enumerate(rows) if row is not None]
    added = [number for number, row in enumerate(rows) if row is None]
    parts = [f"taken: {list_classes(classes, taken)}"] if taken else []
    parts += [f"new, starting as the mean of the source's: {list_classes(classes, added)}"] if added else []
    return f"classes: {'; '.join(parts)}"


def describe_fates(network: str, fates: Mapping[str, Fate], shape: ImageShape) -> Iterator[str]:
    """A sentence for each fate that parts of a network have; ``fates`` are those of its layers, by name. ``shape``: of
    its images."""
    parts: dict[str, set[Fate]] = {}
    for name, fate in fates.items():
        parts.setdefault(_part(name, shape), set()).add(fate)
    fate_of = {part: found.pop() if len(found) == 1 else "resized" for part, found in parts.items()}
    for fate, meaning in _MEANINGS.items():
        if own := [part for part, each in fate_of.items() if each == fate]:
            yield f"{network}: {meaning}: {', '.join(own)}"


def _part(layer: str, shape: ImageShape) -> str:
    """What a person calls the part of a network that a layer is in, by the layer's name."""
    kind, _, rest = layer.partition(".")
    size = rest.partition(".")[0]
    where = shape.map_name(size) if size.isdecimal() else ""
    known = {
        "first": "first layer",
        "stages": f"{where} block",
        "attention": f"{where} attention",
        "norm": "last norm",
        "last": "last layer",
        "last_block": "last block",
        "embedding": "classes",
    }
    return known[kind]


# ---- what fits


def graft(network: Network, source: Network, rows: Sequence[int | None]) -> dict[str, Fate]:
    """Gives a new network what fits of a trained one of the same kind; returns what happened to each layer, by name.

    ``rows``: for each class of the network the number of the same one in the source, None for a new one.
    """
    theirs = _by_name_in(network, source)
    fates: dict[str, Fate] = {}
    for name, layer in network.named_modules():
        other = theirs.get(name)
        if name.endswith(".norm"):
            continue  # within a conditional batch norm
        if isinstance(layer, _NORMS):
            fates[name] = _take_norm(layer, other, rows) if isinstance(other, _NORMS) else "new"
        elif isinstance(layer, nn.Embedding):
            fates[name] = _take_embedding(layer, other, rows) if isinstance(other, nn.Embedding) else "new"
        elif isinstance(layer, _WEIGHTED):
            maps = [_first_map(each) if name == "first" else (1, 1) for each in (network, source)]
            fates[name] = _take_weights(layer, other, *maps) if isinstance(other, _WEIGHTED) else "new"
        elif isinstance(layer, SelfAttention2d):
            fates[name] = "new"
            if isinstance(other, SelfAttention2d):
                layer.gamma.data.copy_(other.gamma.data)
                fates[name] = "taken"
    return fates


def _by_name_in(network: Network, source: Network) -> dict[str, nn.Module]:
    """The layers of the source by the names of those of a network that they may fit: in a discriminator blocks are
    counted from the image on, in a generator from its first map on."""
    layers = dict(source.named_modules())
    from_image = isinstance(network, Discriminator)
    mine, its = (each.shape.shorter >> (0 if from_image else each.shape.doublings) for each in (network, source))
    if mine == its:
        return layers
    found = {}
    for name, layer in layers.items():
        kind, _, rest = name.partition(".")
        size, dot, within = rest.partition(".")
        if kind in ("stages", "attention") and size:
            found[f"{kind}.{int(size) * mine // its}{dot}{within}"] = layer
        elif not from_image:  # a discriminator's last layers see other maps
            found[name] = layer
    return found


def _first_map(network: Network) -> tuple[int, int]:
    """Height and width of the map that a generator begins with."""
    return network.shape.grid(network.shape.shorter >> network.shape.doublings)


@torch.no_grad()
def _take_weights(layer: Weighted, other: Weighted, made: tuple[int, int], its_made: tuple[int, int]) -> Fate:
    """``made``: the height and width of the map whose pixels a linear layer puts out."""
    if made != its_made or layer.weight.shape[2:] != other.weight.shape[2:]:
        return "new"  # it makes, or sees, a map of another shape
    pixels = math.prod(made)
    mine, its = _as_products(layer, pixels), _as_products(other, pixels)  # (..., outputs, inputs, kernel)
    same = mine.shape == its.shape
    outputs, inputs = (min(mine.shape[dim], its.shape[dim]) for dim in (-3, -2))
    if isinstance(layer, SpectralNorm) and isinstance(other, SpectralNorm) and not same:
        mine.mul_(other.sigma() / layer.sigma())  # so that neither the old nor the new outputs drown the others
    mine[..., :outputs, inputs:, :] = 0
    mine[..., :outputs, :inputs, :] = its[..., :outputs, :inputs, :]
    if layer.bias is not None and other.bias is not None:
        bias, its_bias = (x.unflatten(0, (pixels, -1)) for x in (layer.bias, other.bias))
        bias[..., :outputs] = its_bias[..., :outputs]
    if isinstance(layer, SpectralNorm) and isinstance(other, SpectralNorm):
        if same and layer.u.shape == other.u.shape:  # else the norm is that of other rows
            layer.u.copy_(other.u)
            layer.v.copy_(other.v)
        else:
            layer.restart()
    return "taken" if same else "resized"


def _as_products(layer: Weighted, pixels: int) -> Tensor:
    """A view of a weight: (outputs, inputs, kernel), of a linear layer (pixels, outputs, inputs, 1)."""
    weight: Tensor = layer.weight
    if isinstance(layer, nn.Linear):
        return weight.reshape(pixels, -1, weight.shape[1], 1)
    return (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(2)


@torch.no_grad()
def _take_embedding(layer: nn.Embedding, other: nn.Embedding, rows: Sequence[int | None]) -> Fate:
    width = min(layer.embedding_dim, other.embedding_dim)
    for own, row in zip(layer.weight, rows, strict=True):
        own[:width] = _row(other.weight, row)[:width]
    layer.weight[:, width:] = 0
    if isinstance(layer, SpectralNorm):
        layer.restart()
    return "taken" if None not in rows and layer.embedding_dim == other.embedding_dim else "resized"


@torch.no_grad()
def _take_norm(layer: Norm, other: Norm, rows: Sequence[int | None]) -> Fate:
    """A network without classes gets the mean over the source's."""
    conditional = isinstance(layer, ConditionalBatchNorm2d) and layer.num_classes > 0
    wanted = rows if conditional else [None]
    mine, its = _tables(layer), _tables(other)
    channels = min(mine[0].shape[1], its[0].shape[1])
    for table, source in zip(mine, its, strict=True):
        for own, row in zip(table, wanted, strict=True):
            own[:channels] = _row(source, row)[:channels]
    for (_, statistic), (_, found) in zip(layer.named_buffers(), other.named_buffers(), strict=True):
        if statistic.ndim:
            statistic[:channels] = found[:channels]
        else:  # the number of batches
            statistic.copy_(found)
    return "taken" if mine[0].shape[1] == its[0].shape[1] else "resized"


def _row(table: Tensor, number: int | None) -> Tensor:
    """That of a class; for one that the source lacks, the mean over the source's classes."""
    return table.mean(0) if number is None else table[number]


def _tables(norm: Norm) -> tuple[Tensor, Tensor]:
    """Views of the scales and of the shifts: (classes, channels), with one row in a network without classes."""
    if isinstance(norm, ConditionalBatchNorm2d):
        if norm.num_classes:
            return norm.weight, norm.bias
        assert isinstance(norm.norm, nn.BatchNorm2d), "it is not folded"
        norm = norm.norm
    return norm.weight[None], norm.bias[None]
