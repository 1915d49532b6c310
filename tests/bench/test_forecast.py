from unittest.mock import Mock

import pytest
import torch

from sagan.bench import forecast
from sagan.bench.forecast import PlannedCost, describe_run, describe_runs
from sagan.run.config import Config, GameConfig, ModelConfig, RunConfig

TINY = Config(
    model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8),
    game=GameConfig(batch_size=4),
    run=RunConfig(device="cpu"),
)


@pytest.fixture
def small(monkeypatch):
    """A machine without memory, on which nothing may be measured."""
    monkeypatch.setattr(forecast, "free_memory", lambda device: 2**10)
    monkeypatch.setattr(forecast, "measured_pace", lambda *_: pytest.fail("steps were taken"))


@pytest.mark.usefixtures("small")
def test_what_does_not_fit_is_not_measured():
    text = "\n".join(describe_run(TINY, torch.device("cpu")))
    assert "not measured: the run takes" in text
    assert "1 KiB of memory" in text
    text = "\n".join(describe_runs([PlannedCost("run", TINY, 10)]))
    assert "not measured" in text
    assert "without 1 that were not measured" in text


def test_counting_is_part_of_the_time_that_a_dry_run_takes(monkeypatch):
    seconds = []
    monkeypatch.setattr(forecast, "measured_pace", lambda config, device, left: seconds.append(left) or Mock())
    list(describe_run(TINY, torch.device("cpu")))
    assert 0 < seconds[0] < forecast.MOST_SECONDS
    monkeypatch.setattr(forecast, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(forecast, "measured_pace", lambda *_: pytest.fail("steps were taken"))
    lines = list(describe_run(TINY, torch.device("cpu")))
    assert "neither counted nor measured: counting takes more than 0 s" in lines[1]
    assert lines[-1].startswith("disk: ")


def test_what_is_done_is_said_before_it_is_done(monkeypatch):
    said = []

    def measure(*arguments):
        raise InterruptedError(said[-1])

    monkeypatch.setattr(forecast, "measured_pace", measure)
    with pytest.raises(InterruptedError, match="measuring the pace by a few steps on noise, in about 20 s at most"):
        said += (said.append(line) or line for line in describe_run(TINY, torch.device("cpu")))
    assert said[0].startswith("counting")
