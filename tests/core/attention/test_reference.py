import pytest
import torch

from sagan.core.attention.patterns import ExcludeLocal, Full, Local
from sagan.core.attention.reference import attend_reference, attention_backward, attention_weights

PATTERNS = [
    Full(2, 3),
    ExcludeLocal(3, 3, 1),
    ExcludeLocal(3, 3, 1, "before"),  # the middle query has no key
    ExcludeLocal(2, 2, 1, "before"),  # no query has a key
    ExcludeLocal(2, 4, 1, "after", pool=2),
    ExcludeLocal(2, 4, "self", "before", pool=2),
    Local(2, 3, 1),
]


def inputs(pattern, dtype=torch.float64, batch=2, heads=1, dim=3, value_dim=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (pattern.queries, dim), (pattern.keys, dim), (pattern.keys, value_dim)
    return [
        torch.randn(batch, heads, *shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_first_and_second_derivatives_are_right(pattern):
    qkv = inputs(pattern)
    assert torch.autograd.gradcheck(lambda *x: attend_reference(*x, pattern, scale=0.7), qkv)
    assert torch.autograd.gradgradcheck(lambda *x: attend_reference(*x, pattern, scale=0.7), qkv)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_the_backward_formula_is_the_derivative_and_is_itself_differentiable(pattern):
    qkv = inputs(pattern, heads=2)
    out = attend_reference(*qkv, pattern, scale=0.7)
    grad_out = torch.randn_like(out, requires_grad=True)
    expected = torch.autograd.grad(out, qkv, grad_out, create_graph=True)
    found = attention_backward(grad_out, *qkv, pattern, scale=0.7)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    penalty = [sum(g.square().sum() for g in grads) for grads in (expected, found)]
    for a, b in zip(*(torch.autograd.grad(p, [*qkv, grad_out], retain_graph=True) for p in penalty), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("span", [0, 1, 2, "self"])
def test_after_is_before_times_the_share_of_the_softmax_outside(span, pool):
    after, before = (ExcludeLocal(4, 6, span, masking, pool) for masking in ("after", "before"))
    q, k, v = inputs(after)
    scores = q @ k.transpose(-1, -2)
    outside = scores.masked_fill(~after.mask(), -torch.inf).logsumexp(-1, keepdim=True)
    share = (outside - scores.logsumexp(-1, keepdim=True)).exp()
    expected = attend_reference(q, k, v, before) * share
    torch.testing.assert_close(attend_reference(q, k, v, after), expected, rtol=1e-12, atol=1e-12)


def test_weights_are_those_used_and_sum_to_what_the_masking_says():
    after, before = ExcludeLocal(6, 6, 3), ExcludeLocal(6, 6, 3, "before")  # rows with and without keys
    q, k, v = inputs(after, dtype=torch.float32)
    for pattern in (after, before):
        weights = attention_weights(q, k, pattern, scale=0.5)
        assert weights.shape == (2, 1, 36, 36)
        assert (weights[:, :, ~pattern.mask()] == 0).all()
        assert (weights >= 0).all()
        torch.testing.assert_close(weights @ v, attend_reference(q, k, v, pattern, scale=0.5))
    has_keys = before.visible_keys() > 0
    totals = attention_weights(q, k, before).sum(-1)
    torch.testing.assert_close(totals, has_keys.float().expand_as(totals))
    assert (attention_weights(q, k, after).sum(-1)[:, :, has_keys] < 1).all()


def test_low_precision_keeps_the_softmax_in_float32():
    pattern = Full(4, 4)
    q, k, _ = inputs(pattern, dtype=torch.bfloat16, dim=8)
    weights = attention_weights(q, k, pattern)
    assert weights.dtype == torch.float32
    exact = attention_weights(q.double(), k.double(), pattern)
    assert (weights - exact).abs().max() < 1e-6


def test_a_mask_made_in_inference_mode_serves_training_later():
    pattern = ExcludeLocal(3, 7, 1)  # a size no other test uses, so the mask is new
    qkv = inputs(pattern)
    with torch.inference_mode():
        attend_reference(*qkv, pattern)
    attend_reference(*qkv, pattern).sum().backward()
    assert all(x.grad is not None for x in qkv)
