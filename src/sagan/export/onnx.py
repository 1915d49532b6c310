"""Export to ONNX: one file that onnxruntime runs, also in a browser."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sagan.core.networks.interface import Discriminator, Generator
from sagan.export.attention import with_plain_attention
from sagan.export.check import Agreement, Call, compare, pixels
from sagan.export.subject import Subject
from sagan.system.errors import UserError
from sagan.system.files import write_whole

OPSET = 20
NO_TRUNCATION = 1e4  # larger than any latent
_NAMES = {"labels": "label"}  # the others keep theirs


def export_onnx(
    subject: Subject, path: Path, *, half: bool = False, attention: Collection[str] = ()
) -> tuple[Agreement, Counter[str]]:
    """Writes a model that takes batches of any size.

    A generator: ``z`` (n, z_dim) float32, ``label`` (n,) int64 if it is conditional, and ``truncation``, a float32
    number to which the entries of z are clamped (`NO_TRUNCATION`: none), to ``images`` (n, height, width, channels)
    uint8. A discriminator: ``images`` (n, channels, height, width) in [-1, 1] and ``label`` to ``logits`` (n,).
    ``attention``: of these layers, by size, the weights ``attention_SIZE`` (n, queries, keys) are outputs, too.
    ``half``: weights are stored in half precision and computed with in float32.

    Returns how onnxruntime's outputs agree with the network's, and the operators. Raises UserError, and writes nothing,
    where they do not, and where the packages of the extra ``export`` are missing.
    """
    onnx = _onnx()
    network = subject.network
    program = _Drawing(network, attention) if isinstance(network, Generator) else _Judging(network, attention)
    model = _export(program, subject)
    _remove_notes(model)
    if half:
        _store_in_half(model)
    data: bytes = model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    agreement = compare(subject, _expected(subject, program.outputs), _session(data))
    write_whole(path, lambda file: file.write(data))
    return agreement, Counter(node.op_type for node in model.graph.node)


def _onnx() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("`to` onnx needs an extra: pip install 'sagan-attention[export]'") from error
    return onnx


# ---- the program


class _Drawing(nn.Module):
    """A generator with pixels for its output."""

    def __init__(self, generator: Generator, attention: Collection[str]):
        super().__init__()
        self.generator, layers = with_plain_attention(generator)
        self.shown = {size: layers[size] for size in attention}
        self.outputs = ("images", *(f"attention_{size}" for size in self.shown))

    def forward(self, z: Tensor, truncation: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        images = self.generator(_clamped(z, truncation), labels)
        levels = torch.floor((images + 1) * 127.5 + 0.5).clamp(0, 255)  # in browsers, a GPU cannot round to even
        return levels.permute(0, 2, 3, 1).to(torch.uint8), *(layer.weights for layer in self.shown.values())


class _Judging(nn.Module):
    """A discriminator."""

    def __init__(self, discriminator: Discriminator, attention: Collection[str]):
        super().__init__()
        self.discriminator, layers = with_plain_attention(discriminator)
        self.shown = {size: layers[size] for size in attention}
        self.outputs = ("logits", *(f"attention_{size}" for size in self.shown))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.discriminator(images, labels), *(layer.weights for layer in self.shown.values())


def _clamped(z: Tensor, limit: Tensor) -> Tensor:
    """z within -limit and limit; in browsers, a GPU has no minimum and maximum of two tensors."""
    return torch.onnx.ops.symbolic("Clip", (z, -limit, limit), dtype=z.dtype, shape=z.shape, version=OPSET)


def _export(program: _Drawing | _Judging, subject: Subject) -> Any:
    x, labels = subject.inputs(2)
    batch = torch.export.Dim("batch")
    named: dict[str, Tensor] = {"z" if subject.is_generator else "images": x}
    if subject.is_generator:
        named["truncation"] = torch.tensor(NO_TRUNCATION)
    if labels is not None:
        named["labels"] = labels
    dynamic = {name: {} if name == "truncation" else {0: batch} for name in named}
    with _quietly():
        exported = torch.onnx.export(
            program,
            kwargs=named,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=[_NAMES.get(name, name) for name in named],
            output_names=list(program.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert exported is not None
    return exported.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter speaks of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def _remove_notes(model: Any) -> None:
    """Removes the exporter's notes, which name the lines and folders of this machine."""
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")


def _store_in_half(model: Any) -> None:
    """Stores the weights in half precision, each followed by a cast to float32, which a runtime does once."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for stored in model.graph.initializer:
        values = numpy_helper.to_array(stored)
        if stored.data_type != TensorProto.FLOAT or values.size < 64:
            continue
        name, half = stored.name, f"{stored.name}.half"
        stored.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


# ---- whether it computes the same


def _expected(subject: Subject, names: tuple[str, ...]) -> Call:
    """The network's own outputs: pixels and the weights of attention layers, or logits."""
    network = subject.reference
    maps: dict[str, Tensor] = {}

    def note(size: str) -> Any:
        return lambda layer, inputs, out: maps.update({f"attention_{size}": layer.weights(inputs[0])})

    def call(x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        hooks = [layer.register_forward_hook(note(size)) for size, layer in network.attention.items()]
        try:
            out = subject.call(x, labels)
        finally:
            for hook in hooks:
                hook.remove()
        outputs = {"images": pixels(out) if subject.is_generator else out, "logits": out, **maps}
        return {name: outputs[name] for name in names}

    return call


def _session(data: bytes) -> Call:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}
    names = [each.name for each in session.get_outputs()]

    def call(x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        given: dict[str, Any] = {"z" if "z" in taken else "images": x.numpy()}
        if "truncation" in taken:
            given["truncation"] = torch.tensor(NO_TRUNCATION).numpy()
        if labels is not None:
            given["label"] = labels.numpy()
        return dict(zip(names, map(torch.from_numpy, session.run(names, given)), strict=True))

    return call
