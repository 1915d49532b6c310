"""Transforms that look at single operations: torch.func, forward mode, batches of gradients, tracing."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.autograd.functional import jacobian
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from sagan.attention import attend
from sagan.core.attention import ExcludeLocal, reference
from sagan.core.attention.patterns import PatternCache
from sagan.core.transforms import may_read
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import ModelConfig
from sagan.system.errors import UserError

pytestmark = pytest.mark.parametrize("masking", ["after", "before"])
SIZE = 16  # from here on a CPU takes tiles


def inputs(masking, seed=0):
    draw = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 1, SIZE * SIZE, dim, dtype=torch.float64, generator=draw) for dim in (4, 4, 6))
    return q, k, v, ExcludeLocal(SIZE, SIZE, 1, masking=masking)


def number(q, k, v, pattern):
    return attend(q, k, v, pattern).sin().sum()


def expected_gradient(q, k, v, pattern):
    q = q.clone().requires_grad_()
    return torch.autograd.grad(number(q, k, v, pattern), q)[0]


def test_gradients_by_torch_func(masking):
    q, k, v, pattern = inputs(masking)
    expected = expected_gradient(q, k, v, pattern)
    function = lambda q: number(q, k, v, pattern)  # noqa: E731
    torch.testing.assert_close(grad(function)(q), expected)
    torch.testing.assert_close(vjp(function, q)[1](torch.ones((), dtype=q.dtype))[0], expected)
    direction = torch.ones_like(q)
    torch.testing.assert_close(jvp(function, (q,), (direction,))[1], expected.sum())
    with forward_ad.dual_level():
        dual = function(forward_ad.make_dual(q, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected.sum())


def test_derivatives_of_a_scale(masking):
    q, k, v, pattern = inputs(masking)
    function = lambda scale: number(q * scale, k, v, pattern)  # noqa: E731
    at = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(function(at), at, create_graph=True)
    (second,) = torch.autograd.grad(first, at)
    at = at.detach()
    for derivative in (jacrev, jacfwd):
        torch.testing.assert_close(derivative(function)(at), first.detach())
    torch.testing.assert_close(hessian(function)(at), second)
    for mode in ("reverse-mode", "forward-mode"):
        torch.testing.assert_close(jacobian(function, at, vectorize=True, strategy=mode), first.detach())


def test_a_scale_that_is_a_tensor_gets_its_gradient(masking):
    q, k, v, pattern = inputs(masking)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(attend(q, k, v, pattern, scale=scale).sin().sum(), scale)
    (expected,) = torch.autograd.grad(number(q * scale, k, v, pattern), scale)
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match=r"scale must be one floating-point number, got torch.float32 of shape \(2,\)"):
        attend(q, k, v, pattern, scale=torch.ones(2))


def test_a_batch_of_gradients(masking):
    q, k, v, pattern = inputs(masking)
    q.requires_grad_()
    out = attend(q, k, v, pattern)
    grads = torch.randn(3, *out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    (batched,) = torch.autograd.grad(out, q, grads, is_grads_batched=True, retain_graph=True)
    for one, found in zip(grads, batched, strict=True):
        torch.testing.assert_close(torch.autograd.grad(out, q, one, retain_graph=True)[0], found)


def test_vmap_and_tracing(masking):
    q, k, v, pattern = inputs(masking)
    alone = vmap(lambda q, k, v: attend(q[None], k[None], v[None], pattern)[0])(q, k, v)
    torch.testing.assert_close(alone, attend(q, k, v, pattern))
    with pytest.warns(torch.jit.TracerWarning):  # the checks of shapes are Python's
        traced = torch.jit.trace(lambda q, k, v: attend(q, k, v, pattern), (q, k, v))
    torch.testing.assert_close(traced(q + 1, k, v), attend(q + 1, k, v, pattern))


def test_a_dual_gradient_goes_through_an_ordinary_forward_pass(masking):
    q, k, v, pattern = inputs(masking)
    q.requires_grad_()
    out = attend(q, k, v, pattern)
    with forward_ad.dual_level():
        (found,) = torch.autograd.grad(out, q, forward_ad.make_dual(torch.ones_like(out), torch.ones_like(out)))
        primal, tangent = forward_ad.unpack_dual(found)
    torch.testing.assert_close(primal, tangent)  # the backward pass is linear in the gradient


TRACERS = {
    "make_fx": lambda function, q: make_fx(function)(q),
    "fake": lambda function, q: make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(q),
    "symbolic": lambda function, q: make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(q),
    "pre-dispatch": lambda function, q: make_fx(function, pre_dispatch=True)(q),
    "jit.trace": lambda function, q: torch.jit.trace(function, (q,)),  # traces twice, and compares
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size", [8, SIZE])
@pytest.mark.parametrize("tracer", TRACERS)
def test_a_tracer_finds_and_leaves_no_mask(tracer, size, masking, monkeypatch):
    monkeypatch.setattr(reference, "_MASKS", PatternCache(2**20))
    q, k, v, _ = (x[..., : size * size, :] if isinstance(x, torch.Tensor) else x for x in inputs(masking))
    pattern = ExcludeLocal(size, size, 1, masking=masking)
    for _ in range(2):  # before and after an ordinary call has made the mask
        traced = TRACERS[tracer](lambda q: attend(q, k, v, pattern), q)
        torch.testing.assert_close(traced(q + 1), attend(q + 1, k, v, pattern, backend="reference"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert attend(*map(mode.from_tensor, (q, k, v)), pattern).shape == v.shape
    assert not may_read(mode.from_tensor(q))
    assert may_read(q)


@pytest.mark.parametrize("tracing_mode", ["real", "symbolic"])
def test_a_tracer_does_not_read_labels(tracing_mode, masking):
    model = ModelConfig(imsize=16, g_conv_dim=4, z_dim=8, num_classes=3, g_attention=(8,), masking=masking)
    generator, labels = build_generator(model).eval(), torch.tensor([0, 2])
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    traced = make_fx(lambda z: generator(z, labels), tracing_mode=tracing_mode, _allow_non_fake_inputs=True)(z)
    torch.testing.assert_close(traced(z + 1), generator(z + 1, labels))


def test_the_default_device_does_not_matter(masking):
    q, k, v, pattern = inputs(masking)
    pattern = ExcludeLocal(SIZE, SIZE, 2, masking=masking)  # no other test here has made its pieces
    with torch.device("meta"):
        found = attend(q, k, v, pattern)
        assert pattern.visible_share() > 0
    torch.testing.assert_close(found, attend(q, k, v, pattern, backend="reference"))


def test_a_backend_that_cannot_be_transformed_says_so(masking):
    q, k, v, pattern = inputs(masking)
    with pytest.raises(UserError, match=r"backend 'blocked' cannot run here: torch\.func"):
        grad(lambda q: attend(q, k, v, pattern, backend="blocked").sum())(q)


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
@pytest.mark.parametrize("classes", [0, 3])
def test_networks_one_image_at_a_time(network, classes, masking):
    model = ModelConfig(
        imsize=32, network=network, g_conv_dim=4, d_conv_dim=4, z_dim=8, num_classes=classes, span=1, masking=masking,
        g_attention=(16,), d_attention=(16,),
    )  # fmt: skip
    generator, discriminator = build_generator(model).eval(), build_discriminator(model).eval()
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4) % 3

    def given(label):
        return label if classes else None

    with torch.no_grad():
        images = generator(z, given(labels))
        logits = discriminator(images, given(labels))
    one = vmap(lambda z, label: generator(z[None], given(label[None]))[0])(z, labels)
    torch.testing.assert_close(one.detach(), images)
    judged = vmap(lambda image, label: discriminator(image[None], given(label[None]))[0])(images, labels)
    torch.testing.assert_close(judged.detach(), logits)

    weights = dict(discriminator.named_parameters())

    def loss(weights, image, label):
        return functional_call(discriminator, weights, (image[None], given(label[None]))).sum()

    per_image = vmap(grad(loss), (None, 0, 0))(weights, images, labels)
    discriminator(images, given(labels)).sum().backward()
    for name, parameter in discriminator.named_parameters():
        torch.testing.assert_close(per_image[name].sum(0), parameter.grad, rtol=1e-4, atol=1e-5)
