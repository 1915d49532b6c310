"""`sagan train` and `sagan resume`, called in process from a person's folder, with tiny networks."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sagan.cli import main
from sagan.run.config import to_dict
from sagan.run.folder import Run
from sagan.run.presets import PRESETS
from sagan.run.weights import load_snapshot
from tests.cli.made import FEW_FACES, refused, scores, tiny, train_on_faces

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
        ({"prepared": "photos.npy"}, "prepared must be a folder"),
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
    assert "--lambda_gp has no effect" in capsys.readouterr().err


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
    monkeypatch.setattr("sagan.bench.forecast.describe_run", lambda config, device: [])
    changes = {
        "norm_axis": {"network": "resnet"},
        "penalty_every": {"r1": 0},
        "max_rollbacks": {"guard": "watch"},
        "masking": {"span": 0},
        "span": {"g_span": 1, "d_span": 2},
    }.get(name, {})
    assert main(tiny(dry_run=True, data="photos.npy", **{name: value}, **changes)) == 0
    assert f"warning: --{name} has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "added", "lazy"),
    [({}, 1, 1), ({"r1": 0}, 0, 1), ({"r1": 0.2, "penalty_every": 4}, 0, 0), ({"r1": 0, "penalty_every": 1}, 0, 0)],
)
def test_what_only_the_preset_does_to_the_penalty_of_wgan_is_said(home, capsys, monkeypatch, flags, added, lazy):
    monkeypatch.setattr("sagan.bench.forecast.describe_run", lambda config, device: [])
    assert main(tiny(dry_run=True, data="photos.npy", adv_loss="wgan-gp", **flags)) == 0
    said = capsys.readouterr().err
    assert said.count("--r1 0 turns it off") == added
    assert said.count("in one step of 4: --penalty_every 1 applies it") == lazy


def test_a_flag_with_effect_is_not_said_to_have_none(home, capsys, monkeypatch):
    monkeypatch.setattr("sagan.bench.forecast.describe_run", lambda config, device: [])
    flags = {"masking": "before", "span": 0, "d_span": 1, "r1": 0.1, "penalty_every": 4, "guard": "recover"}
    assert main(tiny(dry_run=True, data="photos.npy", max_rollbacks=1, **flags)) == 0
    assert "has no effect" not in capsys.readouterr().err


def test_cuda_graphs_on_a_cpu_are_refused_before_anything_is_made(home, capsys):
    said = refused(capsys, *tiny(data="photos.npy", run_dir="run", device="cpu", cuda_graphs=True))
    assert "cuda_graphs needs a CUDA device" in said
    assert not (home / "run").exists()


def test_a_dry_run_says_what_a_run_would_cost_and_makes_nothing(home, capsys):
    assert main(tiny(dry_run=True, data="photos.npy", run_dir="run")) == 0
    out = capsys.readouterr().out
    assert "parameters" in out
    assert "a query sees" in out
    assert "ms a step" in out
    assert not (home / "run").exists()


def test_a_dry_run_counts_the_classes_by_their_folders(home, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("sagan.bench.forecast.describe_run", lambda config, device: seen.append(config) or [])
    for number, name in enumerate(["cat", "dog"] * 6):
        (home / "animals" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(home / "animals" / name / f"{number}.png")
    assert main(tiny(dry_run=True, num_classes="auto", data="animals")) == 0
    assert seen[0].model.num_classes == 2
    said = refused(capsys, *tiny(dry_run=True, num_classes="auto", data="photos.npy"))
    assert re.search(r"the classes of .*photos.npy are unknown: .*; --num_classes 0 learns without them", said)


def test_the_largest_batch_is_found_and_used(home, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("sagan.bench.pace.largest_batch", lambda config, device, limit: asked.append(limit) or 12)
    assert main(tiny(batch_size="auto", data="photos.npy", run_dir="run", total_step=1)) == 0
    assert "the largest batch that fits is 12" in capsys.readouterr().out
    assert Run.open(home / "run").config().game.batch_size == 12
    assert asked == [24]  # no more than there are images


def test_an_interrupted_preparation_says_that_it_goes_on(home, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sagan.data.choice.open_or_prepare", interrupted)
    assert main(tiny(data="photos.npy", run_dir="run")) == 130
    assert "the same command resumes from there" in capsys.readouterr().err
    assert not (home / "run").exists()


def test_a_batch_size_is_a_number_or_auto(home, capsys):
    assert "--batch_size must be a whole number or auto, got 'most'" in refused(capsys, *tiny(batch_size="most"))
    words = ["import", "5_G.pth", "--run_dir", "x", "--span", "1", "--batch_size", "auto"]
    assert "--batch_size must be a whole number, got 'auto'" in refused(capsys, *words)


@pytest.mark.usefixtures("few_faces")
def test_a_run_scores_itself_while_it_trains(capsys):
    run = train_on_faces("run", "--eval_every", "3", "--eval_num", "25", "--extractor", "random-conv")
    assert [(record.step, record.card.samples) for record in scores(run)] == [(3, 25), (4, 25), (4, 125)]
    assert "of the time" in capsys.readouterr().out


@pytest.mark.usefixtures("few_faces")
def test_what_scoring_lacks_is_said_before_training_begins(capsys):
    for flags, said in (("--extractor nonsense", "nonsense"), ("--eval_num 5", "eval_num must be 20 or more, got 5")):
        assert main(["train", *FEW_FACES, "--eval_every", "2", "--run_dir", "run", *flags.split()]) == 2
        assert said in capsys.readouterr().err
        assert not Path("run").exists()


# ---- sagan resume


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
        (["--data", "nowhere"], "give --data FOLDER, where they are now"),
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
        (
            "config.json",
            lambda data: data.replace(b'"imsize": 16', b'"imsize": "x"'),
            "imsize must be a size such as 64",
        ),
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


# ---- a folder of images that the runs lie in


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The working directory is a folder of twelve images."""
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"{number:02d}.png")
    return tmp_path / "photos"


def test_runs_inside_the_images_train_on_the_same_images_each_time(photos, capsys):
    assert main(tiny(data=".", total_step=2, sample_dir="grids")) == 0
    said = capsys.readouterr().out
    assert "runs/photos-16px-span0, grids and prepared lie inside the folder of the images" in said
    assert main(["sample", "runs/photos-16px-span0", "--num", "2", "--out", "drawn"]) == 0
    assert main(["resume", "runs/photos-16px-span0", "--total_step", "3", "--sample_dir", "grids"]) == 0
    assert main(tiny(data=".", total_step=1)) == 0
    assert len(list((photos / "prepared").glob("*/meta.json"))) == 1
    assert "12 images of 16x16" in capsys.readouterr().out


def test_samples_are_not_put_among_the_images(photos, capsys):
    for folder in (".", ".."):
        said = refused(capsys, *tiny(data=".", total_step=1, sample_dir=folder))
        assert "give --sample_dir a folder of its own" in said
    assert not (photos / "runs").exists()


def test_a_run_whose_images_changed_names_them_and_goes_on_with_the_prepared_ones(photos, capsys):
    assert main(tiny(data=".", total_step=1, run_dir="run")) == 0
    (photos / "03.png").unlink()
    said = refused(capsys, "resume", "run", "--total_step", "2")
    assert "of 12 images, 1 gone (03.png)" in said
    assert main([*shlex.split(said.split("`")[1])[1:], "--total_step", "2"]) == 0
    (store,) = (path.parent for path in photos.glob("prepared/*/meta.json") if '"count": 12' in path.read_text())
    assert main(tiny(data=store, total_step=1, run_dir="other")) == 0
    assert "prepared at 16x16, and imsize is 32: give --imsize 16" in refused(capsys, *tiny(data=store, imsize=32))


def test_what_is_handed_on_names_no_folder_of_the_machine(photos, monkeypatch):
    assert main(tiny(data=".", total_step=1, run_dir="run", sample_dir="grids")) == 0
    for path in (*(photos / "run" / "snapshots").iterdir(), *(photos / "run" / "checkpoints").iterdir()):
        assert str(photos.parent).encode() not in path.read_bytes()
    assert load_snapshot(Run(photos / "run").snapshot()).config.data.data == "photos"
    monkeypatch.chdir(photos.parent)
    places = ["--sample_dir", "photos/grids", "--prepared", "photos/prepared"]
    assert main(["resume", "photos/run", "--total_step", "2", *places]) == 0
