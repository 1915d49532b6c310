import pytest
import torch

from sagan.bench import pace
from sagan.bench.pace import Pace, batches_of, largest_batch, measured_pace, noise
from sagan.bench.timing import Timing
from sagan.run.config import Config, GameConfig, ModelConfig, RunConfig, override

CPU = torch.device("cpu")

TINY = Config(
    model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8),
    game=GameConfig(batch_size=4),
    run=RunConfig(total_step=1000, device="cpu"),
)


def test_a_pace_tells_how_long_the_run_takes():
    pace = Pace(Timing((0.5, 0.4, 0.6, 0.5, 0.5)), batch_size=8, total_step=7200)
    assert pace.images_per_second == 16
    assert pace.total_seconds == 3600
    assert "1:00:00" in pace.describe()


def test_real_steps_are_taken_and_timed():
    measured = measured_pace(TINY, CPU)
    assert len(measured.timing.rounds) >= 5
    assert 0 < measured.seconds_per_step < 10
    assert measured.total_seconds == 1000 * measured.seconds_per_step


def test_a_step_with_a_penalty_counts_as_often_as_it_comes(monkeypatch):
    """Of the two kinds of steps the one with a penalty takes 5 seconds here, and comes every fourth time."""

    def timed(ways, *_):
        seconds = {}
        for name, way in ways.items():
            way()
            seconds[name] = Timing((5.0, 5.0) if "True" in name else (1.0, 2.0))
        return seconds

    monkeypatch.setattr(pace, "time_in_turns", timed)
    lazy = override(TINY, {"r1": 0.1, "penalty_every": 4})
    assert measured_pace(lazy, CPU).timing.rounds == (2.0, 2.75)
    assert measured_pace(TINY, CPU).timing.rounds == (1.0, 2.0)


def test_batches_that_take_too_long_are_reckoned_from_smaller_ones(monkeypatch):
    seconds = iter([0.1, 1.0, 10.0])  # of a step of 1, 8 and 64 images
    monkeypatch.setattr(pace, "_seconds_of", lambda way: next(seconds))
    monkeypatch.setattr(pace, "time_in_turns", lambda ways, *_: {name: Timing((1.0,)) for name in ways})
    found = measured_pace(override(TINY, {"batch_size": 64, "imsize": 16}), CPU)
    assert (found.measured, found.seconds_per_step) == (8, 8.0)
    assert "reckoned from steps of 8 images" in found.describe()


def test_the_noise_is_a_batch_of_images_of_the_config():
    batch = batches_of(noise(TINY), TINY, CPU).batch(0)
    assert batch.shape == (4, 3, 16, 16)
    assert -1 <= batch.min() < -0.9 < 0.9 < batch.max() <= 1


@pytest.fixture
def memory(monkeypatch):
    """Sets how much memory is free, where a step takes 100 bytes and 10 for each image."""

    def free(size):
        monkeypatch.setattr(pace, "available_memory", lambda: size)
        monkeypatch.setattr(pace, "count_memory", lambda config, device: 100 + 10 * config.game.batch_size)

    return free


@pytest.mark.parametrize("fitting", [1, 2, 3, 4, 7, 8, 9, 16, 23, 24, 100, 1000, 5000])
def test_the_largest_batch_fits_and_the_next_does_not(fitting, memory):
    memory((100 + 10 * fitting) / pace._SHARE + 1)
    found = largest_batch(TINY, CPU, limit=2000)
    assert found in (1, 2, 4) or found % 8 == 0
    assert found <= min(fitting, 2000)
    longer = {1: 2, 2: 4, 4: 8}.get(found, found + 8)
    assert longer > min(fitting, 2000)


def test_memory_too_small_for_one_image_is_said(memory):
    memory(50)
    with pytest.raises(ValueError, match="not even a batch of 1 fits"):
        largest_batch(TINY, CPU)


def test_the_limit_holds(memory):
    memory(10**9)
    assert largest_batch(TINY, CPU, limit=40) == 40
    assert largest_batch(TINY, CPU, limit=47) == 40
    assert largest_batch(TINY, CPU, limit=5) == 4
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        largest_batch(TINY, CPU, limit=0)


def test_a_cpu_is_not_filled_to_find_out(monkeypatch):
    monkeypatch.setattr(pace, "_take_two_steps", lambda *_: pytest.fail("real steps were taken"))
    monkeypatch.setattr(pace, "available_memory", lambda: 2**20)
    found = largest_batch(TINY, CPU, limit=64)
    assert found < 64
    assert pace.count_memory(override(TINY, {"batch_size": found}), CPU) <= pace._SHARE * 2**20


@pytest.mark.gpu
def test_on_a_gpu_real_steps_are_tried_until_memory_ends(monkeypatch):
    device = torch.device("cuda")
    limit = 2**28  # bytes that this process may take
    monkeypatch.setattr(pace, "_SHARE", limit / torch.cuda.get_device_properties(device).total_memory)
    found = largest_batch(override(TINY, {"imsize": 64}), device, limit=4096)
    assert 8 <= found < 4096
