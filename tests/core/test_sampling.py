import numpy as np
import pytest
import torch

from sagan.core.sampling import generate, numbered_images, numbered_latents
from sagan.run.build import build_generator
from sagan.run.config import ModelConfig
from sagan.system.errors import UserError
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


@pytest.mark.parametrize("classes", [0, 3])
def test_no_z_gives_no_images(classes):
    generator = build_generator(ModelConfig(imsize=16, z_dim=8, g_conv_dim=4, g_attention=(), num_classes=classes))
    labels = torch.zeros(0, dtype=torch.int64) if classes else None
    assert generate(generator.eval(), torch.zeros(0, 8), labels).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((2, 8), np.float32), "z must be a floating-point tensor .* got ndarray"),
        (torch.zeros(1, 2, 8), r"z must .* got torch.float32 of shape \(1, 2, 8\)"),
        (torch.zeros(2, 8).to_sparse(), "z must .* and layout torch.sparse_coo"),
        (torch.zeros(2, 8).double(), "z must have the dtype of the network, torch.float32, got torch.float64"),
        (torch.zeros(2, 8, device="meta"), "z must be on the network's device, cpu, got meta"),
    ],
)
def test_what_is_no_z_is_refused(z, message, generator):
    with pytest.raises(UserError, match=message):
        generate(generator, z)
    with pytest.raises(UserError, match=message):
        generator(z)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, None])
def test_a_batch_has_an_image(batch_size, generator):
    with pytest.raises(UserError, match="batch_size must be a whole number, 1 or more"):
        generate(generator, torch.zeros(2, 8), batch_size=batch_size)
    with pytest.raises(UserError, match="batch_size must be a whole number, 1 or more"):
        next(numbered_images(generator, 0, range(2), device=torch.device("cpu"), batch_size=batch_size))


@pytest.mark.parametrize("labels", [[0, 1], np.array([0, 1]), torch.tensor([0]), torch.empty(2, device="meta").long()])
def test_what_are_no_labels_is_refused(labels):
    generator = build_generator(ModelConfig(imsize=16, z_dim=8, g_conv_dim=4, g_attention=(), num_classes=3)).eval()
    with pytest.raises(UserError, match="labels must be"):
        generate(generator, torch.zeros(2, 8), labels)
