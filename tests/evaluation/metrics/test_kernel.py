import numpy as np
import pytest
import torch

from sagan.evaluation.metrics.kernel import full_kernel_distance, kernel_distance, squared_mmd


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


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_definition():
    x, y = features(1, 9, 4), features(2, 6, 4)
    assert squared_mmd(x, y) == pytest.approx(written_out(x.numpy(), y.numpy()), rel=1e-12)
    assert full_kernel_distance(x, y).value == pytest.approx(squared_mmd(x, y), rel=1e-12)


@pytest.mark.parametrize("block", [1, 7, 20, 33, 1000])
def test_the_size_of_a_block_changes_nothing(block):
    x, y = features(1, 33, 5), features(2, 20, 5)
    expected, found = full_kernel_distance(x, y), full_kernel_distance(x, y, block=block)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-12)
    assert squared_mmd(x, y, block=block) == pytest.approx(expected.value, rel=1e-12)


def test_symmetric_and_blind_to_order_and_turning():
    x, y = features(1, 30, 5), features(2, 20, 5)
    turn = torch.linalg.qr(features(3, 5, 5)).Q
    expected = full_kernel_distance(x, y)
    for found in (
        full_kernel_distance(y, x),
        full_kernel_distance(x.flip(0), y),
        full_kernel_distance(x @ turn, y @ turn),
    ):
        assert found.value == pytest.approx(expected.value, rel=1e-12)
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)


def test_more_noise_is_farther():
    x, noise = features(1, 300, 8), features(2, 300, 8)
    distances = [full_kernel_distance(x, x + amount * noise).value for amount in (0.1, 0.3, 1, 3)]
    assert distances == sorted(distances)


def test_the_error_is_the_jackknifes():
    x, y = features(1, 8, 4), features(2, 6, 4)
    without_x = np.array([squared_mmd(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(8)])
    without_y = np.array([squared_mmd(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(6)])
    variance = 7 * without_x.var() + 5 * without_y.var()
    assert full_kernel_distance(x, y).standard_error == pytest.approx(variance**0.5, rel=1e-9)


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_unbiased_and_its_errors_are_of_the_right_size(apart):
    """Over many pairs of sets the values scatter about the truth by what their standard errors say, or less."""
    generator = seeded()
    full, subsets = [], []
    for _ in range(100):
        x, y = torch.randn(60, 8, generator=generator), torch.randn(50, 8, generator=generator) + apart
        found = full_kernel_distance(x, y)
        full.append((found.value, found.standard_error))
        found = kernel_distance(x, y, subsets=10, subset_size=12, generator=generator)
        subsets.append((found.mean, found.standard_error))
    x, y = torch.randn(3000, 8, generator=generator), torch.randn(3000, 8, generator=generator) + apart
    truth = full_kernel_distance(x, y).value if apart else 0.0
    for values, errors in (torch.tensor(full).T, torch.tensor(subsets).T):
        assert abs(values.mean() - truth) < 4 * values.std() / 100**0.5 + 0.02
        assert 0.7 < errors.mean() / values.std() < 2.2


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")
def test_torchmetrics_gives_the_same_for_the_same_seed():
    kid = pytest.importorskip("torchmetrics.image.kid")

    class Identity(torch.nn.Module):
        def forward(self, images):
            return images

    x, y = features(1, 130, 16), features(2, 90, 16)
    metric = kid.KernelInceptionDistance(feature=Identity(), subsets=12, subset_size=50)
    metric.update(x, real=True)
    metric.update(y, real=False)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        mean, std = metric.compute()
    found = kernel_distance(x, y, subsets=12, subset_size=50, generator=seeded(5))
    assert found.mean == pytest.approx(mean.item(), rel=1e-6)
    assert found.std == pytest.approx(std.item(), rel=1e-6)


def test_torch_fidelity_gives_the_same():
    """torch-fidelity 0.4.0: ``kid_features_to_metric`` of these features, 20 subsets of 100, then 1 of all 200."""
    x, y = features(1, 300, 16), features(2, 200, 16)
    random = np.random.RandomState(2020)  # its rng_seed; it draws a subset of x, then one of y
    values = []
    for _ in range(20):
        chosen = random.choice(300, 100, replace=False), random.choice(200, 100, replace=False)
        values.append(squared_mmd(x[chosen[0]], y[chosen[1]]))
    assert np.mean(values) == pytest.approx(2.4118725184427223, rel=1e-9)
    assert np.std(values) == pytest.approx(0.38007354517416037, rel=1e-9)
    assert full_kernel_distance(x[:200], y).value == pytest.approx(2.4610721490225105, rel=1e-9)


def test_subsets_come_from_the_generator_alone():
    x, y = features(1, 60, 4), features(2, 50, 4)
    a, b, c = (kernel_distance(x, y, subsets=5, subset_size=20, generator=seeded(seed)) for seed in (1, 1, 2))
    assert a == b != c


def test_a_subset_of_everything_is_the_full_estimate():
    x, y = features(1, 40, 4), features(2, 40, 4)
    found = kernel_distance(x, y, subsets=3, subset_size=40, generator=seeded())
    assert found.mean == pytest.approx(full_kernel_distance(x, y).value, rel=1e-12)
    assert found.std == pytest.approx(0, abs=1e-12)
    assert found.standard_error is None
    assert kernel_distance(x, y, subsets=1, subset_size=20, generator=seeded()).standard_error is None


def test_float32_features_are_compared_in_float64():
    x, y = features(1, 300, 8).float(), features(2, 300, 8).float()
    assert full_kernel_distance(x, y) == full_kernel_distance(x.double(), y.double())


def test_what_cannot_be_compared_is_refused():
    x, y = features(1, 40, 4), features(2, 30, 4)
    with pytest.raises(ValueError, match="smaller side, 30, got 31"):
        kernel_distance(x, y, subset_size=31, generator=seeded())
    with pytest.raises(ValueError, match="smaller side, 30, got 1,000"):
        kernel_distance(x, y, generator=seeded())
    with pytest.raises(ValueError, match="subsets must be 1 or more"):
        kernel_distance(x, y, subsets=0, subset_size=20, generator=seeded())
    with pytest.raises(ValueError, match="features of 4 and 5 numbers"):
        full_kernel_distance(x, features(2, 30, 5))
    with pytest.raises(ValueError, match="3 images or more are needed on each side, got 2 and 30"):
        full_kernel_distance(x[:2], y)
    with pytest.raises(ValueError, match="1 of 40 images have features that are NaN"):
        full_kernel_distance(torch.cat([x[1:], x[:1] * torch.nan]), y)


@pytest.mark.gpu
def test_the_gpu_agrees():
    x, y = features(1, 300, 64).float(), features(2, 200, 64).float()
    on_cpu, on_gpu = full_kernel_distance(x, y, block=100), full_kernel_distance(x.cuda(), y.cuda(), block=100)
    assert on_gpu.value == pytest.approx(on_cpu.value, rel=1e-9)
    assert on_gpu.standard_error == pytest.approx(on_cpu.standard_error, rel=1e-9)
    subsets = [kernel_distance(a, b, subset_size=50, generator=seeded()) for a, b in ((x, y), (x.cuda(), y.cuda()))]
    assert subsets[0].mean == pytest.approx(subsets[1].mean, rel=1e-9)
