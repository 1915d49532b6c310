"""`sagan evaluate` and `sagan compare-metrics`, on drawn faces of 16x16 and the small extractor of the tests."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sagan.data import Store
from sagan.data.faces import FacesSource
from sagan.evaluation.image_sets import open_images
from sagan.run.weights import load_snapshot, save_snapshot
from sagan.system.console import Console
from tests.cli.made import command, scores, train_on_faces

pytestmark = pytest.mark.usefixtures("few_faces")


def test_every_snapshot_that_has_no_score_gets_one(capsys):
    run = train_on_faces("run")
    assert command("evaluate run --num 30 --extractor random-conv") == 0
    assert [record.step for record in scores(run)] == [2, 4]
    printed = capsys.readouterr().out
    assert "Fréchet distance (random-conv)" in printed
    assert "Eyes found" in printed
    assert command("evaluate run --num 30 --extractor random-conv") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert command("evaluate run --num 30 --extractor random-conv --step 2") == 0
    assert [record.step for record in scores(run)] == [2, 4, 2]
    assert scores(run)[0].value == scores(run)[2].value


def test_a_stopped_run_is_scored_by_its_latest_snapshot_or_its_checkpoint(capsys):
    run = train_on_faces("run")
    run.snapshot_file(2).unlink()
    run.snapshot_file(4).rename(run.latest_file(4))
    for again in (False, True):
        assert command("evaluate run --num 30 --extractor random-conv") == 0
        assert ("nothing to do" in capsys.readouterr().out) == again
    assert command("evaluate run --num 30 --extractor random-conv --step 4") == 0
    run.latest_file(4).unlink()
    assert command("evaluate run --num 30 --extractor random-conv") == 0
    assert "step 4, 30 samples" in capsys.readouterr().out
    assert [record.step for record in scores(run)] == [4, 4, 4]
    assert len({record.value for record in scores(run)}) == 1


def with_other_images(run, images):
    """Says in the run's snapshots on which images they were trained."""
    for path in run.snapshots():
        save_snapshot(path, dataclasses.replace(load_snapshot(path), images=images))


def test_a_run_is_not_scored_against_other_images_than_it_was_trained_on(capsys):
    run = train_on_faces("run")
    with_other_images(run, "0" * 64)
    assert command("evaluate run --num 30 --extractor random-conv") == 2
    printed = capsys.readouterr()
    assert "was trained on other images than the run's settings lead to now" in printed.err
    assert scores(run) == []
    (store,) = [path.parent for path in Path("prepared").glob("*/meta.json")]
    assert command(f"evaluate run --num 30 --extractor random-conv --reference {store}") == 0
    for images in (Store.open(store).hash, None):
        with_other_images(run, images)
        assert command("evaluate run --num 30 --last --extractor random-conv") == 0


def test_images_are_scored_without_a_model(tmp_path, capsys):
    for name, seed in (("real", 0), ("fake", 1)):
        (tmp_path / name).mkdir()
        source = FacesSource(25, 16, seed)
        for number in range(25):
            source.read(number).save(tmp_path / name / f"{number}.png")
    assert command("evaluate fake --reference real --extractor random-conv") == 0
    printed = capsys.readouterr().out
    assert "25 images against 25 real ones" in printed
    assert "card: extractor random-conv" in printed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evaluate nowhere", "nowhere does not exist"),
        ("evaluate images", "give the real ones with --reference"),
        ("evaluate run --step 3 --extractor random-conv", "no snapshot of step 3, only of 2, 4"),
        ("evaluate run --last --best --extractor random-conv", "give one of --step, --last and --best"),
        (
            "evaluate run --num 5 --extractor random-conv",
            "num must be 20 or more, got 5: fewer images cannot",
        ),
        (
            "evaluate run/snapshots/00000002.safetensors --reference images",
            "give the folder of its run, which is run, and --step",
        ),
        ("evaluate run/checkpoints/last.pt --num 64", "is a checkpoint: give the folder of its run, which is run"),
        ("evaluate run/snapshots --num 64", "run/snapshots is not the folder of its run, which is run"),
        ("compare-metrics run/config.json run", "config.json is a file of the run run, not a folder"),
        ("status run/checkpoints/last.pt", "last.pt is a file of the run run, not a folder"),
        ("compare-metrics run run --metric freche", "got 'freche': did you mean frechet?"),
        ("evaluate run --repeats 0", "repeats must be 1 or more, got 0"),
        ("evaluate run --best --extractor random-conv", "has no score 'frechet'"),
        ("evaluate run --extractor nonsense", "nonsense"),
        ("evaluate run --extractor inception --weights images/0.png", "0.png"),
        ("compare-metrics run run", "has no score 'frechet'"),
        ("evaluate images --reference images --last", "--last is for the snapshots of a run, and images is"),
        ("evaluate images --reference images --num 30", "--num is for the snapshots of a run, and images is"),
        ("evaluate images --reference larger --extractor random-conv", "are 16x16, the reference's are 32x32"),
        ("evaluate run --reference larger --extractor random-conv", "are 16x16, the reference's are 32x32"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(line, said, capsys, tmp_path):
    train_on_faces("run")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "0.png")
    (tmp_path / "larger").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "larger" / "0.png")
    assert command(line) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_records_stay_json(capsys):
    run = train_on_faces("run")
    command("evaluate run --num 30 --extractor random-conv")
    for line in run.records_file.read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


# ---- compare-metrics


def test_runs_are_compared_only_when_their_cards_are_alike(capsys):
    for name in ("one", "other"):
        train_on_faces(name)
        assert command(f"evaluate {name} --num 30 --last --extractor random-conv") == 0
    assert command("compare-metrics one other") == 0
    assert "one" in capsys.readouterr().out
    assert command("evaluate other --num 40 --last --extractor random-conv") == 0
    assert command("compare-metrics one other") == 0
    assert "left out, as only other has such: 1 score with samples 40, not 30" in capsys.readouterr().out
    train_on_faces("third")
    assert command("evaluate third --num 40 --last --extractor random-conv") == 0
    assert command("compare-metrics one third") == 2
    assert "their cards differ in samples: 30 and 40" in capsys.readouterr().err


# ---- images of other sizes, and what is remembered of images


def test_imsize_brings_both_to_one_size_and_the_card_says_so(tmp_path, capsys):
    for name, seed, size in (("real", 0, 32), ("fake", 1, 16)):
        (tmp_path / name).mkdir()
        source = FacesSource(25, size, seed)
        for number in range(25):
            source.read(number).save(tmp_path / name / f"{number}.png")
    assert command("evaluate fake --reference real --extractor random-conv") == 2
    assert "--imsize SIZE brings both to one" in capsys.readouterr().err
    assert command("evaluate fake --reference real --extractor random-conv --imsize 24") == 0
    printed = capsys.readouterr().out
    assert "image_size 24x24" in printed
    assert "resized centre square, bilinear" in printed
    assert command("evaluate fake --reference fake --extractor random-conv --imsize 0") == 2


def test_two_arrays_of_one_size_and_time_are_different_references(tmp_path, capsys):
    hashes = []
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        draw = np.random.default_rng(seed).integers(0, 256, (25, 16, 16, 3)).astype(np.uint8)
        np.save(tmp_path / name / "set.npy", draw)
        os.utime(tmp_path / name / "set.npy", ns=(0, 0))
        assert command(f"evaluate a/set.npy --reference {name}/set.npy --extractor random-conv") == 0
        hashes.append(re.search("reference (pixels:[0-9a-f]+)", capsys.readouterr().out)[1])
    assert hashes[0] != hashes[1]


def test_a_reference_is_not_read_again_to_know_which_it_is(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    source = FacesSource(25, 16, 0)
    for number in range(25):
        source.read(number).save(tmp_path / "real" / f"{number}.png")
    first = open_images(Path("real"), Path("cache"), Console(quiet=True)).identity
    monkeypatch.setattr("sagan.data.sources.folder.hash_files", lambda *_: pytest.fail("every byte is read again"))
    assert open_images(Path("real"), Path("cache"), Console(quiet=True)).identity == first
