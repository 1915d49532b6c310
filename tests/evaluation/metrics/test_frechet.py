import math

import numpy as np
import pytest
import torch

from sagan.evaluation.metrics.frechet import covariance_factor, few_images_warning, frechet_distance
from sagan.evaluation.metrics.moments import Moments


def features(seed, count, dim):
    """Gaussian features with a mean and a covariance of their own; the same numbers with every version of numpy."""
    random = np.random.RandomState(seed)
    mix = np.eye(dim) + 0.3 * random.standard_normal((dim, dim))
    return torch.from_numpy(0.1 * seed + random.standard_normal((count, dim)) @ mix)


def distance(x, y):
    return frechet_distance(Moments.of(x), Moments.of(y))


def gaussian(mean, covariance, count=1000):
    """Moments of exactly this mean and covariance."""
    moments = Moments(len(mean))
    moments.count, moments.mean = count, torch.as_tensor(mean, dtype=torch.float64)
    moments.scatter = torch.as_tensor(covariance, dtype=torch.float64) * (count - 1)
    return moments


def test_the_closed_form_of_gaussians_whose_covariances_commute():
    mean_a, mean_b = torch.tensor([1.0, 2, 3]), torch.tensor([0.0, 4, 3])
    deviations_a, deviations_b = torch.tensor([1.0, 2, 0.5]).double(), torch.tensor([3.0, 2, 0.1]).double()
    turn = torch.linalg.qr(features(0, 3, 3)).Q
    a = gaussian(mean_a, turn @ deviations_a.square().diag() @ turn.T)
    b = gaussian(mean_b, turn @ deviations_b.square().diag() @ turn.T)
    expected = 5 + (deviations_a - deviations_b).square().sum().item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_the_closed_form_of_two_by_two_covariances_that_do_not_commute():
    """tr (A B)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2) in two dimensions."""
    a, b = torch.tensor([[2.0, 0.7], [0.7, 1.0]]).double(), torch.tensor([[0.5, -0.3], [-0.3, 3.0]]).double()
    root = ((a @ b).trace() + 2 * torch.linalg.det(a @ b).sqrt()).sqrt()
    expected = (a.trace() + b.trace() - 2 * root).item()
    assert frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("count", "dim"), [(300, 16), (20, 64), (2, 8)])
def test_identical_sets_are_at_no_distance(count, dim):
    x = features(1, count, dim) * 10
    assert distance(x, x) < 1e-6
    assert distance(x, x[torch.randperm(count, generator=torch.Generator().manual_seed(0))]) < 1e-6


@pytest.mark.parametrize(("count_x", "count_y", "dim"), [(300, 200, 16), (40, 300, 64), (40, 30, 64)])
class TestAnyRank:
    def test_symmetric(self, count_x, count_y, dim):
        x, y = features(1, count_x, dim), features(2, count_y, dim)
        assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-9)

    def test_turning_and_moving_both_changes_nothing(self, count_x, count_y, dim):
        x, y = features(1, count_x, dim), features(2, count_y, dim)
        turn = torch.linalg.qr(features(3, dim, dim)).Q
        assert distance(x @ turn + 4, y @ turn + 4) == pytest.approx(distance(x, y), rel=1e-9)

    def test_scaling_both_scales_it_by_the_square(self, count_x, count_y, dim):
        x, y = features(1, count_x, dim), features(2, count_y, dim)
        assert distance(3 * x, 3 * y) == pytest.approx(9 * distance(x, y), rel=1e-9)

    def test_a_moved_copy_is_at_the_square_of_the_way(self, count_x, count_y, dim):
        x, way = features(1, count_x, dim), features(4, 1, dim)
        assert distance(x, x + way) == pytest.approx(way.square().sum().item(), rel=1e-7)

    def test_torchmetrics_gives_the_same(self, count_x, count_y, dim):
        fid = pytest.importorskip("torchmetrics.image.fid")
        metric = fid.FrechetInceptionDistance(feature=Identity(dim)).set_dtype(torch.float64)
        x, y = features(1, count_x, dim), features(2, count_y, dim)
        for rows in x.split(50):
            metric.update(rows, real=True)
        for rows in y.split(50):
            metric.update(rows, real=False)
        assert distance(x, y) == pytest.approx(metric.compute().item(), rel=1e-6)


def test_scipys_matrix_square_root_gives_the_same():
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    x, y = features(1, 300, 16).numpy(), features(2, 200, 16).numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("count_x", "count_y"), [(40, 30), (30, 200), (2, 2), (65, 70)])
def test_sets_smaller_than_their_dims_lose_no_digits(count_x, count_y):
    """tr (A B)^(1/2) is the sum of the singular values of X Y^T, the centred features' products. The eigenvalues of A B
    give 7 digits only: most of them are zero, and the roots of their rounding errors are not small."""
    x, y = features(1, count_x, 64), features(2, count_y, 64)
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    apart = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum()
    expected = apart - 2 * torch.linalg.svdvals(a @ b.T).sum()
    assert distance(x, y) == pytest.approx(expected.item(), rel=1e-11)


class Identity(torch.nn.Module):
    """A feature extractor whose images are features already."""

    def __init__(self, dim):
        super().__init__()
        self.num_features = dim

    def forward(self, images):
        return images


@pytest.mark.parametrize(
    ("x", "y", "published"),
    [((1, 300, 16), (2, 200, 16), 21.145637759812587), ((1, 40, 64), (2, 300, 64), 373.59992079988353)],
)
def test_torch_fidelity_gives_the_same(x, y, published):
    """torch-fidelity 0.4.0: ``fid_statistics_to_metric`` of ``fid_features_to_statistics`` of these features."""
    assert distance(features(*x), features(*y)) == pytest.approx(published, rel=1e-6)


def test_more_noise_is_farther():
    x, noise = features(1, 300, 16), features(2, 300, 16)
    distances = [distance(x, x + amount * noise) for amount in (0, 0.1, 0.3, 1, 3)]
    assert distances == sorted(distances)
    assert distances[-1] > 100 * distances[1]


def test_a_factor_made_once_gives_the_same():
    x, y = Moments.of(features(1, 300, 16)), Moments.of(features(2, 20, 16))
    for a, b in [(x, y), (y, x)]:
        factor = covariance_factor(b)
        torch.testing.assert_close(factor @ factor.T, b.covariance, rtol=1e-10, atol=1e-10)
        assert frechet_distance(a, b, factor=factor) == pytest.approx(frechet_distance(a, b), rel=1e-10)
    assert covariance_factor(y).shape == (16, 16)
    assert covariance_factor(Moments.of(features(1, 5, 16))).shape == (16, 4)


def test_features_that_never_change_have_no_spread():
    same = Moments.of(torch.ones(10, 4))
    other = Moments.of(features(1, 50, 4))
    assert frechet_distance(same, Moments.of(torch.zeros(9, 4))) == pytest.approx(4)
    expected = (other.mean - 1).square().sum() + other.covariance.trace()
    assert frechet_distance(same, other) == pytest.approx(expected.item())


def test_two_extractors_or_one_image_are_refused():
    with pytest.raises(ValueError, match="features of 4 and 5 numbers"):
        frechet_distance(Moments(4), Moments(5))
    with pytest.raises(ValueError, match="2 images or more, got 1"):
        distance(features(1, 1, 4), features(1, 10, 4))


def test_a_sample_too_small_for_its_covariance_is_named():
    assert "64 images for features of 64 numbers" in few_images_warning(64, 64)
    assert "no full rank" in few_images_warning(2, 64)
    assert "65 images are few" in few_images_warning(65, 64)
    assert "few" in few_images_warning(255, 64)
    assert few_images_warning(256, 64) is None


@pytest.mark.parametrize("scale", [1e200, 1e308, math.inf, math.nan])
@pytest.mark.parametrize("name", ["mean", "scatter"])
def test_moments_that_overflow_are_no_distance_of_0(name, scale):
    one, other = Moments.of(features(0, 20, 4)), Moments.of(features(1, 20, 4))
    huge = Moments.from_tensors({n: t * scale * 100 if n == name else t for n, t in one.to_tensors().items()})
    if (name, scale) == ("scatter", 1e200):
        assert frechet_distance(huge, other) > 1e200, "a covariance may be as large as float64 holds"
        return
    for pair in ((huge, other), (other, huge), (huge, huge)):
        if name == "scatter" or pair[0] is not pair[1] or not math.isfinite(100 * scale):
            with pytest.raises(ValueError, match="the Fréchet distance is not a finite number"):
                frechet_distance(*pair)
