"""What every family of networks must be and do; each is built by the family's own constructors."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sagan.core.attention import ExcludeLocal
from sagan.core.latents import principal_directions
from sagan.core.networks import dcgan, interface, resnet
from sagan.core.shapes import ImageShape
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import ModelConfig
from sagan.system.errors import UserError

SHAPE = ImageShape.square(16)
IMAGE = (3, 16, 16)
CLASSES = 3


@pytest.fixture(params=[dcgan, resnet], ids=["dcgan", "resnet"])
def family(request):
    return request.param


def make_pair(family, num_classes=0):
    """With every gate open, and scales and shifts of its own for each class, which begin alike."""
    torch.manual_seed(0)
    attention = {size: ExcludeLocal(size, size, 1) for size in (4, 8)}
    generator = family.Generator(SHAPE, 6, 4, attention, num_classes=num_classes)
    discriminator = family.Discriminator(SHAPE, 4, attention, num_classes)
    for network in (generator, discriminator):
        for layer in network.attention.values():
            nn.init.constant_(layer.gamma, 0.5)
    for parameter in generator.parameters():
        if num_classes and parameter.shape[:1] == (num_classes,):
            nn.init.normal_(parameter)
    return generator.eval(), discriminator


@pytest.mark.parametrize("num_classes", [0, CLASSES])
def test_the_family_has_the_interface(family, num_classes):
    pair = make_pair(family, num_classes)
    for network, base in zip(pair, (interface.Generator, interface.Discriminator), strict=True):
        assert isinstance(network, base)
        assert all(hasattr(network, name) for name in base.__annotations__)
        assert (network.shape, network.num_classes) == (SHAPE, num_classes)
        assert list(network.attention) == ["4", "8"]
        assert inspect.signature(network.forward).parameters["labels"].default is None
    assert pair[0].z_dim == 6
    assert inspect.signature(pair[1].judge).parameters["labels"].default is None


def test_images_have_the_shape_also_of_other_channels(family):
    images = family.Generator(ImageShape(1, 16, 16), 6, 4)(torch.randn(2, 6))
    assert images.shape == (2, 1, 16, 16)
    assert family.Discriminator(ImageShape(1, 16, 16), 4)(images).shape == (2,)


def test_a_shape_whose_longer_side_does_not_fit_is_refused(family):
    for build in (family.Generator, family.Discriminator):
        with pytest.raises(ValueError, match="imsize 16x30 cannot be reached by doubling"):
            build(ImageShape(3, 16, 30))


@pytest.mark.parametrize("num_classes", [0, CLASSES])
@pytest.mark.parametrize("sides", [(1, 16, 24), (4, 24, 16), (3, 20, 28), (3, 28, 20), (3, 48, 48), (2, 16, 64)])
def test_images_may_have_any_sides_that_double_from_a_small_map(family, sides, num_classes):
    """Every value of an image depends on z, and every pixel has a say in the logit, with attention at each map."""
    shape = ImageShape(*sides)
    attention = {
        network: {size: ExcludeLocal(*shape.grid(size), 1) for size in family.map_sizes(shape, network)}
        for network in ("generator", "discriminator")
    }
    generator = family.Generator(shape, 6, 4, attention["generator"], num_classes=num_classes)
    discriminator = family.Discriminator(shape, 4, attention["discriminator"], num_classes)
    labels = torch.tensor([2, 0]) if num_classes else None
    for network in (generator, discriminator):
        for layer in network.attention.values():
            nn.init.constant_(layer.gamma, 0.5)
    images = generator(torch.randn(2, 6), labels)
    assert images.shape == (2, *sides)
    assert (images[0] != images[1]).float().mean() > 0.99
    seen = images.detach().requires_grad_()
    logits = discriminator(seen, labels)
    assert logits.shape == (2,)
    (change,) = torch.autograd.grad(logits.sum(), seen)
    assert change.abs().sum(1).all()
    assert discriminator.features(images).shape[2:] == shape.grid(shape.shorter >> shape.doublings)
    with pytest.raises(UserError, match="images must be a floating-point tensor"):
        discriminator(images[:, :, :-1], labels)


@pytest.mark.parametrize("num_classes", [0, CLASSES])
def test_a_logit_is_what_is_judged_of_the_features(family, num_classes):
    generator, discriminator = make_pair(family, num_classes)
    labels = torch.tensor([2, 0]) if num_classes else None
    images = generator(torch.randn(2, 6), labels)
    assert torch.equal(discriminator.judge(discriminator.features(images), labels), discriminator(images, labels))


def test_the_class_decides_the_image_and_the_logit(family):
    generator, discriminator = make_pair(family, CLASSES)
    z, images, every = torch.randn(1, 6), torch.randn(1, *IMAGE), torch.arange(CLASSES)
    with torch.no_grad():
        made = generator(z.expand(CLASSES, -1), every)
        assert (made[1:] - made[:1]).abs().amax((1, 2, 3)).min() > 1e-3
        assert discriminator(images.expand(CLASSES, -1, -1, -1), every).unique().numel() == CLASSES


@pytest.mark.parametrize("num_classes", [0, CLASSES])
def test_what_is_judged_is_not_rounded_under_autocast(family, num_classes):
    """The features come in bfloat16; all that is done with them then is float32."""
    _, discriminator = make_pair(family, num_classes)
    labels = torch.tensor([2, 0, 1, 1]) if num_classes else None
    features = discriminator.features(torch.randn(4, *IMAGE)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator.judge(features, labels)
    torch.testing.assert_close(logits, discriminator.judge(features.float(), labels), rtol=0, atol=0)


def test_gradients_reach_every_parameter_of_conditional_networks(family):
    generator, discriminator = make_pair(family, CLASSES)
    labels = torch.arange(6) % CLASSES
    discriminator(generator(torch.randn(6, 6), labels), labels).sum().backward()
    for network in (generator, discriminator):
        assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_labels_that_do_not_fit_are_refused_in_a_sentence(family):
    z, images, labels = torch.randn(2, 6), torch.randn(2, *IMAGE), torch.tensor([0, 1])
    for network, plain, x in zip(make_pair(family, CLASSES), make_pair(family), (z, images), strict=True):
        with pytest.raises(ValueError, match="labels are missing: this network has 3 classes and needs int64 \\(2,\\)"):
            network(x)
        with pytest.raises(ValueError, match="this network is unconditional, so it takes no labels"):
            plain(x, labels)
        for wrong in (labels.float(), labels[:1], F.one_hot(labels, 3)):
            with pytest.raises(ValueError, match="labels must be int64 of shape \\(2,\\), one for each image"):
                network(x, wrong)
        for wrong in (3, -1):
            with pytest.raises(ValueError, match=f"labels must be 0 to 2, got {wrong}"):
                network(x, torch.tensor([0, wrong]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.float8_e4m3fn])
def test_what_is_not_of_the_weights_dtype_and_device_is_refused(family, dtype):
    for network, x in zip(make_pair(family), (torch.randn(2, 6), torch.randn(2, *IMAGE)), strict=True):
        with pytest.raises(UserError, match=f"must have the dtype of the network, torch.float32, got {dtype}"):
            network(x.to(dtype))
        with pytest.raises(UserError, match="must be on the network's device, cpu, got meta"):
            network(x.to("meta"))
        if dtype == torch.float16:
            with torch.autocast("cpu", torch.bfloat16):
                assert network(x.to(dtype)).dtype == torch.float32


def test_conditional_networks_compile_into_one_graph(family):
    generator, discriminator = make_pair(family, CLASSES)
    z, labels = torch.randn(3, 6), torch.tensor([0, 2, 1])
    with torch.no_grad():
        images = torch.compile(generator, backend="aot_eager", fullgraph=True)(z, labels)
        torch.testing.assert_close(images, generator(z, labels), rtol=1e-5, atol=1e-5)
        logits = torch.compile(discriminator, backend="aot_eager", fullgraph=True)(images, labels)
        torch.testing.assert_close(logits, discriminator(images, labels), rtol=1e-5, atol=1e-5)


def test_the_first_layer_of_a_generator_is_a_matrix(family):
    generator, _ = make_pair(family)
    rows, strengths = principal_directions(generator)
    assert rows.shape == (6, 6)
    assert (strengths > 0).all()


def test_an_exported_program_takes_batches_of_any_size(family):
    labels, batch = torch.tensor([0, 2, 1]), torch.export.Dim("batch", min=2)
    for network, x in zip(make_pair(family, CLASSES), (torch.randn(3, 6), torch.randn(3, *IMAGE)), strict=True):
        program = torch.export.export(network.eval(), (x, labels), dynamic_shapes=({0: batch}, {0: batch}))
        more = torch.cat([x, x]), torch.cat([labels, labels])
        torch.testing.assert_close(program.module()(*more), network(*more), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_what_is_no_images_is_refused(network):
    judge = build_discriminator(ModelConfig(imsize=16, network=network, d_conv_dim=4, num_classes=2))
    labels = torch.zeros(2, dtype=torch.int64)
    for images in (None, [1.0], np.zeros((2, 3, 16, 16)), torch.zeros(()), torch.zeros(2, 3, 8, 8), labels):
        with pytest.raises(UserError, match=r"images must be a floating-point tensor of shape \(batch, 3, 16, 16\)"):
            judge(images, labels)
    with pytest.raises(UserError, match="labels must be an int64 tensor"):
        judge(torch.zeros(2, 3, 16, 16), [0, 1])


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_shapes_are_found_on_the_meta_device(network):
    model = ModelConfig(imsize=32, network=network, g_conv_dim=4, d_conv_dim=4, z_dim=8)
    with torch.device("meta"):
        generator, judge = build_generator(model), build_discriminator(model)
    images = generator(torch.empty(2, 8, device="meta"))
    assert (images.shape, judge(images).shape) == ((2, 3, 32, 32), (2,))
