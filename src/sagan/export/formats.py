"""The formats that a network alone is written in; folders are made of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sagan.export.check import Agreement
from sagan.export.onnx import OPSET, export_onnx
from sagan.export.subject import Subject
from sagan.export.torchscript import export_torchscript
from sagan.export.weights import export_weights


class Format(NamedTuple):
    """A kind of file."""

    write: Callable[[Subject, Path, bool, bool], tuple[Agreement, Counter[str]]]
    """From a subject, the file's path, whether in half precision and whether with attention weights, to how the file
    agrees with the network, and its parts. Raises UserError, and writes nothing, where it does not agree."""
    parts: str
    """What its parts are."""


FORMATS = {
    "safetensors": Format(lambda subject, path, half, _: export_weights(subject, path, half=half), "tensors"),
    "onnx": Format(
        lambda subject, path, half, attention: export_onnx(
            subject, path, half=half, attention=tuple(subject.network.attention) if attention else ()
        ),
        f"operators (opset {OPSET})",
    ),
    "torchscript": Format(lambda subject, path, half, _: export_torchscript(subject, path), "operators"),
}
