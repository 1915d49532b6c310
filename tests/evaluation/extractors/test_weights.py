import dataclasses
import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from sagan.evaluation.extractors.weights import (
    INCEPTION,
    PublishedWeights,
    download_weights,
    find_weights,
    hub_cache,
    load_weights,
    own_cache,
    published_sha256,
    read_weights,
    tensors_sha256,
)
from sagan.system.files import file_sha256

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture(name="caches")
def make_caches(tmp_path, monkeypatch):
    """Empty caches: torch.hub's folder of checkpoints, and ours."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(INCEPTION.variable, raising=False)
    folders = tmp_path / "torch/hub/checkpoints", tmp_path / "cache/sagan"
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


@pytest.fixture(name="served")
def make_served(tmp_path):
    """Published weights of which the published place is a file here."""
    origin = tmp_path / "origin.bin"
    origin.write_bytes(b"weights" * 1000)
    sha256 = hashlib.sha256(origin.read_bytes()).hexdigest()
    return PublishedWeights("the weights of this test", ("w.pth",), origin.as_uri(), sha256, INCEPTION.variable)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)


def weights_of_net():
    torch.manual_seed(0)
    return Net().state_dict()


# ---- where


def test_nothing_is_found_in_empty_caches(caches):
    assert find_weights(INCEPTION) is None


@pytest.mark.parametrize("name", INCEPTION.filenames)
@pytest.mark.parametrize("which", [0, 1])
def test_either_cache_and_either_name_will_do(caches, which, name):
    place = caches[which] / name
    place.touch()
    assert find_weights(INCEPTION) == place


def test_the_environment_variable_goes_first_and_is_read_at_the_call(caches, tmp_path, monkeypatch):
    (caches[0] / INCEPTION.filenames[0]).touch()
    mine = tmp_path / "mine.pth"
    mine.touch()
    monkeypatch.setenv(INCEPTION.variable, str(mine))
    assert find_weights(INCEPTION) == mine


def test_a_variable_that_names_no_file_is_not_passed_over(caches, tmp_path, monkeypatch):
    (caches[0] / INCEPTION.filenames[0]).touch()
    monkeypatch.setenv(INCEPTION.variable, str(tmp_path / "gone.pth"))
    with pytest.raises(ValueError, match=rf"{INCEPTION.variable} names .*gone\.pth, which is not a file"):
        find_weights(INCEPTION)


def test_our_cache_is_in_the_home_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert own_cache() == Path.home() / ".cache/sagan"


def test_a_download_lands_whole_in_the_cache_of_torch_hub(caches, served):
    path = download_weights(served)
    assert path == caches[0] / "w.pth"
    assert file_sha256(path) == served.sha256
    assert find_weights(served) == path


def test_a_download_of_other_bytes_leaves_nothing(caches, served):
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        download_weights(dataclasses.replace(served, sha256="0" * 64))
    assert served.url in str(caught.value)
    assert list(caches[0].iterdir()) == []


def test_without_a_network_one_sentence_says_what_to_put_where(caches, served, tmp_path):
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        download_weights(dataclasses.replace(served, url=(tmp_path / "gone").as_uri()))
    for part in ("gone", str(caches[1]), INCEPTION.variable):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- what


def test_a_published_name_with_other_bytes_is_damaged(tmp_path):
    path = tmp_path / INCEPTION.filenames[1]
    path.write_bytes(b"cut short")
    with pytest.raises(ValueError, match=f"is damaged.*{INCEPTION.sha256}.*fetch https://"):
        published_sha256(path, INCEPTION)


def test_a_name_of_ones_own_may_hold_other_weights(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"mine")
    assert published_sha256(path, INCEPTION) == hashlib.sha256(b"mine").hexdigest()


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_read_in_both_formats_of_torch_save(tmp_path, zipped):
    path = tmp_path / "w.pth"
    torch.save(OrderedDict(weights_of_net()), path, _use_new_zipfile_serialization=zipped)
    read = read_weights(path)
    assert read.keys() == weights_of_net().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in weights_of_net().items())


def save_truncated(path, zipped):
    torch.save(weights_of_net(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-400])


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


NO_WEIGHTS = {
    "truncated": lambda path: save_truncated(path, True),
    "truncated, old format": lambda path: save_truncated(path, False),
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_text("<html>404</html>"),
    "a list": lambda path: torch.save([torch.zeros(2)], path),
    "no tensors": lambda path: torch.save({"epoch": 3}, path),
    "nothing": lambda path: torch.save({}, path),
    "TorchScript": lambda path: torch.jit.save(torch.jit.trace(nn.ReLU(), torch.zeros(1)), str(path)),
    "code": lambda path: torch.save({"a": Trap(path.with_suffix(".sprung"))}, path),
}


@pytest.mark.parametrize("make", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_what_is_no_weights_file_is_refused_in_one_sentence(tmp_path, make):
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(ValueError, match="is not a weights file") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not path.with_suffix(".sprung").exists()


def test_loaded_weights_are_those_of_the_file_in_float32():
    with torch.device("meta"):
        net = Net()
    halves = {name: t.half() if t.is_floating_point() else t for name, t in weights_of_net().items()}
    load_weights(net, halves, "here")
    assert net.conv.weight.dtype == torch.float32
    assert torch.equal(net.conv.weight, halves["conv.weight"].float())


def test_files_older_than_the_counters_of_batch_norm_load():
    with torch.device("meta"):
        net = Net()
    load_weights(net, {n: t for n, t in weights_of_net().items() if not n.endswith("tracked")}, "here")
    assert not any(tensor.is_meta for tensor in net.state_dict().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("bn.bias"), r"1 missing \(first bn.bias\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unknown \(first extra\)"),
        (lambda w: w.update({"conv.bias": torch.zeros(5)}), r"1 of another shape \(first conv.bias\)"),
        (lambda w: w["conv.weight"].view(-1)[3:4].fill_(torch.nan), r"1 with NaN or infinity \(first conv.weight\)"),
    ],
)
def test_weights_of_something_else_are_refused(change, message):
    weights = weights_of_net()
    change(weights)
    with pytest.raises(ValueError, match=f"somewhere.pth does not hold the weights of Net: tensors {message}"):
        load_weights(Net(), weights, "somewhere.pth")


def test_the_hash_of_tensors_sees_names_values_types_and_shapes_but_no_order():
    weights = weights_of_net()
    known = tensors_sha256(weights)
    assert tensors_sha256(dict(reversed(weights.items()))) == known
    changed = {
        "value": weights | {"conv.bias": weights["conv.bias"] + 1},
        "type": weights | {"conv.bias": weights["conv.bias"].view(torch.int32)},
        "shape": weights | {"conv.bias": weights["conv.bias"][None]},
        "name": {("conv.b" if name == "conv.bias" else name): tensor for name, tensor in weights.items()},
    }
    assert len({known, *map(tensors_sha256, changed.values())}) == 5


def test_a_user_without_a_name_and_a_home_has_a_cache(monkeypatch):
    """As in a container."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the system does not know the user
    assert own_cache().is_absolute()
    assert hub_cache().is_absolute()
    assert find_weights(dataclasses.replace(INCEPTION, filenames=("no-such-file",))) is None
