"""The public face: what a person does in Python equals what the commands do."""

import doctest
import importlib.metadata
import io
import os
import re
import signal
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sagan
import sagan.api
from sagan.cli import main
from sagan.training.trainer import Trainer

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
        lambda: sagan.train(imsize=50),
        lambda: run.load().sample(0),
        lambda: run.load().sample("3"),
        lambda: run.load().sample(2.0),
        lambda: run.load().sample(True),
        lambda: run.load().sample(2, seed="x"),
        lambda: run.load().sample(2, label=1),
        lambda: run.load().sample(2, label=0.5),
        lambda: run.load().images(3).grid(columns=0),
        lambda: run.load().images(3).grid(columns="3"),
        lambda: run.load().images(3)[5:].grid(),
        lambda: sagan.load(run, device="meta"),
        lambda: sagan.load(5),
        lambda: sagan.open_run(None),
        lambda: sagan.open_run("~nobody-here/x"),
        lambda: sagan.evaluate(run, reference="~nobody-here/x"),
        lambda: sagan.train("quick", run_dir="~nobody-here/x"),
        lambda: sagan.train(5),
        lambda: sagan.train({"imsize": 32}),
        lambda: sagan.train(Path("quick")),
        lambda: sagan.train(preset="quick"),
        lambda: sagan.resume(run.folder, imsize=32),
        lambda: sagan.resume(run, run_dir="elsewhere"),
    ):
        with pytest.raises(sagan.UserError) as error:
            mistake()
        assert "\n" not in str(error.value)
        assert "--" not in str(error.value)


def test_a_misspelt_setting_is_refused_with_the_nearest(run):
    before = run.records()
    with pytest.raises(sagan.UserError, match="there is no setting 'spann': did you mean span"):
        sagan.train("published", spann=3)
    with pytest.raises(sagan.UserError, match="there is no setting 'totl_step': did you mean total_step"):
        sagan.resume(run, totl_step=12)
    assert run.records() == before


def test_a_run_is_given_as_it_was_returned_or_by_its_folder(run):
    assert sagan.open_run(run) == sagan.open_run(str(run.folder)) == sagan.open_run(run.folder) == run
    assert sagan.load(run, step=2).step == 2
    assert sagan.resume(run, quiet=True) == run
    assert sagan.evaluate(run, extractor="random-conv", num=20, quiet=True)


def test_a_run_goes_on(home):
    places = {"run_dir": str(home / "longer"), "prepared": str(home / "prepared"), "data": str(home / "images.npy")}
    short = sagan.train("published", quiet=True, **{**TINY, **places, "total_step": 2})
    assert sagan.resume(short.folder, total_step=4, quiet=True).step == 4


def test_settings_are_ordinary_python_values(home):
    places = {"run_dir": home / "plain", "prepared": home / "prepared", "data": home / "images.npy"}
    lists = {"g_attention": [8], "g_span": [1], "device": torch.device("cpu"), "total_step": 1}
    run = sagan.train("published", quiet=True, **{**TINY, **places, **lists})
    assert run.folder == home / "plain"
    assert run.config.model.g_span == (1,)


def test_ctrl_c_saves_says_so_and_returns_the_run_early(home, monkeypatch, capsys):
    places = {"run_dir": str(home / "early"), "prepared": str(home / "prepared"), "data": str(home / "images.npy")}
    take, taken = Trainer.advance, []

    def advance(trainer, batches):
        taken.append(trainer)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return take(trainer, batches)

    monkeypatch.setattr(Trainer, "advance", advance)
    run = sagan.train("published", **{**TINY, **places, "log_step": 100, "snapshot_every": 100})
    assert (run.step, run.finished) == (3, False)
    assert "stopped by SIGINT at step 3 of 4, all saved" in " ".join(capsys.readouterr().out.split())
    assert "not finished" in run._repr_html_()
    run = sagan.resume(run, quiet=True)
    assert (run.step, run.finished) == (4, True)
    assert capsys.readouterr().out == ""


def test_a_notebook_shows_pictures_without_a_script(run):
    for shown in (run._repr_html_(), run.load().images(3)._repr_html_()):
        (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
        assert Image.open(io.BytesIO(__import__("base64").b64decode(data))).format == "PNG"
        assert "<script" not in shown
    assert "step 4 of 4" in run._repr_html_()


def test_a_generator_describes_itself_in_a_line_and_a_picture(run):
    generator = run.load()
    count = sum(weights.numel() for weights in generator.module.parameters())
    assert repr(generator) == f"LoadedGenerator({run.folder}, step 4, 16x16, {count:,} parameters)"
    shown = generator._repr_html_()
    assert generator.images(8)._repr_html_() in shown
    assert "<script" not in shown
    file = run.folder / "snapshots" / "00000002.safetensors"
    assert repr(sagan.load(file)).startswith(f"LoadedGenerator({file}, step 2,")


def test_images_are_a_typed_sequence(run):
    one, some = (typing.get_type_hints(each)["return"] for each in typing.get_overloads(sagan.Images.__getitem__))
    images = run.load().images(3, 1)
    assert isinstance(images[np.int64(1)], one)
    assert isinstance(images[1:], some)
    assert np.array_equal(images.pixels, run.load().sample(3, 1, None))
    with pytest.raises(IndexError):
        images[3]


def test_rows_have_every_field_and_only_plain_values(run):
    sagan.evaluate(run, extractor="random-conv", num=20, quiet=True)
    rows = run.records()
    assert [row for row in rows if row["kind"] == "score"] == [{"kind": "score", **row} for row in run.scores()]
    assert all(value is None or isinstance(value, (str, int, float)) for row in rows for value in row.values())
    for kind in ("train", "score"):
        assert len({tuple(row) for row in rows if row["kind"] == kind}) == 1
    train, score = rows[0], run.scores()[0]
    assert train["penalty"] is None
    assert "gamma_G8" in train
    assert score["spread"] is None
    assert score["card_versions_torch"] == torch.__version__


def test_scores_are_flat_rows_and_those_of_the_command(run, home):
    made = sagan.evaluate(run.folder, extractor="random-conv", num=20, quiet=True)
    assert run.scores()[-len(made) :] == made
    words = ["--extractor", "random-conv", "--num", "20", "--prepared", str(home / "prepared"), "--step", "4"]
    assert main(["evaluate", str(run.folder), *words]) == 0
    row, again = [row for row in run.scores() if row["metric"] == "frechet"][-2:]
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
    assert sagan.__version__ == importlib.metadata.version("sagan-attention")
    assert (Path(sagan.__file__).parent / "py.typed").exists()


def test_the_examples_in_the_docstrings_hold(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "faces").symlink_to(run.folder)
    assert doctest.testmod(sagan.api).failed == 0
