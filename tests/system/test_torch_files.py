"""What torch.save wrote, in either of its formats, is read as torch itself reads it."""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from sagan.system.errors import UserError
from sagan.system.torch_files import from_safetensors, read_torch_file, read_without_tensors, write_torch_file

KINDS = {"float": (64, 32, 16), "bfloat": (16,), "int": (64, 32, 16, 8), "uint": (8,), "complex": (64, 128)}
DTYPES = [f"{kind}{bits}" for kind, sizes in KINDS.items() for bits in sizes] + ["bool"]
LATER = ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]  # which the old format lacks


def content():
    base = torch.arange(60.0).view(10, 6) / 7
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    return {
        "whole": base,
        "rows": base[2:5],
        "transposed": base[1:, 2:].t(),
        "every second": base[:, ::2],
        "expanded": torch.ones(()).expand(2, 3),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(3),
        "gradient": torch.ones(2, requires_grad=True),
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "state": network.state_dict(),
        "ordered": OrderedDict(b=1, a=OrderedDict()),
        "plain": [1, -1, 2.5, None, True, False, 2**40, -(2**70), 10**100, "", "é\n", (), (1,), (1, (2, [3])), {0: {}}],
    }


def assert_same(found, expected):
    if isinstance(expected, torch.Tensor):
        assert type(found) is torch.Tensor
        for name in ("dtype", "shape", "device", "layout"):
            assert getattr(found, name) == getattr(expected, name)
        assert (found.stride(), found.storage_offset()) == (expected.stride(), expected.storage_offset())
        storages = [each.detach().untyped_storage() for each in (found, expected)]
        assert storages[0].tolist() == storages[1].tolist()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, (list, tuple)):
        assert (type(found), len(found)) == (type(expected), len(expected))
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_wrote_is_read_bit_for_bit(zipped, tmp_path):
    made = content() | {name: torch.arange(6).to(getattr(torch, name)) for name in DTYPES + LATER * zipped}
    torch.save(made, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch_file(tmp_path / "a.pt")
    assert_same(found, torch.load(tmp_path / "a.pt", weights_only=True))
    assert found["whole"].data_ptr() == found["transposed"].untyped_storage().data_ptr(), "what was one is one"
    again = io.BytesIO()
    torch.save(found, again)
    (tmp_path / "b.pt").write_bytes(again.getvalue())
    assert_same(read_torch_file(tmp_path / "b.pt"), found)


@pytest.mark.parametrize("zipped", [True, False])
def test_without_its_numbers_a_file_says_the_same(zipped, tmp_path):
    torch.save(content(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read_without_tensors(tmp_path / "a.pt")
    assert found["plain"] == read_torch_file(tmp_path / "a.pt")["plain"]
    assert (found["rows"].device.type, found["rows"].shape) == ("meta", (3, 6))


def test_a_file_of_a_machine_of_another_byte_order(tmp_path):
    write_torch_file(tmp_path / "a.pt", {"x": torch.arange(5.0)})
    with zipfile.ZipFile(tmp_path / "a.pt") as whole, zipfile.ZipFile(tmp_path / "b.pt", "w") as other:
        for name in whole.namelist():
            data = whole.read(name)
            if name.endswith("/byteorder"):
                data = b"big" if sys.byteorder == "little" else b"little"
            other.writestr(name, torch.arange(5.0).numpy().byteswap().tobytes() if name.endswith("/data/0") else data)
    assert_same(read_torch_file(tmp_path / "b.pt"), torch.load(tmp_path / "b.pt", weights_only=True))
    assert read_torch_file(tmp_path / "b.pt")["x"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_anywhere_is_refused(zipped, tmp_path):
    torch.save({"x": torch.arange(5), "y": torch.ones(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "a.pt").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "a.pt").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"a\.pt is not a whole weights file"):
            read_torch_file(tmp_path / "a.pt", "weights")


def test_a_state_dict_of_python_2(tmp_path):
    """Its OrderedDict was pickled as a list of pairs, its texts as bytes, and storages could be parts of others."""
    storage = b"(U\7storagectorch\nFloatStorage\nU\1kU\3cpuK\6(U\1vK\2K\3ttQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\1(K\2t(K\1ttR"
    pickled = b"\x80\2ccollections\nOrderedDict\n(]](U\1a" + tensor + b"eatR."
    about = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {})]
    numbers = (6).to_bytes(8, "little") + torch.arange(6.0).numpy().tobytes()
    Path(tmp_path / "a.pth").write_bytes(b"".join(about) + pickled + pickle.dumps(["k"], 2) + numbers)
    found = read_torch_file(tmp_path / "a.pth")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [3.0, 4.0]}


def test_a_safetensors_file_is_read_with_its_metadata():
    made = {"x": torch.arange(5), "y": torch.ones(2, 3, dtype=torch.bfloat16)}
    for metadata in ({"a": "b"}, None):
        found, tensors = from_safetensors(save(made, metadata=metadata))
        assert found == (metadata or {})
        assert_same({name: tensors[name] for name in made}, made)
    for damaged in (b"", bytes(7), bytes(8), save(made)[:-1], b"\xff" * 8 + save(made)[8:]):
        with pytest.raises(SafetensorError):
            from_safetensors(damaged)
