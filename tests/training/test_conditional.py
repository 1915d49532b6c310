"""Training on classes, from folders to samples of a class."""

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.cli import main
from sagan.core.losses import zero_centred_penalty
from sagan.core.sampling import generate
from sagan.run.folder import Run
from sagan.run.weights import load_checkpoint, load_snapshot
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


def test_a_class_that_there_is_not(home, capsys):
    assert train() == 0
    assert main(["sample", "run", "--out", "none", "--label", "3"]) == 2
    assert "has classes 0 to 2, got label 3" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["hinge", "rpgan"])
def test_a_paired_loss_compares_images_of_one_class(home, loss, monkeypatch):
    """And any other draws the classes of its fakes by themselves."""
    seen = []
    play = Trainer.play
    monkeypatch.setattr(Trainer, "play", lambda self, kind, turns: seen.append(turns) or play(self, kind, turns))
    assert train(adv_loss=loss, batch_size=8, guard="off") == 0
    same = [
        torch.equal(turn["fake_labels"], turns[0]["labels"])
        for turns in seen
        for turn in turns  # the discriminator's, then the generator's
    ]
    assert all(same) if loss == "rpgan" else not any(same)


def test_penalties_judge_images_as_of_their_own_classes(home, monkeypatch):
    now, seen = {}, []
    play = Trainer.play

    def watched_play(self, kind, turns):
        now.update(network=self.discriminator, turn=turns[0])
        return play(self, kind, turns)

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
