"""The public face: what a person does in Python equals what the commands do."""

import doctest
import importlib.metadata
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sagan
import sagan.api
from sagan.cli import main

TINY = {
    "batch_size": 4,
    "g_conv_dim": 4,
    "d_conv_dim": 4,
    "z_dim": 4,
    "imsize": 16,
    "g_attention": (8,),
    "sample_count": 4,
}
TINY |= {"d_attention": (8,), "device": "cpu", "total_step": 4, "log_step": 2, "snapshot_every": 2, "sample_step": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home):
    np.save(home / "images.npy", np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8))
    places = {"run_dir": str(home / "run"), "prepared": str(home / "prepared"), "data": str(home / "images.npy")}
    return sagan.train("published", quiet=True, **{**TINY, **places})


def test_a_run_is_trained_and_opened(run, home):
    assert run.folder == home / "run"
    assert run.step == 4
    assert run.config.model.imsize == 16
    assert sagan.open_run(run.folder).records() == run.records()
    assert [row["step"] for row in run.records() if row["kind"] == "train"] == [2, 4]
    assert run.newest_grid() == run.folder / "samples" / "4_fake.png"


def test_samples_are_the_files_that_the_command_writes(run, home):
    assert main(["sample", str(run.folder), "--num", "5", "--seed", "3", "--out", str(home / "five")]) == 0
    files = [np.asarray(Image.open(path)) for path in sorted((home / "five").glob("*.png"))]
    drawn = sagan.load(run.folder, device="cpu").sample(5, seed=3)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (5, 16, 16, 3)
    assert np.array_equal(drawn, np.stack(files))
    images = run.load().images(5, seed=3)
    assert [image.size for image in images] == [(16, 16)] * 5
    assert np.array_equal(np.asarray(images[-1]), files[-1])
    assert len(images[1:3]) == 2


def test_a_snapshot_of_a_step_or_a_file_is_loaded(run):
    assert sagan.load(run.folder).step == 4
    assert sagan.load(run.folder, step=2).step == 2
    assert sagan.load(run.folder / "snapshots" / "00000002.safetensors").step == 2
    with pytest.raises(sagan.UserError, match="no snapshot of step 3"):
        sagan.load(run.folder, step=3)


def test_what_is_wrong_is_a_user_error(tmp_path, run):
    for mistake in (
        lambda: sagan.load(tmp_path / "none"),
        lambda: sagan.open_run(tmp_path),
        lambda: sagan.train("bst"),
        lambda: sagan.train(imsize=48),
        lambda: run.load().sample(0),
        lambda: run.load().sample(2, label=1),
        lambda: sagan.resume(run.folder, imsize=32),
    ):
        with pytest.raises(sagan.UserError) as error:
            mistake()
        assert "\n" not in str(error.value)


def test_a_run_goes_on(home):
    places = {"run_dir": str(home / "longer"), "prepared": str(home / "prepared"), "data": str(home / "images.npy")}
    short = sagan.train("published", quiet=True, **{**TINY, **places, "total_step": 2})
    assert sagan.resume(short.folder, total_step=4, quiet=True).step == 4


def test_a_notebook_shows_pictures_without_a_script(run):
    for shown in (run._repr_html_(), run.load().images(3)._repr_html_()):
        (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
        assert Image.open(io.BytesIO(__import__("base64").b64decode(data))).format == "PNG"
        assert "<script" not in shown
    assert "step 4 of 4" in run._repr_html_()


def test_scores_are_flat_rows_and_those_of_the_command(run, home):
    made = sagan.evaluate(run.folder, extractor="random-conv", num=20, quiet=True)
    assert run.scores()[-len(made) :] == made
    words = ["--extractor", "random-conv", "--num", "20", "--prepared", str(home / "prepared"), "--step", "4"]
    assert main(["evaluate", str(run.folder), *words]) == 0
    row, again = [row for row in run.scores() if row["metric"] == "frechet"]
    assert row["value"] == again["value"]
    assert row["step"] == 4
    assert row["card_extractor"] == "random-conv"
    assert not any(isinstance(value, (list, tuple)) for value in row.values())


def test_a_score_of_several_draws_on_a_named_device(run):
    words = {"extractor": "random-conv", "num": 20, "quiet": True}
    rows = sagan.evaluate(run.folder, repeats=2, seed=4, device="cpu", **words)
    row = next(row for row in rows if row["metric"] == "frechet")
    assert row["card_repeats"] == 2
    draws = [sagan.evaluate(run.folder, seed=seed, **words)[0]["value"] for seed in (4, 5)]
    assert row["value"] == pytest.approx(sum(draws) / 2)
    assert row["spread"] == pytest.approx(abs(draws[0] - draws[1]) / 2**0.5)
    for wrong in ({"repeats": 0}, {"device": "gpu"}, {"weights": "gone.pth"}):
        with pytest.raises(sagan.UserError, match=next(iter(wrong))):
            sagan.evaluate(run.folder, **words, **wrong)


def test_the_version_is_the_package_s():
    assert sagan.__version__ == importlib.metadata.version("sagan")
    assert (Path(sagan.__file__).parent / "py.typed").exists()


def test_the_examples_in_the_docstrings_hold(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "faces").symlink_to(run.folder)
    assert doctest.testmod(sagan.api).failed == 0
