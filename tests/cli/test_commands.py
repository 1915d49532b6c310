"""The command, called in process as a person calls it: from a folder of their own, with tiny networks."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import sagan.cli
from sagan.cli import COMMANDS, main
from sagan.cli.attention import AttentionFlags
from sagan.cli.bench import BenchFlags
from sagan.cli.compare_metrics import CompareFlags
from sagan.cli.evaluate import EvaluateFlags
from sagan.cli.flags import flags_of
from sagan.cli.import_published import ImportFlags
from sagan.cli.prepare import PrepareFlags
from sagan.cli.report import ReportFlags
from sagan.cli.resume import resume_flags
from sagan.cli.sample import SampleFlags
from sagan.cli.status import StatusFlags
from sagan.cli.sweep import SweepFlags
from sagan.cli.train import TrainFlags
from sagan.run.config import to_dict
from sagan.run.folder import Run
from sagan.run.presets import PRESETS

TINY = {"imsize": 16, "z_dim": 4, "g_conv_dim": 8, "d_conv_dim": 8, "batch_size": 8, "log_step": 1, "sample_count": 4}
PUBLISHED = {
    "batch_size": 8,
    "imsize": 16,
    "z_dim": 4,
    "g_conv_dim": 8,
    "d_conv_dim": 8,
    "total_step": 5,
    "g_lr": 1e-3,
    "d_lr": 2e-3,
    "beta1": 0.5,
    "beta2": 0.99,
    "lambda_gp": 3.0,
    "adv_loss": "wgan-gp",
    "dataset": "celeb",
    "image_path": "pictures",
    "log_step": 2,
    "sample_step": 3,
    "span": 2,
}
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
    "prepare": PrepareFlags,
    "import": ImportFlags,
}


def tiny(**changes):
    """The words of a tiny run, with changes."""
    return ["train", *(f"--{name}={value}" for name, value in (TINY | changes).items())]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A person's folder with 24 images in it."""
    monkeypatch.chdir(tmp_path)
    np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (24, 20, 16, 3)).astype(np.uint8))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with images and a run of four steps with span 1, at ``runs/photos-16px-span1``."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (24, 20, 16, 3)).astype(np.uint8))
        assert main(tiny(data="photos.npy", span=1, total_step=4)) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the trained run to do with as one likes, in a person's folder."""
    monkeypatch.chdir(tmp_path)
    return Run(shutil.copytree(trained / "runs", tmp_path / "runs") / "photos-16px-span1")


def refused(capsys, *words):
    """The sentence with which a command is refused: one line on standard error, status 2."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


@pytest.fixture
def configs(monkeypatch):
    """The configs that `sagan train` would train, instead of training them."""
    seen = []
    monkeypatch.setattr("sagan.training.start.start_run", lambda config, *others: seen.append(config) or 0)
    return seen


# ---- help


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(capsys, words):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", [["{}", "--help"], ["help", "{}"]])
def test_help_shows_every_flag(capsys, command, form):
    assert main([word.format(command) for word in form]) == 0
    out = capsys.readouterr().out
    flags = flags_of(KINDS[command])
    assert all((name.upper() if flag.positional else f"--{name}") in out for name, flag in flags.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_each_flag_has_a_text(capsys, command):
    """Without their texts, flags would be followed by their default at once."""
    main([command, "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, flag in flags_of(KINDS[command]).items():
        if not flag.positional:
            after = out.split(f" --{name} ", 1)[1]
            assert not after.split(" (default", 1)[0].split(" (required", 1)[0].endswith(("INT", "TEXT", "}")), name


def test_help_shows_the_values_of_the_preset(capsys):
    main(["train", "--preset", "quick", "--help"])
    assert f"(default: {PRESETS['quick'].run.total_step})" in " ".join(capsys.readouterr().out.split())


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdecimal()


# ---- flags


def test_every_published_flag_is_taken(configs):
    words = [word for name, value in PUBLISHED.items() for word in (f"--{name}", str(value))]
    assert main(["train", *words]) == 0
    given = {
        name: value
        for section in to_dict(configs[0]).values()
        if isinstance(section, dict)
        for name, value in section.items()
    }
    assert {name: given[name] for name in PUBLISHED} == PUBLISHED


def test_dashes_are_underscores_and_truth_is_taken_in_any_case(configs):
    main(["train", "--batch-size", "8", "--total-step=5", "--tensorboard", "TRUE", "--strict", "False"])
    main(["train", "--batch_size", "8", "--total_step", "5", "--tensorboard"])
    assert configs[0] == configs[1]
    assert configs[0].run.tensorboard


def test_a_preset_is_where_flags_start_from(configs):
    main(["train", "--preset", "quick", "--span", "3"])
    quick = PRESETS["quick"]
    assert configs == [dataclasses.replace(quick, model=dataclasses.replace(quick.model, span=3))]


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
        (["train", "--imsize", "48"], "power of two"),
        (["train", "--span", "-1"], "span must be 0 or more, got -1"),
        (["train", "--image_path", "pictures"], "--dataset celeb or --dataset lsun"),
        (["prepare", "--image_path", "pictures"], "--dataset celeb or --dataset lsun"),
        (["prepare", "a", "--data", "b"], "give the source once"),
        (["prepare", "a", "--imsize", "20"], "power of two"),
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


# ---- training


def test_training_ends_with_the_path_of_a_grid(trained):
    run = trained / "runs" / "photos-16px-span1"
    assert Image.open(run / "samples" / "4_fake.png").size == (4 * 18 + 2, 20)
    assert [record.step for record in Run(run).records()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "nowhere"}, "nowhere does not exist"),
        ({"data": "photo.npy"}, "did you mean"),
        ({"data": "empty"}, "no images found"),
        ({"batch_size": 25}, "has only 24 images"),
        ({"crop": 17}, "smaller than the 17x17 pixels"),
        ({"g_attention": "8,99"}, "no 99x99 map"),
        ({"prepared": "photos.npy"}, "--prepared"),
        ({"published_checkpoints": True}, "published networks"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_of_itself(home, capsys, changes, said):
    (home / "empty").mkdir()
    assert said in refused(capsys, *tiny(**({"data": "photos.npy", "run_dir": "run"} | changes)))
    assert not (home / "run").exists()


@pytest.mark.parametrize("place", ["photos.npy", "photos.npy/run", "other"])
def test_a_run_needs_a_folder_of_its_own(home, capsys, place):
    (home / "other").mkdir()
    (home / "other" / "notes.txt").touch()
    assert place in refused(capsys, *tiny(data="photos.npy", run_dir=place))


def test_a_run_is_not_trained_over(run, capsys):
    before = run.config_file.read_bytes()
    assert "already holds a run: `sagan resume" in refused(capsys, "train", "--data", "x", "--run_dir", run.folder)
    assert run.config_file.read_bytes() == before


def test_grids_of_two_runs_do_not_mix(home, capsys):
    (home / "grids").mkdir()
    (home / "grids" / "5_fake.png").touch()
    said = refused(capsys, *tiny(data="photos.npy", sample_dir="grids"))
    assert "already holds samples of another run" in said
    assert not (home / "runs").exists()


def test_a_flag_without_effect_is_said(configs, capsys):
    main(["train", "--lambda_gp", "5"])
    assert "--lambda_gp changes nothing" in capsys.readouterr().err


# ---- going on


def test_resume_needs_only_the_folder_and_works_from_anywhere(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["resume", str(run.folder), "--total_step", "5", "--span", "1"]) == 0
    assert main(["resume", str(run.folder)]) == 0
    assert "nothing to do: the run is at step 5 already" in capsys.readouterr().out
    assert [record.step for record in run.records()] == [1, 2, 3, 4, 5]
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--span", "3"], "trained with span 1 (not 3)"),
        (["--span", "self"], "trained with span 1 (not self)"),
        (["--imsize", "32", "--seed", "4"], "imsize 16 (not 32), seed 0 (not 4)"),
        (["--total_step", "3"], "is at step 4 already"),
        (["--data", "nowhere"], "--data says where they are now"),
        (["--data", "other.npy"], "trained on other images"),
        (["--device", "gpu"], "device must be"),
    ],
)
def test_a_refused_change_leaves_the_run_as_it_was(run, capsys, words, said):
    np.save("other.npy", np.zeros((24, 16, 16, 3), np.uint8))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert said in refused(capsys, "resume", run.folder, *words)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_run_killed_before_its_first_checkpoint_starts_again(run, capsys):
    records = run.records()
    run.checkpoint_file.unlink()
    assert main(["resume", str(run.folder)]) == 0
    assert "no checkpoint was written yet" in capsys.readouterr().out
    assert [record.d_loss for record in run.records()] == [record.d_loss for record in records]


def test_images_may_have_moved(run, trained, capsys):
    shutil.copy(trained / "photos.npy", "moved.npy")
    assert main(["resume", str(run.folder), "--total_step", "5", "--data", "moved.npy", "--prepared", "kept"]) == 0
    assert run.config().data.data.endswith("moved.npy")


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("config.json", lambda data: b"{", "config.json is damaged"),
        ("config.json", lambda data: data.replace(b'"imsize": 16', b'"imsize": "x"'), "imsize must be a whole number"),
        (
            "config.json",
            lambda data: data.replace(b'"imsize"', b'"imsise"'),
            "newer sagan: this version does not know imsise",
        ),
        ("records.jsonl", lambda data: b"garbage\n" + data, "records.jsonl, line 1, is damaged: it is not JSON"),
        ("checkpoints/last.pt", lambda data: data[: len(data) // 2], "last.pt is not a whole checkpoint"),
        ("checkpoints/last.pt", lambda data: b"", "last.pt is not a whole checkpoint"),
    ],
)
def test_a_damaged_run_is_refused_by_the_name_of_the_file(run, capsys, file, damage, said):
    damaged = damage((run.folder / file).read_bytes())
    (run.folder / file).write_bytes(damaged)
    assert said in refused(capsys, "resume", run.folder, "--total_step", "5")
    assert (run.folder / file).read_bytes() == damaged


def test_a_full_disk_says_how_to_go_on(run, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sagan.training.start.train", full)
    said = refused(capsys, "resume", run.folder, "--total_step", "5")
    assert "No space left on device" in said
    assert f"sagan resume {run.folder}" in said


# ---- samples


def test_samples_are_numbered_and_never_mixed(run, capsys):
    assert main(["sample", str(run.folder), "--num", "5", "--out", "out", "--batch_size", "2"]) == 0
    names = [f"{number:06d}.png" for number in range(5)]
    assert sorted(path.name for path in (run.folder.parents[1] / "out").iterdir()) == names
    assert "is not empty" in refused(capsys, "sample", run.folder, "--num", "7", "--out", "out")
    assert sorted(path.name for path in (run.folder.parents[1] / "out").iterdir()) == names


def test_samples_need_no_images_and_are_the_same_from_the_file(run):
    assert main(["sample", str(run.folder), "--num", "2", "--out", "a"]) == 0
    assert main(["sample", str(run.snapshot()), "--num", "2", "--out", "b", "--batch_size", "1"]) == 0
    for name in ("000000.png", "000001.png"):
        images = [np.asarray(Image.open(run.folder.parents[1] / out / name)).astype(int) for out in "ab"]
        assert abs(images[0] - images[1]).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", "7"], "no snapshot of step 7, only of 4"),
        (["--num", "0"], "num must be 1 or more"),
        (["--num", "1.5"], "--num must be a whole number"),
        (["--batch_size", "0"], "batch_size must be 1 or more"),
        (["--device", "gpu"], "device must be"),
    ],
)
def test_samples_that_cannot_be_drawn(run, capsys, words, said):
    assert said in refused(capsys, "sample", run.folder, "--out", "out", *words)
    assert not (run.folder.parents[1] / "out").exists()


def test_a_torn_snapshot_is_refused(run, capsys):
    run.snapshot().write_bytes(run.snapshot().read_bytes()[:1000])
    assert "is not a whole" in refused(capsys, "sample", run.folder, "--out", "out")


# ---- preparing


def test_prepare_says_what_it_made(home, capsys):
    assert main(["prepare", "photos.npy", "--imsize", "16", "--crop", "squash"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("24 images of 16x16 from 24 RGB images of 20x16")
    assert "prepared in prepared/photos-16-" in out
    assert main(["prepare", "--data", "photos.npy", "--imsize", "16", "--crop", "squash"]) == 0
    assert len(list((home / "prepared").iterdir())) == 1


def test_an_interrupted_preparation_says_that_it_goes_on(home, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sagan.data.choice.open_or_prepare", interrupted)
    assert main(tiny(data="photos.npy", run_dir="run")) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (home / "run").exists()


def test_a_dry_run_says_what_a_run_would_cost_and_makes_nothing(home, capsys):
    assert main(tiny(dry_run=True, data="photos.npy", run_dir="run")) == 0
    out = capsys.readouterr().out
    assert "parameters" in out
    assert "a query sees" in out
    assert "ms a step" in out
    assert not (home / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lambda_gp", 3),
        ("penalty_every", 4),
        ("max_rollbacks", 1),
        ("eval_num", 100),
        ("extractor", "random-conv"),
        ("masking", "before"),
        ("span", 3),
        ("norm_axis", "input"),
    ],
)
def test_a_flag_without_effect_is_said_to_have_none(home, capsys, monkeypatch, name, value):
    monkeypatch.setattr(sys.modules["sagan.cli.train"], "_say_cost", lambda config, console: 0)
    changes = {
        "norm_axis": {"network": "resnet"},
        "penalty_every": {"r1": 0},
        "max_rollbacks": {"guard": "watch"},
        "masking": {"span": 0},
        "span": {"g_span": 1, "d_span": 2},
    }.get(name, {})
    assert main(tiny(dry_run=True, data="photos.npy", **{name: value}, **changes)) == 0
    assert f"warning: --{name} changes nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "added", "lazy"),
    [({}, 1, 1), ({"r1": 0}, 0, 1), ({"r1": 0.2, "penalty_every": 4}, 0, 0), ({"r1": 0, "penalty_every": 1}, 0, 0)],
)
def test_what_only_the_preset_does_to_the_penalty_of_wgan_is_said(home, capsys, monkeypatch, flags, added, lazy):
    monkeypatch.setattr(sys.modules["sagan.cli.train"], "_say_cost", lambda config, console: 0)
    assert main(tiny(dry_run=True, data="photos.npy", adv_loss="wgan-gp", **flags)) == 0
    said = capsys.readouterr().err
    assert said.count("--r1 0 for the loss alone") == added
    assert said.count("in one step in 4: --penalty_every 1 for every step") == lazy


def test_a_flag_with_effect_is_not_said_to_have_none(home, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["sagan.cli.train"], "_say_cost", lambda config, console: 0)
    flags = {"masking": "before", "span": 0, "d_span": 1, "r1": 0.1, "penalty_every": 4, "guard": "recover"}
    assert main(tiny(dry_run=True, data="photos.npy", max_rollbacks=1, **flags)) == 0
    assert "changes nothing" not in capsys.readouterr().err


def test_cuda_graphs_on_a_cpu_are_refused_before_anything_is_made(home, capsys):
    said = refused(capsys, *tiny(data="photos.npy", run_dir="run", device="cpu", cuda_graphs=True))
    assert "cuda_graphs needs a CUDA device" in said
    assert not (home / "run").exists()


def test_the_largest_batch_is_found_and_used(home, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("sagan.bench.pace.largest_batch", lambda config, device, limit: asked.append(limit) or 12)
    assert main(tiny(batch_size="auto", data="photos.npy", run_dir="run", total_step=1)) == 0
    assert "the largest batch that fits is 12" in capsys.readouterr().out
    assert Run.open(home / "run").config().game.batch_size == 12
    assert asked == [24]  # no more than there are images


def test_the_commands_are_those_of_the_table():
    assert set(COMMANDS) == set(KINDS)
    assert sagan.cli.main is main
