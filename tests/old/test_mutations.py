"""Every file that we read, damaged in every way that we could think of: one sentence, status 2, nothing changed.

Each mutation damages one file of a whole run, store or sweep, has it read, and puts it back: some of each kind by a
command, and all of them by the one reader of such files, which is quicker.
"""

import copy
import json
import math
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes

from sagan.cli import main
from sagan.run.folder import Run
from sagan.run.plan import read_plan
from sagan.run.records import RecordReader
from sagan.run.store import Store
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.errors import UserError
from tests.longer import some_of

NESTED = 100_000  # levels


@dataclass(frozen=True)
class Target:
    """A file, a command that reads it, and its one reader."""

    file: str
    command: tuple[str, ...]
    read: Callable[[Path], object]


RESUME = ("resume", "plain", "--total_step", "12", "--data", "photos.zip", "--prepared", "prepared")
RESUME_CLASSES = ("resume", "classes", "--total_step", "12", "--data", "photos.zip", "--prepared", "prepared")


def read_config(path):
    return Run(path.parent).config()


def read_records(path):
    return RecordReader(path).read()


def read_store(path):
    return Store.open(path.parent)


STORE = "prepared/photos-16-88a428ff17"
TARGETS = {
    "checkpoint": Target("plain/checkpoints/last.pt", RESUME, load_checkpoint),
    "pending": Target("plain/checkpoints/pending.pt", RESUME, load_checkpoint),
    "conditional checkpoint": Target("classes/checkpoints/last.pt", RESUME_CLASSES, load_checkpoint),
    "snapshot": Target(
        "plain/snapshots/00000008.safetensors", ("sample", "plain", "--num", "1", "--out", "drawn"), load_snapshot
    ),
    "config": Target("plain/config.json", RESUME, read_config),
    "records": Target("plain/records.jsonl", RESUME, read_records),
    "scores": Target("plain/records.jsonl", ("compare-metrics", "plain", "plain"), read_records),
    "plan": Target("sweep/plan.json", ("sweep", "--sweep_dir", "sweep"), read_plan),
    "meta": Target(f"{STORE}/meta.json", RESUME, read_store),
    "images": Target(f"{STORE}/images.npy", RESUME, read_store),
    "labels": Target(f"{STORE}/labels.npy", RESUME_CLASSES, read_store),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with tarfile.open(Path(__file__).parent / "written_by_0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def content(folder):
    """What is in a folder: of each path its kind, size and time of change, which any writing changes.

    What is remembered of files that were read is left out."""
    found = {path: path.stat() for path in sorted(folder.rglob("*")) if path.parent.name != "identities"}
    return {path: (state.st_mode, state.st_size, state.st_mtime_ns) for path, state in found.items() if path.is_file()}


@pytest.fixture(name="refused")
def make_refused(whole, monkeypatch, capsys):
    """Checks that a file with some bytes in it, or one that ``place`` puts there, is refused; by a command where
    ``command`` says so and for the first, else by its reader."""
    monkeypatch.chdir(whole)
    tried = []

    def refused(target, data=None, place=None, said="", command=False):
        path = whole / target.file
        kept = path.with_name(path.name + ".kept")
        path.rename(kept)
        try:
            place(path) if place else path.write_bytes(data)
            before = content(whole)
            sentence = by_command(target) if command or not tried else by_reader(target, path)
            tried.append(sentence)
            assert content(whole) == before, f"something was changed: {sentence}"
            assert "\n" not in sentence
            assert said in sentence
        finally:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            kept.rename(path)

    def by_command(target):
        status = main(list(target.command))
        out = capsys.readouterr()
        assert status == 2, f"status {status}: {out.out}{out.err}"
        (error,) = [line for line in out.err.splitlines() if not line.startswith("warning: ")]
        assert error.startswith("error: ")
        return error

    yield refused
    print(f"{len(tried)} mutations refused")


def by_reader(target, path):
    with pytest.raises(UserError) as refusal:
        target.read(path)
    return str(refusal.value)


# ---- any file


def path_of_numbers(file):
    return file.endswith((".npy", ".safetensors"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_torn_or_foreign_file_is_refused(name, refused, whole):
    target = TARGETS[name]
    data = (whole / target.file).read_bytes()
    lines = target.file.endswith(".jsonl")
    for part in range(8):
        torn = data[: len(data) * part // 8]
        if not (lines and (not torn or torn.endswith(b"\n"))):
            refused(target, torn + b"\n" * lines, command=part % 3 == 0)
    flipped = bytearray(data)
    middle = 20 if path_of_numbers(target.file) else len(data) // 2  # no reader can tell of pixels and weights alone
    flipped[middle : middle + 4] = b"\xff\x00\xfe\x80"
    for foreign in (b"\x00" * 64, b"hello", b"PK\x03\x04hello", b"\x80\x05.", bytes(flipped), b"[" * NESTED):
        refused(target, foreign + b"\n", command=len(foreign) > 1000)
    refused(target, place=Path.mkdir, command=True)


# ---- JSON


def places(value, path=()):
    """The path to every value inside a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


def changed(value, path, new):
    value = copy.deepcopy(value)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return value


def without(value, path):
    value = copy.deepcopy(value)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return value


def wrong(value) -> list[Any]:
    """Values of no type that a field holding this one may have."""
    if isinstance(value, bool):
        return ["x", 5.5, []]
    if isinstance(value, int):
        return ["x", 5.5, 10**30, math.nan, {}]
    if isinstance(value, float):
        return ["x", math.inf, []]
    if isinstance(value, str):
        return [5, [], {}]
    if isinstance(value, list):
        return ["x", 5, {"a": 1}]
    return [[], "x", 5] if isinstance(value, dict) else []


def test_a_wrong_value_anywhere_in_a_config_is_refused(refused, whole):
    target = TARGETS["config"]
    values = json.loads((whole / target.file).read_text())
    for path in places(values):
        now = values
        for key in path:
            now = now[key]
        for new in wrong(now)[:2]:
            refused(target, json.dumps(changed(values, path, new)).encode())
    for section in ("format", "data", "model", "game", "run"):
        refused(target, json.dumps(without(values, (section,))).encode())
    refused(target, json.dumps(changed(values, ("model", "z_dim"), 10**30)).encode(), said="z_dim must be")
    refused(target, json.dumps(changed(values, ("model", "z_dim"), -1)).encode(), said="z_dim must be")
    refused(target, json.dumps(changed(values, ("format",), 2)).encode(), said="written by a newer sagan")
    refused(target, json.dumps(changed(values, ("game", "foo"), 2)).encode(), said="written by a newer sagan")


OPTIONAL = {"d_grad_norm", "g_grad_norm", "images", "pairs", "real_positive", "fake_positive", "nearest", "sigma"}
OPTIONAL |= {"average_distance", "spread", "error", "floor", "floor_samples", "seconds", "snapshot_sha256", "verdict"}
OPTIONAL |= {"collapsed", "reason", "gamma"}


@pytest.mark.parametrize(("name", "kind"), [("records", "train"), ("records", "guard"), ("scores", "score")])
def test_a_wrong_value_anywhere_in_a_record_is_refused(name, kind, refused, whole):
    target = TARGETS[name]
    lines = (whole / target.file).read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if json.loads(line)["kind"] == kind)
    record = json.loads(lines[number])

    def refuse(value, said=f"line {number + 1}"):
        text = "\n".join([*lines[:number], json.dumps(value), *lines[number + 1 :]]) + "\n"
        refused(target, text.encode(), said=said)

    for path in places(record):
        now = record
        for key in path:
            now = now[key]
        news = wrong(now)
        if kind == "guard" and isinstance(now, float):
            news = ["x", []]  # the guard's numbers may be infinite: that is what it looks for
        for new in news:
            refuse(changed(record, path, new))
        if path[-1] not in OPTIONAL and path[0] not in ("gamma",) and "versions" not in path and len(path) == 1:
            refuse(without(record, path))
    refuse(changed(record, ("kind",), "pictures"), "written by a newer sagan")
    refuse(changed(record, ("more",), 1), "written by a newer sagan")
    if kind == "score":
        for key in record["card"]:
            refuse(without(record, ("card", key)))
        refuse(changed(record, ("card", "more"), 1), "written by a newer sagan")


def test_a_wrong_value_anywhere_in_a_plan_is_refused(refused, whole):
    target = TARGETS["plan"]
    values = json.loads((whole / target.file).read_text())
    paths = [path for path in places(values) if path[0] != "runs" or len(path) == 1]  # which follow from the rest
    for path in paths:
        now = values
        for key in path:
            now = now[key]
        for new in wrong(now)[:1]:
            refused(target, json.dumps(changed(values, path, new)).encode())
    for key in values:
        refused(target, json.dumps(without(values, (key,))).encode())
    for axes in (
        {"../../x": [1]},
        {"run_dir": ["x"]},
        {"span": []},
        {"span": [0, 0]},
        {"span": [-1]},
        {"seed": list(range(20_000))},
    ):
        refused(target, json.dumps(changed(values, ("axes",), values["axes"] | axes)).encode())
    refused(target, json.dumps(changed(values, ("format",), 2)).encode(), said="written by a newer sagan")
    refused(target, json.dumps(changed(values, ("more",), 2)).encode(), said="written by a newer sagan")


def test_a_wrong_value_anywhere_in_a_store_is_refused(refused, whole):
    target = TARGETS["meta"]
    values = json.loads((whole / target.file).read_text())
    for path in places(values):
        now = values
        for key in path:
            now = now[key]
        for new in wrong(now):
            refused(target, json.dumps(changed(values, path, new)).encode())
    for key in (
        "format",
        "identity",
        "size",
        "count",
        "channels",
        "pixels",
        "crop",
        "filter",
        "source",
        "skipped",
        "sha256",
    ):
        refused(target, json.dumps(without(values, (key,))).encode())
    for key, new in (
        ("count", 0),
        ("count", -5),
        ("count", 25),
        ("size", 0),
        ("size", 17),
        ("channels", 1),
        ("sha256", "x"),
    ):
        refused(target, json.dumps(changed(values, (key,), new)).encode())


# ---- tensors


def saved(state, folder):
    torch.save(state, folder / "mutation.pt")
    data = (folder / "mutation.pt").read_bytes()
    (folder / "mutation.pt").unlink()
    return data


@pytest.mark.parametrize("name", some_of(["checkpoint", "conditional checkpoint"], "checkpoint"))
def test_a_wrong_value_in_a_checkpoint_is_refused(name, refused, whole, tmp_path):
    target = TARGETS[name]
    state = torch.load(whole / target.file, weights_only=True)

    def refuse(said="", **changes):
        refused(target, saved({**state, **changes}, tmp_path), said=said)

    for key in state:
        if key not in ("anchors", "attempt", "caution", "rollback", "penalty"):
            refused(target, saved({k: v for k, v in state.items() if k != key}, tmp_path))
    for key in ("step", "seconds", "attempt"):
        for new in ("x", None, -1, math.nan, 10**30, [], torch.ones(1)):
            refuse(key, **{key: new})
    refuse(step=5.5)
    for new in (5, None, "{", "[]", "null", "5", json.dumps({"format": 1}), "[" * NESTED):
        refuse(config=new)
    for new in ([], 5, {"g_lr": 1.0}, {"g_lr": "x", "d_lr": 1.0, "penalties": 1.0}):
        refuse(caution=new)
    for new in ([], {"step": 3}, {"kind": "rollback", "step": "x"}):
        refuse(rollback=new)
    refuse(images=7)
    refuse("written by a newer sagan", more=1)
    refuse("written by a newer sagan", format=2)
    for key in ("generator", "discriminator", "average", "g_optimizer", "d_optimizer"):
        for new in (None, [], 5, "x", {}):
            refuse(key, **{key: new})
    refuse_tensors(refuse, state)


def refuse_tensors(refuse, state):
    first = next(iter(state["generator"]))
    tensor = state["generator"][first]
    odd = {
        "narrow": tensor[:1],
        "double": tensor.double(),
        "nan": torch.full_like(tensor, math.nan),
        "infinite": torch.full_like(tensor, math.inf),
        "sparse": tensor.to_sparse(),
        "meta": tensor.to("meta"),
        "text": "x",
        "none": None,
        "number": 5.5,
    }
    for network in ("generator", "discriminator", "average"):
        weights = state[network]
        own = next(iter(weights))
        for new in odd.values():
            refuse(network, **{network: {**weights, own: new}})
        refuse(network, **{network: {**weights, "more": tensor}})
        refuse(network, **{network: {key: value for key, value in weights.items() if key != own}})
    for optimizer in ("g_optimizer", "d_optimizer"):
        whole = state[optimizer]
        moments = whole["state"][0]
        for name in ("step", "exp_avg", "exp_avg_sq"):
            for new in (torch.ones(1), torch.ones(3, 3), torch.tensor(math.nan), "x", None):
                changed = {**whole["state"], 0: {**moments, name: new}}
                refuse(optimizer, **{optimizer: {**whole, "state": changed}})
            lacking = {**whole["state"], 0: {key: value for key, value in moments.items() if key != name}}
            refuse(optimizer, **{optimizer: {**whole, "state": lacking}})
        refuse(optimizer, **{optimizer: {**whole, "state": {0: moments}}})
        refuse(optimizer, **{optimizer: {**whole, "state": {**whole["state"], 10_000: moments}}})


def test_a_wrong_value_in_a_snapshot_is_refused(refused, whole):
    target = TARGETS["snapshot"]
    with safe_open(whole / target.file, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict

    def refuse(said="", tensors=tensors, **changes):
        facts = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
        refused(target, safetensors_bytes(tensors, metadata=facts), said=said)

    config = json.loads(metadata["config"])
    for key in ("config", "step", "format"):
        refuse(**{key: None})
    for new in ("[]", "null", "5", "{", "x", json.dumps(changed(config, ("model", "num_classes"), "auto"))):
        refuse(config=new)
    for new in (10**30, 10**7, 9, -1, 5.5, "x"):
        refuse(config=json.dumps(changed(config, ("model", "z_dim"), new)))
    for new in ("x", "5.5", "-1", str(10**30), "nan"):
        refuse("step", step=new)
    refuse("written by a newer sagan", format="sagan-generator-2")
    refuse(format="pictures")
    for new in ("[]", "null", "5", "{}", '{"format": 1}', "[" * 50_000):
        refused(target, safetensors_bytes(tensors, metadata={"sagan": new}))
    own = next(iter(tensors))
    refuse(own, tensors={name: tensor for name, tensor in tensors.items() if name != own})
    refuse("more", tensors={**tensors, "more": tensors[own].clone()})
    for new in (tensors[own][None], tensors[own].double(), torch.full_like(tensors[own], math.nan)):
        refuse(own, tensors={**tensors, own: new.contiguous()})
