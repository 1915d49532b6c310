import pytest
import torch

from sagan.core.attention import ExcludeLocal
from sagan.core.networks.dcgan import Discriminator, Generator, map_sizes
from sagan.core.shapes import ImageShape


def attention_at(*sizes, span=1):
    return {size: ExcludeLocal(size, size, span) for size in sizes}


def test_published_networks_have_the_published_parameters():
    generator = Generator(ImageShape.square(64), attention=attention_at(16, 32))
    discriminator = Discriminator(ImageShape.square(64), attention=attention_at(8, 4))
    assert sum(p.numel() for p in generator.parameters()) == 3_832_885
    assert sum(p.numel() for p in discriminator.parameters()) == 3_175_299


def test_published_networks_layer_for_layer():
    """Input and output shape of every convolution, against the table of the published program."""
    generator = Generator(ImageShape.square(64), attention=attention_at(16, 32)).eval()
    discriminator = Discriminator(ImageShape.square(64), attention=attention_at(8, 4)).eval()
    shapes = []
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.register_forward_hook(lambda m, x, y: shapes.append((tuple(x[0].shape[1:]), tuple(y.shape[1:]))))
    with torch.no_grad():
        discriminator(generator(torch.randn(1, 128)))
    assert shapes == [
        ((128, 1, 1), (512, 4, 4)), ((512, 4, 4), (256, 8, 8)), ((256, 8, 8), (128, 16, 16)),
        ((128, 16, 16), (64, 32, 32)), ((64, 32, 32), (3, 64, 64)),
        ((3, 64, 64), (64, 32, 32)), ((64, 32, 32), (128, 16, 16)), ((128, 16, 16), (256, 8, 8)),
        ((256, 8, 8), (512, 4, 4)), ((512, 4, 4), (1, 1, 1)),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_any_power_of_two(size):
    generator = Generator(ImageShape.square(size), z_dim=5, width=8, attention=attention_at(8))
    discriminator = Discriminator(ImageShape.square(size), width=8, attention=attention_at(4))
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 3, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (2,)
    assert discriminator(images[:1]).shape == (1,)  # one image is a batch too


def test_map_sizes_are_shorter_sides():
    assert map_sizes(ImageShape.square(64), "generator") == (4, 8, 16, 32)
    assert map_sizes(ImageShape(3, 64, 96), "discriminator") == (32, 16, 8, 4)
    assert map_sizes(ImageShape(3, 112, 80), "generator") == (5, 10, 20, 40)


@pytest.mark.parametrize("size", [0, 8, 50, 65, -64])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"imsize {size} cannot be reached by doubling"):
        map_sizes(ImageShape.square(size), "generator")


def test_attention_needs_a_map():
    with pytest.raises(ValueError, match="there is no 64x64 map to attend on; this network has \\[4, 8, 16, 32\\]"):
        Generator(ImageShape.square(64), attention=attention_at(64))


def test_fresh_attention_changes_nothing():
    torch.manual_seed(0)
    plain = Discriminator(ImageShape.square(32), width=8).eval()
    attentive = Discriminator(ImageShape.square(32), width=8, attention=attention_at(4, 8)).eval()
    attentive.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(attentive(x), plain(x), rtol=0, atol=0)
    for layer in attentive.attention.values():
        torch.nn.init.ones_(layer.gamma)
    assert (attentive(x) - plain(x)).abs().max() > 1e-4


def test_an_image_does_not_depend_on_its_neighbours_in_eval_mode():
    torch.manual_seed(0)
    generator = Generator(ImageShape.square(32), z_dim=6, width=8, attention=attention_at(16))
    torch.nn.init.ones_(generator.attention["16"].gamma)
    for _ in range(3):
        generator(torch.randn(16, 6))  # gives batch norm some statistics
    generator.eval()
    z = torch.randn(7, 6)
    with torch.no_grad():
        torch.testing.assert_close(generator(z)[3:4], generator(z[3:4]), rtol=1e-4, atol=1e-5)


# ---- with classes


@pytest.fixture(name="pair")
def make_pair():
    torch.manual_seed(0)
    shape = ImageShape.square(32)
    generator = Generator(shape, z_dim=6, width=8, attention=attention_at(16), num_classes=3).eval()
    discriminator = Discriminator(shape, width=8, attention=attention_at(4), num_classes=3)
    for parameter in generator.parameters():
        if parameter.shape[:1] == (3,):  # scales and shifts of classes, which begin alike
            torch.nn.init.normal_(parameter)
    return generator, discriminator


def test_the_projection_is_added_to_the_logit_of_no_class(pair):
    """Miyato & Koyama, arXiv 1802.05637, equation 3."""
    discriminator = pair[1]
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 2, 1, 2])
    features = discriminator.features(images)
    plain = torch.nn.functional.conv2d(features, discriminator.last.weight, discriminator.last.bias).flatten()
    embedded = discriminator.embedding(labels)
    expected = plain + torch.einsum("nc,nchw->n", embedded, features)
    torch.testing.assert_close(discriminator(images, labels), expected)
