import numpy as np
import pytest
import torch

from sagan.evaluation.metrics.extrapolation import extrapolated_distance, fitted_line
from sagan.evaluation.metrics.frechet import frechet_distance
from sagan.evaluation.metrics.moments import Moments

DIM = 16


def features(count, seed=0, apart=0.0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((count, DIM)) + apart)


def standard_normal():
    """The moments of infinitely many standard normal features."""
    moments = Moments(DIM)
    moments.count = 10**12
    moments.scatter = torch.eye(DIM, dtype=torch.float64) * (10**12 - 1)
    return moments


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nearer_the_truth_than_the_distance_at_any_sample_size():
    found = [extrapolated_distance(features(800, seed), standard_normal(), generator=seeded()) for seed in range(8)]
    values, plain = (np.mean(numbers) for numbers in zip(*((f.value, f.distances[-1]) for f in found), strict=True))
    assert plain > 0.07  # about 16 * (16 / 4 + 1) / 800 = 0.1
    assert abs(values) < plain / 4
    assert found[0].slope / 800 == pytest.approx(plain, rel=0.5)


def test_the_truth_may_be_far():
    found = [extrapolated_distance(features(800, seed, 2), standard_normal(), generator=seeded()) for seed in range(4)]
    assert np.mean([f.value for f in found]) == pytest.approx(2**2 * DIM, rel=0.02)


def test_the_last_point_is_the_plain_distance_and_the_sizes_are_even():
    x = features(1000)
    found = extrapolated_distance(x, standard_normal(), generator=seeded(), points=10, smallest=100)
    assert found.sizes == (100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
    assert found.distances[-1] == pytest.approx(frechet_distance(Moments.of(x), standard_normal()), rel=1e-9)
    assert extrapolated_distance(x, standard_normal(), generator=seeded()).sizes[0] == 250


def test_the_generator_alone_decides():
    x = features(200)
    a, b, c = (extrapolated_distance(x, standard_normal(), generator=seeded(seed)) for seed in (1, 1, 2))
    assert a == b != c


def test_points_on_a_line_give_it_exactly_and_without_error():
    x = [0.1, 0.2, 0.4, 0.9]
    value, error, slope = fitted_line(x, [3 + 2 * point for point in x])
    assert value == pytest.approx(3, rel=1e-12)
    assert slope == pytest.approx(2, rel=1e-12)
    assert error == pytest.approx(0, abs=1e-12)


def test_the_error_of_the_line_is_that_of_numpys_fit():
    random = np.random.RandomState(0)
    x = random.rand(9)
    y = 2 + 5 * x + random.standard_normal(9)
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    value, error, slope = fitted_line(list(x), list(y))
    assert (slope, value) == pytest.approx(tuple(coefficients), rel=1e-10)
    assert error == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-10)


def test_too_little_to_extrapolate_from_is_refused():
    with pytest.raises(ValueError, match="points must be 8 or more, got 7"):
        extrapolated_distance(features(1000), standard_normal(), generator=seeded(), points=7)
    with pytest.raises(ValueError, match="more than 16 images .* got 40 images and a smallest subset of 32"):
        extrapolated_distance(features(40), standard_normal(), generator=seeded())
    with pytest.raises(ValueError, match="smallest subset of 16"):
        extrapolated_distance(features(1000), standard_normal(), generator=seeded(), smallest=16)
    with pytest.raises(ValueError, match="features of 16 and 4 numbers"):
        extrapolated_distance(features(1000), Moments(4), generator=seeded())
    with pytest.raises(ValueError, match="NaN or infinite"):
        extrapolated_distance(features(100) / 0, standard_normal(), generator=seeded())
