"""Training on classes, from folders to samples of a class."""

import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.data.prepare
from sagan.api import load
from sagan.cli import main
from sagan.core.losses import zero_centred_penalty
from sagan.core.sampling import generate
from sagan.run.folder import Run
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.training import saving
from sagan.training import trainer as trainer_module
from sagan.training.trainer import Trainer

SETTINGS = {
    "network": "resnet", "num_classes": "auto", "imsize": 16, "z_dim": 4, "g_conv_dim": 4, "d_conv_dim": 4,
    "batch_size": 4, "log_step": 1, "sample_step": 4, "checkpoint_every": 2, "snapshot_every": 4, "sample_count": 6,
    "g_attention": 8, "d_attention": 8, "device": "cpu", "guard_every": 2,
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["cats", "dogs", "eels"]):
        folder = tmp_path / "zoo" / name
        folder.mkdir(parents=True)
        for image in range(4):
            pixels = np.full((16, 16, 3), 60 * number + image, np.uint8)
            Image.fromarray(pixels).save(folder / f"{image}.png")
    return tmp_path


def train(*words, **changes):
    values = SETTINGS | {"data": "zoo", "run_dir": "run", "total_step": 4} | changes
    return main(["train", *(f"--{name}={value}" for name, value in values.items()), *words])


def test_classes_go_from_folders_to_samples(home, capsys):
    assert train() == 0
    assert "in 3 classes" in capsys.readouterr().out
    run = Run.open(home / "run")
    assert run.config().model.num_classes == 3
    generator = load_snapshot(run.snapshot()).generator
    z = torch.randn(1, 4).expand(3, -1)
    images = generate(generator, z, torch.arange(3)).float()
    assert (images[0] != images[1]).any()
    assert main(["sample", "run", "--num", "6", "--out", "all"]) == 0
    assert main(["sample", "run", "--num", "6", "--out", "dogs", "--label", "1"]) == 0
    same = [
        (home / "all" / f"{n:06d}.png").read_bytes() == (home / "dogs" / f"{n:06d}.png").read_bytes() for n in range(6)
    ]
    assert same == [False, True, False, False, True, False]  # the classes in turn


def test_a_resumed_run_learns_the_same_classes(home):
    assert train(total_step=2) == 0
    assert main(["resume", "run", "--total_step", "4"]) == 0
    assert train(run_dir="straight") == 0
    states = [load_checkpoint(Run(home / name).checkpoint_file) for name in ("run", "straight")]
    for name in ("generator", "discriminator", "average"):
        torch.testing.assert_close(getattr(states[0], name), getattr(states[1], name), rtol=0, atol=0)


def test_a_run_does_not_go_on_with_other_classes(home, capsys):
    """The pixels and their order are the same: only the class of an image has changed."""
    assert train(total_step=2) == 0
    (home / "zoo" / "dogs" / "0.png").rename(home / "zoo" / "cats" / "9.png")
    assert main(["resume", "run", "--total_step", "4"]) == 2
    assert "other images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_classes": 2}, "num_classes is 2, but the images have 3 classes"),
        ({"data": "zoo/cats"}, "not in a folder for each class"),
    ],
)
def test_classes_that_cannot_be(home, capsys, changes, said):
    assert train(**changes) == 2
    assert said in capsys.readouterr().err
    assert not (home / "run").exists()


def test_a_resumed_run_does_not_start_with_another_number_of_classes(home, capsys):
    assert train(total_step=2) == 0
    Run(home / "run").checkpoint_file.unlink()
    (home / "zoo" / "flies").mkdir()
    (home / "zoo" / "cats" / "0.png").rename(home / "zoo" / "flies" / "0.png")
    assert main(["resume", "run", "--total_step", "4"]) == 2
    assert "num_classes is 3, but the images have 4 classes: 0 cats, 1 dogs, 2 eels, 3 flies" in capsys.readouterr().err


def test_an_unconditional_run_has_no_classes_whatever_its_images_have(home, capsys):
    assert train(num_classes=0, total_step=1) == 0
    assert "the networks' classes" not in capsys.readouterr().out
    assert load_snapshot(Run(home / "run").snapshot()).classes == ()
    assert main(["sample", "run", "--out", "none", "--label", "dogs"]) == 2
    assert "this generator has no classes, got label 'dogs'" in capsys.readouterr().err


def drawn(folder):
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_classes_are_known_by_name(home, capsys):
    assert train() == 0
    assert "the networks' classes: 0 cats, 1 dogs, 2 eels" in capsys.readouterr().out
    assert main(["sample", "run", "--num", "3", "--out", "turns"]) == 0
    assert "the classes take turns: 0 cats, 1 dogs, 2 eels" in capsys.readouterr().out
    for label in ("dogs", "1"):
        assert main(["sample", "run", "--num", "3", "--out", label, "--label", label]) == 0
        assert "3 images of class 1 ('dogs') in " in capsys.readouterr().out
    assert drawn(home / "dogs") == drawn(home / "1")
    generator = load(home / "run", device="cpu")
    assert generator.classes == ("cats", "dogs", "eels")
    for label in ("dogs", "1", 1):
        pixels = [np.asarray(Image.open(path))[..., None] for path in sorted((home / "dogs").glob("*.png"))]  # grey
        assert np.array_equal(generator.sample(3, label=label), pixels)
        assert np.array_equal(generator.images(3, label=label).pixels, pixels)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("3", "has classes 0 to 2, got label 3: they are 0 cats, 1 dogs, 2 eels"),
        ("Dog", "has classes 0 to 2, got label 'Dog': they are 0 cats, 1 dogs, 2 eels; did you mean dogs?"),
        ("none", "has classes 0 to 2, got label 'none': they are 0 cats, 1 dogs, 2 eels\n"),
    ],
)
def test_a_class_that_there_is_not(home, capsys, label, said):
    assert train() == 0
    assert main(["sample", "run", "--out", "none", "--label", label]) == 2
    assert said in capsys.readouterr().err
    assert not (home / "none").exists()
    with pytest.raises(ValueError, match=r"classes 0 to 2, got label .*: they are 0 cats, 1 dogs, 2 eels"):
        load(home / "run", device="cpu").sample(1, label=label)


def test_a_stopped_run_keeps_the_names_of_its_classes(home, monkeypatch):
    advance = Trainer.advance

    def stopped_at_3(self, batches):
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return advance(self, batches)

    monkeypatch.setattr(Trainer, "advance", stopped_at_3)
    assert train(snapshot_every=100) == 128 + signal.SIGINT
    latest = Run(home / "run").snapshot()
    assert latest.name == "latest-00000003.safetensors"
    assert load_snapshot(latest).classes == ("cats", "dogs", "eels")


# ---- runs of earlier versions, which numbered classes in plain sorted order and did not record their names

SORTED = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")


@pytest.fixture
def old_run(home, monkeypatch):
    """A run of 2 steps on the classes 0 to 11 as an earlier version left it. Its prepared images are gone, so that this
    version numbers the classes anew."""
    for number in range(12):
        (home / "digits" / str(number)).mkdir(parents=True)
        for image in range(2):
            pixels = np.full((16, 16, 3), 20 * number + image, np.uint8)
            Image.fromarray(pixels).save(home / "digits" / str(number) / f"{image}.png")
    train_earlier(monkeypatch, total_step=2)
    shutil.rmtree(home / "before")
    return Run.open(home / "run")


def train_earlier(monkeypatch, **changes):
    with monkeypatch.context() as earlier:
        earlier.setattr(sagan.data.prepare, "natural", str)
        earlier.setattr(saving, "learned_classes", lambda store, config: ())
        assert train(data="digits", prepared="before", **changes) == 0


def resume(*words):
    return main(["resume", "run", "--total_step", "4", "--prepared", "after", *words])


def test_an_earlier_run_goes_on_with_its_own_numbering(home, old_run, capsys, monkeypatch):
    train_earlier(monkeypatch, run_dir="straight")
    before = load_checkpoint(old_run.checkpoint_file)
    assert load_snapshot(old_run.snapshot()).classes == before.classes == ()
    capsys.readouterr()
    assert resume() == 0
    out = capsys.readouterr().out
    assert "in 12 classes (0 ('0'), 1 ('1'), 2 ('2'), " in out  # the store's
    assert "the networks' classes: 0 ('0'), 1 ('1'), 2 ('10'), 3 ('11'), 4 ('2'), " in out
    resumed, straight = (load_checkpoint(Run(home / name).checkpoint_file) for name in ("run", "straight"))
    assert (resumed.images, resumed.classes) == (before.images, SORTED)
    for name in ("generator", "discriminator", "average"):
        torch.testing.assert_close(getattr(resumed, name), getattr(straight, name), rtol=0, atol=0)
    assert load_snapshot(old_run.snapshot(4)).classes == load_snapshot(old_run.checkpoint_file).classes == SORTED
    assert main(["resume", "run", "--total_step", "5"]) == 0  # once more, now by the recorded names


def test_a_name_wins_over_a_number(home, old_run, capsys):
    assert resume() == 0
    for label, number in (("2", 4), ("10", 2)):
        capsys.readouterr()
        assert main(["sample", "run", "--num", "2", "--out", label, "--label", label]) == 0
        assert f"of class {number} ('{label}') in " in capsys.readouterr().out
        generator = load(home / "run", device="cpu")
        assert np.array_equal(generator.sample(2, label=label), generator.sample(2, label=number))


def test_a_snapshot_without_names_has_numbers(home, old_run, capsys):
    assert main(["sample", "run", "--num", "1", "--out", "two", "--label", "2"]) == 0
    assert "1 image of class 2 in " in capsys.readouterr().out
    assert main(["sample", "run", "--num", "1", "--out", "turns"]) == 0
    assert main(["sample", "run", "--out", "none", "--label", "two"]) == 2
    assert "has classes 0 to 11, got label 'two': their names are unknown" in capsys.readouterr().err


@pytest.mark.parametrize("recorded", [False, True], ids=["earlier", "recorded"])
def test_an_image_that_has_moved_to_another_class_is_found_out(home, old_run, capsys, recorded):
    if recorded:
        assert resume() == 0
    (home / "digits" / "1" / "0.png").rename(home / "digits" / "0" / "9.png")
    assert main(["resume", "run", "--total_step", "5", "--prepared", "after"]) == 2
    assert "other images" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["hinge", "rpgan"])
def test_a_paired_loss_compares_images_of_one_class(home, loss, monkeypatch):
    """And any other draws the classes of its fakes by themselves."""
    seen = []
    play = Trainer.play
    monkeypatch.setattr(
        Trainer, "play", lambda self, kind, turns, add_up: seen.append(turns) or play(self, kind, turns, add_up)
    )
    assert train(adv_loss=loss, batch_size=8, guard="off") == 0
    same = [
        torch.equal(turn["fake_labels"], turns[0][0]["labels"])
        for turns in seen
        for (turn,) in turns  # the discriminator's, then the generator's
    ]
    assert all(same) if loss == "rpgan" else not any(same)


def test_penalties_judge_images_as_of_their_own_classes(home, monkeypatch):
    now, seen = {}, []
    play = Trainer.play

    def watched_play(self, kind, turns, add_up):
        now.update(network=self.discriminator, turn=turns[0][0])
        return play(self, kind, turns, add_up)

    def watched_penalty(judge, images):
        name = ["labels", "fake_labels"][len(seen) % 2]
        with torch.no_grad():
            seen.append(torch.equal(judge(images), now["network"].forward(images, now["turn"][name])))
            others = (now["turn"][name] + 1) % 3
            assert not torch.equal(judge(images), now["network"].forward(images, others))
        return zero_centred_penalty(judge, images)

    monkeypatch.setattr(Trainer, "play", watched_play)
    monkeypatch.setattr(trainer_module, "zero_centred_penalty", watched_penalty)
    assert train(r1=1, r2=1, batch_size=8, guard="off") == 0
    assert seen == [True, True]  # once in the four steps, by the preset
