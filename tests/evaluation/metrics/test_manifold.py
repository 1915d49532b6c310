import numpy as np
import pytest
import torch

from sagan.evaluation.metrics import manifold
from sagan.evaluation.metrics.manifold import manifold_scores, nearest, radii


def features(seed, count, dim):
    """Gaussian features with a mean and a covariance of their own; the same numbers with every version of numpy."""
    random = np.random.RandomState(seed)
    mix = np.eye(dim) + 0.3 * random.standard_normal((dim, dim))
    return torch.from_numpy(0.1 * seed + random.standard_normal((count, dim)) @ mix)


@pytest.fixture(name="cut")
def make_cut(monkeypatch):
    """Sets the size of the blocks."""
    return lambda block: monkeypatch.setattr(manifold, "BLOCK", block)


def real_and_fake():
    """Fakes of the same kind, a little wider."""
    both = features(1, 500, 16)
    return both[:300], 1.3 * both[300:]


def subtracted(x, y):
    """All distances by subtraction, the slow twin."""
    return (x.double().unsqueeze(1) - y.double()).square().sum(2).sqrt()


@pytest.mark.parametrize("k", [1, 3, 5, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prdc_gives_the_same(k, dtype, capsys):
    prdc = pytest.importorskip("prdc")
    real, fake = (x.to(dtype) for x in real_and_fake())
    expected = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), k)
    found = manifold_scores(real, fake, nearest_k=k)
    assert vars(found) == pytest.approx(expected, rel=1e-6)


def test_torch_fidelity_gives_the_same():
    """torch-fidelity 0.4.0: ``prc_features_to_metric(fake, real)``, 3 neighbours."""
    found = manifold_scores(*real_and_fake(), nearest_k=3)
    assert found.precision == pytest.approx(0.574999988079071, rel=1e-6)
    assert found.recall == pytest.approx(0.9733333587646484, rel=1e-6)


@pytest.mark.parametrize("block", [3, 64, 300])
@pytest.mark.parametrize("offset", [0, 1e6])
def test_blocks_and_a_common_offset_change_nothing(block, offset, cut):
    real, fake = real_and_fake()
    expected = manifold_scores(real[:90], fake[:60])
    cut(block)
    assert manifold_scores(real[:90] + offset, fake[:60] + offset) == expected


@pytest.mark.parametrize("block", [24, 1000])
def test_copies_land_on_the_rim_of_balls_and_count_as_outside_however_they_are_cut(block, cut):
    """A generator that has learnt the images by heart: each ball of k holds the image's copy and k - 1 others, the k-th
    other being on the rim. Decided by rounding, these scores would change with the size of a block."""
    real = features(1, 100, 64).float()
    cut(block)
    scores = manifold_scores(real, real.flip(0), nearest_k=5)
    assert vars(scores) == pytest.approx({"precision": 1, "recall": 1, "density": 1, "coverage": 1}, abs=1e-12)
    assert manifold_scores(real, real, nearest_k=1).density == pytest.approx(1, abs=1e-12)


def test_distinct_sets_of_one_kind_score_as_expected_and_far_ones_nothing():
    x = torch.from_numpy(np.random.RandomState(0).standard_normal((1200, 8)))
    alike = manifold_scores(x[:600], x[600:])
    assert alike.density == pytest.approx(1, abs=0.1)
    assert alike.coverage == pytest.approx(1 - 2**-5, abs=0.03)
    assert vars(manifold_scores(x[:600], x[600:] + 100)) == dict.fromkeys(vars(alike), 0)


def test_dropped_modes_cost_recall_and_coverage_noise_costs_precision_and_density():
    x = torch.from_numpy(np.random.RandomState(0).standard_normal((800, 4)))
    real, fake = x[:400], x[400:]
    alike, dropped = manifold_scores(real, fake), manifold_scores(real, fake[fake[:, 0] > 0.5])
    noisy = manifold_scores(real, fake + 3 * torch.from_numpy(np.random.RandomState(1).standard_normal((400, 4))))
    assert dropped.recall < alike.recall - 0.2
    assert dropped.coverage < alike.coverage - 0.2
    assert dropped.precision > alike.precision - 0.05
    assert noisy.precision < alike.precision - 0.2
    assert noisy.density < alike.density - 0.2


@pytest.mark.parametrize("block", [1, 7, 40, 1000])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_nearest_are_those_found_by_subtraction(block, k, cut):
    cut(block)
    x, reference = features(1, 20, 6).float(), features(2, 50, 6).float()
    expected = subtracted(x, reference).sort(1)
    found = nearest(x, reference, k)
    assert torch.equal(found.indices, expected.indices[:, :k])
    torch.testing.assert_close(found.distances, expected.values[:, :k], rtol=1e-14, atol=0)


@pytest.mark.parametrize("block", [7, 40, 1000])
def test_radii_leave_the_image_itself_out_but_not_its_copies(block, cut):
    cut(block)
    x = features(1, 40, 6)
    expected = subtracted(x, x).sort(1).values[:, 3]
    torch.testing.assert_close(radii(x, 3), expected, rtol=1e-14, atol=0)
    x[30] = x[3]
    found = nearest(x, x, 1, exclude_self=True)
    assert found.indices[3] == 30
    assert found.indices[30] == 3
    assert found.distances[3] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_copy_is_found_at_distance_0_and_a_near_copy_near(dtype, cut):
    """Far from the origin x.x + y.y - 2 x.y has no digit left for either."""
    reference = (features(1, 300, 64) + 1e3).to(dtype)
    copies = reference[[7, 250]].clone()
    copies[1, 0] += 0.25
    cut(100)
    found = nearest(copies, reference, 2)
    assert found.indices[:, 0].tolist() == [7, 250]
    assert found.distances[0, 0] == 0
    assert found.distances[1, 0] == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("block", [10, 1000])
def test_tight_clusters_far_apart_are_told_apart_by_subtraction(block, cut):
    """20 clusters of 6 images, 1e-3 wide, 1e6 apart: x.x + y.y - 2 x.y is off by as much as a cluster is wide."""
    random = np.random.RandomState(0)
    centres = torch.from_numpy(1e6 * random.standard_normal((20, 8))).repeat_interleave(6, 0)
    real, fake = (centres + torch.from_numpy(1e-3 * random.standard_normal((120, 8))) for _ in range(2))
    expected = subtracted(fake, real).sort(1)
    cut(block)
    found = nearest(fake, real, 2)
    assert torch.equal(found.indices, expected.indices[:, :2])

    cross, real_radii, fake_radii = (
        subtracted(real, fake),
        *(subtracted(x, x).sort(1).values[:, 2:3] for x in (real, fake)),
    )
    scores = manifold_scores(real, fake, nearest_k=2)
    assert scores.precision == pytest.approx((cross < real_radii).any(0).double().mean().item())
    assert scores.recall == pytest.approx((cross < fake_radii.T).any(1).double().mean().item())
    assert scores.density == pytest.approx((cross < real_radii).sum(0).double().mean().item() / 2)
    assert scores.coverage == pytest.approx((cross < real_radii).any(1).double().mean().item())


def test_what_rounding_cannot_tell_from_the_rim_is_outside():
    points = torch.tensor([[1.0], [1 - 1e-13], [1 - 1e-9], [1 + 1e-13]], dtype=torch.float64)
    distances = manifold.BlockOfDistances(torch.zeros(1, 1), points)
    assert distances.below(torch.ones(1, 1).double()).tolist() == [[False, False, True, False]]


def test_equal_distances_come_in_the_order_of_the_reference():
    reference = torch.tensor([[3.0, 0], [0, 1], [1, 0], [0, -1], [2, 0], [-1, 0]])
    assert nearest(torch.zeros(1, 2), reference, 5).indices.tolist() == [[1, 2, 3, 5, 4]]


def test_no_block_grows_with_the_sets(monkeypatch, cut):
    shapes = []

    class Spy(manifold.BlockOfDistances):
        def __init__(self, x, y):
            shapes.append((len(x), len(y)))
            super().__init__(x, y)

    monkeypatch.setattr(manifold, "BlockOfDistances", Spy)
    cut(50)
    manifold_scores(*real_and_fake())
    assert max(max(shape) for shape in shapes) == 50


def test_what_cannot_be_compared_is_refused():
    x = features(1, 6, 4)
    with pytest.raises(ValueError, match="from 1 to that of the images, 5, got 6"):
        manifold_scores(x, features(2, 50, 4), nearest_k=6)
    with pytest.raises(ValueError, match="from 1 to that of the images, 6, got 7"):
        nearest(features(2, 50, 4), x, 7)
    with pytest.raises(ValueError, match="from 1 to that of the images, 6, got 0"):
        nearest(features(2, 50, 4), x, 0)
    with pytest.raises(ValueError, match="features of 4 and 5 numbers"):
        nearest(x, features(2, 50, 5), 1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        nearest(x * torch.nan, x, 1)


@pytest.mark.gpu
def test_the_gpu_agrees(cut):
    real, fake = (x.float() for x in real_and_fake())
    expected = manifold_scores(real, real)
    cut(100)
    assert manifold_scores(real.cuda(), fake.cuda()) == manifold_scores(real, fake)
    assert torch.equal(nearest(fake.cuda(), real.cuda(), 3).indices.cpu(), nearest(fake, real, 3).indices)
    cut(64)
    assert manifold_scores(real.cuda(), real.cuda()) == expected
