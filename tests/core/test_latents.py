"""Truncation, ways and directions of latents."""

import math

import pytest
import torch
from scipy import stats

from sagan.core.latents import loop, principal_directions, slerp, truncated_normal
from sagan.core.networks.folding import folded
from sagan.core.sampling import generate, numbered_latents
from sagan.run.build import build_generator
from sagan.run.config import ModelConfig
from sagan.system.errors import UserError
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import normal
from tests.core.networks.test_folding import build


def draw(seed=0):
    return random_generator(seed, "test")


@pytest.mark.parametrize("truncation", [0.05, 0.5, 1.0, 2.0])
def test_truncated_latents_have_the_truncated_normal_distribution(truncation):
    z = truncated_normal((20_000,), draw(), truncation)
    assert z.abs().max() <= truncation
    assert stats.kstest(z.numpy(), stats.truncnorm(-truncation, truncation).cdf).pvalue > 0.001


def test_entries_within_are_those_of_an_untruncated_draw():
    plain, cut = normal((1, 1000), draw()), truncated_normal((1, 1000), draw(), 1.0)
    within = plain.abs() <= 1
    assert torch.equal(plain[within], cut[within])
    assert torch.equal(truncated_normal((1, 1000), draw()), plain)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.001, math.nan, math.inf, "0.5", True, [0.5]])
def test_a_truncation_that_no_latent_passes_is_refused(value):
    with pytest.raises(UserError, match="truncation must be 0.01 or more"):
        truncated_normal((1, 4), draw(), value)


def test_a_way_on_the_sphere_has_even_angles_and_ends():
    one, other = normal((5, 32), draw(1)), normal((5, 32), draw(2))
    assert torch.allclose(slerp(one, other, 0.0), one, atol=1e-5)
    assert torch.allclose(slerp(one, other, 1.0), other, atol=1e-5)
    points = torch.stack([slerp(one, other, share / 10) for share in range(11)])
    unit = points / points.norm(dim=-1, keepdim=True)
    angles = (unit[1:] * unit[:-1]).sum(-1).clamp(-1, 1).acos()
    torch.testing.assert_close(angles, angles[:1].expand_as(angles), atol=1e-3, rtol=1e-3)
    lengths = points.norm(dim=-1)
    assert ((lengths[1:] - lengths[:-1]).abs().std(0) < 1e-3).all()


def test_equal_opposite_and_zero_latents_have_a_way_too():
    one = normal((1, 8), draw())
    for other in (one, -one, torch.zeros(1, 8)):
        assert slerp(one, other, 0.5).isfinite().all()


def test_a_loop_passes_every_stop_and_closes():
    stops = normal((4, 16), draw())
    way = loop(stops, 6)
    assert way.shape == (24, 16)
    torch.testing.assert_close(way[::6], stops)
    steps = (torch.cat([way[1:], way[:1]]) - way).norm(dim=-1)
    assert steps.max() < 3 * steps.min()
    with pytest.raises(UserError, match="a walk needs 2 seeds or more"):
        loop(stops[:1], 6)


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_directions_are_those_of_the_first_layer(network):
    generator, *_ = build(network, 0, 0, "after", 1)
    rows, strengths = principal_directions(generator)
    assert rows.shape == (6, 6)
    torch.testing.assert_close(rows @ rows.T, torch.eye(6), atol=1e-4, rtol=0)
    assert (strengths[1:] <= strengths[:-1]).all()
    plain = folded(generator)
    first = plain.first if network == "resnet" else plain.stages["4"][0]

    def out(z):
        with torch.no_grad():
            return first(z if network == "resnet" else z[:, :, None, None]).flatten(1)

    change = (out(rows) - out(torch.zeros(6, 6))).norm(dim=1)
    scale = change / strengths
    torch.testing.assert_close(scale, scale[:1].expand(6), atol=1e-3, rtol=1e-3)
    with pytest.raises(UserError, match="number of directions must be from 1 to 6, got 7"):
        principal_directions(generator, 7)


def test_a_narrow_layer_has_fewer_directions_than_latents_have_entries():
    generator = build_generator(ModelConfig(imsize=16, z_dim=48, g_conv_dim=1, g_attention=()))
    assert principal_directions(generator)[0].shape == (32, 48)
    with pytest.raises(UserError, match="number of directions must be from 1 to 32, got 33"):
        principal_directions(generator, 33)


def test_numbered_latents_are_truncated_one_by_one():
    generator, *_ = build("dcgan", 0, 0, "after", 1)
    some, _ = numbered_latents(generator, 3, range(2, 5), None, 0.5)
    alone, _ = numbered_latents(generator, 3, range(3, 4), None, 0.5)
    assert torch.equal(some[1:2], alone)
    assert some.abs().max() <= 0.5
    assert generate(generator, some).shape[0] == 3
