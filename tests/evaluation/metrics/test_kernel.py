import numpy as np
import pytest
import torch

from sagan.evaluation.metrics import kernel
from sagan.evaluation.metrics.kernel import kernel_distance


def features(seed, count, dim):
    """Gaussian features with a mean and a covariance of their own; the same numbers with every version of numpy."""
    random = np.random.RandomState(seed)
    mix = np.eye(dim) + 0.3 * random.standard_normal((dim, dim))
    return torch.from_numpy(0.1 * seed + random.standard_normal((count, dim)) @ mix)


def written_out(x, y):
    """The definition, pair by pair."""

    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    xx = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return xx + yy - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_the_definition():
    x, y = features(1, 9, 4), features(2, 6, 4)
    assert kernel_distance(x, y).value == pytest.approx(written_out(x.numpy(), y.numpy()), rel=1e-12)


@pytest.mark.parametrize("block", [1, 7, 20, 33, 1000])
def test_the_size_of_a_block_changes_nothing(block, monkeypatch):
    x, y = features(1, 33, 5), features(2, 20, 5)
    expected = kernel_distance(x, y)
    monkeypatch.setattr(kernel, "BLOCK", block)
    found = kernel_distance(x, y)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-12)


def test_symmetric_and_blind_to_order_and_turning():
    x, y = features(1, 30, 5), features(2, 20, 5)
    turn = torch.linalg.qr(features(3, 5, 5)).Q
    expected = kernel_distance(x, y)
    for found in (
        kernel_distance(y, x),
        kernel_distance(x.flip(0), y),
        kernel_distance(x @ turn, y @ turn),
    ):
        assert found.value == pytest.approx(expected.value, rel=1e-12)
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)


def test_more_noise_is_farther():
    x, noise = features(1, 300, 8), features(2, 300, 8)
    distances = [kernel_distance(x, x + amount * noise).value for amount in (0.1, 0.3, 1, 3)]
    assert distances == sorted(distances)


def test_the_error_is_the_jackknifes():
    x, y = features(1, 8, 4), features(2, 6, 4)
    without_x = np.array([kernel_distance(torch.cat([x[:i], x[i + 1 :]]), y).value for i in range(8)])
    without_y = np.array([kernel_distance(x, torch.cat([y[:i], y[i + 1 :]])).value for i in range(6)])
    variance = 7 * without_x.var() + 5 * without_y.var()
    assert kernel_distance(x, y).standard_error == pytest.approx(variance**0.5, rel=1e-9)


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_unbiased_and_its_error_is_of_the_right_size(apart):
    """Over many pairs of sets the values scatter about the truth by what their standard errors say, or less."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(100):
        x, y = torch.randn(60, 8, generator=generator), torch.randn(50, 8, generator=generator) + apart
        distance = kernel_distance(x, y)
        found.append((distance.value, distance.standard_error))
    x, y = torch.randn(3000, 8, generator=generator), torch.randn(3000, 8, generator=generator) + apart
    truth = kernel_distance(x, y).value if apart else 0.0
    values, errors = torch.tensor(found).T
    assert abs(values.mean() - truth) < 4 * values.std() / 100**0.5 + 0.02
    assert 0.7 < errors.mean() / values.std() < 2.2


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")
def test_torchmetrics_gives_the_same_for_a_subset_of_all_images():
    kid = pytest.importorskip("torchmetrics.image.kid")

    class Identity(torch.nn.Module):
        def forward(self, images):
            return images

    x, y = features(1, 90, 16), features(2, 90, 16)
    metric = kid.KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=90)
    metric.update(x, real=True)
    metric.update(y, real=False)
    mean, _ = metric.compute()
    assert kernel_distance(x, y).value == pytest.approx(mean.item(), rel=1e-6)


def test_torch_fidelity_gives_the_same():
    """torch-fidelity 0.4.0: ``kid_features_to_metric`` of these features, 20 subsets of 100, then 1 of all 200."""
    x, y = features(1, 300, 16), features(2, 200, 16)
    random = np.random.RandomState(2020)  # its rng_seed; it draws a subset of x, then one of y
    values = []
    for _ in range(20):
        chosen = random.choice(300, 100, replace=False), random.choice(200, 100, replace=False)
        values.append(kernel_distance(x[chosen[0]], y[chosen[1]]).value)
    assert np.mean(values) == pytest.approx(2.4118725184427223, rel=1e-9)
    assert np.std(values) == pytest.approx(0.38007354517416037, rel=1e-9)
    assert kernel_distance(x[:200], y).value == pytest.approx(2.4610721490225105, rel=1e-9)


def test_float32_features_are_compared_in_float64():
    x, y = features(1, 300, 8).float(), features(2, 300, 8).float()
    assert kernel_distance(x, y) == kernel_distance(x.double(), y.double())


def test_what_cannot_be_compared_is_refused():
    x, y = features(1, 40, 4), features(2, 30, 4)
    with pytest.raises(ValueError, match="features of 4 and 5 numbers"):
        kernel_distance(x, features(2, 30, 5))
    with pytest.raises(ValueError, match="3 images or more are needed on each side, got 2 and 30"):
        kernel_distance(x[:2], y)
    with pytest.raises(ValueError, match="1 of 40 images have features that are NaN"):
        kernel_distance(torch.cat([x[1:], x[:1] * torch.nan]), y)


@pytest.mark.gpu
def test_the_gpu_agrees(monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK", 100)
    x, y = features(1, 300, 64).float(), features(2, 200, 64).float()
    on_cpu, on_gpu = kernel_distance(x, y), kernel_distance(x.cuda(), y.cuda())
    assert on_gpu.value == pytest.approx(on_cpu.value, rel=1e-9)
    assert on_gpu.standard_error == pytest.approx(on_cpu.standard_error, rel=1e-9)
