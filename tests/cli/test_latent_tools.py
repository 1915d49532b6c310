"""Commands that look around in the latents of a trained generator."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

import sagan
from sagan.cli import main
from sagan.data.recipe import Recipe, prepare_image
from sagan.data.sources.folder import FolderSource
from sagan.run.folder import Run
from sagan.run.records import ScoreRecord
from sagan.run.scores import read_scores
from tests.cli.made import refused
from tests.evaluation.conftest import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run").folder


def carry_out(*words):
    assert main([str(word) for word in words]) == 0


def test_truncated_samples_are_those_of_python(run, tmp_path):
    carry_out("sample", run, "--out", tmp_path / "s", "--num", 3, "--truncation", 0.5)
    drawn = np.stack([np.asarray(Image.open(tmp_path / "s" / f"{number:06d}.png")) for number in range(3)])
    loaded = sagan.load(run)
    np.testing.assert_array_equal(drawn, loaded.sample(3, truncation=0.5))
    assert (loaded.sample(3, truncation=0.5) != loaded.sample(3)).any()


def test_a_grid_has_rows_and_columns(run, tmp_path):
    carry_out("sample", run, "--out", tmp_path / "g.png", "--grid", 2, 5)
    assert Image.open(tmp_path / "g.png").size == (5 * 18 + 2, 2 * 18 + 2)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "s", "--grid", "2", "5"], "a --grid is one picture"),
        (["--out", "g.png", "--grid", "2", "5", "--num", "9"], "has 10 images, and --num is 9"),
        (["--out", "g.png", "--grid", "2"], "--grid must be rows and columns"),
        (["--out", "g.png", "--grid", "0", "3"], "--grid must be rows and columns"),
        (["--out", "s", "--truncation", "0"], "--truncation must be 0.01 or more"),
        (["--out", "s", "--class", "cat"], "unconditional|no classes"),
        (["--out", "s", "--class", "cat", "--label=dog"], "--class and --label are the same flag"),
        (["--out", "g.png", "--grid", "10000", "10000"], "a grid of 100,000,000 images has"),
    ],
)
def test_samples_that_cannot_be_drawn(run, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, refused(capsys, "sample", run, *words))
    assert not list(tmp_path.iterdir())


def test_truncations_are_scored_apart_and_drawn(run, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)):
        Image.fromarray(image).save(tmp_path / "real" / f"{number}.png")
    what = ["--reference", tmp_path / "real", "--extractor", "random-conv", "--num", 40, "--prepared", tmp_path / "p"]
    carry_out("evaluate", run, *what, "--last")
    before = read_scores(Run(run), "frechet")
    carry_out("evaluate", run, *what, "--truncation", 0.5, 1)
    scores = [record for record in Run(run).records_of(ScoreRecord) if record.metric == "frechet"]
    assert [score.card.truncation for score in scores] == [None, 0.5, 1.0]
    assert read_scores(Run(run), "frechet") == before
    assert Image.open(run / "evaluation" / "20_truncation.png").size[0] > 500
    assert "20_truncation.png" in capsys.readouterr().out
    carry_out("evaluate", run, *what, "--truncation", 0.5)
    assert len([record for record in Run(run).records_of(ScoreRecord) if record.metric == "frechet"]) == 3


def test_a_walk_closes_and_is_the_same_again(run, tmp_path):
    for name in ("a.webp", "b.webp"):
        carry_out("walk", run, "--out", tmp_path / name, "--seeds", 2, "--frames", 3, "--beside", run, "--step", 10)
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()
    with Image.open(tmp_path / "a.webp") as film:
        durations = []
        for number in range(film.n_frames):  # equal frames are one that stays longer
            film.seek(number)
            film.load()
            durations.append(film.info["duration"])
        assert sum(durations) == 6 * round(1000 / 24)
        assert film.size[0] > 2 * 256  # two pictures beside each other


def test_a_film_among_a_persons_images_is_none_of_them(run, tmp_path):
    carry_out("film", run, "--out", tmp_path / "film.gif", "--num", 1)
    carry_out("walk", run, "--out", tmp_path / "walk.webp", "--seeds", 2, "--frames", 1)
    source = FolderSource(tmp_path)
    for number in range(2):
        assert "picture that sagan wrote" in prepare_image(source, number, Recipe(16)).reason


def test_a_film_has_a_frame_for_each_snapshot(run, tmp_path):
    carry_out("film", run, "--out", tmp_path / "f.gif", "--num", 4)
    with Image.open(tmp_path / "f.gif") as film:
        assert film.n_frames == 2


def test_directions_are_a_sheet_and_a_table(run, tmp_path):
    carry_out("directions", run, "--out", tmp_path / "d.png", "--num", 3, "--columns", 5)
    assert Image.open(tmp_path / "d.png").size == (5 * 18 + 2, 3 * 18 + 2)
    rows = list(csv.reader((tmp_path / "d.csv").open()))
    assert len(rows) == 4
    assert len(rows[0]) == 2 + 4


def test_a_sample_is_found_again(run, tmp_path, capsys):
    carry_out("sample", run, "--out", tmp_path / "s", "--num", 2, "--seed", 5)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    pictures = [tmp_path / "s" / "000000.png", tmp_path / "noise.png"]
    for name in ("p", "q"):
        carry_out("project", run, *pictures, "--out", tmp_path / f"{name}.png", "--steps", 150)
    out = capsys.readouterr().out
    rows = {
        line.split()[0]: float(line.split()[1])
        for line in out.splitlines()
        if line.startswith(("0000", "noise")) and "cannot" not in line
    }
    assert rows["000000.png"] < rows["noise.png"] / 2
    assert "noise.png cannot be represented" in out
    assert Image.open(tmp_path / "p.png").size == (3 * 18 + 2, 2 * 18 + 2)
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "q.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["walk", "--out", "w.avi"], "--out must end in .webp"),
        (["walk", "--out", "w.gif", "--seeds", "1"], "a walk needs 2 seeds or more"),
        (["walk", "--out", "w.gif", "--attention", "3", "3"], "has no attention layer"),
        (["walk", "--out", "w.gif", "--attention", "3"], "--attention must be two numbers"),
        (["film", "--out", "f.gif", "--num", "0"], "--num must be 1 or more"),
        (["directions", "--out", "d.jpg"], "--out must be a PNG"),
        (["directions", "--out", "d.png", "--reach", "nan"], "--reach must be more than 0"),
        (["directions", "--out", "d.png", "--class", "cat"], "has no classes"),
        (["walk", "--out", "w.gif", "--class", "cat"], "has no classes"),
        (["directions", "--out", "d.png", "--num", "5"], "number of directions must be from 1 to 4"),
        (["project", "nothere.png", "--out", "p.png"], "nothere.png"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(run, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, refused(capsys, words[0], run, *words[1:]))
    assert not list(tmp_path.iterdir())
