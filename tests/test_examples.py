"""The scripts in examples/ run, are short, and do what they say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) < 60


def test_a_training_loop_of_ones_own_draws(capsys):
    drawn = example("own_training_loop").train(2, batch=4)
    assert drawn.shape == (16, 3, 32, 32)
    assert drawn.float().std() > 1
    assert "step 2: D " in capsys.readouterr().out


def test_the_op_learns_inside_another_network():
    first, last = example("attention_in_a_unet").denoise(40)
    assert last < 0.7 * first


def test_the_distance_of_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, shift in (("one", 0), ("other", 0), ("far", 120)):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(len(name))
        for number in range(40):
            pixels = rng.integers(0, 120, (16, 16, 3), np.uint8) + np.uint8(shift)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    distance = example("frechet_between_folders").distance
    near, far = (distance(tmp_path / "one", tmp_path / name) for name in ("other", "far"))
    assert distance(tmp_path / "one", tmp_path / "one") == pytest.approx(0, abs=1e-4)
    assert near < far / 3
