"""Networks from settings."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Literal

import torch

from sagan.core.attention import ExcludeLocal, Pattern
from sagan.core.networks import dcgan, resnet
from sagan.core.networks.interface import Discriminator, Generator
from sagan.run.config import ModelConfig, spans
from sagan.system.errors import UserError
from sagan.system.randomness import derived_seed
from sagan.system.sentences import plural

Network = Literal["generator", "discriminator"]

_DCGAN_ATTENTION: dict[Network, tuple[int, int]] = {"generator": (16, 64), "discriminator": (4, 16)}  # from, to below
_MAP_SIZES = {"dcgan": dcgan.map_sizes, "resnet": resnet.map_sizes}


def attention_patterns(model: ModelConfig, network: Network) -> dict[int, Pattern]:
    """The pattern of each attention layer of one network, by the size of its map, in forward order.

    Raises UserError for a map that the network does not have, and for a number of spans other than that of the layers.
    """
    shape, sizes = model.shape, map_sizes(model, network)
    chosen = model.g_attention if network == "generator" else model.d_attention
    if chosen is None:
        chosen = _usual_attention(model, network)
    for size in chosen:
        if size not in sizes:
            name = f"{size}x{size} map" if shape.height == shape.width else f"map whose shorter side is {size}"
            raise UserError(f"the {network} has no {name} to attend to; it has {', '.join(map(str, sizes))}")
    layers = [size for size in sizes if size in chosen]
    own = spans(model.g_span if network == "generator" else model.d_span) or (model.span,)
    if len(own) not in (1, len(layers)):
        listed = ", ".join(map(shape.map_name, layers)) or "none"
        raise UserError(
            f"{network[0]}_span must be one span, or one for each attention layer of the {network} ({listed}), "
            f"got {plural(len(own), 'span')}"
        )
    own = own * len(layers) if len(own) == 1 else own
    return {
        size: ExcludeLocal(*shape.grid(size), span, masking=model.masking, pool=model.pool)
        for size, span in zip(layers, own, strict=True)
    }


def map_sizes(model: ModelConfig, network: Network) -> tuple[int, ...]:
    """The sizes of a network's hidden maps, in forward order."""
    return _MAP_SIZES[model.network](model.shape, network)


def _usual_attention(model: ModelConfig, network: Network) -> tuple[int, ...]:
    """Where attention is by default: as published for powers of two, and at maps of about these sizes for others."""
    sizes = map_sizes(model, network)
    if model.network == "resnet":
        return (max(size for size in sizes if size < 64 and 2 * size <= model.shape.shorter),)
    least, beyond = _DCGAN_ATTENTION[network]
    return tuple(size for size in sizes if least <= size < beyond)


def build_generator(model: ModelConfig, seed: int = 0) -> Generator:
    """A new generator on the CPU; its weights depend only on ``seed``."""
    patterns = attention_patterns(model, "generator")
    with _weights_of(seed, "generator weights"):
        classes = _known_classes(model)
        if model.network == "resnet":
            return resnet.Generator(model.shape, model.z_dim, model.g_conv_dim, patterns, classes)
        assert model.network == "dcgan"
        return dcgan.Generator(model.shape, model.z_dim, model.g_conv_dim, patterns, model.norm_axis, classes)


def build_discriminator(model: ModelConfig, seed: int = 0) -> Discriminator:
    """A new discriminator on the CPU; its weights depend only on ``seed``. Its frozen blocks need no gradient."""
    patterns = attention_patterns(model, "discriminator")
    with _weights_of(seed, "discriminator weights"):
        kinds: dict[str, type[dcgan.Discriminator | resnet.Discriminator]] = {
            "dcgan": dcgan.Discriminator,
            "resnet": resnet.Discriminator,
        }
        discriminator = kinds[model.network](model.shape, model.d_conv_dim, patterns, _known_classes(model))
    for size in frozen_blocks(model):
        discriminator.stages[size].requires_grad_(False)
        if size in discriminator.attention:
            discriminator.attention[size].requires_grad_(False)
    return discriminator


def frozen_blocks(model: ModelConfig) -> tuple[str, ...]:
    """The sizes of the discriminator's blocks that are not trained. Raises UserError for more than there are."""
    sizes = map_sizes(model, "discriminator")
    if model.freeze_d > len(sizes):
        most = f"{len(sizes)}, all blocks of the discriminator"
        raise UserError(f"`freeze_d` must be at most {most}, got {model.freeze_d}")
    return tuple(map(str, sizes[: model.freeze_d]))


def check_networks(model: ModelConfig) -> None:
    """Raises UserError for networks that cannot be built, except those too large for this machine."""
    if model.num_classes == "auto":  # counted later, from the images
        model = dataclasses.replace(model, num_classes=1)
    with torch.device("meta"):  # only the shapes
        build_generator(model)
        build_discriminator(model)


@contextlib.contextmanager
def _weights_of(seed: int, purpose: str) -> Iterator[None]:
    on_cpu = contextlib.nullcontext() if torch.get_default_device().type == "meta" else torch.device("cpu")
    with torch.random.fork_rng(devices=[]), on_cpu:
        torch.manual_seed(derived_seed(seed, purpose))
        yield


def _known_classes(model: ModelConfig) -> int:
    assert model.num_classes != "auto", "classes are counted before networks are built"
    return model.num_classes


def describe_attention(model: ModelConfig) -> list[str]:
    """One line for each attention layer: the share of keys that its queries see, and how many queries see none."""
    lines = []
    networks: tuple[Network, ...] = ("generator", "discriminator")
    for network in networks:
        patterns = attention_patterns(model, network)
        if not patterns:
            sizes = ", ".join(map(str, map_sizes(model, network)))
            lines.append(f"{network}: no attention (its maps are {sizes})")
        for size, pattern in patterns.items():
            where = f"{network} {model.shape.map_name(size)}"
            line = f"{where}: {pattern.label}, a query sees {pattern.visible_share():.0%} of the keys"
            blind = pattern.rows_without_keys()
            if blind == pattern.queries:
                line += "; no query sees any (attention adds nothing there)"
            elif blind:
                line += f"; {blind} of {pattern.queries} queries see none (attention adds nothing there)"
            lines.append(line)
    return lines
