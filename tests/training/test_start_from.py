"""Runs that start from trained networks."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sagan
from sagan.core.networks.folding import folded
from sagan.core.sampling import generate
from sagan.core.shapes import ImageShape
from sagan.data.faces.drawing import draw_face
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, override, without_places
from sagan.run.folder import Run
from sagan.run.plan import train_words
from sagan.run.weights import load_checkpoint, load_snapshot, save_checkpoint, save_snapshot
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.training.guard import Diverged, Verdict
from sagan.training.recovery import roll_back
from sagan.training.start import train_new, train_on
from sagan.training.start_from import (
    _describe_classes,
    describe_fates,
    graft,
    open_start,
    refuse_unfit,
    with_networks_of,
)
from sagan.training.trainer import Trainer
from tests.training.conftest import TINY

CPU = torch.device("cpu")
MOMENTS = "exp_avg", "exp_avg_sq"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """32 images in 3 classes; in ``more`` the same in 4, of which one comes before them."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype(np.uint8)):
        for kind, classes in (("few", "bcd"), ("more", "abcd")):
            place = folder / kind / classes[number % len(classes)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    return folder


def config_of(images, folder, name, base=TINY, **changes):
    places = {"data": str(images), "prepared": str(folder / "prepared"), "run_dir": str(folder / name)}
    short = {"total_step": 4, "checkpoint_every": 2, "snapshot_every": 2}
    return override(base, {**short, **places, **changes})


def train(config):
    train_new(config, Console(quiet=True))
    return Run.open(Path(config.run.run_dir))


def tune(source, images, folder, name="tuned", **changes):
    """The config of a run that starts from another."""
    return config_of(images, folder, name, with_networks_of(TINY, str(source.folder)), **changes)


@pytest.fixture(scope="module", params=["dcgan", "resnet"])
def source(request, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return train(config_of(photos / "few", folder, "a", network=request.param, num_classes="auto", z_dim=6))


@pytest.fixture(scope="module", params=["dcgan", "resnet"])
def plain(request, photos, tmp_path_factory):
    return train(config_of(photos / "few", tmp_path_factory.mktemp("plain"), "a", network=request.param))


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


# ---- what fits


@pytest.mark.parametrize("changes", [{}, {"span": 2, "masking": "before", "pool": 2}])
def test_networks_of_the_same_shapes_are_taken_whole(plain, photos, tmp_path, changes):
    run = train(tune(plain, photos / "few", tmp_path, total_step=1, **changes))
    ours, theirs = load_checkpoint(run.start_file), load_checkpoint(plain.checkpoint_file)
    assert_same(ours.generator, theirs.average)
    assert_same(ours.average, theirs.average)
    assert_same(ours.discriminator, theirs.discriminator)
    assert ours.step == 0
    assert not ours.g_optimizer["state"]


def test_the_networks_of_the_source_are_the_default(source, photos, tmp_path):
    config = tune(source, photos / "few", tmp_path, span=3)
    its = source.config().model
    unlike = {name for name, value in vars(config.model).items() if value != vars(its)[name]}
    assert unlike == {"span", "num_classes", "start_from", "start_sha256"}
    assert config.model.num_classes == "auto"  # counted in the images
    assert config.game == TINY.game


def test_classes_are_found_by_name_and_new_ones_start_as_their_mean(source, photos, tmp_path):
    run = train(tune(source, photos / "more", tmp_path, total_step=1))
    state = load_checkpoint(run.start_file)
    assert state.classes == ("a", "b", "c", "d")
    before = build_generator(source.config().model)
    before.load_state_dict(load_checkpoint(source.checkpoint_file).average)
    after = build_generator(run.config().model)
    after.load_state_dict(state.average)
    before.eval(), after.eval()
    z = torch.randn(3, before.z_dim)
    images, expected = generate(after, z, torch.tensor([1, 2, 3])), generate(before, z, torch.tensor([0, 1, 2]))
    assert torch.equal(images, expected)
    tables = [name for name, value in state.average.items() if value.ndim == 2 and len(value) == 4 and "norm" in name]
    for name in tables:
        torch.testing.assert_close(state.average[name][0], before.state_dict()[name].mean(0))
    rows = load_checkpoint(source.checkpoint_file).discriminator["embedding.weight"]
    assert torch.equal(state.discriminator["embedding.weight"], torch.cat([rows.mean(0, keepdim=True), rows]))


def test_a_wider_discriminator_tells_classes_apart_by_what_it_took(source):
    model = source.config().model
    wide = dataclasses.replace(model, num_classes=4, d_conv_dim=2 * model.d_conv_dim)
    before, after = build_discriminator(model), build_discriminator(wide, seed=5)
    assert graft(after, before, [2, None, 0, 1])["embedding"] == "resized"
    rows = before.embedding.weight
    expected = torch.stack([rows[2], rows.mean(0), rows[0], rows[1]])
    assert torch.equal(after.embedding.weight, torch.nn.functional.pad(expected, (0, rows.shape[1])))


def test_classes_are_said_with_the_numbers_of_the_run():
    said = _describe_classes(("aa", "b", "c"), [None, 0, 1])
    assert said == "classes: taken: 1 b, 2 c; new, starting as the mean of the source's: 0 aa"


def test_without_classes_before_each_class_starts_as_what_was_drawn(plain):
    model = plain.config().model
    before, after = build_generator(model), build_generator(dataclasses.replace(model, num_classes=3), seed=5)
    before.load_state_dict(load_checkpoint(plain.checkpoint_file).average)
    graft(after, before, [None] * 3)
    z = torch.randn(3, before.z_dim)
    drawn = generate(after.eval(), z, torch.tensor([0, 1, 2]))
    assert torch.equal(drawn, generate(before.eval(), z))


def test_classes_may_go(source):
    model = source.config().model
    before, after = build_generator(model), build_generator(dataclasses.replace(model, num_classes=0), seed=5)
    fates = graft(after, before, [])
    assert set(fates.values()) == {"taken"}
    assert after(torch.randn(2, after.z_dim)).isfinite().all()


def maps_of(generator, z, size):
    """The map of a size that a generator makes in training mode, after its block of that size."""
    found = []
    hook = generator.stages[str(size)].register_forward_hook(lambda module, given, made: found.append(made.detach()))
    with hook, torch.no_grad():
        generator(z)
    return found[0]


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_a_wider_network_computes_what_it_took_as_before(network):
    model = override(Config(), {"network": network, "imsize": 16, "g_conv_dim": 8, "z_dim": 4}).model
    model = dataclasses.replace(model, g_attention=())
    before, after = build_generator(model, 1), build_generator(dataclasses.replace(model, g_conv_dim=12), 2)
    fates = graft(after, before, [])
    assert set(fates.values()) == {"resized"}
    z = torch.randn(16, 4)
    ours, theirs = maps_of(after, z, 8), maps_of(before, z, 8)
    old = ours[:, : theirs.shape[1]]
    alike = torch.corrcoef(torch.stack([old.flatten(), theirs.flatten()]))[0, 1]
    assert alike > 0.97  # not 1, as spectral norm divides by the norm of the whole


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
@pytest.mark.parametrize(("before", "after"), [(16, 32), (32, 16)])
def test_another_size_keeps_the_common_blocks(network, before, after):
    model = override(Config(), {"network": network, "imsize": before, "g_conv_dim": 4, "d_conv_dim": 4}).model
    model = dataclasses.replace(model, g_attention=(8,), d_attention=(8,))
    other = dataclasses.replace(model, imsize=after)
    fates = graft(build_generator(other, 2), build_generator(model, 1), [])
    kept = {fate for name, fate in fates.items() if name.startswith(("stages.8", "attention.8", "first"))}
    assert kept <= {"resized", "taken"}
    assert fates["last"] == "taken"
    assert ("new" in fates.values()) == (after > before)
    of_d = graft(one := build_discriminator(other, 2), two := build_discriminator(model, 1), [])
    nearest = f"stages.{after // 2}."
    assert {fate for name, fate in of_d.items() if name.startswith(nearest)} == {"taken"}
    assert one.state_dict()[f"{nearest}{'0.' if network == 'dcgan' else 'conv1.'}weight"].equal(
        two.state_dict()[f"stages.{before // 2}.{'0.' if network == 'dcgan' else 'conv1.'}weight"]
    )
    assert of_d["last"] == "new"
    assert one(torch.randn(2, 3, after, after)).isfinite().all()


def test_aligned_widths_keep_blocks_exactly():
    model = override(Config(), {"imsize": 16, "g_conv_dim": 8, "g_attention": ()}).model
    fates = graft(build_generator(dataclasses.replace(model, imsize=32, g_conv_dim=4), 2), build_generator(model), [])
    sentences = list(describe_fates("generator", fates, ImageShape.square(32)))
    assert sentences == [
        "generator: taken as it is: 4x4 block, 8x8 block",
        "generator: resized, with what both have taken: last layer",
        "generator: new: 16x16 block",
    ]


# ---- runs


def test_a_run_says_what_it_started_from_and_needs_it_no_more(source, photos, tmp_path):
    moved = tmp_path / "source"
    shutil.copytree(source.folder, moved)
    changes = {"freeze_d": 1, "span": 2}
    whole = train(tune(Run(moved), photos / "few", tmp_path, "whole", **changes))
    stopped = train(tune(Run(moved), photos / "few", tmp_path, "stopped", **changes, total_step=2))
    shutil.rmtree(moved)
    train_on(stopped.folder, {"total_step": 4}, Console(quiet=True))
    one, other = (load_checkpoint(run.checkpoint_file) for run in (whole, stopped))
    for part in ("generator", "discriminator", "average"):
        assert_same(getattr(one, part), getattr(other, part))
    own = whole.config().model
    assert own.start_from == str(moved)
    assert len(own.start_sha256) == 64
    kept = load_snapshot(whole.snapshot()).config.model
    assert (kept.start_from, kept.start_sha256) == ("source", own.start_sha256)


def test_a_run_that_saved_nothing_yet_starts_again_without_the_source(plain, photos, tmp_path):
    config = tune(plain, photos / "few", tmp_path)
    run = train(config)
    expected = load_checkpoint(run.checkpoint_file)
    run.checkpoint_file.unlink()
    train_on(run.folder, {}, Console(quiet=True))
    assert_same(load_checkpoint(run.checkpoint_file).generator, expected.generator)
    for file in (run.checkpoint_file, run.start_file):
        file.unlink()
    with pytest.raises(UserError, match=r"start\.pt is missing, which holds what the run started from"):
        train_on(run.folder, {}, Console(quiet=True))


def test_a_rollback_without_a_checkpoint_goes_back_to_the_start(plain, photos, tmp_path):
    run = train(tune(plain, photos / "few", tmp_path, total_step=1))
    start = load_checkpoint(run.start_file)
    trainer = Trainer(run.config(), CPU)
    roll_back(trainer, start, Diverged(Verdict("diverged", "it was asked to", True), 1))
    assert_same(trainer.generator.state_dict(), start.generator)


def test_a_snapshot_gives_a_generator_alone(plain, photos, tmp_path):
    config = config_of(photos / "few", tmp_path, "b", with_networks_of(TINY, str(plain.snapshot())), total_step=1)
    state = load_checkpoint(train(config).start_file)
    trained = load_snapshot(plain.snapshot()).generator.state_dict()
    assert torch.equal(state.generator["last.weight"], trained["last.weight"])
    assert_same(state.discriminator, build_discriminator(config.model, config.run.seed).state_dict())


def test_the_checkpoint_gives_both_networks_of_one_step(plain):
    start = open_start(str(plain.folder))
    assert start.sha256 == open_start(str(plain.checkpoint_file)).sha256
    assert start.discriminator is not None
    assert start.step == load_checkpoint(plain.checkpoint_file).step


def test_frozen_blocks_stay_and_have_no_optimizer(plain, photos, tmp_path):
    run = train(tune(plain, photos / "few", tmp_path, freeze_d=1, r1=0.1, shards=2))
    before, after = load_checkpoint(plain.checkpoint_file).discriminator, load_checkpoint(run.checkpoint_file)
    changed = {name for name, value in after.discriminator.items() if not value.equal(before[name])}
    changed = {name for name in changed if not name.endswith((".u", ".v"))}
    assert not any(name.startswith(("stages.8.", "attention.8.")) for name in changed)
    assert any(name.startswith("stages.4.") for name in changed)
    frozen = sum(not each.requires_grad for each in build_discriminator(run.config().model).parameters())
    assert len(after.d_optimizer["state"]) == len(list(build_discriminator(run.config().model).parameters())) - frozen


def test_moments_of_frozen_blocks_that_earlier_versions_kept_are_left_out(plain, photos, tmp_path):
    run = train(tune(plain, photos / "few", tmp_path, freeze_d=1))
    state = load_checkpoint(run.checkpoint_file)
    of_trained = iter(state.d_optimizer["state"].values())
    of_all = [
        next(of_trained) if x.requires_grad else {"step": torch.ones(()), **dict.fromkeys(MOMENTS, torch.zeros_like(x))}
        for x in build_discriminator(run.config().model).parameters()
    ]
    optimizer = {**state.d_optimizer, "state": dict(enumerate(of_all))}
    save_checkpoint(run.checkpoint_file, dataclasses.replace(state, d_optimizer=optimizer))
    found = load_checkpoint(run.checkpoint_file).d_optimizer["state"]
    assert list(found) == list(state.d_optimizer["state"])
    for number, moments in state.d_optimizer["state"].items():
        assert_same(found[number], moments)


def test_the_command_of_a_run_names_all_of_its_networks(plain, photos, tmp_path):
    config = tune(plain, photos / "few", tmp_path)
    words = train_words(config)
    for name in ("start_from", "start_sha256", "span", "imsize", "z_dim"):
        assert f"--{name}" in words
    assert "--start_from" not in train_words(TINY)
    assert str(tmp_path) not in " ".join(train_words(override(without_places(config), {"run_dir": None})))


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "other"}, "has networks of the kind (dcgan|resnet): network cannot be (dcgan|resnet)"),
        ({"freeze_d": 9}, "freeze_d must be at most 2"),
        ({"freeze_d": 1, "d_conv_dim": 16}, "freeze_d 1 would freeze the 8x8 block .* but resized"),
        ({"freeze_d": 3, "imsize": 32}, "freeze_d 3 would freeze the (4x4 block|8x8 attention) .* but new"),
        ({"start_from": "nowhere"}, "nowhere does not exist"),
        ({"start_sha256": "a" * 64}, "has changed: start_sha256 must be aaa"),
        ({"start_sha256": "short"}, "start_sha256 must be 64 hexadecimal digits"),
        ({"start_from": None, "freeze_d": 1}, "freeze_d 1 needs start_from"),
    ],
)
def test_what_cannot_fit_is_refused_and_leaves_nothing(plain, photos, tmp_path, changes, sentence):
    other = "resnet" if plain.config().model.network == "dcgan" else "dcgan"
    changes = {name: other if value == "other" else value for name, value in changes.items()}
    with pytest.raises(UserError, match=sentence):
        train_new(tune(plain, photos / "few", tmp_path, **{"d_attention": (8,), **changes}), Console(quiet=True))
    assert not (tmp_path / "tuned").exists()


def test_a_generator_alone_has_nothing_to_freeze(plain):
    model = dataclasses.replace(plain.config().model, start_from=str(plain.snapshot()), freeze_d=1)
    with pytest.raises(UserError, match="holds only a generator: start from a run with a checkpoint"):
        refuse_unfit(open_start(str(plain.snapshot())), model)


def test_folded_networks_are_not_trained(plain, tmp_path):
    snapshot = load_snapshot(plain.snapshot())
    path = tmp_path / "folded.safetensors"
    save_snapshot(path, dataclasses.replace(snapshot, generator=folded(snapshot.generator)), folded=True)
    with pytest.raises(UserError, match="folded for use alone"):
        open_start(str(path))


def test_python_takes_a_preset_with_the_networks_of_the_source(plain, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = sagan.train(
        "quick", start_from=plain.folder, data=photos / "few", batch_size=8, total_step=1, sample_count=4, quiet=True
    )
    assert run.config.model.z_dim == plain.config().model.z_dim
    assert run.config.game.g_lr == 2e-4


def test_starting_from_drawn_faces_is_no_slower_on_others(tmp_path):
    """A quick look at what `benchmarks/fine_tuning.py` measures: the distance of mean images after a few steps."""
    faces = np.stack([draw_face(number, 16) for number in range(16)])
    others = np.stack([draw_face(number, 16, seed=1)[..., [2, 0, 1]] for number in range(16)])
    for name, images in (("faces", faces), ("others", others)):
        np.save(tmp_path / f"{name}.npy", images)
    game = {"g_lr": 2e-3, "d_lr": 2e-3, "log_step": 100, "snapshot_every": 100, "checkpoint_every": 100, "guard": "off"}
    first = train(config_of(tmp_path / "faces.npy", tmp_path, "first", **game, total_step=20))

    def distance(run):
        generator = load_snapshot(run.snapshot()).generator
        drawn = generate(generator, torch.randn(64, generator.z_dim, generator=torch.Generator().manual_seed(0)))
        real = torch.from_numpy(others).permute(0, 3, 1, 2)
        return (drawn.float().mean(0) - real.float().mean(0)).square().mean()

    few = {**game, "total_step": 5}
    scratch = train(config_of(tmp_path / "others.npy", tmp_path, "scratch", **few))
    tuned = train(tune(first, tmp_path / "others.npy", tmp_path, **few))
    assert distance(tuned) <= distance(scratch)


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
@pytest.mark.parametrize(("before", "after"), [(16, "16x24"), ("16x24", "24x16"), (16, 24), (24, 48), ("20x28", 24)])
def test_another_aspect_keeps_the_blocks_and_not_what_makes_or_judges_the_first_map(network, before, after):
    changes = {"network": network, "imsize": before, "g_conv_dim": 4, "d_conv_dim": 4, "d_attention": (), "z_dim": 4}
    model = override(Config(), changes | {"g_attention": ()}).model
    other = dataclasses.replace(model, imsize=after)
    fates = graft(made := build_generator(other, 2), build_generator(model, 1), [])
    same = made.shape.grid(made.shape.shorter >> made.shape.doublings) == model.shape.grid(
        model.shape.shorter >> model.shape.doublings
    )
    first = "first" if network == "resnet" else f"stages.{made.shape.shorter >> made.shape.doublings}.0"
    assert (fates[first] == "new") == (not same)
    assert fates["last"] == "taken"
    of_d = graft(judge := build_discriminator(other, 2), build_discriminator(model, 1), [])
    nearest = f"stages.{judge.shape.shorter // 2}."
    assert {fate for name, fate in of_d.items() if name.startswith(nearest)} == {"taken"}
    assert judge(made(torch.randn(2, 4))).isfinite().all()
