import pytest
import torch

from sagan.core.sampling import generate, numbered_images, numbered_latents
from sagan.run.build import build_generator
from sagan.run.config import ModelConfig
from sagan.system.randomness import latents


@pytest.fixture(name="generator")
def make_generator():
    generator = build_generator(ModelConfig(imsize=32, z_dim=8, g_conv_dim=8)).eval()
    for layer in generator.attention.values():
        torch.nn.init.ones_(layer.gamma)
    return generator


def images_of(generator, numbers, batch_size, seed=0):
    found = dict(numbered_images(generator, seed, numbers, device=torch.device("cpu"), batch_size=batch_size))
    return torch.stack([found[number] for number in numbers]).int()


def test_an_image_depends_on_its_seed_and_number_alone(generator):
    every = images_of(generator, range(20), 20)
    for batch_size in (1, 3, 7):
        assert (images_of(generator, range(20), batch_size) - every).abs().max() <= 1
    assert (images_of(generator, range(13, 17), 4) - every[13:17]).abs().max() <= 1
    assert (images_of(generator, range(20), 20, seed=1) - every).abs().max() > 1


def test_z_is_drawn_from_the_seed_and_the_number_and_classes_come_in_turn(generator):
    z, labels = numbered_latents(generator, 3, range(4, 9))
    assert torch.equal(z, torch.cat([latents(3, "sample", 1, 8, step=number) for number in range(4, 9)]))
    assert labels is None
    conditional = build_generator(ModelConfig(imsize=32, z_dim=8, g_conv_dim=8, num_classes=3))
    again, labels = numbered_latents(conditional, 3, range(4, 9))
    assert torch.equal(again, z)
    assert labels.tolist() == [1, 2, 0, 1, 2]
    assert numbered_latents(conditional, 3, range(4, 9), label=2)[1].tolist() == [2] * 5
    for network, classes in ((conditional, "classes 0 to 2"), (generator, "no classes")):
        with pytest.raises(ValueError, match=f"this generator has {classes}, got label 3"):
            numbered_latents(network, 3, range(4, 9), label=3)


def test_training_mode_is_refused(generator):
    with pytest.raises(ValueError, match="the generator must be in eval mode"):
        generate(generator.train(), torch.randn(2, 8))


def test_images_are_uint8_of_the_generators_range(generator):
    z = torch.randn(5, 8)
    images = generate(generator, z, batch_size=2)
    assert (images.shape, images.dtype) == ((5, 3, 32, 32), torch.uint8)
    with torch.no_grad():
        expected = (generator(z) + 1) * 127.5
    assert (images - expected).abs().max() <= 0.5 + 1e-3
