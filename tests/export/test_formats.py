"""Exports compute what their network computes, or are not written."""

import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

import sagan
from sagan.cli import main
from sagan.core.networks.folding import folded
from sagan.export import check, onnx
from sagan.export.attention import with_plain_attention
from sagan.export.onnx import NO_TRUNCATION, export_onnx
from sagan.export.subject import Subject, open_subject
from sagan.export.torchscript import export_torchscript
from sagan.export.weights import export_weights
from sagan.run.config import Config, override
from sagan.run.weights import Snapshot, save_snapshot
from sagan.system.errors import UserError
from tests.core.networks.test_folding import CASES, build

onnxruntime = pytest.importorskip("onnxruntime")


def subjects(case, tmp_path):
    generator, discriminator, *_ = build(*case)
    return [Subject(folded(each), Config(), 3, tmp_path / "x") for each in (generator, discriminator)]


def config_of(case):
    network, classes, span, masking, pool = case
    changes = {"network": network, "num_classes": classes, "span": span, "masking": masking, "pool": pool}
    return override(Config(), {"imsize": 16, "z_dim": 6, "g_conv_dim": 4, "d_conv_dim": 4, **changes})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain_attention_is_the_attention_of_the_layer(case, tmp_path):
    for subject in subjects(case, tmp_path):
        x, labels = subject.inputs()
        network, layers = with_plain_attention(subject.network)
        torch.testing.assert_close(network(x, labels), subject.call(x, labels), atol=1e-5, rtol=1e-4)
        for size, layer in layers.items():
            rows = layer.weights.sum(-1)
            hidden = ~subject.network.attention[size].pattern.mask()
            assert bool((layer.weights.masked_select(hidden.expand_as(layer.weights)) == 0).all())
            assert bool((rows <= 1 + 1e-5).all())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_torchscript_needs_nothing_of_this_package(case, tmp_path):
    for number, subject in enumerate(subjects(case, tmp_path)):
        path = tmp_path / f"{number}.pt"
        agreement, operators = export_torchscript(subject, path)
        assert agreement.difference < 1e-4
        assert operators["aten::softmax"] >= len(subject.network.attention)
        with zipfile.ZipFile(path) as parts:
            assert not any(b"sagan/" in parts.read(name) for name in parts.namelist())
        x, labels = subject.inputs(3)
        out = torch.jit.load(path)(*([x] if labels is None else [x, labels]))
        torch.testing.assert_close(out, subject.call(x, labels), atol=1e-5, rtol=1e-4)


CHOSEN = {
    "resnet": (("resnet", 3, 2, "before", 2), 0, {"attention": True, "half": True}),
    "dcgan": (("dcgan", 0, 0, "after", 1), 0, {}),
    "discriminator": (("resnet", 3, 2, "after", 1), 1, {"attention": True}),
}


def every_case():
    for case in CASES:
        for which, options in ((0, {"attention": True}), (1, {"half": True})):
            yield pytest.param(case, which, options, marks=pytest.mark.slow, id=f"{case} {which}")


def run_in_node(model, given, runtime):
    """The first output of a model in ONNX Runtime Web, on its wasm backend, as a flat array."""
    for name, data in runtime.items():
        (model.parent / name).write_bytes(data)
    tensors = {name: [str(value.dtype), value.flatten().tolist(), list(value.shape)] for name, value in given.items()}
    script = """import fs from "fs";
        import * as ort from "./ort.wasm.min.mjs";
        ort.env.wasm.numThreads = 1;
        const [model, given] = process.argv.slice(2);
        const session = await ort.InferenceSession.create(fs.readFileSync(model));
        const tensors = Object.entries(JSON.parse(given)).map(([name, [type, values, dims]]) =>
          [name, new ort.Tensor(type, type === "int64" ? values.map(BigInt) : values, dims)]);
        const found = await session.run(Object.fromEntries(tensors));
        console.log(JSON.stringify(Array.from(found[session.outputNames[0]].data)));"""
    (model.parent / "run.mjs").write_text(script)
    words = ["node", "run.mjs", model.name, json.dumps(tensors)]
    done = subprocess.run(words, cwd=model.parent, capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("case", "which", "options"), [*(pytest.param(*each, id=name) for name, each in CHOSEN.items()), *every_case()]
)
def test_onnx_takes_any_batch(case, which, options, browser_runtime, tmp_path):
    import onnx as onnx_package

    subject = subjects(case, tmp_path)[which]
    if options.get("half"):
        for value in subject.network.state_dict().values():
            value.copy_(value.half())
    layers = tuple(subject.network.attention) if options.get("attention") else ()
    agreement, operators = export_onnx(subject, tmp_path / "a.onnx", half=options.get("half", False), attention=layers)
    assert agreement.difference <= (1 if which == 0 else 1e-4)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    names = {each.name: each.type for each in session.get_inputs()}
    wanted = {"z": "tensor(float)", "truncation": "tensor(float)"} if which == 0 else {"images": "tensor(float)"}
    assert names == wanted | ({"label": "tensor(int64)"} if case[1] else {})
    stored = onnx_package.load(tmp_path / "a.onnx").graph.initializer
    weights = sum(value.numel() for value in subject.network.state_dict().values() if value.is_floating_point())
    size = (tmp_path / "a.onnx").stat().st_size
    assert b"/sagan/" not in (tmp_path / "a.onnx").read_bytes()
    assert size < weights * (2 if options.get("half") else 4) + 40_000, "weights are stored once, and no masks"
    assert not {"Equal", "Less", "LessOrEqual", "And", "Where"} & set(operators), [each.name for each in stored]
    assert not {"Min", "Max", "Expand", "Shape"} & set(operators), "not all of these are there on a GPU in browsers"
    x, labels = subject.inputs(5)
    given = {"z" if which == 0 else "images": x.numpy()} | ({} if labels is None else {"label": labels.numpy()})
    if which == 0:
        given["truncation"] = np.array(NO_TRUNCATION, np.float32)
    outputs = session.run(None, given)
    if browser_runtime and shutil.which("node"):
        in_browser = run_in_node(tmp_path / "a.onnx", given, browser_runtime)
        assert abs(in_browser - outputs[0].flatten()).max() <= (1 if which == 0 else 1e-4)
    if which:
        logits, *maps = outputs
        np.testing.assert_allclose(logits, subject.call(x, labels), atol=1e-4)
        assert len(maps) == (len(subject.network.attention) if options.get("attention") else 0)
        return
    images, *maps = outputs
    assert (images.dtype, images.shape) == (np.uint8, (5, 16, 16, 3))
    assert [each.shape[0] for each in maps] == [5] * (len(subject.network.attention) if options.get("attention") else 0)
    clamped = session.run(["images"], given | {"truncation": np.array(0.5, np.float32)})[0]
    expected = check.pixels(subject.call(x.clamp(-0.5, 0.5), labels)).numpy()
    assert abs(clamped.astype(int) - expected).max() <= 1
    assert abs(clamped.astype(int) - images).max() > 1


@pytest.fixture
def run(tmp_path):
    """A snapshot of a conditional generator."""
    case = ("resnet", 3, 2, "after", 2)
    generator, *_ = build(*case)
    path = tmp_path / "snapshots" / "00000003.safetensors"
    save_snapshot(path, Snapshot(generator, config_of(case), 3, "0" * 64, ("cat", "dog", "owl")))
    return tmp_path


@pytest.mark.parametrize("half", [False, True])
def test_folded_weights_are_a_snapshot(run, tmp_path, half):
    subject = open_subject(run, half=half)
    export_weights(subject, tmp_path / "small.safetensors", half=half)
    loaded, original = sagan.load(tmp_path / "small.safetensors"), sagan.load(run)
    assert (loaded.classes, loaded.step, loaded.num_classes) == (("cat", "dog", "owl"), 3, 3)
    difference = abs(loaded.sample(6).astype(int) - original.sample(6)).max()
    assert difference <= (3 if half else 1)
    before = (run / "snapshots" / "00000003.safetensors").stat().st_size
    assert (tmp_path / "small.safetensors").stat().st_size < before * (0.6 if half else 1)


def test_an_export_that_differs_is_not_written(run, tmp_path, monkeypatch, capsys):
    compare = check.compare

    def broken(subject, expected, export):
        def off(x, labels):
            return {name: value + 1 for name, value in export(x, labels).items()}

        return compare(subject, expected, off)

    for module in ("torchscript", "weights"):
        monkeypatch.setattr(f"sagan.export.{module}.compare", broken)
    for kind in ("torchscript", "safetensors"):
        assert main(["export", str(run), "--to", kind, "--out", str(tmp_path / "out")]) == 2
        assert "differ from the network's by 1: it is not written" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_frozen_batch_is_noticed(run, tmp_path):
    subject = open_subject(run)

    def frozen(x, labels):
        out = subject.call(x, labels)
        return {"images": out[:1].expand_as(out)}

    with pytest.raises(UserError, match="images differ from the network's"):
        check.compare(subject, check.plain_outputs(subject), frozen)


def test_a_network_folded_wrongly_is_noticed(run, tmp_path, monkeypatch):
    def wrong(network):
        network = folded(network)
        network.last.bias.add_(0.1)
        return network

    monkeypatch.setattr("sagan.export.subject.folded", wrong)
    with pytest.raises(UserError, match="the export's images differ from the network's"):
        export_torchscript(open_subject(run), tmp_path / "a.pt")


def test_a_network_that_diverged_is_refused(run, tmp_path):
    snapshot = sagan.load_snapshot(run / "snapshots" / "00000003.safetensors")
    snapshot.generator.norm.weight.fill_(3e38)
    save_snapshot(tmp_path / "far.safetensors", snapshot)
    with pytest.raises(UserError, match="gives NaN or infinite numbers"):
        export_torchscript(open_subject(tmp_path / "far.safetensors"), tmp_path / "a.pt")


def test_what_half_precision_changes_is_said(run, tmp_path, capsys):
    words = ["export", str(run), "--to", "safetensors", "--precision", "fp16", "--out", str(tmp_path / "a.safetensors")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    changed = float(re.search("half precision itself changes the outputs by up to ([0-9.e-]+)", said)[1])
    assert 1e-6 < changed < 0.1


def test_numbers_too_large_for_half_precision_are_refused(run, tmp_path):
    snapshot = replace(sagan.load_snapshot(run / "snapshots" / "00000003.safetensors"))
    snapshot.generator.last.bias.fill_(1e6)
    save_snapshot(tmp_path / "large.safetensors", snapshot)
    with pytest.raises(UserError, match="cannot be exported in half precision: last.bias holds numbers beyond 65,504"):
        open_subject(tmp_path / "large.safetensors", half=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "hub", "--attention"], "--attention is for onnx, and has no effect on hub"),
        (["--to", "onnx", "--push", "me/x"], "--push is for hub"),
        (["--to", "onnx", "--network", "discriminator"], "so it is not a run"),
        (["--to", "onnx", "--step", "4"], "no snapshot of step 4"),
        (["--to", "png"], "png"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(run, tmp_path, words, sentence, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "out"), *words]) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_there_is_kept(run, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main(["export", str(run), "--to", "torchscript", "--out", str(tmp_path / "mine")]) == 2
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_missing_extra_is_named(run, tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **options):
        if name == "onnxruntime":
            raise ModuleNotFoundError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'sagan-attention\[export\]'"):
        onnx._onnx()


def test_the_settings_of_an_export_name_no_place_of_this_machine(run, tmp_path):
    assert main(["export", str(run), "--to", "safetensors", "--out", str(tmp_path / "s.safetensors")]) == 0
    header = (tmp_path / "s.safetensors").read_bytes()[8:4000]
    assert str(tmp_path).encode() not in header
