"""The table of commands: help, and what is said of words that are wrong."""

import re

import pytest

import sagan.cli
from sagan.cli import COMMANDS, main
from sagan.cli.attention import AttentionFlags
from sagan.cli.bench import BenchFlags
from sagan.cli.directions import DirectionsFlags
from sagan.cli.doctor import DoctorFlags
from sagan.cli.evaluate import CompareFlags, EvaluateFlags
from sagan.cli.export import ExportFlags
from sagan.cli.flags import flags_of
from sagan.cli.import_published import ImportFlags
from sagan.cli.prepare import PrepareFlags
from sagan.cli.project import ProjectFlags
from sagan.cli.report import ReportFlags
from sagan.cli.sample import SampleFlags
from sagan.cli.serve import ServeFlags
from sagan.cli.sweep import StatusFlags, SweepFlags
from sagan.cli.train import TrainFlags, resume_flags
from sagan.cli.walk import FilmFlags, WalkFlags
from sagan.run.presets import PRESETS
from tests.cli.made import refused

KINDS = {
    "train": TrainFlags,
    "resume": resume_flags(),
    "evaluate": EvaluateFlags,
    "bench": BenchFlags,
    "attention": AttentionFlags,
    "sweep": SweepFlags,
    "status": StatusFlags,
    "report": ReportFlags,
    "compare-metrics": CompareFlags,
    "sample": SampleFlags,
    "walk": WalkFlags,
    "film": FilmFlags,
    "directions": DirectionsFlags,
    "project": ProjectFlags,
    "export": ExportFlags,
    "prepare": PrepareFlags,
    "import": ImportFlags,
    "serve": ServeFlags,
    "doctor": DoctorFlags,
}


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(capsys, words):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", [["{}", "--help", "all"], ["help", "{}", "all"]])
def test_help_all_shows_every_flag(capsys, command, form):
    assert main([word.format(command) for word in form]) == 0
    out = capsys.readouterr().out
    flags = flags_of(KINDS[command])
    assert all((name.upper() if flag.positional else f"--{name}") in out for name, flag in flags.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_one_screen(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([command, "--help"], ["help", command]):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= 23
        assert all(len(line) <= 80 for line in lines if not line.startswith("  sagan "))  # commands stay whole
        assert lines[0].startswith(f"usage: sagan {command}")
        assert lines[-1].startswith(f"[default]   sagan {command} --help all")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_narrow_terminal(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "60")
    main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 60 for line in lines if not re.match(r"usage|  sagan |\[default", line))


def test_the_first_help_shows_defaults_of_the_preset_and_what_is_left(capsys):
    main(["train", "--preset", "quick", "--help"])
    out = capsys.readouterr().out
    assert f"[{PRESETS['quick'].run.total_step}]" in out
    left = len(flags_of(KINDS["train"])) - len(COMMANDS["train"].first)
    assert f"and {left} more flags" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_each_flag_has_a_text(capsys, command):
    """Without their texts, flags would be followed by their default at once."""
    main([command, "--help", "all"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, flag in flags_of(KINDS[command]).items():
        if not flag.positional:
            after = out.split(f" --{name} ", 1)[1]
            assert not after.split(" (default", 1)[0].split(" (required", 1)[0].endswith(("INT", "TEXT", "}")), name


def test_help_shows_the_values_of_the_preset(capsys):
    main(["train", "--preset", "quick", "--help", "all"])
    assert f"(default: {PRESETS['quick'].run.total_step})" in " ".join(capsys.readouterr().out.split())


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdecimal()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean train?"),
        (["dance"], "there are train, resume"),
        (["train", "--spam", "3"], "did you mean --span?"),
        (["train", "--imsise", "64"], "did you mean --imsize?"),
        (["train", "--preset", "quik"], "did you mean quick?"),
        (["train", "--d_iters", "5"], "--n_critic"),
        (["train", "--pretrained_model", "5"], "sagan resume"),
        (["train", "--imsize", "50"], "cannot be reached by doubling"),
        (["train", "--span", "-1"], "span must be 0 or more, got -1"),
        (["train", "--image_path", "pictures"], "--dataset celeb or --dataset lsun"),
        (["prepare", "--image_path", "pictures"], "--dataset celeb or --dataset lsun"),
        (["prepare", "a", "--data", "b"], "give the source once"),
        (["prepare", "a", "--imsize", "21"], "cannot be reached by doubling"),
        (["resume", "runs/x", "--batch_size", "4"], "own settings"),
        (["resume"], "needs RUN"),
        (["resume", "nowhere"], "nowhere does not exist"),
        (["sample", "nowhere"], "needs --out"),
        (["sample", "nowhere", "--out", "x"], "nowhere does not exist"),
        (["import", "5_G.pth", "--run_dir", "x"], "needs --span"),
        (["import", "5_G.pth", "--run_dir", "x", "--span", "1"], "No such file"),
        (["import", "5_D.pth", "--run_dir", "x", "--span", "1"], "STEP_G.pth"),
    ],
)
def test_what_is_wrong_with_the_words_is_one_sentence(home, capsys, words, said):
    assert said in refused(capsys, *words)
    assert [path.name for path in home.iterdir()] == ["photos.npy"]


def test_the_commands_are_those_of_the_table():
    assert set(COMMANDS) == set(KINDS)
    assert sagan.cli.main is main
