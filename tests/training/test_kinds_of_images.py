"""Runs on images of every kind: grey, transparent, of another aspect; from the files to the samples, and on again."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.data.batches import Batches
from sagan.run.config import DataConfig, override
from sagan.run.folder import Run
from sagan.run.weights import load_snapshot
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.training.start import train_new, train_on
from sagan.viewing.samples import write_samples
from tests.training.conftest import TINY

SHORT = {"total_step": 1, "log_step": 1, "sample_step": 1, "guard": "off", "sample_count": 2, "batch_size": 4}
QUIET = Console(quiet=True)


def folder(path, channels, sides=(20, 26), classes=False):
    draw = np.random.default_rng(0)
    for number in range(8):
        pixels = draw.integers(0, 256, (*sides, channels), dtype=np.uint8)
        place = path / ("ab"[number % 2] if classes else "") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(place)
    return str(path)


def config_of(tmp_path, images, **changes):
    places = {"data": images, "prepared": str(tmp_path / "prepared"), "run_dir": str(tmp_path / "run")}
    return override(TINY, {**SHORT, "g_attention": None, "g_conv_dim": 4, "d_conv_dim": 4, **places, **changes})


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
@pytest.mark.parametrize(
    ("channels", "size", "classes"),
    [(1, 16, False), (4, 16, True), (3, "16x24", False), (3, "20x28", True), (1, "24x16", False)],
)
def test_a_run_on_any_kind_of_images(network, channels, size, classes, tmp_path):
    images = folder(tmp_path / "images", channels, classes=classes)
    more = {"channels": "auto", "range": "auto", "num_classes": "auto" if classes else 0, "network": network}
    outcome = train_new(config_of(tmp_path, images, imsize=size, **more), QUIET)
    run = outcome.run
    assert (run.config().model.channels, run.config().model.imsize) == (channels, size)
    assert run.config().data.range == "full"
    snapshot = load_snapshot(run.latest_snapshots()[0] if run.latest_snapshots() else run.snapshots()[-1])
    shape = snapshot.config.model.shape
    assert snapshot.generator.shape == shape
    write_samples(snapshot.generator, tmp_path / "samples", 2, batch_size=2)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    for number in range(2):
        with Image.open(tmp_path / "samples" / f"{number:06}.png") as sample:
            assert (sample.mode, sample.size) == (mode, (shape.width, shape.height))
    with Image.open(outcome.last_sample) as grid:
        assert grid.mode == ("L" if channels == 1 else "RGB")
        assert grid.size == (2 * (shape.width + 2) + 2, shape.height + 4)
    assert train_on(run.folder, {"total_step": 2}, QUIET).step == 2


def test_a_resumed_run_has_the_range_that_it_was_trained_with(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(8):
        values = np.random.default_rng(number).integers(0, 4096, (16, 16)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "images" / f"{number}.png")
    config = config_of(tmp_path, str(tmp_path / "images"), channels="auto", range="auto")
    run = train_new(config, QUIET).run
    low, high = run.config().data.range
    assert (0 <= low < 100, 4000 < high < 4096) == (True, True)
    (tmp_path / "prepared" / "identities").rename(tmp_path / "elsewhere")
    assert train_on(run.folder, {"total_step": 2}, QUIET).step == 2


def test_drawn_faces_of_another_aspect_are_cut_out_of_squares(tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.data.choice.FACES", 8)
    config = config_of(tmp_path, "faces", imsize="16x24", channels="auto", range="auto")
    assert train_new(config, QUIET).run.config().model.channels == 3


def test_a_run_of_before_had_three_channels_and_the_full_range(tmp_path):
    """Its files name neither, also where its images are grey or dark."""
    images = folder(tmp_path / "images", 1)
    run = train_new(config_of(tmp_path, images, imsize=16), QUIET).run
    text = run.config_file.read_text()
    for line in ('  "channels": 3,\n', '  "range": "full",\n'):
        assert line in text
        text = text.replace(line, "")
    run.config_file.write_text(text)
    assert Run(run.folder).config().model.channels == 3
    assert train_on(run.folder, {"total_step": 2}, QUIET).step == 2


def test_a_score_while_training_is_refused_before_any_step_for_other_channels(tmp_path):
    images = folder(tmp_path / "images", 1)
    with pytest.raises(UserError, match="eval_every needs images of red, green and blue, and these are grey"):
        train_new(config_of(tmp_path, images, channels="auto", eval_every=1), QUIET)
    assert not (tmp_path / "run").exists()


def test_batches_of_transparent_images_are_premultiplied():
    images = np.array([[[[255, 0, 100, 51]]]], dtype=np.uint8)
    (batch,) = Batches(images, 1, lambda epoch: torch.arange(1)).batch(0)
    expected = torch.tensor([0.2, 0.0, 100 / 255 * 0.2, 0.2]) * 2 - 1
    torch.testing.assert_close(batch.flatten(), expected)


def test_settings_of_images_are_read_from_words():
    assert DataConfig(crop="pad:white").crop == "pad:#ffffff"
    assert dataclasses.replace(DataConfig(range=(0, 4095))).values == (0, 4095)
    for wrong in ({"crop": "pad:whit"}, {"range": (5,)}, {"range": (9, 3)}, {"range": (0, 70000)}):
        with pytest.raises(UserError, match=f"^{next(iter(wrong))} "):
            DataConfig(**wrong)
