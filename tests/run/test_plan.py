"""Which runs a sweep has, and that runs of one seed differ in nothing but the axes."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from sagan.cli.flags import read
from sagan.cli.train import TrainFlags
from sagan.data import Recipe, open_or_prepare, open_source
from sagan.run.config import (
    Config,
    GameConfig,
    ModelConfig,
    RunConfig,
    differences,
    override,
    with_absolute_paths,
)
from sagan.run.folder import Run
from sagan.run.plan import extend, make_plan, read_plan, train_words, write_plan
from sagan.run.presets import PRESETS
from sagan.system.console import Console
from sagan.system.typed import fill
from sagan.training.loop import Session, train
from sagan.training.trainer import Trainer

SPANS = {"span": [0, 1, 3], "seed": [0, 1]}


def names(plan):
    return [run.name for run in plan.runs()]


def test_the_runs_are_all_combinations_one_seed_after_the_other():
    plan = make_plan(Config(), {"seed": [0, 1], "span": [0, 3], "total_step": [50]})
    assert names(plan) == ["span0-seed0", "span3-seed0", "span0-seed1", "span3-seed1"]
    assert list(plan.axes) == ["span", "seed"]
    config = plan.config(plan.run("span3-seed1"), Path("there"))
    assert (config.model.span, config.run.seed, config.run.total_step) == (3, 1, 50)
    assert config.run.run_dir == "there"


def test_span_and_seed_are_axes_with_one_value_too():
    assert names(make_plan(PRESETS["quick"], {"masking": ["after", "before"]})) == [
        "masking_after-span1-seed0",
        "masking_before-span1-seed0",
    ]


def test_names_say_values_of_every_type():
    given = {
        "g_attention": [(8, 16), ()],
        "g_lr": [1e-4, 2],
        "flip": [True, False],
        "lr_decay": [None, 0.5],
        "data": ["faces", "/a/my photos.zip"],
    }
    found = names(make_plan(Config(), given))
    assert len(set(found)) == 32
    assert found[0] == "g_attention8+16-g_lr0.0001-flip_true-lr_decay_none-data_faces-span0-seed0"
    assert found[-1] == "g_attention_none-g_lr2-flip_false-lr_decay0.5-data_my_photos-span0-seed0"


def test_combinations_can_be_left_out():
    plan = make_plan(Config(), {"span": [0, 1], "masking": ["after", "before"]}, [{"span": 0, "masking": "before"}])
    assert names(plan) == ["span0-masking_after-seed0", "span1-masking_after-seed0", "span1-masking_before-seed0"]


@pytest.mark.parametrize(
    ("given", "left_out", "said"),
    [
        ({"span": [0, -1]}, [], "span must be 0 or more, got -1"),
        ({"span": [1, 1]}, [], "--span has 1 twice"),
        ({"run_dir": ["x"]}, [], "--run_dir is for one run"),
        ({"data": ["a/x.zip", "b/x.zip"]}, [], "two values of an axis would both name a run data_x-span0-seed0"),
        ({"imsize": [64, 128], "published_checkpoints": [True]}, [], "published_checkpoints needs the published"),
        ({"span": [0, 1]}, [{"masking": "before"}], "masking is not an axis; the axes are span and seed"),
        ({"span": [0, 1]}, [{"span": 2}], "--leave_out span=2: --span has only 0 and 1"),
        ({"span": [0, 1]}, [{"seed": 0}], "--leave_out leaves out every run"),
    ],
)
def test_what_can_be_no_plan_is_refused(given, left_out, said):
    with pytest.raises(ValueError, match=said):
        make_plan(Config(), given, left_out)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_plan_in_the_file_is_the_plan(tmp_path, preset):
    given = SPANS | {"g_attention": [(8,), (8, 16), ()], "data": ["faces", "photos"]}
    plan = make_plan(PRESETS[preset], given, [{"span": 0, "g_attention": (8,)}], "sagan sweep ...")
    write_plan(plan, tmp_path / "plan.json", tmp_path / "runs")
    assert read_plan(tmp_path / "plan.json") == plan


def test_types_are_looked_up_once_however_many_runs_a_plan_has(tmp_path, monkeypatch):
    plan = make_plan(Config(), {"seed": range(20), "span": [0, 1]})
    write_plan(plan, tmp_path / "plan.json", tmp_path)
    monkeypatch.setattr("sagan.system.typed.get_type_hints", None)
    assert read_plan(tmp_path / "plan.json") == plan


def test_foreign_names_are_quoted_and_cut(tmp_path):
    plan = make_plan(Config(), {"seed": [0, 1]})
    write_plan(plan, tmp_path / "plan.json", tmp_path)
    values = json.loads((tmp_path / "plan.json").read_text())
    name = "a\nb" * 5000
    for changes in ({"axes": values["axes"] | {name: [1]}}, {"left_out": [{name: 1}]}, {name: 1}):
        (tmp_path / "plan.json").write_text(json.dumps(values | changes))
        with pytest.raises(ValueError, match="plan.json .*'a") as refusal:
            read_plan(tmp_path / "plan.json")
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 400 + len(str(tmp_path))


def test_a_damaged_plan_is_named(tmp_path):
    path = tmp_path / "plan.json"
    for text in ("{", "[]", '{"format": 0}', '{"format": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="plan.json is damaged: "):
            read_plan(path)
    path.write_text('{"format": 2}')
    with pytest.raises(ValueError, match="plan.json was written by a newer sagan: its format is 2"):
        read_plan(path)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_of_a_run_means_its_config(tmp_path, monkeypatch, preset):
    given = SPANS | {"g_attention": [(8, 16), ()], "lr_decay": [None, 0.5], "flip": [True, False], "g_lr": [3e-5]}
    plan = make_plan(PRESETS[preset], given)
    for run in plan.runs():
        config = plan.config(run, tmp_path / run.name)
        words = shlex.split(shlex.join(train_words(config, run.overrides)))
        assert words[:2] == ["train", "--preset"]
        assert f"--span {run.overrides['span']}" in shlex.join(words)
        monkeypatch.chdir(tmp_path)  # another folder than where it was planned
        typed = with_absolute_paths(fill(Config, read(TrainFlags, words[3:], "sagan train"), PRESETS[words[2]]))
        assert set(differences(typed, config)) <= {"image_path"}  # which no data set is under


# ---- going on


def test_values_may_be_added_to_an_axis():
    old = make_plan(Config(), SPANS)
    new = extend(old, make_plan(Config(), {"span": [3, 0, 1, 2], "seed": [0, 1, 2]}), Path("S"))
    assert set(names(old)) < set(names(new))
    assert {run.name: run for run in new.runs()}["span3-seed1"] == old.run("span3-seed1")


@pytest.mark.parametrize(
    ("given", "left_out", "said"),
    [
        ({"span": [0, 1], "seed": [0, 1]}, [], "its --span has 0 and 1 and 3, and 3 is missing now"),
        ({"span": [2], "seed": [0, 1]}, [], "0 and 1 and 3 are missing now"),
        (SPANS | {"masking": ["after", "before"]}, [], "with the axes span, seed and not span, masking, seed"),
        (SPANS | {"total_step": [7]}, [], r"with total_step 100000 \(not 7\)"),
        (SPANS | {"seed": [0, 1, 2]}, [{"span": 1}], "--leave_out would take away its span1-seed0"),
    ],
)
def test_a_plan_that_differs_is_refused_with_the_difference(given, left_out, said):
    with pytest.raises(ValueError, match=f"S holds another sweep.*{said}.*give another --sweep_dir"):
        extend(make_plan(Config(), SPANS), make_plan(Config(), given, left_out), Path("S"))


def test_a_sweep_goes_on_from_another_folder(tmp_path, monkeypatch):
    old = make_plan(Config(), SPANS)
    monkeypatch.chdir(tmp_path)
    assert extend(old, make_plan(Config(), SPANS), Path("S")).axes == old.axes


# ---- paired by design

TINY = Config(
    model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8, g_attention=(8,)),
    game=GameConfig(batch_size=8, n_critic=2, flip=True),
    run=RunConfig(total_step=3, log_step=3, sample_count=4, device="cpu", guard="off"),
)


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Trains a run of a plan; gives its first weights, and what came from outside into each of its steps."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8))
    store = open_or_prepare(open_source(tmp_path / "images.npy"), Recipe(16), tmp_path / "prepared")
    play = Trainer.play

    def train_run(plan, run):
        weights, turns = {}, []

        def spy(self, kind, given, add_up):
            if not turns:
                for name, network in self.networks().items():
                    weights.update({f"{name}.{key}": x.clone() for key, x in network.state_dict().items()})
            turns.append([{name: x.clone() for name, x in turn.items()} for (turn,) in given])
            return play(self, kind, given, add_up)

        monkeypatch.setattr(Trainer, "play", spy)
        config = plan.config(run, tmp_path / run.name)
        session = Session(config, torch.device("cpu"), store)
        train(session, Run.create(tmp_path / run.name, config), Console(quiet=True))
        return weights, turns

    return train_run


def test_runs_of_one_seed_share_first_weights_z_and_the_order_of_images(played):
    plan = make_plan(TINY, {"span": [0, 3], "masking": ["after", "before"], "seed": [0, 1]})
    found = {run.name: played(plan, run) for run in plan.runs()}
    for seed in (0, 1):
        first, *others = (each for name, each in found.items() if name.endswith(f"seed{seed}"))
        assert len(others) == 3
        for other in others:
            torch.testing.assert_close(other, first, rtol=0, atol=0)
    one, other = found["span0-masking_after-seed0"], found["span0-masking_after-seed1"]
    assert not torch.equal(one[1][0][0]["z"], other[1][0][0]["z"])
    assert not torch.equal(one[1][0][0]["real"], other[1][0][0]["real"])
    assert any(not torch.equal(x, other[0][name]) for name, x in one[0].items())


def test_the_axes_make_a_difference(played):
    """Else what the runs share would show nothing."""
    plan = make_plan(override(TINY, {"total_step": 1}), {"span": [0, 3]})
    found = [plan.config(run, Path()) for run in plan.runs()]
    images = torch.rand(2, 3, 16, 16)
    seen = []
    for config in found:
        network = Trainer(config, torch.device("cpu")).discriminator
        for layer in network.attention.values():
            torch.nn.init.constant_(layer.gamma, 1.0)
        seen.append(network(images))
    assert not torch.allclose(*seen)
