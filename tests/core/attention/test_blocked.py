import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sagan.core.attention import blocked
from sagan.core.attention.blocked import attend_blocked
from sagan.core.attention.patterns import ExcludeLocal, Full, Local
from sagan.core.attention.reference import attend_reference

PATTERNS = [
    Full(4, 4),
    Full(4, 6, pool=2),
    ExcludeLocal(5, 7, 2),
    ExcludeLocal(5, 7, 2, "before"),
    ExcludeLocal(4, 4, 2),  # 4 queries have no key
    ExcludeLocal(4, 4, 2, "before"),
    ExcludeLocal(8, 8, 2, "after", pool=2),
    ExcludeLocal(4, 6, "self", "before", pool=2),
    Local(6, 6, 1),
    Local(8, 6, 1, pool=2),
]


def inputs(pattern, dtype=torch.float64, batch=3, heads=2, dim=4, value_dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (pattern.queries, dim), (pattern.keys, dim), (pattern.keys, value_dim)
    return [
        torch.randn(batch, heads, *shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def assert_same(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tile", [1, 50, 200, 700, 10**6])  # one row, partial rows, partial groups of images, all
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_every_tile_size_gives_the_reference(pattern, tile):
    qkv = inputs(pattern)
    expected = attend_reference(*qkv, pattern, scale=0.7)
    found = attend_blocked(*qkv, pattern, scale=0.7, tile=tile)
    assert_same([found], [expected])
    grad_out = torch.randn_like(found)
    assert_same(torch.autograd.grad(found, qkv, grad_out), torch.autograd.grad(expected, qkv, grad_out))


@pytest.mark.parametrize(
    "pattern", [ExcludeLocal(16, 16, 2), Local(16, 16, 2), ExcludeLocal(16, 16, 2, "before")], ids=str
)
def test_tiles_cover_the_map_once_and_hold_what_was_asked(pattern):
    tile, images, seen = 3000, 2, torch.zeros(2, pattern.queries, dtype=torch.int64)
    for group, piece in blocked._tiles(images, pattern, tile, torch.device("cpu")):
        rows, keys = seen[group, piece.rows].shape[1], piece.keys.stop - piece.keys.start
        assert rows * keys <= tile
        seen[group, piece.rows] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    "pattern", [ExcludeLocal(3, 3, 1), ExcludeLocal(3, 3, 1, "before"), Local(2, 4, 1, pool=2)], ids=str
)
def test_derivatives_by_finite_differences(pattern):
    qkv = inputs(pattern, batch=2, heads=1, dim=3, value_dim=2)
    assert torch.autograd.gradcheck(lambda *x: attend_blocked(*x, pattern, scale=0.7, tile=20), qkv)
    assert torch.autograd.gradgradcheck(lambda *x: attend_blocked(*x, pattern, scale=0.7, tile=20), qkv)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_gradient_penalty_is_the_reference_s(pattern):
    qkv = inputs(pattern)
    penalties = []
    for attend in (attend_reference, attend_blocked):
        (grad,) = torch.autograd.grad(attend(*qkv, pattern).square().sum(), qkv[2], create_graph=True)
        penalty = (grad.square().sum((1, 2, 3)) + 1e-6).sqrt().sub(1).square().mean()
        penalties.append(torch.autograd.grad(penalty, qkv))
    assert_same(*penalties)


def saved_sizes(attend, pattern, qkv):
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        attend(*qkv, pattern).sum()
    return sizes


@pytest.mark.parametrize("pattern", [ExcludeLocal(32, 32, 3), ExcludeLocal(32, 32, 3, "before"), Full(32, 32)], ids=str)
def test_nothing_of_size_queries_times_keys_is_saved(pattern):
    qkv = inputs(pattern, dtype=torch.float32, batch=1, heads=1)
    largest = max(x.numel() for x in qkv)
    assert max(saved_sizes(attend_blocked, pattern, qkv)) <= largest
    assert max(saved_sizes(attend_reference, pattern, qkv)) >= 1024 * 1024  # the measure does see a dense matrix


class LargestResult(TorchDispatchMode):
    """Notes the most elements any operation's result has."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = (x for x in tree_leaves(result) if isinstance(x, torch.Tensor))
        self.numel = max([self.numel, *(x.numel() for x in tensors)])
        return result


@pytest.mark.parametrize("pattern", [ExcludeLocal(32, 32, 3), ExcludeLocal(32, 32, 3, "before")], ids=str)
def test_no_temporary_is_larger_than_a_tile(pattern):
    qkv = inputs(pattern, dtype=torch.float32, batch=1, heads=1)
    with LargestResult() as forward:
        out = attend_blocked(*qkv, pattern, tile=2**16)
    with LargestResult() as backward:
        out.sum().backward()
    assert 2**14 < forward.numel <= 2**16
    assert 2**14 < backward.numel <= 2**16


def test_gradients_take_the_inputs_shape_and_dtype_whatever_their_layout():
    pattern = ExcludeLocal(6, 6, 1)
    channels_first = [torch.randn(2, size, 36, requires_grad=True) for size in (4, 4, 6)]  # as a convolution gives them
    qkv = [x.unflatten(1, (2, -1)).transpose(2, 3) for x in channels_first]
    found = torch.autograd.grad(attend_blocked(*qkv, pattern).square().sum(), channels_first)
    expected = torch.autograd.grad(attend_reference(*qkv, pattern).square().sum(), channels_first)
    assert_same(found, expected, 1e-5)


def test_hidden_keys_found_in_inference_mode_serve_training_later():
    pattern = ExcludeLocal(7, 9, 2)  # a size no other test uses, so its pieces are new
    qkv = inputs(pattern)
    with torch.inference_mode():
        attend_blocked(*qkv, pattern)
    attend_blocked(*qkv, pattern).sum().backward()
    assert all(x.grad is not None for x in qkv)
