"""`sagan sweep` and `sagan status`, with tiny networks."""

import json
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sagan.experiments.sweep
from sagan.cli import main
from sagan.cli.sweep import read_axes
from sagan.data import prepared_store
from sagan.experiments.sweep import Sweep
from sagan.run.config import Config, RunConfig
from sagan.run.folder import Run
from sagan.run.scores import read_scores

TINY = (
    "--data photos.npy --imsize 16 --z_dim 4 --g_conv_dim 8 --d_conv_dim 8 --batch_size 8 --device cpu "
    "--sample_count 4 --total_step 4 --log_step 1 --snapshot_every 2 --eval_num 25 --extractor random-conv "
    "--sweep_dir S"
)


@pytest.fixture(autouse=True)
def in_a_folder_with_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (24, 20, 16, 3)).astype(np.uint8))
    return tmp_path


@pytest.fixture
def called(tmp_path, monkeypatch):
    """The commands that a sweep would call, instead of calling them."""
    words = []

    def call(self, given, log):
        words.append(given)
        leave_trained(given)
        return 0

    monkeypatch.setattr(sagan.experiments.sweep.Runner, "_call", call)
    return words


def leave_trained(words):
    """Leaves what `sagan train` with these words would: a run at its last step."""
    if words[0] == "train":
        run = Run(Path(words[words.index("--run_dir") + 1]))
        run.snapshot_file(4).parent.mkdir(parents=True)
        run.snapshot_file(4).touch()
        run.write_config(Config(run=RunConfig(total_step=4)))


def command(line, name="sweep"):
    return main([name, *line.split()])


def refused(capsys, line, name="sweep"):
    assert command(line, name) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return " ".join(error.split())


def test_a_sweep_is_trained_scored_shown_and_then_done(capsys, in_a_folder_with_images, monkeypatch):
    """With the real commands, in processes of their own."""
    assert command(f"{TINY} --span 1 --seed 5") == 0
    printed = capsys.readouterr().out
    assert re.search(r"span1-seed5 +done +4/4 +\d+\.\d+ at 4", printed)
    run = Run(in_a_folder_with_images / "S" / "runs" / "span1-seed5")
    config = run.config()
    assert (config.model.span, config.run.seed) == (1, 5)
    assert [score.step for score in read_scores(run, "frechet")] == [2, 4]
    before = run.records_file.read_bytes()
    monkeypatch.setattr(sagan.experiments.sweep.Runner, "_call", lambda *_: pytest.fail("there was nothing to do"))
    assert command(f"{TINY} --span 1 --seed 5") == 0
    assert command("--sweep_dir S") == 0
    assert run.records_file.read_bytes() == before
    capsys.readouterr()
    assert command("S", "status") == 0
    assert "1 done" in capsys.readouterr().out


def test_images_are_prepared_before_any_run_begins(called, in_a_folder_with_images, monkeypatch):
    prepared = []

    def prepare(data, size, console, channels):
        prepared.append((size, channels))
        return prepared_store(data, size, console, channels=channels)

    monkeypatch.setattr("sagan.experiments.checks.prepared_store", prepare)
    command(f"{TINY} --span 0 1 --seed 0 1")
    assert prepared == [(16, "auto")]
    assert [words[0] for words in called[::2]] == ["train"] * 4
    assert {words[0] for words in called[1::2]} == {"evaluate"}


def test_a_run_that_failed_is_said_at_the_end_and_the_status_tells(capsys, monkeypatch):
    def fail(self, words, log):
        log.write_text("error: a sentence\n")
        leave_trained(words)
        return 2 if "span1" in str(log) else 0

    monkeypatch.setattr(sagan.experiments.sweep.Runner, "_call", fail)
    assert command(f"{TINY} --span 0 1") == 1
    said = capsys.readouterr()
    assert re.search(r"warning: span1-seed0 failed: a sentence \(log: .*S/logs/span1-seed0.log\)", said.err)
    assert "sagan sweep --sweep_dir S" in said.out
    command("S", "status")
    printed = capsys.readouterr().out
    assert "span1-seed0: a sentence" in printed
    assert "1 done, 1 failed" in printed


def test_values_are_added_to_what_was_planned(capsys, called):
    assert command(f"{TINY} --span 0 --score false") == 0
    called.clear()
    assert command("--sweep_dir S --seed 0 1 --score false") == 0
    assert [words[words.index("--seed") + 1] for words in called] == ["1"]
    said = refused(capsys, "--sweep_dir S --batch_size 16")
    assert "holds another sweep, with batch_size 8 (not 16):" in said
    assert "None" not in said


def test_the_help_shows_what_the_default_preset_has(capsys):
    assert command("--help all") == 0
    shown = capsys.readouterr().out
    assert re.search(r"--network \{dcgan,resnet\}[^-]*\(default: resnet\)", shown)
    assert re.search(r"--sweep_dir PATH[^-]*\(required\)", shown)


def test_a_dry_run_shows_what_each_span_sees(capsys, monkeypatch):
    monkeypatch.setattr(
        "sagan.bench.forecast.measured_pace", lambda *_: SimpleNamespace(seconds_per_step=1.0, describe=str)
    )
    assert command(f"{TINY} --span 0 1 --dry_run") == 0
    printed = capsys.readouterr().out
    assert re.search(r"generator 8x8: span 0.*, a query sees 100% of the keys", printed)
    assert re.search(r"generator 8x8: span 1.*, a query sees \d\d% of the keys", printed)


def test_what_failed_and_was_mended_has_failed_no_longer(capsys, monkeypatch):
    monkeypatch.setattr(sagan.experiments.sweep.Runner, "_call", lambda self, words, log: log.write_text("") or 2)
    assert command(f"{TINY} --span 0") == 1
    begun = Sweep.open(Path("S"))
    (run,) = begun.plan.runs()
    assert begun.failure_file(run).exists()
    monkeypatch.setattr(Sweep, "commands", lambda *_: [])  # it was trained by hand
    assert command("--sweep_dir S") == 0
    assert not begun.failure_file(run).exists()


def test_a_run_without_its_scores_is_said_at_the_end(capsys, monkeypatch):
    def train_only(self, words, log):
        leave_trained(words)
        return 143 if words[0] == "evaluate" else 0

    monkeypatch.setattr(sagan.experiments.sweep.Runner, "_call", train_only)
    assert command(f"{TINY} --span 0") == 1
    assert "trained, but not scored to the end: span0-seed0; to continue: sagan sweep" in capsys.readouterr().out


def test_a_stopped_sweep_says_how_to_go_on(capsys, called, monkeypatch):
    def stop(statuses):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sagan.experiments.board._tables", lambda console, at_once: stop)
    monkeypatch.setattr(sagan.experiments.sweep.Runner, "execute", lambda self, run: time.sleep(0.5))
    assert command(f"{TINY} --span 0 1 --jobs 2 --score false") == 130
    assert "to continue: sagan sweep --sweep_dir S --jobs 2 --score false" in capsys.readouterr().out


def test_a_dry_run_shows_runs_cost_and_time_and_writes_nothing(capsys, in_a_folder_with_images):
    assert command(f"{TINY} --span 0 1 --seed 0 1 --jobs 2 --dry_run") == 0
    printed = capsys.readouterr().out
    assert "4 runs: span 0 | 1, seed 0 | 1" in printed
    assert "span0-seed0 (the same for 3 more):" in printed
    assert printed.count("pace: ") == 1
    assert re.search(r"all: about \d+:\d\d:\d\d one run at a time", printed)
    assert "with --jobs 2: " in printed
    assert [path.name for path in in_a_folder_with_images.iterdir()] == ["photos.npy"]


def test_the_plan_is_printed_as_lines_for_a_shell(capsys, called, in_a_folder_with_images):
    assert command(f"{TINY} --span 0 1 --print_commands") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for span, line in enumerate(lines):
        train, evaluate = line.split(" && ")
        folder = in_a_folder_with_images / "S" / "runs" / f"span{span}-seed0"
        assert train.startswith("sagan train --preset ")
        assert f"--span {span} " in train
        assert f"--run_dir {folder} " in train
        assert evaluate.startswith(f"sagan evaluate {folder} --num 25 --extractor random-conv")
    assert called == []
    plan = json.loads((in_a_folder_with_images / "S" / "plan.json").read_text())
    assert plan["command"] == f"sagan sweep {TINY} --span 0 1"  # what carries it out


def test_runs_begin_from_the_preset(in_a_folder_with_images):
    command(f"--preset quick --span 0 1 --score false --sweep_dir S --print_commands --data {in_a_folder_with_images}")
    assert Sweep.open(in_a_folder_with_images / "S").plan.base.model.imsize == 32


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--span 0 1", "`sagan sweep` needs --sweep_dir"),
        ("--sweep_dir S", "S contains no sweep to continue: give the values of a new one"),
        ("--sweep_dir S --span 0 1 --sede 1", "there is no flag --sede: did you mean --seed?"),
        ("--sweep_dir S --span 0 -2", "span must be 0 or more, got -2"),
        (
            "--sweep_dir S --span 0 --preset quik",
            "preset must be best or published or paper or quick or small, got 'quik'",
        ),
        ("--sweep_dir S --span 0 --parallel_runs 2", "use --jobs"),
        ("--sweep_dir S --span 0 --jobs 0", "jobs must be 1 or more, got 0"),
        ("--sweep_dir S --span 0 --run_dir x", "--run_dir is for one run"),
        ("--sweep_dir S --span 0 --dry_run --cluster slurm", "give one of --dry_run and --cluster"),
        ("--sweep_dir S --span 0 --cluster_hours 3", "--cluster_hours needs --cluster slurm"),
        ("--sweep_dir S --span 0 --image_path there", "--image_path says where a --dataset is"),
        ("--sweep_dir S --span 0 --eval_num 3", "eval_num must be 20 or more, got 3"),
        ("--sweep_dir S --span 0 --extractor nonsense", "extractor must be one of"),
        ("--sweep_dir S --span 0 --g_attention 7", "7"),
        ("--sweep_dir . --span 0 --score false", "is not an empty folder: give another --sweep_dir"),
        ("stray --sweep_dir S", "`sagan sweep` has no place for 'stray'"),
    ],
)
def test_mistakes_are_answered_in_a_sentence_and_nothing_is_made(capsys, in_a_folder_with_images, line, said):
    assert said in refused(capsys, line)
    assert [path.name for path in in_a_folder_with_images.iterdir()] == ["photos.npy"]


def test_another_plan_for_the_folder_is_refused(capsys):
    assert command(f"{TINY} --span 0 1 --score false --print_commands") == 0
    assert "its --span has 0 and 1, and 0 is missing now" in refused(capsys, f"{TINY} --span 1 2 --score false")
    assert command(f"{TINY} --span 0 1 2 --score false --print_commands") == 0


def test_a_place_may_have_a_comma_in_its_name_and_there_may_be_several(capsys, called):
    assert command(f"{TINY} --span 0 --score false") == 0
    Path("S").rename("S,T")
    capsys.readouterr()
    assert command("S,T S,T/runs/span0-seed0", "status") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("S,T\n")
    assert printed.count("1 done") == 2


def test_the_status_finds_runs_of_the_published_command_line(capsys, tmp_path):
    Run.create(tmp_path / "sparse_models_3" / "mine", Config())
    assert command("", "status") == 0
    assert "mine  stopped" in capsys.readouterr().out


def test_the_status_of_what_is_no_run_is_refused(capsys):
    assert "runs does not exist" in refused(capsys, "", "status")
    assert "there is no flag --all" in refused(capsys, "S --all", "status")


@pytest.mark.parametrize("name", ["sweep", "status"])
def test_help_shows_the_flags(capsys, name):
    assert command("--help", name) == 0
    printed = capsys.readouterr().out
    assert ("--sweep_dir" in printed and "--span" in printed) if name == "sweep" else "PLACES" in printed


# ---- words become values, several for one flag


def values(line):
    return read_axes(line.split())[0]


@pytest.mark.parametrize("line", ["--span 0 1 self", "--span=0 1 self", "--span 0 --span 1 self"])
def test_numbers_and_words_take_several_values(line):
    assert values(line) == {"span": [0, 1, "self"]}


def test_the_words_of_a_setting_of_several_values_belong_together():
    assert values("--g_attention 8 16 --g_attention none --g-attention 16,32") == {
        "g_attention": [(8, 16), (), (16, 32)]
    }
    assert values("--g_span 1 2 --g_span 3") == {"g_span": [(1, 2), (3,)]}
    assert values("--augment color flip") == {"augment": [("color", "flip")]}


def test_each_value_is_of_its_setting_s_type():
    found = values("--g_lr 1e-4 2e-4 --total_step 1e3 --flip --r1 auto 0.5 --data none a.zip --max_grad_norm none 1")
    assert found == {
        "g_lr": [1e-4, 2e-4],
        "total_step": [1000],
        "flip": [True],
        "r1": ["auto", 0.5],
        "data": [None, "a.zip"],
        "max_grad_norm": [None, 1.0],
    }
    assert values("--flip true false") == {"flip": [True, False]}


def test_other_words_are_left_as_they_are_and_in_their_order():
    given, left_out, rest = read_axes(["stray", "--jobs", "2", "--span", "1", "2", "--no_such", "3", "--dry_run"])
    assert given == {"span": [1, 2]}
    assert not left_out
    assert rest == ["stray", "--jobs", "2", "--no_such", "3", "--dry_run"]


def test_what_is_left_out_is_read_as_the_settings_are():
    left_out = read_axes(["--leave_out", "span=0", "masking=before", "--leave_out", "g_attention=8,16"])[1]
    assert left_out == [{"span": 0, "masking": "before"}, {"g_attention": (8, 16)}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--span 0 one", "--span must be a whole number or self, got 'one'"),
        ("--span", "--span needs a value"),
        ("--masking after sideways", "--masking must be after or before, got 'sideways'"),
        ("--leave_out", "--leave_out must be such as span=0 masking=before"),
        ("--leave_out span", "--leave_out must be such as span=0 masking=before, got 'span'"),
        ("--leave_out spam=0", "there is no flag --spam: did you mean --span?"),
        ("--leave_out span=none", "--span must be"),
        ("--leave_out masking=before,after", "--leave_out takes one value of --masking, got before and after"),
    ],
)
def test_mistakes_in_values_are_answered_in_a_sentence(line, said):
    with pytest.raises(ValueError, match="^" + said.replace("?", r"\?")):
        read_axes(line.split())
