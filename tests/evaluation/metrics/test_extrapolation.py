import numpy as np
import pytest
import torch

from sagan.evaluation.metrics import extrapolation
from sagan.evaluation.metrics.extrapolation import extrapolated_distance, fitted_line
from sagan.evaluation.metrics.frechet import covariance_factor, frechet_distance
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


def extrapolated(x, seed=0):
    factor = covariance_factor(standard_normal())
    return extrapolated_distance(x, standard_normal(), factor=factor, generator=seeded(seed))


def test_nearer_the_truth_than_the_distance_at_any_sample_size():
    samples = [features(800, seed) for seed in range(8)]
    value = np.mean([extrapolated(x).value for x in samples])
    plain = np.mean([frechet_distance(Moments.of(x), standard_normal()) for x in samples])
    assert plain > 0.07  # about 16 * (16 / 4 + 1) / 800 = 0.1
    assert abs(value) < plain / 4


def test_the_truth_may_be_far():
    values = [extrapolated(features(800, seed, 2)).value for seed in range(4)]
    assert np.mean(values) == pytest.approx(2**2 * DIM, rel=0.02)


@pytest.mark.parametrize(("count", "smallest"), [(1000, 250), (64, 32)])
def test_the_last_point_is_the_plain_distance_and_the_sizes_are_even(count, smallest, monkeypatch):
    lines = []
    monkeypatch.setattr(extrapolation, "fitted_line", lambda x, y: lines.append((x, y)) or (0.0, 0.0))
    x = features(count)
    extrapolated(x)
    ((inverse_sizes, distances),) = lines
    sizes = [round(1 / inverse) for inverse in inverse_sizes]
    assert sizes[0] == smallest
    assert sizes[-1] == count
    assert max(np.diff(sizes)) - min(np.diff(sizes)) <= 1
    assert distances[-1] == pytest.approx(frechet_distance(Moments.of(x), standard_normal()), rel=1e-9)


def test_the_generator_alone_decides():
    x = features(200)
    a, b, c = (extrapolated(x, seed) for seed in (1, 1, 2))
    assert a == b != c


def test_points_on_a_line_give_it_exactly_and_without_error():
    x = [0.1, 0.2, 0.4, 0.9]
    value, error = fitted_line(x, [3 + 2 * point for point in x])
    assert value == pytest.approx(3, rel=1e-12)
    assert error == pytest.approx(0, abs=1e-12)


def test_the_error_of_the_line_is_that_of_numpys_fit():
    random = np.random.RandomState(0)
    x = random.rand(9)
    y = 2 + 5 * x + random.standard_normal(9)
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    value, error = fitted_line(list(x), list(y))
    assert value == pytest.approx(coefficients[1], rel=1e-10)
    assert error == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-10)


def test_too_little_to_extrapolate_from_is_refused():
    with pytest.raises(ValueError, match="4 images or more for each of the 16 numbers .* got 63 images"):
        extrapolated(features(63))
    with pytest.raises(ValueError, match="features of 16 and 4 numbers"):
        extrapolated_distance(features(1000), Moments(4), factor=torch.zeros(4, 4), generator=seeded())
    with pytest.raises(ValueError, match="NaN or infinite"):
        extrapolated(features(100) / 0)
