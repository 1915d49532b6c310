import dataclasses
import json
import os
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, GameConfig, ModelConfig, to_dict
from sagan.run.weights import Checkpoint, Snapshot, load_checkpoint, load_snapshot, save_checkpoint, save_snapshot
from tests import records

SMALL = Config(model=ModelConfig(imsize=32, z_dim=4, g_conv_dim=8, d_conv_dim=8, span=1))


def stepped_adam(network):
    """The state of Adam after a step of a network."""
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def checkpoint(**changes):
    generator, discriminator = build_generator(SMALL.model), build_discriminator(SMALL.model)
    made = Checkpoint(
        step=3, seconds=1.5, config=SMALL, caution={"g_lr": 0.5, "d_lr": 0.5, "penalties": 1.0},
        g_optimizer=stepped_adam(generator), d_optimizer=stepped_adam(discriminator),
        generator=generator.state_dict(), discriminator=discriminator.state_dict(),
        average=build_generator(SMALL.model, seed=1).state_dict(),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"attempt": 1, "rollback": records.rollback(3, 9), "penalty": 0.25, "images": "pixels:00"}]
)
def test_a_checkpoint_comes_back_whole(tmp_path, changes):
    made = checkpoint(**changes)
    save_checkpoint(tmp_path / "deep" / "last.pt", made)
    back, made = (dict(vars(each)) for each in (load_checkpoint(tmp_path / "deep" / "last.pt"), made))
    for name in ("config", "rollback", "images"):
        assert back.pop(name) == made.pop(name)
    torch.testing.assert_close(back, made, rtol=0, atol=0)


class Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "evil": Payload()}, "last.pt")
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_file_is_refused_in_a_sentence(tmp_path, share):
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match="last.pt is not a whole checkpoint"):
        load_checkpoint(path)


def test_a_file_of_another_kind_is_refused_in_a_sentence(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"last\.pt is not a checkpoint of sagan"):
        load_checkpoint(tmp_path / "last.pt")


ROLLBACK = records.rollback(3, 9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"caution": {"g_lr": -5.0, "d_lr": 1.0, "penalties": 1.0}},
            "caution of g_lr must be more than 0 and at most 1",
        ),
        ({"caution": {"g_lr": 1.0, "d_lr": 0.0, "penalties": 1.0}}, "caution of d_lr must be more than 0"),
        (
            {"caution": {"g_lr": 1.0, "d_lr": 1.0, "penalties": 1e300}},
            r"caution of penalties must be from 1 to 2\^0, got",
        ),
        ({"attempt": 99}, "attempt must be the number of rollbacks, 0, got 99"),
        ({"attempt": 2, "rollback": ROLLBACK}, "attempt must be the number of rollbacks, 1, got 2"),
        ({"rollback": ROLLBACK}, "attempt must be the number of rollbacks, 1, got 0"),
        ({"anchors": torch.zeros(2)}, "anchors must be None without lecam, got tensor"),
    ],
)
def test_a_checkpoint_that_no_run_comes_to_is_refused(tmp_path, changes, said):
    save_checkpoint(tmp_path / "last.pt", checkpoint(**changes))
    with pytest.raises(ValueError, match=rf"last\.pt is damaged: {said}"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "train"}, "last.pt is damaged: the kind of rollback must be 'rollback', got 'train'"),
        ({"step": 10}, "last.pt, rollback, is damaged: step must be at most from_step, 9, got 10"),
        ({"attempt": 0}, "last.pt, rollback, is damaged: attempt must be 1 or more, got 0"),
    ],
)
def test_a_rollback_that_no_run_made_is_refused(tmp_path, changes, said):
    save_checkpoint(tmp_path / "last.pt", checkpoint(attempt=1, rollback=ROLLBACK))
    state = torch.load(tmp_path / "last.pt")
    state["rollback"] |= changes
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=said):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize(
    "trouble",
    [
        MemoryError(),
        OSError(5, "Input/output error"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"),
    ],
)
def test_trouble_of_the_machine_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch, trouble):
    save_checkpoint(tmp_path / "last.pt", checkpoint())

    def fail(*arguments, **options):
        raise trouble

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(type(trouble)) as error:
        load_checkpoint(tmp_path / "last.pt")
    assert error.value is trouble


def test_a_damaged_file_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as members:
        largest = members.read(max(members.infolist(), key=lambda member: member.file_size))
    data[data.index(largest) + len(largest) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"last\.pt is not a whole checkpoint file: the checksum of '.*/data/.*' is wrong"
    ):
        load_checkpoint(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"x" * 100)
    with pytest.raises(ValueError, match=r"last\.pt is not a whole checkpoint file: a part of it is compressed"):
        load_checkpoint(path)


def test_the_default_dtype_of_the_process_does_not_matter(tmp_path):
    config = dataclasses.replace(SMALL, game=GameConfig(lecam=0.1))
    save_checkpoint(tmp_path / "last.pt", checkpoint(config=config, anchors=torch.zeros(2)))
    torch.set_default_dtype(torch.float64)
    try:
        assert load_checkpoint(tmp_path / "last.pt").anchors.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint(step=1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, checkpoint(step=2))
    assert load_checkpoint(path).step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


# ---- snapshots


def test_a_snapshot_is_safetensors_with_its_facts(tmp_path):
    generator = build_generator(SMALL.model)
    save_snapshot(tmp_path / "a.safetensors", Snapshot(generator, SMALL, 7, "pixels:00"))
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        facts = {"format": "sagan-generator-1", "config": to_dict(SMALL), "step": 7, "images": "pixels:00"}
        assert {name: json.loads(text) for name, text in file.metadata().items()} == {
            "sagan": json.loads(json.dumps(facts))
        }
        assert set(file.keys()) == set(generator.state_dict())
        assert torch.equal(file.get_tensor("last.weight"), generator.last.weight)


def test_a_snapshot_comes_back_as_the_same_generator(tmp_path):
    generator = build_generator(SMALL.model, seed=2).eval()
    save_snapshot(tmp_path / "a.safetensors", Snapshot(generator, SMALL, 12))
    snapshot = load_snapshot(tmp_path / "a.safetensors")
    assert (snapshot.config, snapshot.step, snapshot.images) == (SMALL, 12, None)
    assert not snapshot.generator.training
    z = torch.randn(3, 4)
    torch.testing.assert_close(snapshot.generator(z), generator(z), rtol=0, atol=0)


CLASSES = dataclasses.replace(SMALL, model=dataclasses.replace(SMALL.model, num_classes=3))
NAMES = ("2", "10", "caf\udce9 $x$")  # the last as Python reads a name that is not UTF-8


def test_names_of_classes_come_back_in_their_order_and_equal_snapshots_are_equal_files(tmp_path):
    generator = build_generator(CLASSES.model)
    for name in ("a", "b"):
        save_snapshot(tmp_path / name, Snapshot(generator, CLASSES, 7, "pixels:00", NAMES))
    assert load_snapshot(tmp_path / "a").classes == NAMES
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    save_snapshot(tmp_path / "c", Snapshot(generator, CLASSES, 7, "pixels:00"))  # as earlier versions wrote it
    with safe_open(tmp_path / "c", framework="pt") as file:
        assert "classes" not in json.loads(file.metadata()["sagan"])
    assert load_snapshot(tmp_path / "c").classes == ()


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "a"), ("a", "b", "c", "a"), ("a", "b", 3), "abc", None])
def test_names_that_are_not_those_of_all_classes_are_refused(tmp_path, names):
    save_snapshot(tmp_path / "a", Snapshot(build_generator(CLASSES.model), CLASSES, 7, None, names or ("a",)))
    with pytest.raises(ValueError, match="a is damaged: classes must be"):
        load_snapshot(tmp_path / "a")


def test_a_snapshot_is_named_by_a_string_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_snapshot(tmp_path / "a.safetensors", Snapshot(build_generator(SMALL.model), SMALL, step=7))
    assert load_snapshot(str(tmp_path / "a.safetensors")).step == load_snapshot("~/a.safetensors").step == 7


def test_a_file_that_is_no_snapshot_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    save_snapshot(path, Snapshot(build_generator(SMALL.model), SMALL, 1))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a whole snapshot"):
        load_snapshot(path)
    for metadata, said in (
        ({"made by": "another"}, "is not a snapshot of sagan"),
        ({"config": "{}"}, "is damaged: its metadata holds no format and config"),
        ({"sagan": '{"format": "sagan-generator-2", "config": {}}'}, "was written by a newer sagan: .*generator-2"),
    ):
        save_file({"a": torch.zeros(1)}, path, metadata=metadata)
        with pytest.raises(ValueError, match=rf"a\.safetensors {said}"):
            load_snapshot(path)


@pytest.mark.parametrize("moment", ["exp_avg", "exp_avg_sq"])
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_a_moment_that_an_update_would_write_past_is_refused(moment, layout, tmp_path):
    """Adam's fused update writes numel numbers from the start of the memory, whatever the strides."""
    state = checkpoint()
    moments = state.g_optimizer["state"]
    for each in moments.values():
        if layout == "expanded":
            each[moment] = torch.zeros(()).expand(each[moment].shape)
        elif each[moment].ndim > 1:
            each[moment] = each[moment].transpose(0, 1).contiguous().transpose(0, 1)
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(ValueError, match=r"must be contiguous, got strides"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="is a pipe or a device, not a checkpoint file"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("name", ["00000099.safetensors", "latest-00000099.safetensors", "100000000.safetensors"])
def test_a_snapshot_under_the_name_of_another_step_is_refused(tmp_path, name):
    made = Snapshot(build_generator(SMALL.model), SMALL, step=4)
    save_snapshot(tmp_path / name, made)
    with pytest.raises(ValueError, match=f"{name} is a snapshot of step 4, and not of the step that its name says"):
        load_snapshot(tmp_path / name)
    for own in ("00000004.safetensors", "latest-00000004.safetensors", "99.safetensors", "mine-00000099.safetensors"):
        save_snapshot(tmp_path / own, made)
        assert load_snapshot(tmp_path / own).step == 4


@pytest.mark.parametrize("changes", [{"g_attention": [7]}, {"pool": 3}, {"g_span": [1, 2, 3]}])
def test_networks_that_cannot_be_built_are_damage_of_their_file(tmp_path, changes):
    config = to_dict(SMALL)
    config["model"] |= changes
    facts = {"format": "sagan-generator-1", "config": config, "step": 1}
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"sagan": json.dumps(facts)})
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged: "):
        load_snapshot(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": "9" * 5000}, "is damaged: step must be a whole number, got '9"),
        (
            {"format": "sagan-generator-2" + "\n" * 5000},
            r"was written by a newer sagan: .* format 'sagan-generator-2\\n",
        ),
        ({"a\n" * 5000: "x"}, r"was written by a newer sagan: this version does not know 'a\\na"),
    ],
)
def test_metadata_of_any_text_makes_one_short_sentence(tmp_path, changes, said):
    facts = {"format": "sagan-generator-1", "config": json.dumps(to_dict(SMALL)), "step": "1"}  # as 0.1 wrote it
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=facts | changes)
    with pytest.raises(ValueError, match=said) as refusal:
        load_snapshot(tmp_path / "a.safetensors")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300 + len(str(tmp_path))
