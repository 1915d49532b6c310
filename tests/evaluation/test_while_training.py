"""Runs that are scored while they are trained, from Python: on drawn faces of 16x16."""

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

import sagan
import sagan.data.choice
from sagan.evaluation.while_training import rare_enough, score_while_training
from sagan.run.config import Config, override
from sagan.run.folder import Run
from sagan.run.scores import read_scores
from sagan.system.console import Console
from sagan.training.start import train_new

TINY = {"imsize": 16, "z_dim": 4, "g_conv_dim": 8, "d_conv_dim": 8, "batch_size": 8, "device": "cpu", "sample_count": 8}
TINY |= {"total_step": 4, "snapshot_every": 2, "eval_num": 25, "extractor": "random-conv"}


@pytest.fixture(autouse=True)
def few_faces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sagan.data.choice, "FACES", 60)


def trained(name, **changes):
    config, console = override(Config(), {**TINY, **changes, "run_dir": name}), Console()
    return train_new(config, console, score_while_training(config, console)).run


def scored(run):
    return [(score.step, score.card.samples) for score in read_scores(run, "frechet")]


def test_a_run_is_scored_while_it_trains():
    assert scored(trained("run", eval_every=3)) == [(3, 25), (4, 25), (4, 125)]
    assert scored(trained("plain")) == []


def test_the_public_functions_score_as_the_settings_say(tmp_path):
    run = sagan.train("published", quiet=True, **TINY, eval_every=2, run_dir=str(tmp_path / "run"))
    assert scored(Run(run.folder)) == [(2, 25), (4, 25), (4, 125)]
    sagan.resume(run.folder, quiet=True, total_step=6)
    assert scored(Run(run.folder))[3:] == [(6, 25), (6, 125)]


def test_what_scoring_lacks_is_said_before_training_begins(tmp_path):
    with pytest.raises(ValueError, match="eval_num must be 20 or more, got 5"):
        trained("run", eval_every=1, eval_num=5)
    with pytest.raises(ValueError, match="nonsense"):
        trained("run", eval_every=1, extractor="nonsense")
    assert not (tmp_path / "run").exists()


def test_scoring_does_not_change_what_is_trained():
    files = [run.snapshot(4).read_bytes() for run in (trained("plain"), trained("scored", eval_every=1))]
    torch.testing.assert_close(load(files[0]), load(files[1]), rtol=0, atol=0)


def test_rare_enough_is_at_most_a_twentieth_of_the_time():
    for cost, pace in ((77.0, 2.06), (0.3, 0.9), (6000.0, 0.01)):
        every = rare_enough(cost, pace)
        assert cost / (cost + every * pace) <= 0.05
        assert every <= 19 * cost / pace * 1.1 + 1
    assert rare_enough(77, 2.06) == 720


def test_a_large_share_comes_with_its_remedy(capsys):
    trained("run", eval_every=1)
    printed = capsys.readouterr().out
    assert "that is more than 5%: eval_every " in printed
    assert "is infrequent enough" in printed


# ---- processes that end while they score


class Killed(BaseException):
    """Ends a process as a signal that cannot be caught."""


SCORING = "sagan.evaluation.snapshots"


@pytest.mark.parametrize(
    ("function", "call"),
    [
        (f"{SCORING}.score_images", 1),
        (f"{SCORING}.score_images", 3),  # between the two scores of the last step
        (f"{SCORING}.draw_curves", 2),
        ("sagan.evaluation.while_training.open_reference", 1),
    ],
)
def test_a_run_that_is_killed_while_scoring_gets_its_scores(function, call, monkeypatch):
    where, _, name = function.rpartition(".")
    module, calls = importlib.import_module(where), []
    real = vars(module)[name]

    def dying(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dying)
        with pytest.raises(Killed):
            trained("run", eval_every=2)
    sagan.resume("run", quiet=True)
    assert scored(Run(Path("run"))) == [(2, 25), (4, 25), (4, 125)]
    assert {path.name for path in Path("run/evaluation").iterdir()} == {
        *("2_nearest_random-conv.png", "4_nearest_random-conv.png", "frechet.png", "frechet.svg")
    }


def test_a_resumed_run_draws_its_curves_from_the_records(tmp_path, capsys):
    run = trained("run", eval_every=2)
    curve = run.folder / "evaluation" / "frechet.png"
    whole = curve.read_bytes()
    curve.unlink()
    sagan.resume("run")
    assert curve.read_bytes() == whole
    assert "nothing to do" in capsys.readouterr().out
    assert len(scored(run)) == 3


def test_a_run_without_its_last_score_says_what_was_done(tmp_path, capsys):
    run = trained("run", eval_every=2)
    lines = [line for line in run.records_file.read_bytes().splitlines(keepends=True) if b'"samples": 125' not in line]
    run.records_file.write_bytes(b"".join(lines))
    sagan.resume("run")
    assert "the scores that were missing are made: the run is at step 4 already" in capsys.readouterr().out
    assert scored(run)[-1] == (4, 125)
