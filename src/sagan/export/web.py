"""A trained generator as a web page that draws in the browser: a folder for any static host."""

from __future__ import annotations

import importlib.resources
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sagan.core.latents import principal_directions
from sagan.core.layers.self_attention import SelfAttention2d
from sagan.core.networks.interface import Generator
from sagan.core.shapes import refuse_other_than_rgb_squares
from sagan.export.check import Agreement
from sagan.export.onnx import export_onnx
from sagan.export.subject import Subject
from sagan.pages.render import asset, render
from sagan.run.places import HUB, PRETRAINED
from sagan.system.files import whole_folder
from sagan.viewing.figures import colours
from sagan.viewing.page import as_base64, describe_layer

DIRECTIONS = 8
LARGEST_MAP = 2**24  # weights of a layer that is shown: 64 MiB, for each picture
_ASSETS = ("exported.js", "status.js", "studio.js", "keep.js", "worker.js", "attention.js", "latents.js", "style.css")


def export_web(
    subject: Subject, out: Path, runtime: Mapping[str, bytes], *, half: bool = False, place: Path = Path("RUN")
) -> tuple[Agreement, Counter[str]]:
    """Writes the folder ``out``: a page, its scripts, the generator as ONNX, and the ``runtime`` of `runtime_files`.

    ``half``: weights are stored in half precision. ``place``: where the generator is from; it gives the page its name.
    Attention layers of more than `LARGEST_MAP` weights are not shown. Returns how the ONNX model agrees with the
    network, and its operators. Raises UserError, and leaves nothing, where it does not, and for a folder that is not
    empty.
    """
    generator = subject.network
    assert isinstance(generator, Generator)
    refuse_other_than_rgb_squares(generator.shape, "a page that draws")
    layers = _shown_layers(generator)
    facts = _facts(subject, generator, layers, place)
    with whole_folder(out) as folder:
        agreement, operators = export_onnx(subject, folder / "model.onnx", half=half, attention=tuple(layers))
        facts["bytes"] = (folder / "model.onnx").stat().st_size
        page = render("exported.html", name=facts["name"], about=_say(facts))
        (folder / "index.html").write_text(page, encoding="utf-8")
        for name in _ASSETS:
            (folder / name).write_bytes(asset(name).read_bytes())
        (folder / "model.json").write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")
        (folder / "runtime").mkdir()
        licence = importlib.resources.files("sagan.export").joinpath("LICENSE.onnxruntime")
        for name, data in {**runtime, "LICENSE": licence.read_bytes()}.items():
            (folder / "runtime" / name.replace(".mjs", ".js")).write_bytes(data)  # some hosts do not know .mjs
    return agreement, operators


def _shown_layers(generator: Generator) -> dict[str, SelfAttention2d]:
    shown = {}
    for size, layer in generator.attention.items():
        assert isinstance(layer, SelfAttention2d)
        if layer.pattern.queries * layer.pattern.keys <= LARGEST_MAP:
            shown[size] = layer
    return shown


def _facts(
    subject: Subject, generator: Generator, layers: Mapping[str, SelfAttention2d], place: Path
) -> dict[str, Any]:
    """What the page's script reads as ``model.json``."""
    shape, named = generator.shape, place.as_posix().startswith((PRETRAINED, HUB))
    rows, _ = principal_directions(generator, min(DIRECTIONS, generator.z_dim))
    return {
        "name": place.as_posix().rsplit(":")[-1].rsplit("/")[-1] if named else place.resolve().stem,
        "place": place.as_posix() if named else "RUN",  # a page names no folder
        "step": subject.step,
        "height": shape.height,
        "width": shape.width,
        "z_dim": generator.z_dim,
        "classes": list(subject.classes) or [str(number) for number in range(generator.num_classes)],
        "layers": [_layer(layer) for layer in layers.values()],
        "directions": [as_base64(row) for row in rows],
        "colours": as_base64(torch.from_numpy(colours())),
    }


def _layer(layer: SelfAttention2d) -> dict[str, Any]:
    pattern = layer.pattern
    return describe_layer(f"{pattern.height}x{pattern.width}", pattern, layer.gamma.item())


def _say(facts: Mapping[str, Any]) -> str:
    return (
        f"Images of {facts['height']}x{facts['width']} pixels, drawn in your browser by a self-attention GAN of "
        f"{facts['step']:,} training steps. Nothing is sent anywhere."
    )
