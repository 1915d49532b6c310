"""`sagan export`: what was trained, in formats that other programs read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from sagan.cli.flags import read
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_unwritable
from sagan.system.sentences import typed
from sagan.system.typed import fill

if TYPE_CHECKING:
    from collections import Counter

    from sagan.export.check import Agreement
    from sagan.export.subject import Subject


@dataclass(frozen=True)
class ExportFlags:
    """Write a trained generator for other programs. What is written is read again and compared with the original, at
    several batch sizes; where they differ, nothing is left.
      sagan export RUN --to onnx --out faces.onnx
      sagan export RUN --to web --out page
      sagan export RUN --to hub --out faces --license mit --push me/faces"""

    run: Annotated[Path, Positional]
    """A run's folder, whose newest snapshot is used, a snapshot file, or another place that `sagan sample` takes."""
    to: Literal["safetensors", "onnx", "torchscript", "web", "hub"]
    """safetensors: weights and settings, for sagan.load. onnx: for onnxruntime, also in a browser. torchscript: for
    torch without this program. web: a folder with a page that draws in the browser, for any static host. hub: a folder
    for the Hugging Face hub, with a model card."""
    out: Path
    """A new file; for web and hub, a new or empty folder."""
    step: int | None = None
    """Use the run's snapshot of this step."""
    network: Literal["generator", "discriminator"] = "generator"
    """The discriminator is that of the run's checkpoint."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """fp16: weights are stored in half the size; they are still computed with in float32."""
    attention: bool = False
    """onnx: each attention layer's weights are outputs, too."""
    runtime: Path | None = None
    """web: a folder with the npm package onnxruntime-web; by default npm fetches it."""
    license: str = ""
    """hub: the identifier of your licence, such as mit or cc-by-4.0."""
    push: str = ""
    """hub: upload the folder as OWNER/NAME."""


_FOLDERS = ("web", "hub")
_ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "torchscript": ".pt"}
_ONLY = {
    "attention": ("onnx",),
    "runtime": ("web",),
    "license": ("hub",),
    "push": ("hub",),
    "network": ("safetensors", "onnx", "torchscript"),
}


def export(words: Sequence[str], console: Console) -> int:
    """Write what was trained as ONNX, TorchScript, safetensors, a web page, or for the hub."""
    given = read(ExportFlags, words, "sagan export")
    flags = fill(ExportFlags, given)
    for name, formats in _ONLY.items():
        if name in given and flags.to not in formats:
            raise UserError(f"`{name}` is for {', '.join(formats)}, and has no effect on {flags.to}: omit it")
    other = next((name for name, ending in _ENDINGS.items() if flags.out.suffix.lower() == ending), flags.to)
    if other != flags.to:
        raise UserError(f"{flags.out} has the ending of {other}, and `to` is {flags.to}: give another `out`")
    if flags.push:
        from sagan.export.hub import check_repository

        check_repository(flags.push)
    if flags.out.exists() and not (flags.to in _FOLDERS and flags.out.is_dir()):
        raise UserError(f"{flags.out} is there already: give another `out`, or remove it")
    refuse_unwritable(flags.out.parent, "--out")
    export_as = {"hub": _export_hub, "web": _export_web}.get(flags.to, _export_network)
    return export_as(flags, console)


def _export_network(flags: ExportFlags, console: Console) -> int:
    from sagan.export.formats import FORMATS
    from sagan.export.subject import open_subject

    half, format = flags.precision == "fp16", FORMATS[flags.to]
    subject = open_subject(flags.run, flags.step, flags.network, half=half)
    with console.progress(f"exporting the {flags.network} of step {subject.step:,}"):
        agreement, parts = format.write(subject, flags.out, half, flags.attention)
    _say(flags, subject, agreement, parts, format.parts, console)
    return 0


def _export_web(flags: ExportFlags, console: Console) -> int:
    from sagan.export.formats import FORMATS
    from sagan.export.runtime import runtime_files
    from sagan.export.subject import open_subject
    from sagan.export.web import export_web

    half = flags.precision == "fp16"
    subject = open_subject(flags.run, flags.step, half=half)
    with console.progress(f"exporting the generator of step {subject.step:,}"):
        agreement, parts = export_web(subject, flags.out, runtime_files(flags.runtime), half=half, place=flags.run)
    _say(flags, subject, agreement, parts, FORMATS["onnx"].parts, console)
    console.say(f"to look at it: {shlex.join(['python', '-m', 'http.server', '--directory', str(flags.out)])}")
    return 0


def _say(
    flags: ExportFlags, subject: Subject, agreement: Agreement, parts: Counter[str], name: str, console: Console
) -> None:
    from sagan.export.subject import BATCHES

    size = _megabytes(flags.out)
    console.say(f"{flags.out}: the {flags.network} of step {subject.step:,}, {size:.2f} MB ({flags.precision})")
    console.say(f"largest difference: {agreement}, in batches of {', '.join(map(str, BATCHES))}")
    if subject.rounding is not None:
        console.say(f"half precision itself changes the outputs by up to {subject.rounding:.1e}")
    console.say(f"{name}: " + ", ".join(f"{part} {count}" for part, count in parts.most_common()))


def _megabytes(out: Path) -> float:
    files = out.rglob("*") if out.is_dir() else [out]
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def _export_hub(flags: ExportFlags, console: Console) -> int:
    from sagan.export.hub import export_hub, push

    half = flags.precision == "fp16"
    with console.progress("writing the folder"):
        snapshot = export_hub(flags.run, flags.out, step=flags.step, license=flags.license, half=half, say=console.say)
    size = f"{_megabytes(flags.out):.2f} MB ({flags.precision})"
    console.say(f"{flags.out}: the generator of step {snapshot.step:,}, {size}, with its card, README.md")
    if not flags.license:
        console.say(f"the card names no licence: {typed('--license', 'mit')}, or another one, does")
    if flags.push:
        console.say(f"uploaded to {push(flags.out, flags.push)}")
    return 0
