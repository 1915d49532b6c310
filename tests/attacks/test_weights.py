"""Checkpoints, snapshots and weights that run code, take memory, or make training write outside its tensors."""

import builtins
import collections
import copy
import functools
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sagan.evaluation.extractors.weights import load_weights, read_weights
from sagan.published.imports import load_published_generator
from sagan.published.keys import read_published, to_published
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, ModelConfig, to_dict
from sagan.run.records import FACTORS
from sagan.run.weights import (
    Checkpoint,
    Snapshot,
    load_checkpoint,
    load_snapshot,
    save_checkpoint,
    save_snapshot,
    saved_step,
)
from sagan.system.errors import UserError
from sagan.system.typed import shorten
from tests.attacks.made import (
    Made,
    few_mebibytes,
    old_file,
    peak_mebibytes,
    pickled,
    torch_zip,
    with_directory,
    zip_of_pickle,
)
from tests.run.test_weights import stepped_adam

SMALL = Config(model=ModelConfig(imsize=16, z_dim=2, g_conv_dim=8, d_conv_dim=8))


@functools.cache
def _made():
    generator, discriminator = build_generator(SMALL.model), build_discriminator(SMALL.model)
    optimizers = {"g_optimizer": generator, "d_optimizer": discriminator}
    return Checkpoint(
        step=3,
        seconds=1.5,
        config=SMALL,
        caution=dict.fromkeys(FACTORS, 1.0),
        generator=generator.state_dict(),
        discriminator=discriminator.state_dict(),
        average=build_generator(SMALL.model, seed=1).state_dict(),
        **{name: stepped_adam(network) for name, network in optimizers.items()},
    )


def checkpoint():
    return copy.deepcopy(_made())


READERS = [load_checkpoint, read_weights, lambda path: read_published(path, "generator")]


def refused(path, readers=READERS):
    """Every reader of torch's files refuses this one, and its step is not read."""
    assert saved_step(path) is None
    for read in readers:
        with pytest.raises(UserError, match=path.name) as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


# ---- files that do something when they are unpacked


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    "made",
    [
        Made(os.system, "touch ran"),
        Made(eval, "open('ran', 'w')"),
        Made(bytearray, 10**12),  # which torch would allow, as all below
        Made(torch.FloatTensor, 10**6, 10**6),
        Made(collections.Counter, "x" * 10),
        Made(torch._utils._rebuild_qtensor, None),
        Made(torch._utils._rebuild_nested_tensor, torch.zeros(1), torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1)),
        Made(builtins.complex, 1.0, 2.0),
    ],
    ids=["system", "eval", "bytearray", "tensor", "counter", "quantised", "nested", "complex"],
)
def test_a_pickle_that_is_more_than_tensors(made, old_format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "step": 5, "more": made}, "last.pt", _use_new_zipfile_serialization=not old_format)
    refused(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


FLOATS = b"ctorch\nFloatStorage\n"
REBUILT = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(storage, *sizes):
    """The steps that make a tensor, of contiguous memory, from those that make a storage."""
    return (REBUILT, b"(", *storage, 0, b"(", *sizes, b"t", b"(", *[1] * len(sizes), b"t\x89}tR")


def stored(numbers, name="0", kind=FLOATS):
    return (b"(", "storage", kind, name, "cpu", numbers, b"tQ")


def doubled(times):
    """The steps that make a tuple of two of a tuple of two of ..."""
    return (b"K\1\x85q\0", *(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(times)))


STEPS = {
    "a key that takes for ever to hash": (b"}", *doubled(60), b"K\1s"),
    "a key that is a number with a point": (b"}", b"G" + bytes(8), b"K\1s"),
    "a storage that is made": (b"}", "format", FLOATS, 2 * 10**9, b"\x85Rs"),
    "a storage of bytes that is made": (b"}", "format", b"ctorch.storage\nUntypedStorage\n", 10**10, b"\x85Rs"),
    "a storage of any type that is made": (b"}", "format", b"ctorch.storage\nTypedStorage\n", 10**10, b"\x85Rs"),
    "a tensor of a storage that is made": (b"}", "format", *tensor((FLOATS, 10**9, b"\x85R"), 10**9), b"s"),
    "a storage that is not there": (b"}", "format", *tensor(stored(10**13), 10**13), b"s"),
    "a storage of negative size": (b"}", "format", *tensor(stored(-4, "few"), 1), b"s"),
    "a tensor larger than its storage": (b"}", "format", *tensor(stored(4, "few"), 10**9), b"s"),
    "a bytearray": (b"}", "format", b"c__builtin__\nbytearray\n", 2**31, b"\x85Rs"),
    "bytes of a later protocol": (b"}", "format", b"\x96" + (2**40).to_bytes(8, "little"), b"s"),
    "a text of a later protocol": (b"}", "format", b"\x8d" + (2**40).to_bytes(8, "little"), b"s"),
    "a number of a million digits": (b"}", "format", b"\x8b" + (2**19).to_bytes(4, "little") + b"\1" * 2**19, b"s"),
    "many copies of a list": (
        b"]q\0(" + b"K\1K\1\x86" * 10_000 + b"e]",
        *(b"ccollections\nOrderedDict\nh\0\x85Ra" for _ in range(1000)),
    ),
    "an item of a tensor": (*tensor(stored(4, "few"), 4), "x", b"K\1s"),
    "the state of a tensor": (*tensor(stored(4, "few"), 4), b"(", *stored(4, "few"), 0, b"(", 4, b"t", b"(", 1, b"ttb"),
    "something that is no storage": (b"}", "format", b"(", "module", FLOATS, b"NNtQs"),
    "a step without what it needs": (b"ss",),
}


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("what", STEPS)
@pytest.mark.timeout(20)
def test_a_pickle_that_takes_time_or_memory(what, old_format, tmp_path):
    made = pickled(*STEPS[what])
    few = b"\4" + bytes(7 + 16)
    data = old_file(made, ["few"]) + few if old_format else zip_of_pickle(made, more={"x/data/few": few[8:]})
    (tmp_path / "last.pt").write_bytes(data)
    refused(tmp_path / "last.pt")


@pytest.mark.slow
def test_the_memory_that_such_pickles_take(tmp_path):
    for number, steps in enumerate(STEPS.values()):
        made = pickled(*steps)
        (tmp_path / f"{number}.pt").write_bytes(zip_of_pickle(made, more={"x/data/few": bytes(16)}))
        (tmp_path / f"{number}-old.pt").write_bytes(old_file(made))
    imports = (
        "import sys, contextlib, pathlib\nfrom sagan.system.torch_files import read_torch_file, read_without_tensors"
    )
    code = """
for path in pathlib.Path(sys.argv[1]).iterdir():
    read_without_tensors(path)
    with contextlib.suppress(ValueError): read_torch_file(path)
"""
    assert peak_mebibytes(imports, code, tmp_path) < 50


def test_a_pickle_of_more_steps_than_any_checkpoint_has(tmp_path, monkeypatch):
    torch.save({"format": 1, "step": 5, "classes": list(map(str, range(1000)))}, tmp_path / "last.pt")
    assert saved_step(tmp_path / "last.pt") == 5
    monkeypatch.setattr("sagan.system.torch_files._STEPS", 1000)
    refused(tmp_path / "last.pt")
    monkeypatch.undo()
    monkeypatch.setattr("sagan.system.torch_files._LARGEST_PICKLE", 1000)
    refused(tmp_path / "last.pt")


GOOD = pickle.dumps({"format": 1, "step": 5}, 2)
BOMB = pickled(*STEPS["a bytearray"])


@pytest.mark.parametrize(
    "data",
    [
        zip_of_pickle(BOMB, "x/DATA.PKL"),
        zip_of_pickle(GOOD, "x/DATA.PKL"),
        zip_of_pickle(GOOD, more={"x/DATA.PKL": BOMB}),
        zip_of_pickle(GOOD, more={"X/data.pkl": BOMB}),
        zip_of_pickle(GOOD, more={"x/constants.pkl": GOOD}),
        zip_of_pickle(GOOD, more={"x/data/0": b"1", "x/Data/0": b"2"}),
        zip_of_pickle(GOOD, "data.pkl"),
        old_file(BOMB) + zip_of_pickle(GOOD),
        zip_of_pickle(GOOD) + old_file(GOOD),
        old_file(pickled(b"}", "format", *tensor(stored(4), 4), b"s"), ["0"]),
        old_file(pickled(b"}", "format", *tensor(stored(4), 4), b"s")) + bytes(100),
    ],
    ids=range(11),
)
def test_a_file_that_shows_torch_another_pickle_or_lacks_numbers(data, tmp_path):
    (tmp_path / "last.pt").write_bytes(data)
    with pytest.raises(UserError, match=r"last\.pt is not a whole"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_sentence_shows_no_tensor_and_no_array():
    shown = [torch.zeros(()).expand([6] * 12), np.broadcast_to(0, [6] * 12), torch.zeros(10**6).tolist()]
    with few_mebibytes(1):
        texts = [shorten(value) for each in shown for value in (each, [each], {"x": each}, (each,) * 10**4)]
    assert max(map(len, texts)) <= 60
    assert [shorten(value) for value in (None, True, 1.5, [2.5, "x"], torch.zeros(1))] == [
        *("None", "True", "1.5", "[2.5, 'x']", "tensor")
    ]


def test_weights_of_any_size_in_a_few_bytes(tmp_path):
    """As many numbers as one is repeated to, under a name that the network lacks."""
    torch.save({"weight": torch.zeros(2, 3), "other": torch.zeros(()).expand(2**40)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"1 unknown \(first other\)"):
        load_weights(torch.nn.Linear(3, 2, bias=False), read_weights(tmp_path / "a.pth"), "a.pth")


@pytest.mark.parametrize("size", [2**24 + 1, 10**8, 2**40])
def test_a_long_header_of_safetensors(size, tmp_path):
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(size.to_bytes(8, "little") + b"{")
        file.truncate(min(size, 2**25))
    with few_mebibytes(40):
        for read in (load_snapshot, read_weights):
            with pytest.raises(UserError, match=r"a\.safetensors"):
                read(tmp_path / "a.safetensors")


def test_the_config_in_a_checkpoint_is_no_longer_than_a_file_of_it(tmp_path):
    values = {"format": 1, "step": 3, "seconds": 1.5, "images": None, "config": "[[]" + ",[]" * 2**19 + "]"}
    torch.save(values, tmp_path / "last.pt")
    with few_mebibytes(40), pytest.raises(UserError, match="bytes of JSON, more than"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("config", ["\udc80", "{\udcff}", "\0"])
def test_a_config_in_a_checkpoint_that_is_no_text(config, tmp_path):
    torch.save({"format": 1, "step": 3, "seconds": 1.5, "images": None, "config": config}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt.* is damaged"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("name", ["last.pt", "a.safetensors"])
def test_a_file_is_opened_once(name, tmp_path, monkeypatch):
    """Else another may have its name by the time that it is read."""
    made = checkpoint()
    save_checkpoint(tmp_path / "last.pt", made)
    save_snapshot(tmp_path / "a.safetensors", Snapshot(build_generator(SMALL.model), SMALL, 1))
    opened = builtins.open

    def moved(path, *arguments, **options):
        file = opened(path, *arguments, **options)
        Path(path).rename(f"{path}.moved")
        return file

    monkeypatch.setattr(builtins, "open", moved)
    for read in (load_snapshot, lambda path: read_weights(path) if path.suffix != ".pt" else load_checkpoint(path)):
        read(tmp_path / name)
        (tmp_path / f"{name}.moved").rename(tmp_path / name)


def test_a_compressed_file(tmp_path):
    (tmp_path / "last.pt").write_bytes(torch_zip({"format": 1, "step": 5}, compressed=True))
    refused(tmp_path / "last.pt")


def test_a_file_that_unpacks_to_eight_gigabytes(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "last.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x/data.pkl", "w", force_zip64=True) as member,
    ):
        member.write(bytes(2**22))
    data = bytearray((tmp_path / "last.pt").read_bytes())
    at = data.rindex(b"PK\1\2") + 24
    data[at : at + 4] = (2**32 - 2).to_bytes(4, "little")  # as if it were many more
    (tmp_path / "last.pt").write_bytes(data)
    refused(tmp_path / "last.pt")


def test_a_part_that_says_it_is_larger_than_the_file(tmp_path):
    torch.save({"format": 1, "step": 5, "more": torch.zeros(10)}, tmp_path / "last.pt")
    data = bytearray((tmp_path / "last.pt").read_bytes())
    at = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1) + 20
    data[at : at + 8] = (2**31).to_bytes(4, "little") * 2
    (tmp_path / "last.pt").write_bytes(data)
    refused(tmp_path / "last.pt")


@pytest.mark.parametrize("before", [b"", b"text before"])
def test_a_file_with_two_directories(before, tmp_path):
    """One for those that look whether it is compressed, another for torch."""
    good = {"x/data.pkl": pickle.dumps({"format": 1, "step": 5}, protocol=2), "x/version": b"3\n"}
    (tmp_path / "last.pt").write_bytes(with_directory(before, good, {"x/data.pkl": bytes(10**6)}))
    refused(tmp_path / "last.pt")


def test_a_file_with_a_comment_or_something_before_it(tmp_path):
    torch.save({"format": 1, "step": 5}, tmp_path / "last.pt")
    whole = (tmp_path / "last.pt").read_bytes()
    assert saved_step(tmp_path / "last.pt") == 5
    for data in (b"#!/bin/sh\n" + whole, whole[:-2] + b"\5\0hello", whole + b"more"):
        (tmp_path / "last.pt").write_bytes(data)
        refused(tmp_path / "last.pt")


def test_lists_that_hold_themselves_a_million_times(tmp_path):
    many = ["x"]
    for _ in range(40):
        many = [many, many]
    for key in ("step", "config", "caution", "classes", "generator", "g_optimizer", "anchors"):
        torch.save({**vars(checkpoint()), "format": 1, "config": "{}", key: many}, tmp_path / "last.pt")
        with pytest.raises(UserError, match=r"last\.pt") as refusal:
            load_checkpoint(tmp_path / "last.pt")
        assert len(str(refusal.value)) < 400 + len(str(tmp_path))


# ---- tensors that an update in place would go wrong with


WRONG = {
    "one number": lambda t: torch.zeros(1),
    "none": lambda t: torch.zeros(0),
    "expanded": lambda t: torch.zeros(()).expand(t.shape),
    "overlapping": lambda t: torch.zeros(t.numel() + 9).as_strided(t.shape, [1] * t.ndim),
    "every second": lambda t: torch.zeros(*t.shape[:-1], 2 * t.shape[-1])[..., ::2],
    "double": lambda t: t.double(),
    "half": lambda t: t.half(),
    "whole numbers": lambda t: t.int(),
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.to_sparse(),
    "without memory": lambda t: t.to("meta"),
    "transposed": lambda t: t.flatten()[None].transpose(0, 1),
    "NaN": lambda t: torch.full_like(t, torch.nan),
    "infinite": lambda t: torch.full_like(t, torch.inf),
    "text": lambda t: "x",
    "a list": lambda t: t.tolist(),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize(
    ("optimizer", "moment"), [("g_optimizer", "exp_avg"), ("d_optimizer", "exp_avg_sq"), ("g_optimizer", "step")]
)
def test_a_moment_that_is_not_as_its_parameter(what, moment, optimizer, tmp_path):
    state = checkpoint()
    moments = next(m for m in vars(state)[optimizer]["state"].values() if m["exp_avg"].ndim > 1)
    if moment == "step" and what in ("expanded", "one number", "overlapping", "every second", "transposed"):
        moments[moment] = torch.ones(2)[:1]
    else:
        moments[moment] = WRONG[what](moments[moment])
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(UserError, match=r"last\.pt"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("network", ["discriminator", "average"])
def test_a_weight_that_is_not_as_its_networks(what, network, tmp_path):
    state = checkpoint()
    weights = vars(state)[network]
    name = next(name for name, tensor in weights.items() if tensor.ndim > 1)
    weights[name] = WRONG[what](weights[name])
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(UserError, match=r"last\.pt"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("number", [0.0, -1.0, -1e30])
def test_moments_that_no_step_leaves(number, tmp_path):
    for name in ("step", "exp_avg_sq"):
        state = checkpoint()
        state.d_optimizer["state"][1][name].fill_(number - (name == "exp_avg_sq"))
        save_checkpoint(tmp_path / "last.pt", state)
        with pytest.raises(UserError, match=r"step must be 1 or more, and no number of exp_avg_sq below 0"):
            load_checkpoint(tmp_path / "last.pt")


def test_moments_in_the_same_memory(tmp_path):
    for one, other in (("g_optimizer", "g_optimizer"), ("g_optimizer", "d_optimizer")):
        state = checkpoint()
        vars(state)[one]["state"][1]["step"] = vars(state)[other]["state"][2]["step"]
        save_checkpoint(tmp_path / "last.pt", state)
        with pytest.raises(UserError, match="two of the optimizers' tensors share their memory"):
            load_checkpoint(tmp_path / "last.pt")


# ---- sizes

HUGE = [{"z_dim": 65_536, "g_conv_dim": 16_384, "d_conv_dim": 16_384, "imsize": 8192, "num_classes": 1_000_000}]
HUGE += [{name: 10**7} for name in ("z_dim", "g_conv_dim", "imsize")] + [{"network": "resnet", **HUGE[0]}]


@pytest.mark.parametrize("changes", HUGE)
def test_a_snapshot_of_huge_networks_takes_no_memory(changes, tmp_path):
    config = to_dict(SMALL)
    config["model"] |= changes
    facts = {"format": "sagan-generator-1", "config": config, "step": 1}
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"sagan": json.dumps(facts)})
    with pytest.raises(UserError, match=r"a\.safetensors.* is damaged"):
        load_snapshot(tmp_path / "a.safetensors")


@pytest.mark.slow
def test_the_most_memory_that_huge_networks_take(tmp_path):
    imports = "import sys, contextlib\nfrom sagan.run.weights import load_snapshot"
    test_a_snapshot_of_huge_networks_takes_no_memory(HUGE[0], tmp_path)
    code = "with contextlib.suppress(ValueError): load_snapshot(sys.argv[1])"
    assert peak_mebibytes(imports, code, tmp_path / "a.safetensors") < 100


def test_a_published_file_of_huge_networks_takes_no_memory(tmp_path):
    state = to_published(
        "generator", build_generator(ModelConfig(z_dim=4, g_conv_dim=8, norm_axis="input")).state_dict()
    )
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    state[name] = torch.zeros(()).expand(65_536, 131_072, 4, 4)
    torch.save(state, tmp_path / "1_G.pth")
    with pytest.raises(UserError, match=r"1_G\.pth is not a state dict .* must be contiguous"):
        load_published_generator(tmp_path / "1_G.pth", 0)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_published_file_that_is_not_finite(number, tmp_path):
    state = to_published(
        "generator", build_generator(ModelConfig(z_dim=4, g_conv_dim=8, norm_axis="input")).state_dict()
    )
    next(tensor for tensor in state.values() if tensor.ndim == 4).fill_(number)
    torch.save(state, tmp_path / "1_G.pth")
    with pytest.raises(UserError, match=r"1_G\.pth is not a state dict .* is not finite"):
        load_published_generator(tmp_path / "1_G.pth", 0)


# ---- by chance


@pytest.mark.slow
def test_checkpoints_changed_by_chance(tmp_path):
    """Bytes of a checkpoint, and values of its content: the checkpoint, or a sentence; never another error."""
    chance = np.random.default_rng(0)
    made = checkpoint()
    save_checkpoint(tmp_path / "last.pt", made)
    whole = (tmp_path / "last.pt").read_bytes()
    content = torch.load(io.BytesIO(whole), weights_only=True)
    refusals = 0
    for number in range(1500):
        if number % 2:
            data = bytearray(whole)
            for _ in range(int(chance.integers(1, 5))):
                data[int(chance.integers(len(data)))] = int(chance.integers(256))
            (tmp_path / "last.pt").write_bytes(data)
        else:
            changed = copy.deepcopy(content)
            holder, key = changed, "generator"
            for _ in range(int(chance.integers(1, 5))):
                keys = list(holder)
                key = keys[int(chance.integers(len(keys)))]
                if not isinstance(holder[key], dict) or not holder[key]:
                    break
                last, holder = holder, holder[key]
            else:
                holder = last
            wrong = [None, [], {}, -1, 1e300, "x", torch.zeros(1), torch.zeros(3, 3), b"x", True, [[1]], {1: 2}]
            holder[key] = wrong[int(chance.integers(len(wrong)))]
            torch.save(changed, tmp_path / "last.pt")
        try:
            load_checkpoint(tmp_path / "last.pt")
        except UserError:
            refusals += 1
    assert refusals > 1000


def test_metadata_that_is_null(tmp_path):
    header = json.dumps({"__metadata__": None}).encode()
    for name in ("00000001.safetensors", "model.safetensors"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(UserError, match="is not a snapshot of sagan"):
            load_snapshot(tmp_path / name)
