import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sagan.core.layers.spectral_norm import (
    SpectralConv2d,
    SpectralConvTranspose2d,
    SpectralEmbedding,
    SpectralLinear,
    power_iterate,
)

LAYERS = {
    "conv": lambda: SpectralConv2d(6, 4, 4, stride=2, padding=1),
    "transposed, output": lambda: SpectralConvTranspose2d(6, 4, 4, stride=2, padding=1),
    "transposed, input": lambda: SpectralConvTranspose2d(6, 4, 4, stride=2, padding=1, norm_axis="input"),
}


@pytest.fixture(params=LAYERS, name="layer")
def make_layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param]()


def matrix_of(layer, weight):
    """The matrix the docstrings promise, written out: rows are the channels of the norm's axis."""
    rows_first = weight if layer.row_dim == 0 else weight.permute(1, 0, 2, 3)
    return rows_first.reshape(rows_first.shape[0], -1)


def test_rows_are_the_channels_of_the_axis():
    rows = {name: len(make().u) for name, make in LAYERS.items()}
    assert rows == {"conv": 4, "transposed, output": 4, "transposed, input": 6}


def test_iterated_weight_has_norm_one(layer):
    layer.power_iterate(200)
    effective = matrix_of(layer, layer.normalized_weight().detach())
    assert torch.linalg.matrix_norm(effective, 2).item() == pytest.approx(1, abs=1e-4)


def test_a_fresh_layer_is_nearly_normalised(layer):
    effective = matrix_of(layer, layer.normalized_weight().detach())
    assert torch.linalg.matrix_norm(effective, 2).item() == pytest.approx(1, abs=0.05)


def test_equals_torch_spectral_norm():
    torch.manual_seed(1)
    ours = SpectralConvTranspose2d(6, 4, 4, stride=2, padding=1)
    theirs = nn.utils.parametrizations.spectral_norm(nn.ConvTranspose2d(6, 4, 4, 2, 1), n_power_iterations=300)
    theirs.load_state_dict({"bias": ours.bias, "parametrizations.weight.original": ours.weight}, strict=False)
    theirs.train()(torch.zeros(1, 6, 2, 2))  # iterates on the loaded weight
    ours.power_iterate(300)
    torch.testing.assert_close(ours.normalized_weight(), theirs.eval().weight)


def test_gradient_is_that_of_the_true_norm(layer):
    """With converged vectors, sigma's derivative is u v^T: compare with finite differences through an SVD."""
    layer = layer.double()
    layer.power_iterate(2000)
    probe = torch.randn_like(layer.weight)

    def value(weight):
        sigma = torch.linalg.matrix_norm(matrix_of(layer, weight), 2)
        return (weight / sigma * probe).sum()

    (layer.normalized_weight() * probe).sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(value(weight), weight)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mode", [True, False])
def test_forward_changes_nothing(layer, mode):
    layer.train(mode)
    before = copy.deepcopy(layer.state_dict())
    layer(torch.randn(2, 6, 8, 8))
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_power_iterate_moves_every_layer_once():
    torch.manual_seed(0)
    network = nn.Sequential(SpectralConv2d(3, 4, 3), nn.Sequential(SpectralConv2d(4, 5, 3)))
    twin = copy.deepcopy(network)
    for layer in (network[0], network[1][0]):
        nn.init.normal_(layer.weight)
        layer.power_iterate(1)
    for mine, other in zip(network.parameters(), twin.parameters(), strict=True):
        other.data.copy_(mine.data)
    power_iterate(twin)
    torch.testing.assert_close(twin.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_vectors_are_buffers_not_parameters(layer):
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert {name for name, _ in layer.named_buffers()} == {"u", "v"}


def test_norm_is_kept_in_float32_under_autocast():
    torch.manual_seed(0)
    layer = SpectralConv2d(3, 8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        weight = layer.normalized_weight()
        out = layer(torch.randn(1, 3, 8, 8))
    assert weight.dtype == torch.float32
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(weight, layer.normalized_weight(), rtol=0, atol=0)


def test_applies_the_normalised_weight():
    torch.manual_seed(0)
    layer = SpectralConvTranspose2d(6, 4, 4, stride=2, padding=1)
    x = torch.randn(2, 6, 5, 5)
    expected = F.conv_transpose2d(x, layer.weight / layer.sigma(), layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_linear_and_embedding_apply_their_weight_over_its_norm():
    torch.manual_seed(0)
    linear, embedding = SpectralLinear(7, 5).double(), SpectralEmbedding(9, 6).double()
    power_iterate(nn.ModuleList([linear, embedding]), 1000)
    x, labels = torch.randn(3, 7, dtype=torch.double), torch.tensor([8, 0, 8])
    table, matrix = (layer.weight / torch.linalg.matrix_norm(layer.weight, 2) for layer in (embedding, linear))
    torch.testing.assert_close(linear(x), x @ matrix.T + linear.bias)
    torch.testing.assert_close(embedding(labels), table[labels])
    assert (len(linear.u), len(embedding.u)) == (5, 9)
    assert SpectralLinear(7, 5, bias=False).bias is None


def test_restart_finds_the_norm_of_another_weight(layer):
    nn.init.xavier_uniform_(layer.weight)
    layer.restart()
    effective = matrix_of(layer, layer.normalized_weight().detach())
    assert torch.linalg.matrix_norm(effective, 2).item() == pytest.approx(1, abs=0.05)
