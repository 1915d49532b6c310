"""The commands that score, on drawn faces of 16x16 and the small extractor of the tests."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

import sagan.cli
import sagan.data.choice
from sagan.data import Store
from sagan.data.faces import draw_faces
from sagan.evaluation.while_training import rare_enough
from sagan.run.folder import Run
from sagan.run.scores import read_scores
from sagan.run.weights import load_snapshot, save_snapshot

TINY = [
    *("--imsize", "16", "--z_dim", "4", "--g_conv_dim", "8", "--d_conv_dim", "8"),
    *("--batch_size", "8", "--device", "cpu", "--sample_count", "8"),
]
SMALL_SCORES = ("--eval_num", "25", "--extractor", "random-conv")


@pytest.fixture(autouse=True)
def in_a_folder_with_few_faces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sagan.data.choice, "FACES", 60)


def command(line):
    return sagan.cli.main(line.split())


def trained(name, *flags):
    status = sagan.cli.main(["train", *TINY, "--total_step", "4", "--snapshot_every", "2", "--run_dir", name, *flags])
    assert status == 0
    return Run(Path(name))


def scores(run):
    return read_scores(run, "frechet")


def test_every_snapshot_that_has_no_score_gets_one(capsys):
    run = trained("run")
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


def test_a_run_scores_itself_while_it_trains(capsys):
    run = trained("run", "--eval_every", "3", *SMALL_SCORES)
    assert [(record.step, record.card.samples) for record in scores(run)] == [(3, 25), (4, 25), (4, 125)]
    assert "of the time" in capsys.readouterr().out


def test_scoring_does_not_change_what_is_trained():
    plain, scored = (
        trained("plain"),
        trained("scored", "--eval_every", "1", "--eval_num", "25", "--extractor", "random-conv"),
    )
    files = [run.snapshot(4).read_bytes() for run in (plain, scored)]
    torch.testing.assert_close(load(files[0]), load(files[1]), rtol=0, atol=0)


def test_what_scoring_lacks_is_said_before_training_begins(capsys):
    for flags, said in (("--extractor nonsense", "nonsense"), ("--eval_num 5", "eval_num must be 20 or more, got 5")):
        assert sagan.cli.main(["train", *TINY, "--eval_every", "2", "--run_dir", "run", *flags.split()]) == 2
        assert said in capsys.readouterr().err
        assert not Path("run").exists()


def test_seldom_enough_is_at_most_a_twentieth_of_the_time():
    for cost, pace in ((77.0, 2.06), (0.3, 0.9), (6000.0, 0.01)):
        every = rare_enough(cost, pace)
        assert cost / (cost + every * pace) <= 0.05
        assert every <= 19 * cost / pace * 1.1 + 1
    assert rare_enough(77, 2.06) == 720


def test_a_large_share_comes_with_its_remedy(capsys):
    trained("run", "--eval_every", "1", *SMALL_SCORES)
    printed = capsys.readouterr().out
    assert "that is more than 5%: --eval_every " in printed
    assert "is infrequent enough" in printed


def with_other_images(run, images):
    """Says in the run's snapshots on which images they were trained."""
    for path in run.snapshots():
        save_snapshot(path, dataclasses.replace(load_snapshot(path), images=images))


def test_a_run_is_not_scored_against_other_images_than_it_was_trained_on(capsys):
    run = trained("run")
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
        for number, image in enumerate(draw_faces(25, 16, seed)):
            Image.fromarray(np.moveaxis(image, 0, -1)).save(tmp_path / name / f"{number}.png")
    assert command("evaluate fake --reference real --extractor random-conv") == 0
    printed = capsys.readouterr().out
    assert "25 images against 25 real ones" in printed
    assert "card: extractor random-conv" in printed


def test_runs_are_compared_only_when_their_cards_are_alike(capsys):
    for name in ("one", "other"):
        trained(name)
        assert command(f"evaluate {name} --num 30 --last --extractor random-conv") == 0
    assert command("compare-metrics one other") == 0
    assert "one" in capsys.readouterr().out
    assert command("evaluate other --num 40 --last --extractor random-conv") == 0
    assert command("compare-metrics one other") == 2
    assert "their cards differ in samples: 30 and 40" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evaluate nowhere", "nowhere does not exist"),
        ("evaluate images", "name the real ones with --reference"),
        ("evaluate run --step 3 --extractor random-conv", "no snapshot of step 3, only of 2, 4"),
        ("evaluate run --last --best --extractor random-conv", "give one of --step, --last and --best"),
        (
            "evaluate run --num 5 --extractor random-conv",
            "num must be 20 or more, got 5: fewer images cannot",
        ),
        ("evaluate run/snapshots/00000002.safetensors --reference images", "name the folder of its run, and --step"),
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
    trained("run")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "0.png")
    (tmp_path / "larger").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "larger" / "0.png")
    assert command(line) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_records_stay_json(capsys):
    run = trained("run")
    command("evaluate run --num 30 --extractor random-conv")
    for line in run.records_file.read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
