import copy
import math

import pytest
import torch
from torch import nn

from sagan.core.attention import ExcludeLocal, Full
from sagan.core.game.average import AveragedGenerator, measure_batch_norm
from sagan.core.layers.spectral_norm import SpectralNorm, power_iterate
from sagan.core.networks.resnet import Discriminator, Generator, map_sizes
from sagan.core.shapes import ImageShape

CLASSES = 3


def attention_at(*sizes, span=1):
    return {size: ExcludeLocal(size, size, span, pool=2) for size in sizes}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small_pair(num_classes=CLASSES, image_size=32, gamma=0.5):
    torch.manual_seed(0)
    generator = Generator(ImageShape.square(image_size), 6, 4, attention_at(8, 16), num_classes)
    discriminator = Discriminator(ImageShape.square(image_size), 4, attention_at(16, 4), num_classes)
    for network in (generator, discriminator):
        for layer in network.attention.values():
            nn.init.constant_(layer.gamma, gamma)
    return generator, discriminator


def test_the_papers_networks_have_its_parameters():
    at_32 = {32: Full(32, 32, pool=2)}
    with torch.device("meta"):
        assert count(Generator(ImageShape.square(128), attention=at_32, num_classes=1000)) == 42_078_852
        assert count(Discriminator(ImageShape.square(128), attention=at_32, num_classes=1000)) == 39_463_618
        assert count(Generator(ImageShape.square(128), attention=at_32)) == 32_232_708
        assert count(Discriminator(ImageShape.square(128), attention=at_32)) == 39_463_618 - 1000 * 1024


def test_the_papers_networks_map_for_map():
    """What every block makes, against the table of the paper's code, at a sixteenth of its width."""
    generator, discriminator = (
        Generator(ImageShape.square(128), width=4).eval(),
        Discriminator(ImageShape.square(128), width=4),
    )
    made = []
    blocks = [generator.first, *generator.stages.values(), generator.last]
    blocks += [*discriminator.stages.values(), discriminator.last_block, discriminator.last]
    for block in blocks:
        block.register_forward_hook(lambda m, x, y: made.append((type(m).__name__, *y.shape[1:])))
    with torch.no_grad():
        discriminator(generator(torch.randn(1, 128)))
    assert made == [
        ("SpectralLinear", 16384 // 16), ("UpBlock", 1024 // 16, 8, 8), ("UpBlock", 512 // 16, 16, 16),
        ("UpBlock", 256 // 16, 32, 32), ("UpBlock", 128 // 16, 64, 64), ("UpBlock", 64 // 16, 128, 128),
        ("SpectralConv2d", 3, 128, 128),
        ("DownBlock", 64 // 16, 64, 64), ("DownBlock", 128 // 16, 32, 32), ("DownBlock", 256 // 16, 16, 16),
        ("DownBlock", 512 // 16, 8, 8), ("DownBlock", 1024 // 16, 4, 4), ("SameBlock", 1024 // 16, 4, 4),
        ("SpectralLinear", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "up", "down"),
    [
        (32, [512, 256, 128, 64], [64, 128, 256]),
        (64, [1024, 512, 256, 128, 64], [64, 128, 256, 512]),
        (256, [1024, 1024, 1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024, 1024]),
    ],
)
def test_widths_at_other_sizes(size, up, down):
    with torch.device("meta"):
        generator, discriminator = Generator(ImageShape.square(size)), Discriminator(ImageShape.square(size))
    assert [block.conv1.in_channels for block in generator.stages.values()] == up[:-1]
    assert [block.conv2.out_channels for block in generator.stages.values()] == up[1:]
    assert generator.first.out_features == 16 * up[0]
    assert [block.conv2.out_channels for block in discriminator.stages.values()] == down
    assert discriminator.last.in_features == down[-1]


@pytest.mark.parametrize("num_classes", [0, CLASSES])
@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_any_power_of_two(size, num_classes):
    generator = Generator(ImageShape.square(size), 5, 2, attention_at(8), num_classes).eval()
    discriminator = Discriminator(ImageShape.square(size), 2, attention_at(4), num_classes)
    labels = torch.tensor([2, 0]) if num_classes else None
    with torch.no_grad():
        images = generator(3 * torch.randn(2, 5), labels)
        assert images.shape == (2, 3, size, size)
        assert 0 < images.abs().max() <= 1
        assert discriminator(images, labels).shape == (2,)
        assert discriminator(images[:1], labels if labels is None else labels[:1]).shape == (1,)


def test_sizes_of_the_maps():
    assert map_sizes(ImageShape.square(64), "generator") == (4, 8, 16, 32, 64)
    assert map_sizes(ImageShape(3, 64, 96), "discriminator") == (32, 16, 8, 4)
    with pytest.raises(ValueError, match="imsize 50 cannot be reached by doubling"):
        map_sizes(ImageShape.square(50), "generator")


def test_attention_can_be_after_every_map_and_no_other():
    with torch.device("meta"):
        for network, build in (("generator", Generator), ("discriminator", Discriminator)):
            sizes = map_sizes(ImageShape.square(64), network)
            layers = build(ImageShape.square(64), attention=attention_at(*sizes)).attention
            assert [(layer.pattern.height, layer.pattern.span) for layer in layers.values()] == [(s, 1) for s in sizes]
        with pytest.raises(ValueError, match="there is no 64x64 map to attend on; this network has \\[4, 8, 16, 32\\]"):
            Discriminator(ImageShape.square(64), attention=attention_at(64))


@pytest.mark.parametrize("size", [4, 8, 16, 32])
def test_each_attention_layer_is_used_once_gamma_is_not_zero(size):
    torch.manual_seed(0)
    z, images = torch.randn(3, 6), torch.randn(3, 3, 64, 64)
    for build, x in (
        (lambda a: Generator(ImageShape.square(64), 6, 2, a), z),
        (lambda a: Discriminator(ImageShape.square(64), 2, a), images),
    ):
        network = build({size: Full(size, size, pool=2)})
        with torch.no_grad():
            fresh = network(x)
            nn.init.ones_(network.attention[str(size)].gamma)
            assert (network(x) - fresh).abs().max() > 1e-4


def test_every_weight_starts_xavier_uniform_with_its_norm_known():
    generator, discriminator = small_pair()
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, SpectralNorm):
                inputs, outputs = layer.weight[0].numel(), layer.weight.shape[0] * layer.weight[0, :1].numel()
                limit = math.sqrt(6 / (inputs + outputs))
                assert layer.weight.abs().max() <= limit
                if layer.weight.numel() > 300:
                    assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
                assert getattr(layer, "bias", None) is None or not layer.bias.any()
                norm = torch.linalg.matrix_norm(layer.normalized_weight().flatten(1), 2).item()
                assert norm == pytest.approx(1, abs=0.1)


def test_every_matrix_is_spectrally_normalised():
    generator, discriminator = small_pair()
    for network in (generator, discriminator):
        plain = [
            name
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding) and not isinstance(module, SpectralNorm)
        ]
        assert not plain
        before = copy.deepcopy(dict(network.named_buffers()))
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        power_iterate(network)
        for name, buffer in network.named_buffers():
            if name.endswith(".u") and buffer.numel() > 1:
                assert not torch.equal(buffer, before[name])


def test_logits_are_the_projection_of_the_features():
    _, discriminator = small_pair()
    discriminator.double()
    for parameter in discriminator.parameters():
        nn.init.normal_(parameter)
    power_iterate(discriminator, 300)
    maps = []
    discriminator.last_block.register_forward_hook(lambda m, x, y: maps.append(y))
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.double), torch.tensor([2, 0, 1, 2])
    logits = discriminator(images, labels)
    features = torch.relu(maps[0])
    torch.testing.assert_close(discriminator.features(images), features, rtol=0, atol=0)
    torch.testing.assert_close(discriminator.judge(features, labels), logits, rtol=0, atol=0)
    h = features.sum((2, 3))
    weight, classes = (
        layer.weight / torch.linalg.matrix_norm(layer.weight, 2)
        for layer in (discriminator.last, discriminator.embedding)
    )
    expected = [weight[0] @ h[i] + discriminator.last.bias[0] + classes[y] @ h[i] for i, y in enumerate(labels)]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-6, atol=1e-6)


def test_an_image_does_not_depend_on_its_neighbours_in_eval_mode():
    generator, discriminator = small_pair()
    for _ in range(3):
        generator(torch.randn(16, 6), torch.randint(CLASSES, (16,)))  # gives batch norm some statistics
    generator.eval()
    z, labels = torch.randn(7, 6), torch.randint(CLASSES, (7,))
    with torch.no_grad():
        images = generator(z, labels)
        torch.testing.assert_close(images[3:4], generator(z[3:4], labels[3:4]), rtol=1e-4, atol=1e-5)
        logits = discriminator(images, labels)
        torch.testing.assert_close(logits[3:4], discriminator(images[3:4], labels[3:4]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_classes", [0, CLASSES])
def test_gradients_reach_every_parameter(num_classes):
    generator, discriminator = small_pair(num_classes)
    labels = torch.arange(6) % CLASSES if num_classes else None
    generator.eval()  # a batch's own statistics would take out the biases before batch norm
    discriminator(generator(torch.randn(6, 6), labels), labels).sum().backward()
    for network in (generator, discriminator):
        unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not unreached


def test_r1_can_be_differentiated():
    _, discriminator = small_pair()
    labels = torch.arange(4) % CLASSES
    images = torch.randn(4, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(images, labels).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    for name, parameter in discriminator.named_parameters():
        if name != "last.bias":  # it moves no gradient
            assert parameter.grad.isfinite().all(), name
    assert discriminator.stages["16"].conv1.weight.grad.any()
    assert discriminator.attention["16"].query.weight.grad.any()
    assert discriminator.embedding.weight.grad.any()


def test_second_derivative_is_right():
    torch.manual_seed(0)
    discriminator = Discriminator(ImageShape.square(16), 2, attention_at(8), CLASSES).double()
    nn.init.ones_(discriminator.attention["8"].gamma)
    images = torch.randn(2, 3, 16, 16, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 2])
    assert torch.autograd.gradgradcheck(lambda x: discriminator(x, labels), images, fast_mode=True)


def test_pixels_and_logits_are_not_rounded_under_autocast():
    generator, discriminator = small_pair()
    z, labels = torch.randn(4, 6), torch.arange(4) % CLASSES
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        images = generator(z, labels)
        logits = discriminator(images, labels)
    exact = generator(z, labels)
    for out in (images, logits):
        assert out.dtype == torch.float32
        assert (out.bfloat16().float() != out).any()
    torch.testing.assert_close(images, exact, rtol=0, atol=0.1)
    torch.testing.assert_close(logits, discriminator(images, labels), rtol=0.1, atol=0.1)


def test_compiles_into_one_graph():
    torch.manual_seed(0)
    generator = Generator(ImageShape.square(16), 4, 2, attention_at(8), CLASSES).eval()
    discriminator = Discriminator(ImageShape.square(16), 2, attention_at(8), CLASSES)
    z, labels = torch.randn(3, 4), torch.tensor([0, 2, 1])
    with torch.no_grad():  # tracing a backward pass takes seconds; the discriminator's must do
        images = torch.compile(generator, backend="aot_eager", fullgraph=True)(z, labels)
        torch.testing.assert_close(images, generator(z, labels), rtol=1e-5, atol=1e-5)
    compiled = torch.compile(discriminator, backend="aot_eager", fullgraph=True)
    gradients = [
        torch.autograd.grad(network(images, labels).sum(), list(discriminator.parameters()))
        for network in (compiled, discriminator)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_copies_are_apart_and_alike():
    for network in small_pair():
        x = torch.randn(2, 6) if isinstance(network, Generator) else torch.randn(2, 3, 32, 32)
        labels = torch.tensor([1, 2])
        network(x, labels)
        twin = copy.deepcopy(network)
        torch.testing.assert_close(twin(x, labels), network(x, labels), rtol=0, atol=0)
        nn.init.zeros_(twin.last.bias.data)
        nn.init.ones_(network.last.bias.data)
        assert not torch.equal(twin(x, labels), network(x, labels))


def test_statistics_of_every_batch_norm_can_be_measured():
    """The averaged generator looks for plain batch norms: they are there inside the conditional ones too."""
    generator, _ = small_pair()
    average = AveragedGenerator(generator, halflife=0)
    z, labels = torch.randn(4, 16, 6), torch.randint(CLASSES, (4, 16))
    measure_batch_norm(average.module, list(zip(z, labels, strict=True)))
    norms = [module for module in average.module.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 2 * 3 + 1
    assert all(norm.num_batches_tracked == 4 for norm in norms)
    with torch.no_grad():
        inputs = average.module.first(z.flatten(0, 1)).unflatten(1, (4, 4, -1)).permute(0, 3, 1, 2)
    measured = average.module.stages["8"].norm1.norm.running_mean
    torch.testing.assert_close(measured, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_weights_do_not_depend_on_the_span():
    states = []
    for span in (0, 3):
        torch.manual_seed(0)
        states.append(Generator(ImageShape.square(32), 6, 2, attention_at(8, span=span), CLASSES).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
