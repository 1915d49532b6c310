"""The command that measures, on networks of a few thousand weights."""

import json

import pytest
import torch

from sagan.cli import main

TINY = "--imsize 16 --batch_size 2 --quick --device cpu --extractor random-conv"


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # it would be measured too, slowly


def command(line):
    return main(["bench", *line.split()])


def strict(text):
    return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_all_sections_are_measured_shown_and_written(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert command(f"{TINY} --json {path}") == 0
    printed = capsys.readouterr().out
    for title in ("attention backends", "a training step", "loading of images", "scoring"):
        assert title in printed
    report = strict(path.read_text())
    assert list(report) == ["card", "settings", "attention", "step", "data", "evaluation"]
    assert report["card"]["versions"]["torch"] == torch.__version__
    assert report["settings"]["imsize"] == 16
    step = report["step"]
    assert step["images_per_second"] == pytest.approx(2 / step["seconds"]["median"])
    assert step["share_of_ceiling"] == pytest.approx(step["floor_seconds"] / step["seconds"]["median"])
    assert 0 < step["share_of_ceiling"] < 1
    assert step["floor_seconds"] == pytest.approx(
        max(step["operations"] / step["matmul_per_second"], step["fewest_bytes"] / step["bytes_per_second"])
    )
    assert step["memory"] == pytest.approx(step["counted_memory"], rel=0.1)
    assert report["data"]["prepare_images_per_second"] > 0
    assert report["evaluation"]["extractor"] == "random-conv"


def test_json_alone_is_printed_when_asked_for_a_dash(capsys):
    assert command(f"data {TINY} --json -") == 0
    report = strict(capsys.readouterr().out)
    assert list(report) == ["card", "settings", "data"]


def test_sections_are_named_before_the_flags_in_any_number(capsys):
    assert command(f"evaluation data {TINY}") == 0
    printed = capsys.readouterr().out
    assert printed.index("scoring") < printed.index("loading of images")
    assert "a training step" not in printed


def test_torch_has_its_threads_back_afterwards():
    before = torch.get_num_threads()
    assert command(f"data {TINY} --threads {before + 1}") == 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("speed", "a section must be one of attention, step, data, evaluation, got 'speed'"),
        ("step --threads 0", "threads must be 1 or more, got 0"),
        ("step --batch_size 0", "batch_size must be more than 0, got 0"),
        ("step --imsize 50", "imsize 50 cannot be reached by doubling"),
        ("step --span -1", "span must be 0 or more"),
        ("step --device moon", "device must be auto"),
        ("--quik", "did you mean --quick?"),
        ("--extractor nonsense", "extractor must be one of"),
        ("--json .", "--json must be a file to write or '-', got the folder ."),
    ],
)
def test_mistakes_are_answered_in_a_sentence(line, said, capsys):
    assert command(line) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_help_shows_the_flags(capsys):
    assert command("--help") == 0
    assert "--json" in capsys.readouterr().out
