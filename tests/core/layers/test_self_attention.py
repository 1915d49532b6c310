import pytest
import torch
from torch.nn import functional as F

from sagan.core.attention import ExcludeLocal, Full
from sagan.core.attention.reference import attend_reference
from sagan.core.layers.self_attention import SelfAttention2d, SpectralSelfAttention2d


def layer_on(pattern, channels=16, gamma=0.5):
    torch.manual_seed(0)
    layer = SelfAttention2d(channels, pattern)
    torch.nn.init.constant_(layer.gamma, gamma)
    return layer


def written_out(layer, x):
    """The paper's equations with 1x1 convolutions and dense weights, for an unpooled pattern."""
    batch, channels, height, width = x.shape
    q, k, v = (
        F.conv2d(x, linear.weight[:, :, None, None], linear.bias).flatten(2)
        for linear in (layer.query, layer.key, layer.value)
    )
    weights = torch.softmax(q.transpose(1, 2) @ k, dim=-1) * layer.pattern.mask()
    out = v @ weights.transpose(1, 2)
    return layer.gamma * out.view(batch, channels, height, width) + x


@pytest.mark.parametrize("span", [0, 1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_papers_equations(span, memory_format):
    layer = layer_on(ExcludeLocal(4, 6, span))
    x = torch.randn(3, 16, 4, 6).contiguous(memory_format=memory_format)
    torch.testing.assert_close(layer(x), written_out(layer, x), rtol=1e-4, atol=1e-5)


def test_starts_as_the_identity_but_can_learn():
    layer = SelfAttention2d(16, Full(4, 4))
    x = torch.randn(2, 16, 4, 4)
    out = layer(x)
    torch.testing.assert_close(out, x, rtol=0, atol=0)
    out.square().sum().backward()
    assert layer.gamma.grad.abs() > 0
    assert layer.gamma.shape == ()


def test_queries_that_see_nothing_are_left_as_they_are():
    layer = layer_on(ExcludeLocal(4, 4, 3))
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)


def test_weights_are_those_that_are_applied():
    layer = layer_on(ExcludeLocal(4, 6, 1))
    x = torch.randn(2, 16, 4, 6)
    weights = layer.weights(x)
    assert weights.shape == (2, 24, 24)
    v = layer.project(x)[2].squeeze(1)
    expected = x + layer.gamma * (weights @ v).transpose(1, 2).view_as(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert (weights[:, 0, 0] == 0).all()
    assert (weights.sum(-1) < 1).all()  # masked after the softmax: nothing is renormalised


def test_pooled_keys_and_values_are_the_maxima_of_their_cells():
    layer = layer_on(ExcludeLocal(4, 6, 1, pool=2))
    x = torch.randn(2, 16, 4, 6)
    q, k, v = layer.project(x)
    assert (q.shape, k.shape, v.shape) == ((2, 1, 24, 2), (2, 1, 6, 2), (2, 1, 6, 16))
    full_k = F.conv2d(x, layer.key.weight[:, :, None, None], layer.key.bias)
    torch.testing.assert_close(k[0, 0, 4], full_k[0, :, 2:4, 2:4].amax((1, 2)))
    assert layer(x).shape == x.shape


def test_output_keeps_the_memory_format():
    layer = layer_on(Full(4, 4))
    x = torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


def test_can_be_differentiated_twice():
    layer = layer_on(ExcludeLocal(3, 3, 1), channels=8).double()
    x = torch.randn(1, 8, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize(("channels", "narrow"), [(4, 1), (12, 1), (16, 2), (20, 2)])
def test_any_width_will_do(channels, narrow):
    layer = SelfAttention2d(channels, Full(4, 4))
    assert layer.query.out_features == layer.key.out_features == narrow
    assert layer(torch.randn(1, channels, 4, 4)).shape == (1, channels, 4, 4)


def test_wrong_maps_are_refused_in_a_sentence():
    layer = layer_on(Full(4, 4))
    with pytest.raises(ValueError, match=r"this attention layer is for maps of \(4, 4\), got \(4, 5\)"):
        layer(torch.randn(1, 16, 4, 5))


def spectral_layer(pattern, channels=16, gamma=0.5):
    torch.manual_seed(0)
    layer = SpectralSelfAttention2d(channels, pattern)
    torch.nn.init.constant_(layer.gamma, gamma)
    return layer


@pytest.mark.parametrize(
    "pattern", [Full(4, 6, pool=2), ExcludeLocal(4, 6, 1, pool=2), ExcludeLocal(4, 6, 1, "before")]
)
def test_spectral_layer_equals_the_papers_code_written_out(pattern):
    layer = spectral_layer(pattern).double()
    x = torch.randn(3, 16, 4, 6, dtype=torch.double)
    theta, phi, g = (
        F.conv2d(x, (linear.weight / linear.sigma())[:, :, None, None])
        for linear in (layer.query, layer.key, layer.value)
    )
    phi, g = (F.max_pool2d(t, pattern.pool) for t in (phi, g))
    q, k, v = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (theta, phi, g))
    assert (q.shape[3], k.shape[3], v.shape[3]) == (2, 2, 8)
    attended = attend_reference(q, k, v, pattern).squeeze(1).transpose(1, 2).reshape(3, 8, 4, 6)
    expected = x + 0.5 * F.conv2d(attended, (layer.output.weight / layer.output.sigma())[:, :, None, None])
    torch.testing.assert_close(layer(x), expected)


def test_spectral_layer_is_the_identity_at_first_and_has_no_biases():
    layer = spectral_layer(Full(4, 4, pool=2), gamma=0.0)
    x = torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    assert shapes == {
        "gamma": (), "query.weight": (2, 16), "key.weight": (2, 16), "value.weight": (8, 16), "output.weight": (16, 8)
    }  # fmt: skip


def test_spectral_layer_shows_its_weights():
    layer = spectral_layer(ExcludeLocal(4, 6, 1, pool=2))
    x = torch.randn(2, 16, 4, 6)
    weights = layer.weights(x)
    assert weights.shape == (2, 24, 6)
    attended = weights @ layer.project(x)[2].squeeze(1)
    expected = x + layer.gamma * layer.output(attended).transpose(1, 2).view_as(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_spectral_layer_can_be_differentiated_twice():
    layer = spectral_layer(ExcludeLocal(4, 4, 1, pool=2), channels=8).double()
    x = torch.randn(1, 8, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x, fast_mode=True)


@pytest.mark.parametrize(("channels", "narrow", "middle"), [(1, 1, 1), (4, 1, 2), (20, 2, 10)])
def test_spectral_layer_of_any_width(channels, narrow, middle):
    layer = SpectralSelfAttention2d(channels, Full(4, 4, pool=2))
    assert (layer.query.out_features, layer.value.out_features) == (narrow, middle)
    assert layer(torch.randn(1, channels, 4, 4)).shape == (1, channels, 4, 4)


def test_another_function_can_compute_the_attention():
    layer, x = SelfAttention2d(8, Full(4, 4)), torch.randn(2, 8, 4, 4)
    layer.attend = lambda q, k, v, pattern: torch.ones_like(v)
    torch.nn.init.ones_(layer.gamma)
    torch.testing.assert_close(layer(x), x + 1)
