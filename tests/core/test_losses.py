import math

import pytest
import torch
from torch import nn

from sagan.core.losses import (
    LOSSES,
    default_r1_weight,
    gradient_penalty,
    lecam_penalty,
    move_anchors,
    zero_centred_penalty,
)
from sagan.core.shapes import ImageShape
from sagan.run.config import GameConfig


def softplus(x):
    return math.log1p(math.exp(x))


BY_HAND = {  # of real logits 2, 0.5, -1 and fake logits -2, 0.5, 1: the discriminator's two parts, the generator's side
    "hinge": ((0 + 0.5 + 2) / 3, (0 + 1.5 + 2) / 3, 0.5 / 3),
    "wgan-gp": (-0.5, -0.5 / 3, 0.5 / 3),
    "non-saturating": (
        (softplus(-2) + softplus(-0.5) + softplus(1)) / 3,
        (softplus(-2) + softplus(0.5) + softplus(1)) / 3,
        (softplus(2) + softplus(-0.5) + softplus(-1)) / 3,
    ),
    "least-squares": ((1 + 0.25 + 4) / 6, (4 + 0.25 + 1) / 6, (9 + 0.25 + 0) / 6),
    "rpgan": (
        (softplus(-4) + softplus(0) + softplus(2)) / 3,
        0,
        (softplus(4) + softplus(0) + softplus(-2)) / 3,
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_hand(name):
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.5, 1.0])
    loss = LOSSES[name]
    found = [value.item() for value in (*loss.discriminator(real, fake), loss.generator(fake, real))]
    assert found == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", LOSSES)
def test_only_a_paired_loss_looks_at_real_logits_for_the_generator(name):
    loss, fake = LOSSES[name], torch.randn(5)
    depends = loss.generator(fake, torch.zeros(5)) != loss.generator(fake, torch.ones(5))
    assert bool(depends) == loss.paired


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_loss_of_a_critic_falls_without_end(name):
    loss = LOSSES[name]
    assert (sum(loss.discriminator(torch.tensor([1e6]), torch.tensor([-1e6]))) < 0) == loss.critic


@pytest.mark.parametrize("name", LOSSES)
def test_the_settings_know_which_losses_have_their_own_penalty(name):
    assert GameConfig(adv_loss=name).own_penalty == (LOSSES[name].penalty is not None)


@pytest.mark.parametrize("name", LOSSES)
def test_the_discriminator_wants_real_logits_high_and_fake_logits_low(name):
    real, fake = torch.zeros(2, 3, requires_grad=True).unbind()
    real.retain_grad(), fake.retain_grad()
    sum(LOSSES[name].discriminator(real, fake)).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all() or name == "least-squares"  # its fakes are where they should be


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_judged_fake_costs_the_generator_less(name):
    fake = torch.zeros(3, requires_grad=True)
    LOSSES[name].generator(fake, torch.zeros(3)).backward()
    assert (fake.grad < 0).all()


def linear(slope):
    layer = nn.Linear(12, 1, bias=False)
    nn.init.constant_(layer.weight, slope / 12**0.5)
    return nn.Sequential(nn.Flatten(), layer)


def test_penalty_of_a_linear_critic_is_its_distance_from_slope_one():
    real, fake = torch.randn(2, 5, 3, 2, 2)
    for slope in (0.0, 1.0, 3.0):
        value = gradient_penalty(linear(slope), real, fake, torch.rand(5))
        assert value.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_penalty_moves_the_critic_towards_slope_one_and_is_finite_at_zero():
    real, fake = torch.randn(2, 5, 3, 2, 2)
    for slope, sign in ((3.0, 1), (0.2, -1), (0.0, 0)):
        critic = linear(slope)
        gradient_penalty(critic, real, fake, torch.rand(5)).backward()
        assert torch.isfinite(critic[1].weight.grad).all()
        assert (critic[1].weight.grad.sign() == sign).all()


def test_points_lie_between_real_and_fake():
    seen = []

    def critic(points):
        seen.append(points.detach())
        return points.sum((1, 2, 3))

    share = torch.rand(50)
    gradient_penalty(critic, torch.ones(50, 3, 2, 2), torch.zeros(50, 3, 2, 2), share)
    assert torch.equal(seen[0], share.view(-1, 1, 1, 1).expand(50, 3, 2, 2))


def test_r1_of_a_linear_critic_is_half_its_squared_slope_wherever_it_is_taken():
    for slope in (0.0, 0.5, 3.0):
        assert zero_centred_penalty(linear(slope), torch.randn(5, 3, 2, 2)).item() == pytest.approx(slope**2 / 2)


def test_r1_is_differentiable_in_the_critic():
    critic = nn.Sequential(linear(1.0), nn.Softplus()).double()
    images = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    weight = critic[0][1].weight
    (gradient,) = torch.autograd.grad(zero_centred_penalty(critic, images), weight)
    step = torch.randn_like(weight) * 1e-5
    with torch.no_grad():
        weight += step
    above = zero_centred_penalty(critic, images).item()
    with torch.no_grad():
        weight -= 2 * step
    below = zero_centred_penalty(critic, images).item()
    assert above - below == pytest.approx(2 * (gradient * step).sum().item(), rel=1e-4)


def test_r1_s_default_weight_follows_the_resolution_rule():
    assert default_r1_weight(ImageShape.square(128), 32) == pytest.approx(0.1024)  # as in StyleGAN2-ADA's table
    assert default_r1_weight(ImageShape.square(64), 64) == pytest.approx(0.0128)


def test_lecam_pulls_each_side_to_the_past_logits_of_the_other():
    anchors = torch.tensor([1.0, -1.0])
    assert lecam_penalty(torch.tensor([-1.0, -1.0]), torch.tensor([1.0]), anchors) == 0
    assert lecam_penalty(torch.tensor([2.0, 0.0]), torch.tensor([0.0]), anchors).item() == (9 + 1) / 2 + 1


def test_anchors_forget_a_hundredth_a_step():
    anchors = torch.tensor([1.0, -1.0])
    move_anchors(anchors, torch.tensor(3.0, requires_grad=True), torch.tensor(0.0))
    assert anchors.tolist() == pytest.approx([0.99 + 0.03, -0.99])
