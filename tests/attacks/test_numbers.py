"""Numbers far beyond any use, on the command line and in files: refused with what is allowed, before any work."""

import json

import pytest

from sagan.run.config import Config, from_dict, roles, settings, to_dict
from tests.cli.made import refused

FLOATS = [name for name, value in settings(Config()).items() if type(value) is float] + ["max_grad_norm", "lr_decay"]
WHOLE = [name for name, value in settings(Config()).items() if type(value) is int] + ["eval_every"]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "-1e300"])
def test_a_rate_or_a_weight_has_a_range(name, value, capsys):
    assert f"{name} must be " in refused(capsys, "train", f"--{name}={value}")


@pytest.mark.parametrize("name", [*WHOLE, "g_span", "d_span", "g_attention", "d_attention", "num_classes", "crop"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e30", "-1e30", "1" * 5000])
def test_a_span_or_a_size_has_a_range(name, value, capsys):
    said = refused(capsys, "train", f"--{name}={value}")
    assert f"{name} must be " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", FLOATS)
def test_what_a_file_holds_has_the_same_range(name):
    for value in (float("inf"), float("nan"), 1e300):
        values = to_dict(Config())
        section = next(each for each in ("data", "model", "game", "run") if name in values[each])
        values[section][name] = value
        with pytest.raises(ValueError, match=f"{name} must be "):
            from_dict(json.loads(json.dumps(values)))
        assert roles()[name].most < 1e300


@pytest.mark.parametrize(
    "words",
    [
        *("sample r --out o --num 1e30", "sample r --out o --seed 1e30", "sample r --out o --batch_size 1e30"),
        *("attention r --num 1e30", "attention r --num 100000", "attention r --seed -1e30"),
        *("evaluate r --num 1e30", "evaluate r --repeats 1e30", "evaluate r --seed 1e30", "evaluate r --imsize 1e30"),
        *("sweep --sweep_dir S --span 0 --jobs 1e30", "bench --threads 1e30", "bench --span 1e30"),
        *(f"sweep --sweep_dir S --cluster slurm --cluster_hours {hours}" for hours in ("inf", "nan", "1e30")),
        "sweep --sweep_dir S --cluster slurm --gpus_per_run 1e30",
    ],
)
def test_every_command_has_ranges(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(word for word in reversed(words.split()) if word.startswith("--"))[2:]
    assert f"{name} must be " in refused(capsys, *words.split())
    assert not list(tmp_path.iterdir())
