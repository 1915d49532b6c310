"""Runs that begin with the weights of others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sagan
from sagan.core.sampling import generate
from sagan.run.config import override
from sagan.run.folder import Run
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.training.start import train_new, train_on
from sagan.training.start_from import begin_from, open_start
from sagan.training.trainer import Trainer
from tests.training.conftest import TINY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 images in 3 classes; in ``more`` the same, and a fourth one before them."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype(np.uint8)):
        for kind, classes in (("few", "bcd"), ("more", "abcd")):
            place = folder / kind / classes[number % len(classes)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    return folder


def config_of(photos, folder, name, **changes):
    places = {"data": str(photos), "prepared": str(folder / "prepared"), "run_dir": str(folder / name)}
    return override(TINY, {"total_step": 4, "checkpoint_every": 2, "snapshot_every": 2, **places, **changes})


def train(config):
    train_new(config, Console(quiet=True))
    return Run.open(Path(config.run.run_dir))


@pytest.fixture(scope="module", params=["dcgan", "resnet"])
def source(request, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return train(config_of(photos / "few", folder, "a", network=request.param, num_classes="auto", g_attention=(8,)))


def test_equal_networks_take_everything(source, photos, tmp_path):
    config = config_of(photos / "few", tmp_path, "b", **like(source))
    trainer = Trainer(override(config, {"num_classes": 3}), CPU)
    sentences = begin_from(trainer, open_start(str(source.folder), config.model), ("b", "c", "d"))
    assert not any("new" in sentence or "added" in sentence for sentence in sentences)
    snapshot, state = load_snapshot(source.snapshot()), load_checkpoint(source.checkpoint_file)
    for name, value in snapshot.generator.state_dict().items():
        for network in (trainer.generator, trainer.average.module):
            if not name.endswith((".u", ".v")):
                assert torch.equal(network.state_dict()[name], value), name
    for name, value in state.discriminator.items():
        if not name.endswith((".u", ".v")):
            assert torch.equal(trainer.discriminator.state_dict()[name], value), name


def like(source, **changes):
    return {"network": source.config().model.network, "num_classes": "auto", "g_attention": (8,)} | changes


def test_classes_are_found_by_name_and_new_ones_begin_as_their_mean(source, photos, tmp_path):
    config = config_of(photos / "more", tmp_path, "b", **like(source))
    trainer = Trainer(override(config, {"num_classes": 4}), CPU)
    begin_from(trainer, open_start(str(source.folder), config.model), ("a", "b", "c", "d"))
    before, after = load_snapshot(source.snapshot()).generator, trainer.generator.eval()
    z = torch.randn(3, before.z_dim)
    images, expected = generate(after, z, torch.tensor([1, 2, 3])), generate(before, z, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(images.float(), expected.float(), atol=1, rtol=0)
    tables = [name for name, value in after.state_dict().items() if value.ndim == 2 and len(value) == 4]
    for name in tables:
        torch.testing.assert_close(after.state_dict()[name][0], before.state_dict()[name].mean(0))
    assert tables


def test_an_unconditional_start_gives_every_class_its_scales(photos, tmp_path):
    for network in ("dcgan", "resnet"):
        plain = train(config_of(photos / "few", tmp_path, network, network=network))
        config = config_of(photos / "few", tmp_path, "b", network=network, num_classes=3)
        trainer = Trainer(config, CPU)
        begin_from(trainer, open_start(str(plain.folder), config.model))
        before, after = load_snapshot(plain.snapshot()).generator, trainer.generator.eval()
        z = torch.randn(3, before.z_dim)
        images = generate(after, z, torch.tensor([0, 1, 2])).float()
        torch.testing.assert_close(images, generate(before, z).float(), atol=1, rtol=0)


def test_a_larger_size_keeps_the_blocks_with_their_channels(source, photos, tmp_path):
    config = config_of(photos / "few", tmp_path, "b", **like(source, imsize=32, g_attention=(16,)))
    trainer = Trainer(override(config, {"num_classes": 3}), CPU)
    sentences = begin_from(trainer, open_start(str(source.folder), config.model), ("b", "c", "d"))
    before, after = load_snapshot(source.snapshot()).generator.state_dict(), trainer.generator.state_dict()
    sized = [name for name in before if name.startswith("stages.8.") and not name.endswith((".u", ".v"))]
    for name in sized:
        assert torch.equal(after[name.replace("stages.8.", "stages.16.")], before[name])
    assert "stage 16" in sentences[0].split("new:")[0]
    assert "new:" in sentences[0]
    assert sized


def test_a_run_keeps_what_it_began_with_and_needs_it_no_more(source, photos, tmp_path):
    moved = tmp_path / "moved"
    source_folder = tmp_path / "source"
    shutil.copytree(source.folder, source_folder)
    changes = like(source, start_from=str(source_folder), freeze_d=1, span=2)
    whole = train(config_of(photos / "few", tmp_path, "whole", **changes))
    stopped = train(config_of(photos / "few", tmp_path, "stopped", **changes, total_step=2))
    source_folder.rename(moved)
    train_on(stopped.folder, {"total_step": 4}, Console(quiet=True))
    assert whole.config().run.start_from.startswith("source, step 4, sha256 ")
    one, other = (load_checkpoint(run.checkpoint_file) for run in (whole, stopped))
    for part in ("generator", "discriminator", "average"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), part


def test_frozen_stages_stay(source, photos, tmp_path):
    changes = like(source, start_from=str(source.folder), freeze_d=1)
    run = train(config_of(photos / "few", tmp_path, "b", **changes))
    before, after = (load_checkpoint(each.checkpoint_file).discriminator for each in (source, run))
    first = next(name for name in before if name.startswith("stages."))[: len("stages.8")]
    trained = {name for name in after if not torch.equal(after[name], before[name]) and not name.endswith((".u", ".v"))}
    assert not any(name.startswith(first) for name in trained)
    assert trained


def test_a_rollback_goes_back_to_the_start(source, photos, tmp_path):
    from sagan.training.guard import Diverged, Verdict
    from sagan.training.recovery import roll_back

    run = train(config_of(photos / "few", tmp_path, "b", **like(source, start_from=str(source.folder), total_step=1)))
    start = load_checkpoint(run.start_file)
    assert start.step == 0
    trainer = Trainer(run.config(), CPU)
    roll_back(trainer, start, Diverged(Verdict("diverged", "it was asked to", True), 1))
    assert torch.equal(trainer.generator.state_dict()["last.weight"], start.generator["last.weight"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "other"}, "they share no weights"),
        ({"num_classes": 0}, "has 3 classes: give num_classes auto, or a number"),
        ({"g_conv_dim": 4}, "nothing of start_from .* fits: g_conv_dim is 8 there, and 4 here"),
        ({"freeze_d": 9}, "freeze_d must be at most"),
        ({"start_from": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_cannot_fit_is_refused_and_leaves_nothing(source, photos, tmp_path, changes, sentence):
    other = "resnet" if source.config().model.network == "dcgan" else "dcgan"
    changes = {name: other if value == "other" else value for name, value in changes.items()}
    config = config_of(photos / "few", tmp_path, "b", **like(source, **({"start_from": str(source.folder)} | changes)))
    with pytest.raises(UserError, match=sentence):
        train_new(config, Console(quiet=True))
    assert not (tmp_path / "b").exists()


def test_freezing_needs_a_start(photos, tmp_path):
    with pytest.raises(UserError, match="needs start_from"):
        config_of(photos, tmp_path, "b", freeze_d=1)


def test_a_lost_start_is_not_trained_from_noise(source, photos, tmp_path):
    run = train(config_of(photos / "few", tmp_path, "b", **like(source, start_from=str(source.folder))))
    for file in (run.checkpoint_file, run.start_file):
        file.unlink()
    with pytest.raises(UserError, match="no checkpoint holds them: start it again"):
        train_on(run.folder, {}, Console(quiet=True))


def test_python_takes_it_too(source, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_of(photos / "few", tmp_path, "b", **like(source))
    run = sagan.train(config, start_from=source.folder, total_step=1, quiet=True)
    assert "sha256" in run.config.run.start_from
