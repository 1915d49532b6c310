"""What is said after the first steps."""

import dataclasses

import pytest

from sagan.run.config import Config, DataConfig, ModelConfig, RunConfig
from sagan.training.outlook import about, describe_outlook, smaller_command


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0123, "0.012 s"), (0.35, "0.35 s"), (9.7, "9.7 s"), (45, "45 s"), (720, "12 min"), (3600, "60 min"),
        (5 * 3600 + 1200, "5 h 20 min"), (5 * 3600 + 3590, "6 h"), (20 * 3600, "20 h"), (11.2 * 86400, "11 days"),
    ],
)  # fmt: skip
def test_times_in_words(seconds, words):
    assert about(seconds) == words


def outlook(seconds, on_gpu=False, step=3, **changes):
    return describe_outlook(Config(run=RunConfig(**changes)), step, seconds, on_gpu)


def test_a_long_run_says_in_days_and_offers_one_for_tonight():
    pace, offer = outlook(9.7)
    assert pace == (
        "9.7 s a step: the 99,997 steps left take 11 days; next grid of samples at step 10 in 68 s, "
        "next snapshot in 30 min"
    )
    assert offer == "for faces within the hour, stop it and give: sagan train --data faces --preset auto"
    assert outlook(0.9, on_gpu=True)[1] == "for a result tonight, stop it and give: sagan resume RUN --total_step 40000"
    assert outlook(2)[1] == "for a result tonight, stop it and give: sagan resume RUN --total_step 18000"


def test_a_short_run_offers_nothing():
    (pace,) = outlook(0.1, step=150, total_step=2000, snapshot_every=1000)
    assert "the 1,850 steps left take 3 min; next grid of samples at step 1,000 in 85 s, next snapshot in 85 s" in pace


def test_the_last_step_has_a_grid_and_a_snapshot():
    (pace,) = outlook(1, step=101, total_step=130)
    assert "at step 130 in 29 s, next snapshot in 29 s" in pace


def test_the_command_can_be_pasted():
    config = Config(data=DataConfig(data="my photos"))
    assert smaller_command(config) == "sagan train --data 'my photos' --preset auto"
    config = dataclasses.replace(config, data=DataConfig(dataset="celeb", image_path="d"), model=ModelConfig(span=3))
    assert smaller_command(config) == "sagan train --dataset celeb --image_path d --span 3 --preset auto"


def test_nothing_is_said_where_nothing_is_left_and_no_advice_is_given_twice():
    assert outlook(1, step=10, total_step=10) == []
    assert len(describe_outlook(Config(), 50, 9.7, False, new=False)) == 1
