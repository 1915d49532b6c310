"""What can be known before work is known before work, and nothing is made to know it."""

import importlib.util
import sys

import pytest

from sagan.run.config import Config, ModelConfig, RunConfig, override
from sagan.training.checks import check_new_run

TINY = Config(model=ModelConfig(imsize=16), run=RunConfig(device="cpu", run_dir="run"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["run_dir", "sample_dir", "prepared"])
@pytest.mark.parametrize("place", ["file", "file/within"])
def test_a_place_that_cannot_be_a_folder_is_named(name, place, home):
    with pytest.raises(ValueError, match=place):
        check_new_run(override(TINY, {name: place}))
    assert [path.name for path in home.iterdir()] == ["file"]


def test_tensorboard_is_looked_for(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    check_new_run(TINY)
    with pytest.raises(ValueError, match=r"pip install 'sagan-attention\[tensorboard\]'"):
        check_new_run(override(TINY, {"tensorboard": True}))


def test_nothing_is_made(home):
    check_new_run(TINY)
    assert [path.name for path in home.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="torch finds a compiler of its own there")
@pytest.mark.parametrize("compiler", ["nowhere", "", "false", "/"])
def test_a_compiler_is_looked_for_where_the_networks_are_to_be_compiled(compiler, monkeypatch, home):
    monkeypatch.setenv("CXX", compiler)
    check_new_run(TINY)
    with pytest.raises(ValueError, match=r"compile needs a C\+\+ compiler, and .* set compile to false"):
        check_new_run(override(TINY, {"compile": True}))
    monkeypatch.setenv("CXX", "true")  # which answers --version, as a compiler does
    check_new_run(override(TINY, {"compile": True}))
    assert [path.name for path in home.iterdir()] == ["file"]
