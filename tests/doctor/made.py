"""Made sets of images, sound but for the fault that a test wants."""

import io
import itertools

import numpy as np
from PIL import Image, ImageDraw

from sagan.data import Source
from sagan.doctor.looks import Looks, look_at
from sagan.system.errors import UserError


def picture(seed: int, width: int = 48, height: int = 48) -> Image.Image:
    """A picture of coloured patches that is like no other, with fine grain."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + random.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int, **options) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality, **options)
    return Image.open(data)


def signed(image: Image.Image, corner: bool = False) -> Image.Image:
    """An image with a word over it, near the bottom right: at its size, or as large as the image is."""
    word = Image.new("L", (60, 16))
    ImageDraw.Draw(word).text((2, 2), "STOCK", fill=255, font_size=12)
    if not corner:
        word = word.resize((image.width // 3, image.height // 6))
    signed = image.copy()
    signed.paste((255, 255, 255), (image.width - word.width - 4, image.height - word.height - 4), word)
    return signed


_NUMBERS = itertools.count()


class Held(Source):
    """Images in memory; a text instead of one is why it cannot be read."""

    def __init__(self, images, classes=None):
        self.images, self.classes = images, classes
        self.description = f"{len(images)} images in memory"
        self.identity = f"held:{next(_NUMBERS):064}"
        self.no_classes = "" if classes else "they have none"
        self.reads = 0

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return f"{index:03}.png"

    def read(self, index):
        self.reads += 1
        if isinstance(self.images[index], str):
            raise UserError(f"{self.name(index)} cannot be read: {self.images[index]}")
        return self.images[index]

    def class_of(self, index):
        return self.classes[index] if self.classes else None


def sound(count: int = 120, **size) -> list[Image.Image]:
    return [picture(seed, **size) for seed in range(count)]


def looks_of(images, root, classes=None) -> Looks:
    return look_at(Held(images, classes), root)
