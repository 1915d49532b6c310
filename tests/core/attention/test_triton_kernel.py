"""The fused kernels: here in Triton's interpreter on small maps cut into small blocks, with a GPU also at real sizes.

The interpreter keeps bfloat16 numbers as 16-bit integers, multiplies them as such and rounds by cutting off, so
bfloat16 is tested on a GPU only; float16 takes the same path through the kernels.
"""

import contextlib
import os
import subprocess
import sys

import pytest
import torch

from sagan.core.attention.dispatch import attend, reasons_against
from sagan.core.attention.patterns import ExcludeLocal, Full, Local
from sagan.core.attention.reference import attend_reference
from tests.core.attention.test_dispatch import definition, inputs, output_and_gradients, plain_dense

pytest.importorskip("triton", reason="Triton is not installed")
if not torch.cuda.is_available() and not os.environ.get("TRITON_INTERPRET"):
    pytest.skip("Triton was imported before its interpreter could be switched on", allow_module_level=True)

from sagan.core.attention import triton_kernel
from sagan.core.attention.triton_kernel import Blocks, attend_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device here")]
only_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="Triton's interpreter reads bfloat16 as integers")
LOW_PRECISION = [torch.float16, pytest.param(torch.bfloat16, marks=only_gpu)]

PATTERNS = [
    Full(5, 7),
    Full(8, 6, pool=2),
    ExcludeLocal(1, 1, "self"),
    ExcludeLocal(1, 1, 1, "before"),
    ExcludeLocal(5, 7, 0),
    ExcludeLocal(5, 7, 1),
    ExcludeLocal(5, 7, 2),
    ExcludeLocal(5, 7, 2, "before"),
    ExcludeLocal(5, 7, 1, "before"),
    ExcludeLocal(5, 7, "self", "before"),
    ExcludeLocal(4, 4, 2),  # 4 queries have no key
    ExcludeLocal(4, 4, 2, "before"),
    ExcludeLocal(4, 16, 1),  # a block of queries or of keys lies within a row of the map
    ExcludeLocal(4, 16, 1, "before"),
    ExcludeLocal(2, 32, 1, "before"),
    ExcludeLocal(4, 32, 3, pool=2),
    ExcludeLocal(32, 4, 1, pool=2),  # a row of cells touches the squares of queries in the next block
    ExcludeLocal(8, 8, 2, "before", pool=2),
    Local(5, 7, 1),
    Local(8, 8, 2, pool=2),
]


@pytest.fixture(params=[(32, 16)], ids=str)
def small_blocks(request, monkeypatch):
    """Several blocks on small maps, partial ones among them."""
    monkeypatch.setattr(triton_kernel, "choose_blocks", lambda *_: Blocks(*request.param, 4, 2))


def inputs_here(pattern, dtype=torch.float32, **sizes):
    qkv, grad = inputs(pattern, dtype, **sizes)
    return [x.detach().to(DEVICE).requires_grad_() for x in qkv], grad.to(DEVICE)


def in_float64(way, qkv, grad):
    exact = [x.detach().double().requires_grad_() for x in qkv]
    return output_and_gradients(way, exact, grad.double())


def assert_close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


def assert_error_at_most_twice_plain(pattern, qkv, grad, scale):
    """The root mean square error of the kernels and of plain dense PyTorch in the same dtype, against float64."""
    right = in_float64(lambda *x: definition(*x, pattern, scale), qkv, grad)
    plain = output_and_gradients(lambda *x: plain_dense(*x, pattern, scale), qkv, grad)
    found = output_and_gradients(lambda *x: attend(*x, pattern, scale=scale, backend="triton"), qkv, grad)
    for name, ours, theirs, exact in zip(("out", "dq", "dk", "dv"), found, plain, right, strict=True):
        assert ours.dtype == qkv[0].dtype
        error, allowed = ((x.double() - exact).square().mean().sqrt() for x in (ours, theirs))
        assert error <= 2 * allowed, f"{name}: error {error:.2e}, plain dense {allowed:.2e}"


@pytest.mark.parametrize(
    ("pattern", "small_blocks"),
    [(pattern, ((32, 16), (16, 32))[i % 2]) for i, pattern in enumerate(PATTERNS)],
    indirect=["small_blocks"],
    ids=str,
)
def test_output_and_gradients_are_the_definition_s(pattern, small_blocks):
    qkv, grad = inputs_here(pattern, dim=3, value_dim=17)
    found = output_and_gradients(lambda *x: attend(*x, pattern, scale=0.6, backend="triton"), qkv, grad)
    assert_close(found, in_float64(lambda *x: definition(*x, pattern, 0.6), qkv, grad), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, *LOW_PRECISION], ids=str)
@pytest.mark.parametrize("pattern", [ExcludeLocal(9, 11, 2), ExcludeLocal(9, 11, 2, "before")], ids=str)
def test_error_is_at_most_twice_that_of_plain_pytorch(pattern, dtype, monkeypatch):
    monkeypatch.setattr(triton_kernel, "choose_blocks", lambda *_: Blocks(64, 32, 4, 2))
    qkv, grad = inputs_here(pattern, dtype, batch=2, dim=8, value_dim=16)
    assert_error_at_most_twice_plain(pattern, qkv, grad, 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, *LOW_PRECISION], ids=str)
@pytest.mark.parametrize("pattern", [ExcludeLocal(4, 4, 2), ExcludeLocal(4, 4, 2, "before")], ids=str)
def test_a_query_without_keys_gives_exactly_0_and_no_gradient(pattern, dtype):
    empty = (pattern.visible_keys() == 0).to(DEVICE)
    qkv, grad = inputs_here(pattern, dtype)
    grad = torch.where(empty[:, None], grad, 0)
    out, *gradients = output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad)
    assert out.isfinite().all()
    assert (out[:, :, empty] == 0).all()
    assert (out[:, :, ~empty] != 0).any()
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("scale", [-0.7, 0, 1e4])
@pytest.mark.parametrize("pattern", [ExcludeLocal(4, 5, 1), ExcludeLocal(4, 5, 1, "before")], ids=str)
def test_any_scale(pattern, scale, small_blocks):
    qkv, grad = inputs_here(pattern)
    found = output_and_gradients(lambda *x: attend_triton(*x, pattern, scale=scale), qkv, grad)
    expected = in_float64(lambda *x: attend_reference(*x, pattern, scale=scale), qkv, grad)
    if scale > 100:  # the softmax picks one key; rounding decides which when two are close
        assert all(x.isfinite().all() for x in found)
    else:
        assert_close(found, expected, 1e-5)


def test_the_same_inputs_give_the_same_bits_whatever_else_is_in_the_batch(small_blocks):
    pattern = ExcludeLocal(4, 5, 1)
    qkv, grad = inputs_here(pattern, batch=2, heads=2)
    together = output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad)
    again = output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad)
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    one = [x.detach()[1:, 1:].requires_grad_() for x in qkv]
    alone = output_and_gradients(lambda *x: attend_triton(*x, pattern), one, grad[1:, 1:])
    assert all(torch.equal(a, b[1:, 1:]) for a, b in zip(alone, together, strict=True))


def test_any_strides_will_do(small_blocks):
    pattern = ExcludeLocal(4, 5, 1)
    (q, k, v), _ = inputs_here(pattern, batch=2, dim=4, value_dim=6)
    packed = torch.cat([x.squeeze(1) for x in (q, k, v)], -1).detach().requires_grad_()  # as one convolution gives them
    as_rows = [x.unsqueeze(1) for x in packed.split([4, 4, 6], -1)]
    transposed = [
        x.detach().transpose(2, 3).contiguous().transpose(2, 3) for x in as_rows
    ]  # columns are not contiguous
    expected = attend_triton(*(x.detach().contiguous() for x in as_rows), pattern)
    assert torch.equal(attend_triton(*as_rows, pattern), expected)
    assert torch.equal(attend_triton(*transposed, pattern), expected)
    attend_triton(*as_rows, pattern).sum().backward()  # the gradient that arrives has strides of 0
    found = packed.grad
    packed.grad = None
    attend_reference(*as_rows, pattern).sum().backward()
    torch.testing.assert_close(found, packed.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pattern", [ExcludeLocal(4, 4, 1), ExcludeLocal(4, 4, 2, "before"), Local(4, 4, 1)], ids=str)
def test_a_gradient_penalty_is_the_reference_s(pattern):
    qkv, _ = inputs_here(pattern)
    penalties = []
    for way in (attend_reference, attend_triton):
        (grad,) = torch.autograd.grad(way(*qkv, pattern).square().sum(), qkv[2], create_graph=True)
        penalty = (grad.square().sum((1, 2, 3)) + 1e-6).sqrt().sub(1).square().mean()
        penalties.append(torch.autograd.grad(penalty, qkv))
    for a, b in zip(*penalties, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_pattern_survives_its_way_through_the_operator(pattern):
    again = triton_kernel._as_pattern(*triton_kernel._as_numbers(pattern))
    assert torch.equal(again.mask(), pattern.mask())
    assert (again.height, again.width, again.pool) == (pattern.height, pattern.width, pattern.pool)
    assert again.masking == pattern.masking or pattern.mask().all()


def test_nothing_of_size_queries_times_keys_is_saved():
    pattern = ExcludeLocal(12, 12, 2)
    qkv, _ = inputs_here(pattern)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        attend_triton(*qkv, pattern)
    assert 0 < max(sizes) <= max(x.numel() for x in qkv)


def test_torch_finds_nothing_wrong_with_the_operator(small_blocks):
    pattern = ExcludeLocal(4, 5, 1)
    qkv, _ = inputs_here(pattern)
    numbers = triton_kernel._as_numbers(pattern)
    torch.library.opcheck(triton_kernel.attention_forward, (*qkv, *numbers, 0.5))
    out, log_sum = triton_kernel.attention_forward(*(x.detach() for x in qkv), *numbers, 0.5)
    saved = (torch.randn_like(out), *(x.detach() for x in qkv), out, log_sum)
    torch.library.opcheck(triton_kernel.attention_backward, (*saved, *numbers, 0.5))


def test_it_compiles_as_one_graph_with_the_same_bits(small_blocks):
    pattern = ExcludeLocal(4, 5, 1)
    qkv, grad = inputs_here(pattern)

    def way(q, k, v):
        return attend(q * 2, k, v, pattern, scale=0.5, backend="triton").square()

    compiled = torch.compile(way, fullgraph=True, backend="aot_eager")
    found, expected = (output_and_gradients(f, qkv, grad) for f in (compiled, way))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_exported_program_holds_the_operator_itself():
    class Attention(torch.nn.Module):
        def forward(self, q, k, v):
            return attend(q, k, v, ExcludeLocal(4, 5, 1), backend="triton")

    qkv, _ = inputs_here(ExcludeLocal(4, 5, 1))
    program = torch.export.export(Attention(), tuple(x.detach() for x in qkv))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "sagan.attention_forward.default" in targets


@contextlib.contextmanager
def products_of_float32(precision):
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_tf32_only_where_torch_asks_for_it(precision):
    with products_of_float32(precision):
        x = torch.empty(1, 1, 4, 8)
        plan, _ = triton_kernel.make_plan("forward", x, x, triton_kernel._as_numbers(Full(2, 2)))
    assert plan.precision == precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dims", [(1, 1), (8, 64), (65, 16), (24, 129), (256, 256)], ids=str)
def test_there_are_blocks_for_every_size(dims, dtype):
    for kernel in ("forward", "backward_queries", "backward_keys"):
        blocks = triton_kernel.choose_blocks(kernel, *dims, dtype)
        assert all(size >= 16 and size & (size - 1) == 0 for size in (blocks.queries, blocks.keys))


def test_importing_attention_imports_no_triton():
    code = "import sys, sagan.core.attention; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


BUILD = """
from benchmarks.triton_build import KERNELS, build
from sagan.core.attention.patterns import ExcludeLocal, Full, Local
import torch
for pattern in (ExcludeLocal(64, 64, 3), ExcludeLocal(5, 7, 2, "before"), Full(7, 9), Local(16, 16, 2, pool=2)):
    for kernel in KERNELS:
        made = build(kernel, pattern, 8, 16, torch.bfloat16)
        assert made.spilled == 0 and made.shared <= 99 * 1024, (kernel, pattern, made.spilled, made.shared)
        assert made.tensor_core_instructions > 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux")
def test_the_kernels_compile_for_a_gpu_without_one(tmp_path):
    """The interpreter takes what the compiler refuses, such as values of two shapes from two branches."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", BUILD], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_reasons_against_are_sentences(monkeypatch):
    pattern = Full(4, 4)
    (q, k, v), _ = inputs(pattern, torch.float32)
    wide = torch.zeros(1, 1, 16, 300)
    assert "dim and value_dim may be at most 256, got 4 and 300" in reasons_against("triton", q, k, wide, pattern)
    double = [x.double() for x in (q, k, v)]
    assert "it computes float32, bfloat16 and float16, not float64" in reasons_against("triton", *double, pattern)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "it runs on CUDA devices, not on cpu" in reasons_against("triton", q, k, v, pattern)[0]
    monkeypatch.setattr("sagan.core.attention.dispatch._is_triton_installed", lambda: False)
    with pytest.raises(ValueError, match="Triton is not installed; on Linux `pip install triton` adds it"):
        attend(q, k, v, pattern, backend="triton")


# ---- at real sizes, on a GPU ----------------------------------------------------------------------------------------

REAL = [
    (ExcludeLocal(32, 32, 3), 4, 8, 64),
    (ExcludeLocal(32, 32, 3, "before"), 4, 8, 64),
    (ExcludeLocal(16, 16, 3), 64, 16, 128),
    (ExcludeLocal(64, 64, 3), 2, 8, 64),
    (ExcludeLocal(64, 64, 3, "before"), 2, 32, 256),
    (ExcludeLocal(64, 64, 3, pool=2), 2, 8, 64),
    (ExcludeLocal(33, 47, 2), 2, 24, 80),
    (ExcludeLocal(32, 32, 3), 1, 256, 256),
    (Local(64, 64, 3), 2, 8, 64),
    (Full(64, 64), 2, 8, 64),
]


def gpu_test(function):
    for mark in on_gpu:
        function = mark(function)
    return function


@gpu_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("pattern", "batch", "dim", "value_dim"), REAL, ids=str)
def test_on_a_gpu_the_error_is_at_most_twice_that_of_plain_pytorch(pattern, batch, dim, value_dim, dtype):
    qkv, grad = inputs_here(pattern, dtype, batch=batch, dim=dim, value_dim=value_dim)
    with products_of_float32("ieee"):
        assert_error_at_most_twice_plain(pattern, qkv, grad, dim**-0.5)


@gpu_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_gpu_two_runs_give_the_same_bits(dtype):
    pattern = ExcludeLocal(64, 64, 3)
    qkv, grad = inputs_here(pattern, dtype, batch=8, dim=8, value_dim=64)
    first, second = (output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@gpu_test
def test_on_a_gpu_inductor_takes_it_as_one_graph():
    pattern = ExcludeLocal(32, 32, 3)
    qkv, grad = inputs_here(pattern, torch.bfloat16, batch=4, dim=8, value_dim=64)
    compiled = torch.compile(lambda *x: attend(*x, pattern), fullgraph=True)
    found, expected = (
        output_and_gradients(way, qkv, grad) for way in (compiled, lambda *x: attend_triton(*x, pattern))
    )
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@gpu_test
def test_on_a_gpu_a_captured_graph_replays_on_new_inputs():
    pattern = ExcludeLocal(32, 32, 3)
    qkv, grad = inputs_here(pattern, torch.bfloat16, batch=4, dim=8, value_dim=64)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad)  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad)
    with torch.no_grad():
        for x in qkv:
            x.copy_(torch.randn_like(x))
    graph.replay()
    expected = output_and_gradients(lambda *x: attend_triton(*x, pattern), qkv, grad)
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@gpu_test
def test_on_a_gpu_offsets_beyond_32_bits_are_reached():
    pattern = ExcludeLocal(64, 64, 1)
    batch = 2**31 // (pattern.keys * 256) + 2  # v has more than 2^31 entries
    q, k = (torch.randn(1, 1, pattern.queries, 8, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    v = torch.randn(1, 1, pattern.keys, 256, device=DEVICE, dtype=torch.bfloat16).expand(batch, -1, -1, -1).contiguous()
    out = attend_triton(q.expand(batch, -1, -1, -1), k.expand(batch, -1, -1, -1), v, pattern)
    assert torch.equal(out[-1], out[0])
