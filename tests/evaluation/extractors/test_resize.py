import numpy as np
import pytest
import torch
from PIL import Image

from sagan.evaluation.extractors.resize import CLEAN, TF1, bicubic_weights, cubic_kernel, resize_bicubic, resize_tf1

SIZES = [  # height and width before, after: up, down, both at once, one pixel, unchanged
    ((5, 7), (9, 11)),
    ((11, 9), (4, 6)),
    ((6, 13), (13, 6)),
    ((1, 1), (3, 4)),
    ((8, 8), (8, 8)),
]
RESIZES = pytest.mark.parametrize("resize", [resize_tf1, resize_bicubic])


def noise(height, width, count=2):
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def tf1_by_the_book(image, size):
    """One plane, float64, pixel by pixel: src = dst * in / out, the four pixels around it, the last one repeated."""
    height, width = image.shape
    out = np.empty(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = i * height / size[0], j * width / size[1]
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            out[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return out


def pillow_bicubic(image, size):
    return np.asarray(Image.fromarray(image.numpy().astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((32, 20), (299, 299))])
def test_tf1_is_its_definition(old, new):
    images = noise(*old)
    resized = resize_tf1(images, new)
    assert resized.shape == (2, 3, *new)
    assert resized.dtype == torch.float32
    expected = tf1_by_the_book(images[1, 2].double().numpy(), new)
    np.testing.assert_allclose(resized[1, 2].numpy(), expected, rtol=0, atol=1e-2 if new == (299, 299) else 1e-3)


def test_tf1_counts_no_half_pixels():
    ramp = torch.tensor([[0, 100]], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert resize_tf1(ramp, (2, 4))[0, 0, 0].tolist() == [0, 50, 100, 100]


@pytest.mark.parametrize(
    ("old", "new"), [*SIZES, ((64, 64), (299, 299)), ((400, 310), (299, 299)), ((64, 64), (224, 224))]
)
def test_bicubic_is_pillows_on_real_numbers(old, new):
    images = noise(*old)
    resized = resize_bicubic(images, new)
    assert resized.shape == (2, 3, *new)
    assert resized.dtype == torch.float32
    for image, expected in zip(images.flatten(0, 1), resized.flatten(0, 1), strict=True):
        np.testing.assert_allclose(expected.numpy(), pillow_bicubic(image, new), rtol=0, atol=1e-3)


def test_bicubic_neither_clips_nor_rounds():
    edge = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255
    resized = resize_bicubic(edge, (32, 32))
    assert resized.min() < -5
    assert resized.max() > 260
    assert (resized != resized.round()).any()


@RESIZES
def test_an_image_of_the_right_size_is_left_alone(resize):
    images = noise(9, 9)
    assert torch.equal(resize(images, (9, 9)), images.float())


@RESIZES
@pytest.mark.parametrize("new", [(4, 3), (17, 31)])
def test_one_colour_stays_that_colour(resize, new):
    images = torch.full((1, 3, 8, 6), 200, dtype=torch.uint8)
    torch.testing.assert_close(resize(images, new), torch.full((1, 3, *new), 200.0), rtol=0, atol=1e-3)


@RESIZES
def test_an_image_does_not_depend_on_its_neighbours(resize):
    images = noise(10, 12, count=3)
    torch.testing.assert_close(resize(images, (7, 20))[1:2], resize(images[1:2], (7, 20)), rtol=0, atol=1e-4)


def test_bicubic_shrinks_with_antialiasing():
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255  # finer than the small image can show
    shrunk = resize_bicubic(stripes, (16, 16))[..., 2:-2]
    assert (shrunk - 127.5).abs().max() < 10
    assert (resize_tf1(stripes, (16, 16)) == 255).all()  # which takes every fourth pixel


def test_the_cubic_kernel():
    assert cubic_kernel(torch.tensor([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1, 0, 0, 0, 0]
    assert cubic_kernel(torch.tensor([-0.5, 0.5, 1.5])).tolist() == [0.5625, 0.5625, -0.0625]


@pytest.mark.parametrize(("old", "new"), [(64, 299), (299, 64), (7, 7), (1, 5)])
def test_bicubic_weights_sum_to_one(old, new):
    weights = bicubic_weights(old, new)
    assert weights.shape == (new, old)
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights.sum(1), torch.ones(new, dtype=torch.float64))


def test_words_for_the_card():
    assert TF1.phrase((299, 299)) == "bilinear TF1 to 299"
    assert CLEAN.phrase((224, 192)) == "bicubic antialiased to 224x192"
