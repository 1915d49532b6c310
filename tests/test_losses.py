import pytest
import torch
from torch import nn

from sagan.losses import LOSSES, gradient_penalty


def test_hinge_by_hand():
    hinge = LOSSES["hinge"]
    assert hinge.real_part(torch.tensor([2.0, 0.5, -1.0])).item() == pytest.approx((0 + 0.5 + 2) / 3)
    assert hinge.fake_part(torch.tensor([-2.0, 0.5, 1.0])).item() == pytest.approx((0 + 1.5 + 2) / 3)
    assert hinge.generator(torch.tensor([2.0, -1.0])).item() == pytest.approx(-0.5)


def test_wgan_by_hand():
    wgan = LOSSES["wgan-gp"]
    assert wgan.real_part(torch.tensor([2.0, 4.0])).item() == -3
    assert wgan.fake_part(torch.tensor([2.0, 4.0])).item() == 3
    assert wgan.generator(torch.tensor([2.0, 4.0])).item() == -3


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_judged_fake_costs_the_generator_less(name):
    fake = torch.zeros(3, requires_grad=True)
    LOSSES[name].generator(fake).backward()
    assert (fake.grad < 0).all()


def linear(slope):
    layer = nn.Linear(12, 1, bias=False)
    nn.init.constant_(layer.weight, slope / 12**0.5)
    return nn.Sequential(nn.Flatten(), layer)


def test_penalty_of_a_linear_critic_is_its_distance_from_slope_one():
    real, fake = torch.randn(2, 5, 3, 2, 2)
    for slope in (0.0, 1.0, 3.0):
        value = gradient_penalty(linear(slope), real, fake, torch.Generator().manual_seed(0))
        assert value.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_penalty_moves_the_critic_towards_slope_one_and_is_finite_at_zero():
    real, fake = torch.randn(2, 5, 3, 2, 2)
    for slope, sign in ((3.0, 1), (0.2, -1), (0.0, 0)):
        critic = linear(slope)
        gradient_penalty(critic, real, fake, torch.Generator().manual_seed(0)).backward()
        assert torch.isfinite(critic[1].weight.grad).all()
        assert (critic[1].weight.grad.sign() == sign).all()


def test_points_lie_between_real_and_fake():
    seen = []

    def critic(points):
        seen.append(points.detach())
        return points.sum((1, 2, 3))

    gradient_penalty(critic, torch.ones(50, 3, 2, 2), torch.zeros(50, 3, 2, 2), torch.Generator().manual_seed(0))
    shares = seen[0].flatten(1)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert torch.equal(shares, shares[:, :1].expand_as(shares))  # one point for an image
    assert 0.3 < shares[:, 0].mean() < 0.7
