import pytest
import torch

from sagan.core.game.augment import draw
from sagan.core.sampling import numbered_images
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import ModelConfig
from sagan.system.randomness import derived_seed, generator, integers, latents, normal, order, uniform


def test_a_stream_is_a_function_of_its_names_alone():
    torch.manual_seed(1)
    one = torch.rand(5, generator=generator(0, "z", step=7))
    torch.manual_seed(2)
    torch.rand(100)
    assert torch.equal(one, torch.rand(5, generator=generator(0, "z", step=7)))


def test_every_name_makes_another_stream():
    seeds = {
        derived_seed(seed, purpose, step)
        for seed in range(4) for purpose in ("z", "order") for step in range(100)
    }  # fmt: skip
    assert len(seeds) == 4 * 2 * 100


def test_streams_stay_what_they_were():
    """A run begun under an earlier version goes on under this one, with the same bits."""
    assert [derived_seed(0, "z"), derived_seed(3, "sample", 7)] == [4108859893669313350, 162643756902227948]


def test_names_cannot_run_into_each_other():
    assert derived_seed(11, "z", 1) != derived_seed(1, "z", 11)
    assert derived_seed(1, "1/z") != derived_seed(11, "z")


def test_the_global_stream_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    latents(0, "z", 10, 8)
    assert torch.equal(torch.rand(1), expected)


def test_latents_are_standard_normal():
    z = latents(0, "z", 20_000, 16)
    assert z.shape == (20_000, 16)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_draws_do_not_follow_torchs_defaults(dtype, device):
    def draws():
        chance = generator(0, "chance")
        return (
            latents(0, "z", 3, 4), normal((3,), chance), uniform((3,), chance), order(9, chance),
            integers(5, 9, chance), draw(("color", "cutout"), 3, chance),
        )  # fmt: skip

    expected = draws()
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        found = draws()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
@pytest.mark.parametrize("classes", [0, 3])
def test_networks_and_images_do_not_follow_torchs_defaults(network, classes):
    model = ModelConfig(imsize=16, z_dim=4, g_conv_dim=4, d_conv_dim=4, network=network, num_classes=classes)

    def drawn():
        network = build_generator(model).eval()
        for tensor in [*network.state_dict().values(), *build_discriminator(model).state_dict().values()]:
            assert tensor.dtype in (torch.float32, torch.int64)
        assert torch.get_default_dtype() == default
        return [image for _, image in numbered_images(network, 0, range(2), device=torch.device("cpu"), batch_size=2)]

    default = torch.float32
    expected = drawn()
    default = torch.float64
    torch.set_default_dtype(default)
    try:
        found = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, expected, found))
