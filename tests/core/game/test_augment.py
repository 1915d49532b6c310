import math

import pytest
import torch

from sagan.core.game.augment import AUGMENTATIONS, augment, draw
from sagan.system.randomness import generator

DIFF_AUGMENT = ("color", "translation", "cutout")
LARGEST = 1 - 2**-24  # that torch.rand gives in float32


def some_images(count=5, height=16, width=24, dtype=torch.float32):
    return torch.rand(count, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2 - 1


def uniforms_for(policies, count=5, seed=0):
    return draw(policies, count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("policy", "neutral"), [("color", [0.5, 0.5, 0.5]), ("translation", [0.5, 0.5]), ("flip", [0.5])]
)
def test_neutral_numbers_change_nothing(policy, neutral):
    images = some_images()
    uniforms = torch.tensor([neutral]).expand(5, -1)
    torch.testing.assert_close(augment(images, (policy,), uniforms), images, rtol=0, atol=0)


def test_no_policy_changes_nothing():
    images = some_images()
    assert uniforms_for(()).shape == (5, 0)
    assert augment(images, (), uniforms_for(())) is images


def test_color_is_brightness_then_saturation_then_contrast():
    images, uniforms = some_images(dtype=torch.double), uniforms_for(("color",))
    augmented = augment(images, ("color",), uniforms)
    for image, out, (brightness, saturation, contrast) in zip(images, augmented, uniforms.double(), strict=True):
        expected = image + brightness - 0.5
        grey = expected.mean(0)
        expected = (expected - grey) * 2 * saturation + grey
        expected = (expected - expected.mean()) * (contrast + 0.5) + expected.mean()
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("count", [1, 40])
def test_translation_is_that_of_each_image_on_its_own(count):
    images, uniforms = some_images(count), uniforms_for(("translation",), count)
    uniforms[0] = torch.tensor([LARGEST, 0.0])  # as far as it goes
    expected = torch.zeros_like(images)
    for n in range(count):
        down = math.floor(uniforms[n, 0] * 5) - 2  # an eighth of 16 and of 24, each way
        right = math.floor(uniforms[n, 1] * 7) - 3
        for y in range(16):
            for x in range(24):
                if 0 <= y - down < 16 and 0 <= x - right < 24:
                    expected[n, :, y, x] = images[n, :, y - down, x - right]
    torch.testing.assert_close(augment(images, ("translation",), uniforms), expected, rtol=0, atol=0)
    assert not expected[0, :, :2].any()
    assert not expected[0, :, :, -3:].any()


def test_translations_are_all_equally_likely():
    """The column in which the middle pixel of a line comes out."""
    count = 7000
    images = torch.zeros(count, 1, 1, 24)
    images[..., 12] = 1
    moved = augment(images, ("translation",), uniforms_for(("translation",), count))
    shifts = moved.flatten(1).sum(0)
    assert (shifts[9:16] - count / 7).abs().max() < 5 * math.sqrt(count / 7)
    assert shifts.sum() == count


def test_cutout_makes_one_square_zero():
    images, uniforms = torch.ones(60, 3, 16, 24), uniforms_for(("cutout",), 60)
    out = augment(images, ("cutout",), uniforms)
    assert set(out.unique().tolist()) == {0.0, 1.0}
    for n in range(60):
        centre = [math.floor(uniforms[n, axis] * (size + 1)) for axis, size in ((0, 16), (1, 24))]
        hole = (slice(max(0, centre[0] - 4), centre[0] + 4), slice(max(0, centre[1] - 6), centre[1] + 6))
        expected = torch.ones(3, 16, 24)
        expected[:, hole[0], hole[1]] = 0
        torch.testing.assert_close(out[n], expected, rtol=0, atol=0)


@pytest.mark.parametrize(("number", "area"), [(0.0, 1 / 16), (0.5, 1 / 4), (LARGEST, 1 / 16)])
def test_cutout_is_a_quarter_of_the_image_and_less_at_its_border(number, area):
    """Half the side in the middle; a centre on the corner leaves a quarter of the square inside."""
    out = augment(torch.ones(1, 1, 16, 24), ("cutout",), torch.full((1, 2), number))
    assert (out == 0).float().mean().item() == pytest.approx(area)


@pytest.mark.parametrize(("size", "side"), [(6, 3), (7, 4), (8, 4), (9, 5)])
def test_cutout_treats_both_borders_alike(size, side):
    """Centres are pixels where the side is odd, borders between pixels where it is even."""
    centres = size + 1 - side % 2
    numbers = (torch.arange(centres) + 0.5) / centres  # one for each centre
    out = augment(torch.ones(centres, 1, 1, size), ("cutout",), torch.stack([numbers * 0, numbers], 1))
    holes = out[:, 0, 0] == 0
    assert torch.equal(holes, holes.flip(0, 1))
    assert holes.sum(1).max() == side


def test_flip_mirrors_half_of_the_images():
    images = some_images(400, 2, 3)
    out = augment(images, ("flip",), uniforms_for(("flip",), 400))
    mirrored = (out == images.flip(3)).all((1, 2, 3))
    assert (mirrored | (out == images).all((1, 2, 3))).all()
    assert 160 < mirrored.sum() < 240


def test_color_has_the_expected_statistics():
    """Brightness, saturation and contrast are uniform, so on average they change nothing."""
    uniforms = uniforms_for(("color",), 20_000)
    images = torch.tensor([0.5, -0.1, -0.1]).view(1, 3, 1, 1).expand(20_000, 3, 1, 2)
    out = augment(images, ("color",), uniforms)
    grey, spread = out.mean((1, 2, 3)), out[:, 0, 0, 0] - out[:, 1, 0, 0]
    assert grey.mean().item() == pytest.approx(0.1, abs=0.01)
    assert grey.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.02)
    assert spread.mean().item() == pytest.approx(0.6, abs=0.02)
    assert spread.min() >= 0
    assert 1.7 < spread.max() <= 0.6 * 2 * 1.5


@pytest.mark.parametrize("policies", [*((name,) for name in AUGMENTATIONS), (*DIFF_AUGMENT, "flip")])
def test_gradients_of_both_orders(policies):
    images = some_images(2, 8, 8, torch.double).requires_grad_()
    uniforms = uniforms_for(policies, 2)

    def curved(images):  # a function with a second derivative, seen through the augmentation
        return torch.sin(augment(images, policies, uniforms)).sum()

    assert torch.autograd.gradcheck(curved, images)
    (gradient,) = torch.autograd.grad(curved(images), images, create_graph=True)
    assert gradient.any()
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert second.isfinite().all()
    assert second.any()
    assert torch.autograd.gradgradcheck(curved, images, fast_mode=True)


def test_the_same_numbers_do_the_same_in_float64():
    images, policies = some_images(30), (*DIFF_AUGMENT, "flip")
    uniforms = uniforms_for(policies, 30)
    out = augment(images.double(), policies, uniforms)
    assert out.dtype == torch.float64
    torch.testing.assert_close(augment(images, policies, uniforms).double(), out, rtol=1e-5, atol=1e-6)
    assert augment(images.bfloat16(), policies, uniforms).dtype == torch.bfloat16


def test_an_image_is_augmented_alike_in_any_company():
    images, policies = some_images(30), (*DIFF_AUGMENT, "flip")
    uniforms = uniforms_for(policies, 30)
    alone = torch.cat([augment(images[n : n + 1], policies, uniforms[n : n + 1]) for n in range(30)])
    torch.testing.assert_close(augment(images, policies, uniforms), alone, rtol=1e-5, atol=1e-6)


def test_the_numbers_of_a_policy_do_not_depend_on_the_others():
    every = {name: draw((name,), 5, generator(0, "augment", step=3)) for name in AUGMENTATIONS}
    for policies in (DIFF_AUGMENT, ("flip", "cutout"), tuple(AUGMENTATIONS)):
        together = draw(policies, 5, generator(0, "augment", step=3))
        torch.testing.assert_close(together, torch.cat([every[name] for name in policies], 1), rtol=0, atol=0)
    numbers = torch.cat(list(every.values()), 1)
    assert numbers.unique().numel() == numbers.numel()  # no number serves twice
    assert not torch.equal(draw(("color",), 5, generator(0, "augment", step=4)), every["color"])


def test_policies_are_applied_in_their_order():
    images = some_images()
    numbers = {name: uniforms_for((name,)) for name in ("color", "cutout")}
    there = augment(images, ("color", "cutout"), torch.cat([numbers["color"], numbers["cutout"]], 1))
    stepwise = augment(augment(images, ("color",), numbers["color"]), ("cutout",), numbers["cutout"])
    torch.testing.assert_close(there, stepwise, rtol=0, atol=0)
    back = augment(images, ("cutout", "color"), torch.cat([numbers["cutout"], numbers["color"]], 1))
    assert (there - back).abs().max() > 0.01


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("policy", AUGMENTATIONS)
def test_the_memory_format_is_kept(policy, memory_format):
    images = some_images().contiguous(memory_format=memory_format)
    out = augment(images, (policy,), uniforms_for((policy,)))
    assert out.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(out, augment(some_images(), (policy,), uniforms_for((policy,))))


def test_the_images_given_are_left_alone():
    images = some_images()
    augment(images, tuple(AUGMENTATIONS), uniforms_for(tuple(AUGMENTATIONS)))
    assert torch.equal(images, some_images())


def test_it_compiles_into_one_graph():
    """No number is looked at on the way: what a capture in a CUDA graph needs."""
    policies = tuple(AUGMENTATIONS)
    images, uniforms = some_images(), uniforms_for(policies)
    compiled = torch.compile(lambda x, u: augment(x, policies, u), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images, uniforms), augment(images, policies, uniforms))
