"""Several processes: what each would take of a batch. (Nothing runs in several yet.)"""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from sagan.core.game.step import discriminator_step
from sagan.core.losses import LOSSES
from sagan.data.batches import Batches
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import override
from sagan.training.loop import data_order
from sagan.training.trainer import Trainer
from sagan.training.world import World
from tests.training.conftest import TINY

CPU = torch.device("cpu")


def test_one_process_takes_everything():
    assert World().part(6) == slice(0, 6)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_parts_put_together_are_the_whole(size):
    whole = torch.arange(6)
    parts = [whole[World(rank, size).part(6)] for rank in range(size)]
    assert torch.equal(torch.cat(parts), whole)


def test_what_cannot_be_is_refused():
    for rank, size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"got rank {rank} of {size}"):
            World(rank, size)
    with pytest.raises(ValueError, match="must be a multiple of the number of processes, got 6 for 4"):
        World(0, 4).part(6)
    with pytest.raises(ValueError, match="must be a multiple of the number of processes, got 8 for 3"):
        Trainer(TINY, CPU, World(0, 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"adv_loss": "wgan-gp", "augment": ("color", "flip"), "flip": True, "num_classes": 3, "n_critic": 2},
        {"adv_loss": "rpgan", "num_classes": 3},
    ],
)
def test_what_the_processes_draw_for_a_step_is_together_what_one_draws(workshop, monkeypatch, changes):
    played = []
    norms = {name: torch.zeros(()) for name in ("g_grad_norm", "d_grad_norm")}
    monkeypatch.setattr(Trainer, "play", lambda self, kind, turns: played.append(turns) or norms)
    config, labels = override(TINY, changes), np.arange(40) * 7 % 3
    order = partial(data_order, config.run.seed, workshop.store.count)
    batches = Batches(workshop.store.images, 8, order, labels=labels, channels_last=True)
    for size in (1, 2, 4):
        for rank in range(size):
            Trainer(config, CPU, World(rank, size)).advance(batches)
    whole = played[0]
    for size, ranks in ((2, played[1:3]), (4, played[3:])):
        for number, turn in enumerate(whole):
            for name, tensor in turn.items():
                parts = [turns[number][name] for turns in ranks]
                if name == "shares":  # of the average: the same everywhere
                    assert all(torch.equal(part, tensor) for part in parts)
                elif name == "augment" and number < len(whole) - 1:  # first of real images, then of fakes
                    together = torch.cat([part.unflatten(0, (2, 8 // size)) for part in parts], 1)
                    assert torch.equal(together.flatten(0, 1), tensor)
                else:
                    assert torch.equal(torch.cat(parts), tensor), name


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_mean_of_the_parts_gradients_is_that_of_the_batch(size):
    """In eval mode: in training batch norm sees its own part only."""
    networks = build_generator(TINY.model).eval(), build_discriminator(TINY.model)
    real, z = torch.randn(8, 3, 16, 16), torch.randn(8, 4)
    twins = [copy.deepcopy(networks) for _ in range(size)]

    def step(pair, part):
        optimizer = torch.optim.SGD(pair[1].parameters(), lr=0.0)
        return discriminator_step(*pair, optimizer, real[part], z[part], loss=LOSSES["hinge"])

    whole = step(networks, slice(None))
    del whole["d_grad_norm"]  # which is no mean over the images
    found = [step(twin, World(rank, size).part(8)) for rank, twin in enumerate(twins)]
    for parameter, *own in zip(*(pair[1].parameters() for pair in (networks, *twins)), strict=True):
        mean = torch.stack([each.grad for each in own]).mean(0)
        torch.testing.assert_close(mean, parameter.grad, rtol=1e-4, atol=1e-6)
    for name, value in whole.items():
        torch.testing.assert_close(torch.stack([each[name] for each in found]).mean(), value, rtol=1e-4, atol=1e-6)


def test_several_processes_do_not_train_without_reducing_gradients(workshop):
    batches = Batches(workshop.store.images, 8, partial(data_order, 0, workshop.store.count), channels_last=True)
    with pytest.raises(AssertionError, match="not yet reduced"):
        Trainer(TINY, CPU, World(0, 2)).advance(batches)
