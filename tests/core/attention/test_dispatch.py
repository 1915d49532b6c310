"""Every backend against the definition, written once more here in float64, and the choice between them."""

import re

import numpy as np
import pytest
import torch

from sagan.core.attention import blocked, dispatch
from sagan.core.attention.dispatch import BACKENDS, attend, choose_backend, describe_choice, reasons_against
from sagan.core.attention.patterns import ExcludeLocal, Full, Local
from sagan.core.attention.reference import attention_weights
from sagan.core.layers.self_attention import SelfAttention2d, SpectralSelfAttention2d
from sagan.system.errors import UserError

GRIDS = [
    *[(1, 1, span, 1) for span in (0, 1, "self")],
    *[(4, 4, span, 1) for span in (2, 3)],
    *[(5, 7, span, 1) for span in (0, 1, 2, 3, 4, "self")],
    (8, 8, 4, 1),
    (16, 16, 3, 1),
    *[(4, 6, span, 2) for span in (0, 1, 2, "self")],
    *[(8, 8, span, 2) for span in (0, 1, 2, 3, 4)],
]
PATTERNS = [
    *[ExcludeLocal(h, w, span, masking, pool) for h, w, span, pool in GRIDS for masking in ("after", "before")],
    Full(5, 7),
    Local(5, 7, 1),
    Local(8, 8, 2, pool=2),
]
WITH_EMPTY_ROWS = [pattern for pattern in PATTERNS if pattern.rows_without_keys()]
CPU_BACKENDS = ["reference", "blocked"]


def visible(pattern) -> torch.Tensor:
    """The mask from the definition: a key is near when its cell comes within the radius on both axes."""

    def gaps(size):  # from each pixel to the nearest pixel of each cell, 0 inside it
        pixel, first = torch.arange(size)[:, None], torch.arange(0, size, pattern.pool)[None]
        return torch.maximum(first - pixel, pixel - first - pattern.pool + 1).clamp_min(0)

    down, across = gaps(pattern.height), gaps(pattern.width)
    distance = torch.maximum(down[:, None, :, None], across[None, :, None, :]).reshape(pattern.queries, pattern.keys)
    if isinstance(pattern, Local):
        return distance <= pattern.radius
    if isinstance(pattern, Full) or pattern.span == 0:
        return distance >= 0
    return distance > (0 if pattern.span == "self" else pattern.span)


def definition(q, k, v, pattern, scale):
    seen = visible(pattern).to(q.device).double()
    exps = torch.exp(scale * torch.einsum("bhid,bhjd->bhij", q, k))
    total = (exps if pattern.masking == "after" else exps * seen).sum(-1, keepdim=True)
    weights = torch.where(total > 0, exps * seen / torch.where(total > 0, total, 1), 0)
    return torch.einsum("bhij,bhjc->bhic", weights, v)


def plain_dense(q, k, v, pattern, scale):
    """What one would write without thinking of rounding, in the dtype of the inputs."""
    scores = q @ k.transpose(-1, -2) * scale
    hidden = ~visible(pattern).to(q.device)
    if pattern.masking == "before":
        return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
    return scores.softmax(-1).masked_fill(hidden, 0) @ v


def inputs(pattern, dtype=torch.float64, batch=1, heads=1, dim=4, value_dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (pattern.queries, dim), (pattern.keys, dim), (pattern.keys, value_dim), (pattern.queries, value_dim)
    q, k, v, grad = (
        torch.randn(batch, heads, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    )
    return [q.requires_grad_(), k.requires_grad_(), v.requires_grad_()], grad


def output_and_gradients(function, qkv, grad):
    out = function(*qkv)
    return [out, *torch.autograd.grad(out, qkv, grad)]


@pytest.fixture(params=CPU_BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setattr(blocked, "_default_tile", lambda device: 300)  # partial tiles on these small maps
    return request.param


@pytest.mark.parametrize(("batch", "heads"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_output_and_gradients_are_the_definition_s(pattern, batch, heads, backend):
    qkv, grad = inputs(pattern, batch=batch, heads=heads)
    found = output_and_gradients(lambda *x: attend(*x, pattern, scale=0.6, backend=backend), qkv, grad)
    expected = output_and_gradients(lambda *x: definition(*x, pattern, 0.6), qkv, grad)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "pattern",
    [
        Full(16, 16),
        ExcludeLocal(16, 16, 3),
        ExcludeLocal(16, 16, 3, "before"),
        ExcludeLocal(32, 32, 3),
        ExcludeLocal(32, 32, 1, "before"),
        ExcludeLocal(32, 32, 3, "after", pool=2),
    ],
    ids=str,
)
def test_error_is_at_most_twice_that_of_plain_pytorch(pattern, dtype, backend, monkeypatch):
    monkeypatch.setattr(blocked, "_default_tile", lambda device: 70_000)  # several tiles, the last one partial
    qkv, grad = inputs(pattern, dtype, batch=2, heads=1, dim=8, value_dim=16)
    exact = [x.detach().double().requires_grad_() for x in qkv]
    expected = output_and_gradients(lambda *x: definition(*x, pattern, 0.5), exact, grad.double())
    plain = output_and_gradients(lambda *x: plain_dense(*x, pattern, 0.5), qkv, grad)
    found = output_and_gradients(lambda *x: attend(*x, pattern, scale=0.5, backend=backend), qkv, grad)
    for name, ours, theirs, right in zip(("out", "dq", "dk", "dv"), found, plain, expected, strict=True):
        assert ours.dtype == dtype
        error, allowed = ((x.double() - right).square().mean().sqrt() for x in (ours, theirs))
        assert error <= 2 * allowed, f"{name}: error {error:.2e}, plain dense {allowed:.2e}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("pattern", WITH_EMPTY_ROWS, ids=str)
def test_a_query_without_keys_gives_exactly_0_and_no_gradient(pattern, dtype, backend):
    empty = pattern.visible_keys() == 0
    qkv, grad = inputs(pattern, dtype, batch=2)
    found = output_and_gradients(lambda *x: attend(*x, pattern, backend=backend), qkv, grad)
    assert all(x.isfinite().all() for x in found)
    out, grad_q, _, _ = found
    assert (out[:, :, empty] == 0).all()
    assert (grad_q[:, :, empty] == 0).all()
    only_empty_rows = torch.where(empty[:, None], grad, 0)
    _, *gradients = output_and_gradients(lambda *x: attend(*x, pattern, backend=backend), qkv, only_empty_rows)
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("pattern", [ExcludeLocal(4, 4, 2), ExcludeLocal(4, 4, 2, "before")], ids=str)
def test_large_scores_stay_finite(pattern, backend):
    qkv, grad = inputs(pattern, torch.float32)
    found = output_and_gradients(lambda *x: attend(*x, pattern, scale=1e4, backend=backend), qkv, grad)
    assert all(x.isfinite().all() for x in found)


@pytest.mark.parametrize("pattern", [ExcludeLocal(12, 12, 2), ExcludeLocal(4, 4, 2, "before")], ids=str)
def test_under_autocast_the_inputs_are_cast_and_the_gradients_come_back(pattern, backend):
    qkv, grad = inputs(pattern, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(*qkv, pattern, backend=backend)
    found = [out, *torch.autograd.grad(out, qkv, grad.bfloat16())]
    assert [x.dtype for x in found] == [torch.bfloat16, torch.float32, torch.float32, torch.float32]
    low = [x.detach().bfloat16().requires_grad_() for x in qkv]
    expected = output_and_gradients(lambda *x: attend(*x, pattern, backend=backend), low, grad.bfloat16())
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.float(), b.float())


def test_a_tiled_backward_pass_inside_autocast_keeps_its_float32_softmax():
    pattern = ExcludeLocal(12, 12, 2)
    qkv, grad = inputs(pattern, torch.float32)
    out = attend(*qkv, pattern, backend="blocked")
    expected = torch.autograd.grad(out, qkv, grad, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(out, qkv, grad)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_image_s_output_does_not_depend_on_its_neighbours_in_the_batch(backend):
    pattern = ExcludeLocal(6, 6, 1)
    (q, k, v), _ = inputs(pattern, torch.float32, batch=4)
    together = attend(q, k, v, pattern, backend=backend)
    for i in range(4):
        alone = attend(q[i : i + 1], k[i : i + 1], v[i : i + 1], pattern, backend=backend)
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "pattern",
    [
        *WITH_EMPTY_ROWS[-2:],
        ExcludeLocal(5, 7, 2),
        ExcludeLocal(48, 48, 3),
        ExcludeLocal(48, 48, 3, "before"),
        Local(16, 8, 1),
    ],
    ids=str,
)
def test_on_cuda_every_backend_gives_what_it_gives_on_the_cpu(pattern, dtype, backend):
    qkv, grad = inputs(pattern, dtype, batch=2)
    expected = output_and_gradients(lambda *x: attend(*x, pattern, backend=backend), qkv, grad)
    on_gpu = [x.detach().cuda().requires_grad_() for x in qkv]
    found = output_and_gradients(lambda *x: attend(*x, pattern, backend=backend), on_gpu, grad.cuda())
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=tolerance, atol=tolerance)


def test_auto_takes_the_dense_way_on_small_maps_and_tiles_on_large_ones():
    for pattern, expected in ((Full(8, 8), "reference"), (Full(16, 16), "blocked"), (Full(64, 64), "blocked")):
        qkv, _ = inputs(pattern, torch.float32)
        assert choose_backend(*qkv, pattern) == expected
        torch.testing.assert_close(attend(*qkv, pattern), attend(*qkv, pattern, backend=expected), rtol=0, atol=0)


def test_a_backend_with_something_against_it_is_not_chosen_and_says_why(monkeypatch):
    pattern = Full(16, 16)
    qkv, _ = inputs(pattern)
    assert all(reasons_against(name, *qkv, pattern) == [] for name in CPU_BACKENDS)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert choose_backend(*qkv, pattern) == "reference"
    with pytest.raises(ValueError, match=r"attention backend 'blocked' cannot run here: .* cannot be exported"):
        attend(*qkv, pattern, backend="blocked")


@pytest.mark.parametrize(
    ("pattern", "batch", "with_triton", "without"),
    [
        (Full(16, 16), 4, "reference", "reference"),
        (Full(32, 32), 4, "triton", "reference"),
        (ExcludeLocal(64, 64, 3), 64, "triton", "blocked"),
        (ExcludeLocal(64, 64, 3, pool=4), 4, "triton", "reference"),
        (Full(16, 16), 4096, "triton", "blocked"),  # a small map, a batch too large to hold
    ],
)
def test_auto_on_a_gpu_takes_the_kernel_on_large_maps(pattern, batch, with_triton, without, monkeypatch):
    number = torch.empty((), device="meta")  # neither a CPU nor a GPU: what is preferred is what a GPU prefers
    q, k, v = (number.expand(batch, 1, rows, 8) for rows in (pattern.queries, pattern.keys, pattern.keys))
    monkeypatch.setattr(dispatch, "may_read", lambda x: True)
    monkeypatch.setattr(dispatch, "_against_triton_here", lambda *_: [])
    assert choose_backend(q, k, v, pattern) == with_triton
    monkeypatch.setattr(dispatch, "_against_triton_here", lambda *_: ["not here"])
    assert choose_backend(q, k, v, pattern) == without
    monkeypatch.setattr(dispatch, "_against_triton_here", lambda *_: [])
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert choose_backend(q, k, v, pattern) == "reference"


def test_the_choice_is_described_in_a_line():
    assert describe_choice(ExcludeLocal(8, 8, 3), 64, 8, 64) == "8x8 by reference"
    large = describe_choice(ExcludeLocal(128, 128, 3, "before"), 64, 8, 64, dtype=torch.bfloat16)
    assert large == "128x128 by blocked (dense would hold 65,536 MiB)"
    double = describe_choice(Full(16, 16), 64, 8, 64, heads=2, dtype=torch.float64)
    assert double == "16x16 by blocked (dense would hold 64 MiB)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q[0], k, v), r"must have 4 dimensions \(batch, heads, rows, dim\), got q \(2, 16, 4\)"),
        (lambda q, k, v: (q[:, :1], k, v), "must have the same batch and heads"),
        (lambda q, k, v: (q[..., :3], k, v), "q and k must have the same dim"),
        (lambda q, k, v: (q[:, :, :15], k, v), "q must have 16 rows, one for each query of Full"),
        (lambda q, k, v: (q, k[:, :, :15], v), "k must have 16 rows, one for each key of Full"),
        (lambda q, k, v: (q, k, v[:, :, :15]), "v must have 16 rows"),
        (
            lambda q, k, v: (q, k, v.float()),
            "one floating-point dtype, got torch.float64, torch.float64, torch.float32",
        ),
        (lambda q, k, v: (q.int(), k.int(), v.int()), "one floating-point dtype"),
        (lambda q, k, v: (q, k, v.to("meta")), "must be on one device, got cpu, cpu, meta"),
    ],
)
def test_inputs_that_do_not_fit_are_answered_in_a_sentence(change, message):
    qkv, _ = inputs(Full(4, 4), batch=2, heads=2)
    with pytest.raises(ValueError, match=message):
        attend(*change(*qkv), Full(4, 4))


@pytest.mark.parametrize("name", ["fast", None, ["auto"]])
def test_an_unknown_backend_is_answered_with_the_names(name):
    qkv, _ = inputs(Full(4, 4))
    known = f'"auto" or one of {", ".join(sorted(BACKENDS))}'
    with pytest.raises(UserError, match=re.escape(f"backend must be {known}, got {name!r}")):
        attend(*qkv, Full(4, 4), backend=name)


@pytest.mark.parametrize(
    "scale",
    [
        *("x", None, [1.0], 1j, np.complex64(1 + 5j), 10**400, float("nan"), float("inf"), True, np.bool_(True)),
        *(torch.tensor(2), torch.ones(2), torch.tensor([1.0]).to_sparse(), torch.tensor(1.0, device="meta")),
        torch.tensor(0.5).to(torch.float8_e4m3fn),
    ],
    ids=lambda scale: f"{type(scale).__name__} {str(scale)[:20]}",
)
def test_a_scale_that_is_no_finite_number_is_refused(scale):
    q = torch.randn(1, 1, 16, 4)
    with pytest.raises(UserError, match="scale must be "):
        attend(q, q, q, Full(4, 4), scale=scale)
    with pytest.raises(UserError, match="scale must be "):
        attention_weights(q, q, Full(4, 4), scale=scale)


@pytest.mark.filterwarnings("error")
def test_a_scale_may_be_of_any_type_of_real_numbers():
    q = torch.randn(1, 1, 16, 4)
    for scale in (2, np.float32(2), np.float64(2), np.int8(2), torch.tensor(2.0), torch.tensor([2.0])):
        assert torch.equal(attend(q, q, q, Full(4, 4), scale=scale), attend(q, q, q, Full(4, 4), scale=2.0))
        weights = attention_weights(q, q, Full(4, 4), scale=scale)
        assert torch.equal(weights, attention_weights(q, q, Full(4, 4), scale=2.0))


@pytest.mark.filterwarnings("ignore:The PyTorch API of (nested tensors|MaskedTensors):UserWarning")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda q: q.numpy(),
        lambda q: q.to(torch.float8_e4m3fn),
        lambda q: q.int(),
        lambda q: q.to_sparse(),
        lambda q: torch.nested.nested_tensor(list(q)),
        lambda q: torch.nested.nested_tensor(list(q), layout=torch.jagged),
        lambda q: torch.masked.masked_tensor(q, q > 0),
        lambda q: q[0],
        lambda q: q[:, :, :5],
    ],
)
def test_tensors_that_attention_cannot_use_are_refused(wrong):
    q = torch.randn(1, 1, 16, 4)
    with pytest.raises(UserError, match=r"^(q|q, k and v) must"):
        attend(*[wrong(q)] * 3, Full(4, 4))
    with pytest.raises(UserError, match=r"^(q|q and k) must"):
        attention_weights(*[wrong(q)] * 2, Full(4, 4))
    with pytest.raises(UserError, match=r"^(k|q, k and v|q and k) must"):
        attention_weights(q, wrong(q), Full(4, 4))


def test_tensors_without_numbers_have_attention_without_numbers():
    meta = torch.empty(1, 1, 256, 4, device="meta")
    assert attend(meta, meta, meta, Full(16, 16), scale=torch.ones((), device="meta")).shape == meta.shape
    with pytest.raises(UserError, match=r"backend 'blocked' cannot run here: .* on the meta device"):
        attend(meta, meta, meta, Full(16, 16), backend="blocked")


@pytest.mark.parametrize("pattern", [None, "full", Full])
def test_what_is_no_pattern_is_refused(pattern):
    q = torch.randn(1, 1, 16, 4)
    for use in (lambda: attend(q, q, q, pattern), lambda: attention_weights(q, q, pattern)):
        with pytest.raises(UserError, match="pattern must be a pattern, such as"):
            use()
    for layer in (SelfAttention2d, SpectralSelfAttention2d):
        with pytest.raises(UserError, match="pattern must be a pattern, such as"):
            layer(8, pattern)
