import copy

import pytest
import torch

from sagan.core.game.average import AveragedGenerator, measure_batch_norm
from sagan.core.layers.spectral_norm import SpectralNorm, power_iterate
from sagan.run.build import build_generator
from sagan.run.config import ModelConfig

SMALL = ModelConfig(imsize=32, z_dim=8, g_conv_dim=8)


@pytest.fixture(name="generator")
def make_generator():
    return build_generator(SMALL)


def wander(generator, size=0.3):
    torch.manual_seed(0)
    for parameter in generator.parameters():
        parameter.data += size * (parameter.data.std() if parameter.numel() > 1 else 1.0) * torch.randn_like(parameter)
    power_iterate(generator, 3)


def update(average, generator, images_seen):
    average.update(generator, average.shares(images_seen, 64))


def test_half_of_a_weight_is_left_after_the_half_life(generator):
    average = AveragedGenerator(generator, halflife=640)
    start = average.module.last.weight.clone()
    generator.last.weight.data.zero_()
    for step in range(1000, 1010):  # long after the start, where the half-life has its full length
        update(average, generator, step * 64)
    torch.testing.assert_close(average.module.last.weight, start / 2)


def test_early_weights_are_forgotten_sooner(generator):
    average = AveragedGenerator(generator, halflife=44_000)
    decays = [average.decay(step * 64, 64) for step in (1, 10, 100, 1000, 100_000)]
    assert decays == sorted(decays)
    assert decays[0] < 1e-5
    assert decays[-1] == pytest.approx(0.5 ** (64 / 44_000))


def test_no_half_life_keeps_the_last_weights(generator):
    average = AveragedGenerator(generator, halflife=0)
    wander(generator)
    update(average, generator, 64)
    torch.testing.assert_close(list(average.module.parameters()), list(generator.parameters()), rtol=0, atol=0)


def test_spectral_norm_holds_on_the_averaged_weights(generator):
    """The trap of averaging u and v, or of leaving them: the averaged layers would have norms far from 1."""
    average = AveragedGenerator(generator, halflife=6400)
    for step in range(300, 340):
        wander(generator, 0.05)
        update(average, generator, step * 64)
    for layer in average.module.modules():
        if isinstance(layer, SpectralNorm):
            effective = layer.normalized_weight().transpose(0, layer.row_dim).flatten(1)
            assert torch.linalg.matrix_norm(effective, 2).item() == pytest.approx(1, abs=0.05)


def test_batch_norm_is_measured_on_the_averaged_weights(generator):
    average = AveragedGenerator(generator, halflife=6400)
    wander(generator)
    update(average, generator, 64_000)
    z = torch.randn(4, 32, 8)
    measure_batch_norm(average.module, ((part, None) for part in z))
    first, norm = average.module.stages["4"][0], average.module.stages["4"][1]
    with torch.no_grad():
        inputs = torch.cat([first(part[:, :, None, None]) for part in z])
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3)), rtol=0.05, atol=1e-4)
    assert not average.module.training
    assert norm.momentum == 0.1


def test_measuring_again_gives_the_same_and_leaves_weights_alone(generator):
    average = AveragedGenerator(generator, halflife=6400)
    z = torch.randn(4, 16, 8)
    measure_batch_norm(average.module, ((part, None) for part in z))
    once = copy.deepcopy(average.module.state_dict())
    measure_batch_norm(average.module, ((part, None) for part in torch.randn(2, 16, 8)))
    measure_batch_norm(average.module, ((part, None) for part in z))
    torch.testing.assert_close(average.module.state_dict(), once, rtol=0, atol=0)


def test_the_average_takes_no_gradient(generator):
    average = AveragedGenerator(generator, halflife=0)
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert all(parameter.requires_grad for parameter in generator.parameters())
