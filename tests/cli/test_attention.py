"""`sagan attention` on runs of two snapshots and a checkpoint, made without training."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.viewing.figures
from sagan.cli import main
from sagan.run.build import build_generator
from sagan.run.config import Config, ModelConfig
from sagan.run.folder import Run
from sagan.run.weights import Snapshot, save_checkpoint, save_snapshot
from sagan.training.trainer import Trainer
from tests import records

TINY = {"imsize": 16, "z_dim": 4, "g_conv_dim": 8, "d_conv_dim": 8, "g_attention": (4, 8), "d_attention": (8, 4)}


def make_run(name, classes=(), **changes):
    """A run with snapshots of steps 2 and 4 and a checkpoint of step 4."""
    config = Config(model=ModelConfig(**(TINY | changes)))
    run = Run.create(name, config)
    for step in (2, 4):
        generator = build_generator(config.model, step)
        save_snapshot(run.snapshot_file(step), Snapshot(generator, config, step, classes=classes))
    save_checkpoint(run.checkpoint_file, dataclasses.replace(Trainer(config, torch.device("cpu")).state(), step=4))
    run.append(*(records.train(step, gamma={"G8": 0.5, "D8": step / 10}) for step in (1, 3)))
    return run


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A person's folder with a run in it; figures are named and not drawn, which would take seconds."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", span=1)
    monkeypatch.setattr(sagan.viewing.figures, "_save", lambda figure, path: path.write_bytes(path.suffix.encode()))
    return tmp_path


def command(line):
    return main(["attention", *line.split()])


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def layers(path):
    return [(row["run"], int(row["step"]), row["network"], int(row["map"])) for row in table(path / "layers.csv")]


BOTH = [
    ("run", 4, name, size)
    for name, size in (("generator", 4), ("generator", 8), ("discriminator", 8), ("discriminator", 4))
]


def test_a_run_is_shown_in_both_networks(home, capsys):
    assert command("run --num 2") == 0
    out = home / "run" / "attention" / "00000004"
    names = {"attention.html", "image-0000.png", "image-0001.png", "layers.csv", "queries.csv"}
    assert {path.name for path in out.iterdir()} == names
    assert layers(out) == BOTH
    queries = table(out / "queries.csv")
    assert {row["image"] for row in queries} == {"0", "1"}
    assert all(0 < float(row["largest"]) <= 1 for row in queries)
    said = capsys.readouterr().out
    assert "discriminator 4x4" in said
    assert "interactive page: run/attention/00000004/attention.html" in said


def test_looking_again_mixes_and_overwrites_nothing(home):
    for _ in range(2):
        assert command("run --num 1") == 0
    assert [path.name for path in sorted((home / "run" / "attention").iterdir())] == ["00000004", "00000004-2"]
    assert command("run --num 1 --out here") == 0
    assert command("run --num 1 --out here") == 2


def test_an_earlier_step_has_only_its_generator_and_that_is_said(home, capsys):
    assert command("run --num 1 --step 2 --out out") == 0
    assert layers(home / "out") == [("run", 2, "generator", 4), ("run", 2, "generator", 8)]
    said = capsys.readouterr().out
    assert "no discriminator of step 2, because snapshots hold only the generator" in said
    assert "is of step 4" in said


def test_a_snapshot_in_its_run_and_on_its_own(home, capsys):
    assert command("run/snapshots/00000004.safetensors --num 1 --out whole") == 0
    assert layers(home / "whole") == BOTH
    shutil.copy(home / "run" / "snapshots" / "00000004.safetensors", home / "mine.safetensors")
    assert command("mine.safetensors --num 1") == 0
    assert "only the generator is shown" in capsys.readouterr().out
    assert layers(home / "mine-attention") == [("mine", 4, "generator", 4), ("mine", 4, "generator", 8)]


def test_real_images_are_judged(home):
    (home / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(home / "photos" / f"{number}.png")
    assert command("run --images photos --num 2") == 0
    out = home / "run" / "attention" / "00000004-images"
    assert layers(out) == BOTH[2:]
    assert (out / "image-0001.png").exists()
    assert not (out / "image-0002.png").exists()


def test_the_points_asked_for_are_the_points_shown(home):
    assert command("run --num 1 --query 3,4 15,0 --out out") == 0
    rows = table(home / "out" / "queries.csv")
    assert {(row["y"], row["x"]) for row in rows} == {("3", "4"), ("15", "0")}
    assert len(rows) == 2 * 4


def test_two_runs_are_compared_from_the_same_z(home, capsys):
    make_run(home / "full", span=0)
    assert command("run --compare full --num 1 --over_training --out out") == 0
    found = layers(home / "out")
    assert found == BOTH + [("full", *rest) for _, *rest in BOTH]
    rows = table(home / "out" / "layers.csv")
    assert {row["pattern"] for row in rows[:4]} == {"span 1"}
    assert {row["inside"] for row in rows[4:]} == {"0.0"}
    queries = table(home / "out" / "queries.csv")
    assert [(row["y"], row["x"]) for row in queries[: len(queries) // 2]] == [
        (row["y"], row["x"]) for row in queries[len(queries) // 2 :]
    ]
    training = table(home / "out" / "training.csv")
    assert {(row["run"], row["step"]) for row in training if row["network"] == "generator"} == {
        (run, step) for run in ("run", "full") for step in "24"
    }
    assert [row["gamma"] for row in training if row["network"] == "discriminator"] == ["0.1", "0.3"] * 2
    assert (home / "out" / "training.svg").exists()
    assert command("run --compare full/snapshots/00000002.safetensors --num 1 --out other") == 0
    assert "the networks compared are of different steps, 2 and 4" in " ".join(capsys.readouterr().err.split())


def test_pictures_have_the_names_of_their_classes_in_runs_that_number_them_differently(home, capsys):
    for name, classes in {"new": ("1", "2", "10"), "old": ("1", "10", "2"), "zoo": ("a", "b", "c")}.items():
        make_run(home / name, classes=classes, network="resnet", num_classes=3, g_attention=(8,))
    assert command("new --compare old --num 4 --query 3,4 --out out") == 0
    assert "the classes take turns: 0 ('1'), 1 ('2'), 2 ('10')" in capsys.readouterr().out
    of = {(row["run"], row["image"]): row["class"] for row in table(home / "out" / "queries.csv")}
    assert [of["new", str(i)] for i in range(4)] == ["0 ('1')", "1 ('2')", "2 ('10')", "0 ('1')"]
    assert [of["old", str(i)] for i in range(4)] == ["0 ('1')", "2 ('2')", "1 ('10')", "0 ('1')"]
    assert "2 ('2')" in (home / "out" / "attention.html").read_text("utf-8")
    assert command("new --compare zoo --num 1 --out other") == 2
    assert "their classes are 0 ('1'), 1 ('2'), 2 ('10') and 0 a, 1 b, 2 c" in " ".join(capsys.readouterr().err.split())


def test_runs_of_one_name_are_told_apart(home):
    make_run(home / "elsewhere" / "run", span=2)
    assert command("run --compare elsewhere/run --num 1 --out out") == 0
    assert {row["run"] for row in table(home / "out" / "layers.csv")} == {"run", "elsewhere/run"}
    assert command(f"{home}/elsewhere/run --compare {home}/elsewhere/../run --num 1 --out other") == 0
    assert str(home.parent) not in (home / "other" / "layers.csv").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"span": "self", "masking": "before", "pool": 2},
        {"network": "resnet", "num_classes": 3, "span": 3, "pool": 2, "g_attention": (8, 16)},
        {"span": 7},  # no query sees anything
    ],
    ids=["self", "resnet", "blind"],
)
def test_every_kind_of_network_is_shown(home, changes, capsys):
    make_run(home / "kind", **changes)
    assert command("kind --num 1 --over_training --out out") == 0
    said = capsys.readouterr().out
    assert "nan" not in said
    assert ("looks at nothing" in said) == (changes["span"] in (3, 7))  # the discriminator's 4x4 map is blind at 3
    assert len(layers(home / "out")) == 4
    assert "NaN" not in (home / "out" / "attention.html").read_text("utf-8").split("</script>")[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nowhere", "nowhere does not exist"),
        ("run --step 3", "no snapshot of step 3, only of 2, 4"),
        ("run --num 0", "num must be 1 or more"),
        ("run --query 3", "takes points as y,x"),
        ("run --query 3,16", "must lie in the picture, 0,0 to 15,15; got 3,16"),
        ("run --images photos --over_training", "--images are for the discriminator"),
        ("run --images photos --step 2", "no discriminator of step 2, because snapshots hold only the generator"),
        ("run --images photos", "photos"),
        ("run/snapshots/00000002.safetensors --images photos", "no discriminator of step 2"),
        ("mine.safetensors --images photos", "mine.safetensors is a snapshot on its own"),
        ("mine.safetensors --over_training", "--over_training needs a run's folder"),
        ("run --compare larger", "their imsize is 16 and 32"),
        ("run --compare other_z", "their z_dim is 4 and 5"),
        ("bare", "has no attention layer to show"),
        ("run --device gpu", "device must be"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(home, capsys, line, said):
    shutil.copy(home / "run" / "snapshots" / "00000004.safetensors", home / "mine.safetensors")
    for name, changes in {"larger": {"imsize": 32}, "other_z": {"z_dim": 5}}.items():
        if name in line:
            make_run(home / name, **changes)
    if line == "bare":
        make_run(home / "bare", g_attention=(), d_attention=())
    assert command(line) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "Traceback" not in error
    assert not (home / "run" / "attention").exists()


def test_what_is_shown_does_not_depend_on_chance(home):
    for number, name in enumerate(("one", "other")):
        torch.manual_seed(number)
        assert command(f"run --num 1 --seed 5 --out {name}") == 0
    assert (home / "one" / "attention.html").read_bytes() == (home / "other" / "attention.html").read_bytes()
