import ast
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import sagan
from sagan.run.config import (
    Config,
    DataConfig,
    GameConfig,
    ModelConfig,
    RunConfig,
    check_device,
    differences,
    from_dict,
    idle_settings,
    names_of,
    override,
    roles,
    settings,
    to_dict,
    with_absolute_paths,
    without_places,
)
from sagan.run.presets import PRESETS

CONFIGS = [*PRESETS.values(), Config(DataConfig("photos"), ModelConfig(span="self", g_attention=(), d_span=2))]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_comes_back_from_json(config):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (ModelConfig, {"imsize": 50}, "imsize 50 cannot be reached by doubling .*: the nearest .* are 48 and 56"),
        (ModelConfig, {"imsize": 8}, "imsize 8 cannot be reached by doubling"),
        (ModelConfig, {"imsize": "64x100"}, "imsize 64x100 cannot be reached by doubling"),
        (ModelConfig, {"imsize": "64 x 96"}, "imsize must be a size such as 64, or 64x96 for height x width"),
        (ModelConfig, {"imsize": 64.0}, "imsize must be a whole number or text, got 64.0"),
        (ModelConfig, {"span": -1}, r"span must be 0 or more, got -1 \(0 is full attention\)"),
        (ModelConfig, {"d_span": -2}, "d_span must be 0 or more"),
        (ModelConfig, {"span": 1.5}, "span must be a whole number or self, got 1.5"),
        (ModelConfig, {"masking": "aft"}, "masking must be after or before, got 'aft'"),
        (ModelConfig, {"z_dim": 0}, "z_dim must be more than 0"),
        (ModelConfig, {"g_attention": [8]}, "g_attention must be whole numbers"),
        (GameConfig, {"batch_size": True}, "batch_size must be a whole number"),
        (GameConfig, {"g_lr": float("nan")}, "g_lr must be a number, got nan"),
        (GameConfig, {"beta1": 1.0}, "beta1 must be from 0 to below 1"),
        (GameConfig, {"lr_decay": 1.5}, "lr_decay must be at most 1, got 1.5"),
        (GameConfig, {"adv_loss": "hing"}, "adv_loss must be hinge or wgan-gp"),
        (RunConfig, {"total_step": 0}, "total_step must be more than 0"),
        (RunConfig, {"device": "gpu"}, "device must be auto, cpu, cuda"),
        (
            DataConfig,
            {"crop": "0"},
            "crop must be auto, square, fill, squash, pad, pad:COLOUR or a number.*got '0'",
        ),
        (DataConfig, {"crop": "-5"}, "got '-5'"),
        (DataConfig, {"crop": "0160"}, "got '0160'"),
        (DataConfig, {"crop": "circle"}, "got 'circle'"),
        (DataConfig, {"filter": "nearest"}, "filter must be bilinear or bicubic or lanczos or box, got 'nearest'"),
        (DataConfig, {"data": "x", "dataset": "celeb"}, "give either data or dataset"),
    ],
)
def test_what_is_not_allowed_is_one_sentence_with_name_and_value(kind, values, said):
    with pytest.raises(ValueError, match=said) as error:
        kind(**values)
    assert "\n" not in str(error.value)


def test_whole_numbers_serve_where_any_number_does():
    assert GameConfig(g_lr=1, beta1=0).g_lr == 1


def test_published_checkpoints_need_the_published_networks():
    Config(run=RunConfig(published_checkpoints=True))
    for model in (ModelConfig(imsize=32), ModelConfig(g_attention=(8,)), ModelConfig(d_attention=())):
        with pytest.raises(ValueError, match="published_checkpoints needs"):
            Config(model=model, run=RunConfig(published_checkpoints=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.pop("format"), "is damaged: its format is None"),
        (lambda values: values.update(format=99), "written by a newer sagan: its format is 99, this version reads"),
        (lambda values: values.pop("game"), "is damaged: the section game is missing"),
        (
            lambda values: values["model"].update(foo=3),
            "model, was written by a newer sagan: .* does not know foo",
        ),
        (lambda values: values["model"].update(imsize="x"), "imsize must be a size such as 64, .* got 'x'"),
    ],
)
def test_a_config_is_whole_or_refused(change, said):
    values = to_dict(Config())
    change(values)
    with pytest.raises(ValueError, match=said):
        from_dict(values)


def test_a_setting_newer_than_the_file_has_its_default():
    values = to_dict(Config(model=ModelConfig(imsize=32)))
    del values["run"]["eval_every"]
    assert from_dict(values) == Config(model=ModelConfig(imsize=32))


def test_settings_that_a_file_has_in_their_former_section_are_read():
    config = Config(model=ModelConfig(start_from="other", freeze_d=1))
    values = to_dict(config)
    values["game"]["freeze_d"] = values["model"].pop("freeze_d")
    values["run"]["start_from"] = values["model"].pop("start_from")
    del values["model"]["start_sha256"]
    assert from_dict(values) == config
    values["model"]["freeze_d"] = 1  # in both places: no version wrote it
    with pytest.raises(ValueError, match="does not know freeze_d"):
        from_dict(values)


def test_setting_names_are_unique_so_that_bare_names_serve():
    sections = [DataConfig, ModelConfig, GameConfig, RunConfig]
    names = [field.name for section in sections for field in dataclasses.fields(section)]
    assert len(names) == len(set(names))
    assert set(settings(Config())) == set(names)


def test_override_changes_what_it_names():
    config = override(Config(), {"span": 3, "batch_size": 8})
    assert differences(Config(), config) == {"span": (0, 3), "batch_size": (64, 8)}


def test_paths_keep_their_meaning_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(Config(DataConfig("photos"), run=RunConfig(sample_dir="grids")))
    assert Path(config.data.data) == tmp_path / "photos"
    assert Path(config.data.prepared) == tmp_path / "prepared"
    assert Path(config.run.sample_dir) == tmp_path / "grids"
    assert with_absolute_paths(config) == config


@pytest.mark.parametrize("start", ["pretrained:faces64", "hf:a/b", f"faces, step 4, sha256 {'0' * 64}"])
def test_what_a_run_started_from_is_no_path_where_it_is_not_on_the_disk(start):
    config = Config(model=ModelConfig(start_from=start))
    assert with_absolute_paths(config).model.start_from == start
    assert without_places(config).model.start_from == start


def test_drawn_faces_are_no_path():
    assert with_absolute_paths(Config(DataConfig("faces"))).data.data == "faces"


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_devices_have_names(name):
    check_device(name)


def test_every_setting_has_a_role():
    names = {name for section in (DataConfig, ModelConfig, GameConfig, RunConfig) for name in section.__annotations__}
    assert set(roles()) == names
    assert names_of("computed", "kept", "free", "place") == names


def test_every_setting_is_read_where_runs_are_made():
    """As an attribute of its section. What only presets and these declarations know does nothing."""
    package = Path(sagan.__file__).parent
    files = [path for path in package.rglob("*.py") if path.name not in ("config.py", "presets.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    fields = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    owners = "data", "model", "game", "run", "settings"  # as in config.game.lecam, game.lecam, self.settings.guard
    read = {node.attr for node in fields if ast.unparse(node.value).rpartition(".")[2] in owners}
    assert set(roles()) <= read, f"read nowhere: {', '.join(sorted(set(roles()) - read))}"


def test_only_what_may_change_changes_when_a_run_is_resumed():
    assert names_of("computed") >= {"imsize", "span", "adv_loss", "g_lr", "seed", "crop", "precision"}
    assert not names_of("free", "place") & {"sample_count", "guard_every", "seed", "crop"}


ALWAYS_IDLE = {"image_path", "start_sha256"}  # without a --dataset, and without a --start_from


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({}, "penalty_every lambda_gp masking max_rollbacks eval_num extractor keep_best"),
        ({"adv_loss": "wgan-gp", "span": 1}, "max_rollbacks eval_num extractor keep_best"),
        ({"eval_every": 5, "guard": "off"}, "guard_every max_rollbacks lambda_gp penalty_every masking"),
        ({"g_span": 1, "d_span": 0}, "span lambda_gp penalty_every max_rollbacks eval_num extractor keep_best"),
        ({"network": "resnet"}, "norm_axis lambda_gp penalty_every masking max_rollbacks eval_num extractor keep_best"),
    ],
)
def test_what_has_no_effect_is_known_and_why(changes, idle):
    found = idle_settings(override(Config(), changes))
    assert set(found) == {*idle.split(), *ALWAYS_IDLE}
    assert all(found.values())


@pytest.mark.parametrize("value", [float("inf"), 1e30])
def test_numbers_far_beyond_any_use_are_refused(value):
    with pytest.raises(ValueError, match="g_lr must be at most"):
        GameConfig(g_lr=value)
    with pytest.raises(ValueError, match="imsize must be at most 8,192"):
        ModelConfig(imsize=2**20)


def test_numbers_of_numpy_are_numbers():
    changes = {"span": np.int64(3), "g_span": (np.int32(1), "self"), "g_lr": np.float32(0.5), "flip": np.bool_(True)}
    config = override(Config(), changes)
    assert config == override(Config(), {"span": 3, "g_span": (1, "self"), "g_lr": 0.5, "flip": True})
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match="span must be a whole number or self"):
        override(Config(), {"span": np.float64(3.5)})


def test_a_choice_that_this_version_lacks_may_be_of_a_newer_one():
    values = to_dict(Config())
    values["model"]["network"] = "later"
    with pytest.raises(ValueError, match=r"written by a newer sagan, or is damaged: network must be dcgan or resnet"):
        from_dict(values)
    values["run"]["later"] = 1
    with pytest.raises(ValueError, match=r"run, was written by a newer sagan: this version does not know later"):
        from_dict(json.loads(json.dumps(values | {"model": to_dict(Config())["model"]})))


def test_a_misspelt_setting_or_choice_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"there is no setting 'spna': did you mean span\?"):
        override(Config(), {"spna": 3})
    with pytest.raises(ValueError, match=r"got 'celeba': did you mean celeb\?"):
        override(Config(), {"dataset": "celeba"})


@pytest.mark.parametrize("seed", [1_720_000_000, -1_720_000_000, 2**63 - 1, -(2**63) + 1])
def test_a_seed_is_any_number_that_a_file_can_hold(seed):
    config = Config(run=RunConfig(seed=seed, total_step=10**10, snapshot_every=10**12))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (RunConfig, {"seed": 2**63}, "seed must be at most 9,223,372,036,854,775,807, got 9223372036854775808"),
        (RunConfig, {"seed": -(2**63)}, "seed must be at least -9,223,372,036,854,775,807, got -9223372036854775808"),
        (RunConfig, {"seed": 10**5000}, "seed must be at most .*, got int"),
        (ModelConfig, {"span": -9000}, r"span must be 0 or more, got -9000 \(0 is full attention\)"),
        (ModelConfig, {"span": 9000}, "span must be at most 8,192, got 9000$"),
        (ModelConfig, {"z_dim": float("-inf")}, "z_dim must be a whole number, got -inf"),
        (GameConfig, {"g_lr": float("-inf")}, "g_lr must be more than 0, got -inf"),
    ],
)
def test_a_bound_is_named_on_the_side_where_it_lies(kind, values, said):
    with pytest.raises(ValueError, match=said):
        kind(**values)


def test_ordinary_values_are_made_plain():
    config = override(
        Config(), {"g_attention": [8], "g_span": [1], "augment": ["flip"], "data": Path("a"), "sample_dir": Path("b")}
    )
    assert (config.model.g_attention, config.model.g_span, config.game.augment) == ((8,), (1,), ("flip",))
    assert (config.data.data, config.run.sample_dir) == ("a", "b")
    for wrong in ({"span": [1]}, {"g_attention": ["8"]}, {"imsize": [64]}, {"masking": Path("after")}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
            override(Config(), wrong)
