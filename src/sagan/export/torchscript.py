"""Export to TorchScript: a program that torch runs without this package, from Python or C++."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from sagan.export.attention import with_plain_attention
from sagan.export.check import Agreement, Call, compare, plain_outputs
from sagan.export.subject import Subject
from sagan.system.files import write_whole


def export_torchscript(subject: Subject, path: Path) -> tuple[Agreement, Counter[str]]:
    """Writes a program that takes z (n, z_dim) float32 and, if conditional, labels (n,) int64, and returns images
    (n, channels, height, width) in [-1, 1]; or images to logits, for a discriminator.

    Returns how it agrees with the network, and its operators. Raises UserError, and writes nothing, where it does not.
    """
    traced = _trace(subject)
    data = _saved(traced)
    agreement = compare(subject, plain_outputs(subject), _loaded(data, "images" if subject.is_generator else "logits"))
    write_whole(path, lambda file: file.write(data.getvalue()))
    return agreement, Counter(node.kind() for node in traced.inlined_graph.nodes())


def _trace(subject: Subject) -> torch.jit.ScriptModule:
    x, labels = subject.inputs(2)
    inputs = (x,) if labels is None else (x, labels)
    network, _ = with_plain_attention(subject.network)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about checks that look at shapes, which hold for every batch
        traced: torch.jit.ScriptModule = torch.jit.trace(_Plain(network), inputs, check_trace=False)
        frozen: torch.jit.ScriptModule = torch.jit.freeze(traced.eval())
        return frozen


def _saved(program: torch.jit.ScriptModule) -> io.BytesIO:
    """The program as a file, without its notes for debuggers, which name the lines and folders of this machine."""
    whole, data = io.BytesIO(), io.BytesIO()
    torch.jit.save(program, whole)
    with zipfile.ZipFile(whole) as noted, zipfile.ZipFile(data, "w") as plain:
        for entry in noted.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                plain.writestr(entry.filename, noted.read(entry))
    return data


class _Plain(nn.Module):
    """The network without checks of its inputs, which a program cannot make."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        out: Tensor = self.network(x, labels)
        return out


def _loaded(data: io.BytesIO, name: str) -> Call:
    data.seek(0)
    program = torch.jit.load(data)

    def call(x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        with torch.inference_mode():
            return {name: program(x) if labels is None else program(x, labels)}

    return call
