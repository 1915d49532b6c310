import copy

import pytest
import torch

from sagan.core.game.step import discriminator_step, generator_step
from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.losses import LOSSES, gradient_penalty, lecam_penalty
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import ModelConfig

SMALL = ModelConfig(imsize=32, z_dim=8, g_conv_dim=8, d_conv_dim=8, span=1)


class Game:
    def __init__(self):
        self.generator, self.discriminator = build_generator(SMALL), build_discriminator(SMALL)
        for network in (self.generator, self.discriminator):
            for layer in network.attention.values():
                torch.nn.init.constant_(layer.gamma, 0.5)
        torch.manual_seed(0)
        self.real, self.z = torch.rand(6, 3, 32, 32) * 2 - 1, torch.randn(6, 8)
        self.d_optimizer = torch.optim.SGD(self.discriminator.parameters(), 0.1)
        self.g_optimizer = torch.optim.SGD(self.generator.parameters(), 0.1)

    def discriminator_step(self, **options):
        nets = self.generator, self.discriminator
        options = {"loss": LOSSES["hinge"]} | options
        return discriminator_step(*nets, self.d_optimizer, self.real, self.z, **options)

    def generator_step(self, **options):
        options = {"loss": LOSSES["hinge"]} | options
        return generator_step(self.generator, self.discriminator, self.g_optimizer, self.z, **options)


@pytest.fixture(name="game")
def make_game():
    return Game()


def weights(network):
    return {name: tensor.clone() for name, tensor in network.named_parameters()}


def assert_moved(network, before, twin, atol):
    """Against the gradient of a twin, by the games' rate."""
    for name, parameter in twin.named_parameters():
        moved = before[name] - network.get_parameter(name)
        torch.testing.assert_close(moved, 0.1 * parameter.grad, rtol=1e-3, atol=atol)


def test_discriminator_step_follows_the_gradient_of_its_loss(game):
    """Against the loss written out in two passes, as the paper's algorithm has it."""
    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    power_iterate(discriminator)
    with torch.no_grad():
        fake = generator(game.z)
    loss = torch.relu(1 - discriminator(game.real)).mean() + torch.relu(1 + discriminator(fake)).mean()
    loss.backward()
    before = weights(game.discriminator)
    measured = game.discriminator_step()
    assert measured["d_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert_moved(game.discriminator, before, discriminator, atol=1e-6)


def test_generator_step_follows_the_gradient_of_its_loss(game):
    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    power_iterate(generator)
    loss = -discriminator(generator(game.z)).mean()
    loss.backward()
    before = weights(game.generator)
    measured = game.generator_step()
    assert measured["g_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert_moved(game.generator, before, generator, atol=1e-6)


def test_a_paired_generator_step_follows_the_gradient_of_both_logits(game):
    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    power_iterate(generator)
    loss = torch.nn.functional.softplus(discriminator(game.real) - discriminator(generator(game.z))).mean()
    loss.backward()
    before = weights(game.generator)
    measured = game.generator_step(loss=LOSSES["rpgan"], real=game.real)
    assert measured["g_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert_moved(game.generator, before, generator, atol=1e-6)


def test_lecam_is_part_of_the_step(game):
    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    power_iterate(discriminator)
    with torch.no_grad():
        fake = generator(game.z)
    logits, anchors = [discriminator(images) for images in (game.real, fake)], torch.tensor([3.0, -2.0])
    expected = 0.7 * lecam_penalty(*logits, anchors)
    (torch.relu(1 - logits[0]).mean() + torch.relu(1 + logits[1]).mean() + expected).backward()
    before = weights(game.discriminator)
    measured = game.discriminator_step(lecam=0.7, anchors=anchors.clone())
    assert measured["lecam"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert_moved(game.discriminator, before, discriminator, atol=1e-5)


def test_each_step_moves_one_network_only(game):
    g_before, d_before = weights(game.generator), weights(game.discriminator)
    game.discriminator_step()
    torch.testing.assert_close(weights(game.generator), g_before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in game.generator.parameters())
    d_before = weights(game.discriminator)
    game.generator_step()
    torch.testing.assert_close(weights(game.discriminator), d_before, rtol=0, atol=0)
    assert any(not torch.equal(new, g_before[name]) for name, new in weights(game.generator).items())
    assert all(parameter.requires_grad for parameter in game.discriminator.parameters())


def test_one_power_iteration_a_step_in_the_network_that_moves(game):
    def vectors(network):
        return {name: tensor.clone() for name, tensor in network.named_buffers() if name.endswith((".u", ".v"))}

    for step, moved, still in (
        (game.discriminator_step, game.discriminator, game.generator),
        (game.generator_step, game.generator, game.discriminator),
    ):
        twin, before = copy.deepcopy(moved), vectors(still)
        power_iterate(twin)
        step()
        torch.testing.assert_close(vectors(moved), vectors(twin), rtol=0, atol=0)
        torch.testing.assert_close(vectors(still), before, rtol=0, atol=0)


def test_the_penalty_is_part_of_the_step(game):
    share = torch.rand(6)

    def penalty(real, fake):
        return 10 * gradient_penalty(game.discriminator, real, fake, share)

    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    power_iterate(discriminator)
    with torch.no_grad():
        fake = generator(game.z)
    expected = 10 * gradient_penalty(discriminator, game.real, fake, share)
    (discriminator(fake).mean() - discriminator(game.real).mean() + expected).backward()
    before = weights(game.discriminator)
    measured = game.discriminator_step(loss=LOSSES["wgan-gp"], penalty=penalty)
    assert measured["penalty"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert_moved(game.discriminator, before, discriminator, atol=1e-5)


def test_bfloat16_keeps_weights_losses_and_logits_of_the_last_layer_near_float32(game):
    twin = copy.deepcopy(game)
    exact, low = game.discriminator_step(), twin.discriminator_step(precision="bf16")
    assert all(value.dtype == torch.float32 for value in low.values())
    assert all(parameter.dtype == torch.float32 for parameter in twin.discriminator.parameters())
    for name in exact:
        assert low[name].item() == pytest.approx(exact[name].item(), abs=0.02)


def test_measured_values_hold_no_graph(game):
    assert not any(value.requires_grad for value in (game.discriminator_step() | game.generator_step()).values())
