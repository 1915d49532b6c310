import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sagan.evaluation.metrics.moments import Moments


def features(count, dim=7, seed=0, offset=0.0):
    numbers = np.random.RandomState(seed).standard_normal((count, dim)) @ np.diag(np.linspace(0.1, 3, dim))
    return torch.from_numpy(numbers + offset)


def assert_same(a, b, tolerance=1e-12):
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.covariance, b.covariance, rtol=tolerance, atol=tolerance)


def test_mean_and_covariance_are_numpys():
    x = features(50)
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-13, atol=1e-13)
    assert torch.equal(moments.covariance, moments.covariance.T)


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=12), seed=st.integers(0, 5))
def test_batches_of_any_sizes_give_the_same(cuts, seed):
    x = features(60, seed=seed)
    bounds = [0, *sorted(cuts), 60]
    moments = Moments(7)
    for first, last in itertools.pairwise(bounds):
        moments.add(x[first:last])  # of no images too
    assert_same(moments, Moments.of(x))


@pytest.mark.parametrize("batch", [1, 13, 500])
def test_a_large_common_offset_costs_no_digits(batch):
    """Sums of x x^T would lose 14 of 16 digits at first, and a shift by the first batch some where features drift."""
    x = features(500)
    moments = Moments(7)
    for rows in (x + 1e7).split(batch):
        moments.add(rows)
    torch.testing.assert_close(moments.covariance, Moments.of(x).covariance, rtol=1e-7, atol=1e-7)  # of 1e7 + x: 1e-9
    drifting = x.cumsum(0)
    moments = Moments(7)
    for rows in drifting.split(batch):
        moments.add(rows)
    np.testing.assert_allclose(moments.covariance, np.cov(drifting.numpy(), rowvar=False), rtol=1e-11)


def test_more_features_than_one_chunk(monkeypatch):
    monkeypatch.setattr("sagan.evaluation.metrics.moments.CHUNK", 16)
    moments = Moments.of(features(50))
    monkeypatch.undo()
    assert_same(moments, Moments.of(features(50)))


@pytest.mark.parametrize("split", [0, 1, 20, 50])
def test_merging_is_adding_the_other_ones_images(split):
    x = features(50)
    a, b = Moments.of(x[:split]), Moments.of(x[split:])
    before = b.to_tensors()
    a.merge(b)
    assert_same(a, Moments.of(x))
    for name, tensor in b.to_tensors().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_of_less_precision_are_summed_in_float64(dtype):
    x = features(3000, offset=5).to(dtype)
    moments = Moments(7)
    for rows in x.split(64):
        moments.add(rows)
    assert moments.mean.dtype == moments.covariance.dtype == torch.float64
    assert_same(moments, Moments.of(x.double()))


def test_the_features_keep_no_graph():
    x = features(5).requires_grad_()
    assert not Moments.of(x).covariance.requires_grad


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_state_survives_safetensors_to_the_last_bit(tmp_path, count):
    moments = Moments.of(features(count))
    save_file(moments.to_tensors(), tmp_path / "a.safetensors")
    copy = Moments.from_tensors(load_file(tmp_path / "a.safetensors"))
    assert copy.count == count
    assert torch.equal(copy.mean, moments.mean)
    assert torch.equal(copy.scatter, moments.scatter)
    copy.add(features(10, seed=1))
    assert copy.count == count + 10
    assert moments.count == count


def test_the_tensors_do_not_change_with_the_moments():
    moments = Moments.of(features(10))
    before = moments.to_tensors()
    copy = Moments.from_tensors(before)
    expected = before["scatter"].clone()
    for each in (moments, copy):
        each.add(features(10, seed=1))
        assert torch.equal(before["scatter"], expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_features_that_are_not_finite_are_refused_and_counted(bad):
    x = features(64)
    x[3, 2] = x[3, 4] = x[60, 0] = bad
    moments = Moments.of(features(5))
    before = moments.to_tensors()
    with pytest.raises(ValueError, match="2 of 64 images have features that are NaN or infinite"):
        moments.add(x)
    for name, tensor in moments.to_tensors().items():
        assert torch.equal(tensor, before[name])


def test_what_cannot_be_moments_is_refused():
    with pytest.raises(ValueError, match="shape \\(images, dim\\), got torch.float32 of shape \\(5,\\)"):
        Moments(5).add(torch.zeros(5))
    with pytest.raises(ValueError, match="floating point"):
        Moments(5).add(torch.zeros(2, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match="features of 5 and 6 numbers cannot be compared"):
        Moments(5).add(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="features of 5 and 6 numbers cannot be compared"):
        Moments(5).merge(Moments(6))
    with pytest.raises(ValueError, match="needs 2 images or more, got 1"):
        _ = Moments.of(features(1)).covariance


@pytest.mark.gpu
def test_sums_live_where_the_features_are_and_agree_with_the_cpu():
    x = features(3000, dim=64, offset=3).float()
    on_gpu = Moments(64)
    for rows in x.cuda().split(100):
        on_gpu.add(rows)
    assert on_gpu.scatter.is_cuda
    on_cpu = Moments.of(x)
    torch.testing.assert_close(on_gpu.covariance.cpu(), on_cpu.covariance, rtol=1e-11, atol=1e-11)
    on_cpu.merge(on_gpu)
    assert on_cpu.count == 6000


@pytest.mark.parametrize("name", ["count", "mean", "scatter"])
def test_statistics_that_lack_an_array_are_refused_with_its_name(name):
    tensors = Moments.of(torch.randn(5, 3)).to_tensors()
    for wrong in (None, torch.zeros(2), torch.zeros(0), torch.zeros(2, 2)):
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(ValueError, match="statistics are the arrays count, mean and scatter of one dim"):
            Moments.from_tensors(rest if wrong is None else {**rest, name: wrong})
