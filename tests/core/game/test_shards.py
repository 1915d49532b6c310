"""The gradient of a batch from those of its shards."""

import copy
from functools import partial

import pytest
import torch

from sagan.core.game.shards import mean_gradient
from sagan.core.game.step import discriminator_gradient, generator_gradient
from sagan.core.losses import LOSSES
from sagan.run.build import build_discriminator, build_generator
from sagan.system.world import tree_sum
from tests.training.conftest import TINY

SHARDS, SIZE = 4, 2


@pytest.fixture
def inputs():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(SHARDS, SIZE, 3, 16, 16, generator=draw)
    return real, torch.randn(SHARDS, SIZE, TINY.model.z_dim, generator=draw)


def networks():
    return build_generator(TINY.model), build_discriminator(TINY.model)


def gradients_of(pair, real, z, which):
    if which == "discriminator":
        return [
            partial(discriminator_gradient, *pair, *each, loss=LOSSES["hinge"]) for each in zip(real, z, strict=True)
        ]
    return [partial(generator_gradient, *pair, each, loss=LOSSES["hinge"]) for each in z]


@pytest.mark.parametrize("which", ["generator", "discriminator"])
def test_it_is_the_mean_over_the_shards_each_computed_alone(inputs, which):
    pair = networks()
    alone = []
    for shard in range(SHARDS):
        twins = copy.deepcopy(pair)
        measured = gradients_of(twins, *inputs, which)[shard]()
        network = dict(zip(("generator", "discriminator"), twins, strict=True))[which]
        alone.append((list(network.parameters()), list(twins[0].buffers()), measured))
    network = dict(zip(("generator", "discriminator"), pair, strict=True))[which]
    measured = mean_gradient(network, pair[0], gradients_of(pair, *inputs, which), SHARDS, None)
    for parameter, *shards in zip(network.parameters(), *(parameters for parameters, _, _ in alone), strict=True):
        assert torch.equal(parameter.grad, tree_sum([each.grad for each in shards]) / SHARDS)
    for buffer, *shards in zip(pair[0].buffers(), *(buffers for _, buffers, _ in alone), strict=True):
        if buffer.is_floating_point():  # the statistics of batch norm, and what no shard changes
            assert torch.equal(buffer, tree_sum(shards) / SHARDS)
        else:  # the number of batches
            assert torch.equal(buffer, shards[0])
    for name, value in measured.items():
        assert torch.equal(value, tree_sum([each[name] for _, _, each in alone]) / SHARDS)


@pytest.mark.parametrize("processes", [2, 4])
def test_it_does_not_depend_on_who_computes_which_shard(inputs, processes):
    """The processes take turns here: the rows of all are collected, then each gets the total."""
    pair, own = networks(), SHARDS // processes
    mean_gradient(pair[1], pair[0], gradients_of(pair, *inputs, "discriminator"), SHARDS, None)
    expected = [parameter.grad.clone() for parameter in pair[1].parameters()]
    rows, twins = [], [networks() for _ in range(processes)]
    for rank, twin in enumerate(twins):
        gradients = gradients_of(twin, *inputs, "discriminator")[rank * own : (rank + 1) * own]

        def add_up(sent, total):
            rows.extend(sent)
            assert len(sent) == 1  # a block of a power of two is added before it is sent
            if len(rows) == processes:
                total.copy_(tree_sum(rows))

        mean_gradient(twin[1], twin[0], gradients, SHARDS, add_up)
    for parameter, gradient in zip(twins[-1][1].parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_blocks_that_the_tree_does_not_add_are_sent_one_by_one(inputs):
    pair, sent = networks(), []
    gradients = gradients_of(pair, *inputs, "discriminator")[:3]
    mean_gradient(pair[1], pair[0], gradients, 6, lambda rows, total: sent.append(rows.shape[0]) or total.zero_())
    assert sent == [3]
