import pytest
import torch
from torch import nn

from sagan.core.layers.conditional_batch_norm import ConditionalBatchNorm2d

CLASSES, CHANNELS = 5, 6


@pytest.fixture(name="layer")
def make_layer():
    torch.manual_seed(0)
    layer = ConditionalBatchNorm2d(CHANNELS, CLASSES)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula_in_float64(layer, training):
    layer.train(training)
    x, labels = 3 * torch.randn(7, CHANNELS, 4, 5) + 2, torch.randint(CLASSES, (7,))
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    mean, variance = layer.norm.running_mean.double(), layer.norm.running_var.double()
    if training:
        pixels = x.double().transpose(0, 1).reshape(CHANNELS, -1)
        mean, variance = pixels.mean(1), ((pixels - pixels.mean(1, keepdim=True)) ** 2).mean(1)
    expected = torch.empty(x.shape, dtype=torch.float64)
    for image, label in enumerate(labels):
        for channel in range(CHANNELS):
            normed = (x[image, channel].double() - mean[channel]) / (variance[channel] + 1e-5).sqrt()
            expected[image, channel] = layer.weight[label, channel].double() * normed + layer.bias[label, channel]
    torch.testing.assert_close(layer(x, labels).double(), expected.detach(), rtol=1e-5, atol=1e-5)


def test_fresh_it_treats_all_classes_as_plain_batch_norm_does():
    fresh, plain = ConditionalBatchNorm2d(CHANNELS, CLASSES), nn.BatchNorm2d(CHANNELS)
    x = torch.randn(4, CHANNELS, 3, 3)
    torch.testing.assert_close(fresh(x, torch.arange(4)), plain(x), rtol=0, atol=0)
    torch.testing.assert_close(fresh.norm.running_var, plain.running_var, rtol=0, atol=0)


def test_without_classes_it_is_plain_batch_norm():
    layer = ConditionalBatchNorm2d(CHANNELS)
    assert {name for name, _ in layer.named_parameters()} == {"norm.weight", "norm.bias"}
    x = torch.randn(4, CHANNELS, 3, 3)
    torch.testing.assert_close(layer(x), nn.BatchNorm2d(CHANNELS)(x), rtol=0, atol=0)


def test_a_class_that_was_not_seen_gets_no_gradient(layer):
    layer(torch.randn(4, CHANNELS, 3, 3), torch.tensor([0, 0, 2, 4])).square().sum().backward()
    seen = [0, 2, 4]
    for table in (layer.weight, layer.bias):
        assert (table.grad[seen] != 0).all()
        assert (table.grad[[1, 3]] == 0).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format_and_the_dtype(layer, memory_format):
    x = torch.randn(4, CHANNELS, 3, 5).contiguous(memory_format=memory_format)
    out = layer(x.bfloat16(), torch.arange(4))
    assert out.is_contiguous(memory_format=memory_format)
    assert out.dtype == torch.bfloat16


def test_can_be_differentiated_twice(layer):
    layer = layer.double()
    labels = torch.tensor([1, 3])
    x = torch.randn(2, CHANNELS, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, labels), x)
