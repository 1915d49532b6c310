"""Sources of pictures that are made up, and what is looked for in their stores."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from sagan.data import Source, open_source
from sagan.data.faces.drawing import draw_face
from sagan.data.prepare import prepare
from sagan.data.recipe import Recipe
from sagan.system.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
quiet = {"warn": lambda sentence: None}
KINDS = ("wasp", "ant", "bee", "fly")


class Pictures(Source):
    """A source of random pictures, kept in nothing: image i is a function of i. Those in ``bad`` cannot be read; their
    classes are the ``kinds`` in turn."""

    def __init__(self, count=30, bad=(), identity="pictures:1", width=20, height=16, kinds=KINDS):
        self.kinds, self.no_classes = kinds, "" if kinds else "they are all of a kind"
        self.count, self.bad, self.identity = count, set(bad), identity
        self.width, self.height = width, height
        self.description = f"{count} pictures"
        self.reads = 0
        self.stop_at = None

    def __len__(self):
        return self.count

    def name(self, index):
        return f"picture {index}"

    def class_of(self, index):
        return self.kinds[index % len(self.kinds)] if self.kinds else None

    def read(self, index):
        self.reads += 1
        if index == self.stop_at:
            raise KeyboardInterrupt
        if index in self.bad:
            raise UserError(f"picture {index} cannot be read: it is bad")
        pixels = np.random.default_rng(index).integers(0, 256, (self.height, self.width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


class First(Source):
    """The first few images of another source."""

    def __init__(self, source, count):
        self.source, self.count = source, count
        self.description, self.identity = f"the first {count} of {source.description}", f"{source.identity}:{count}"

    def __len__(self):
        return self.count

    def name(self, index):
        return self.source.name(index)

    def read(self, index):
        return self.source.read(index)


def content(folder):
    """Every file of a store by name, to compare byte for byte."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


DAMAGED = ("ant/1.png", "dog/0.png", "dog/old/2.png", "elk/0.png")  # all that there is of elk


WHOLE = ("ant/0.png", "ant/2.png", "bat/deep/er/0.png", "cat/0.png", "cat/1.png", "dog/1.png", "dog/old/1.png")


def colour(number):
    """A colour for each image of WHOLE, so that a pixel tells the image and its class."""
    return 10 * number, 255 - number, 7


def menagerie(folder, kind, above="", backwards=False):
    """WHOLE and DAMAGED as a folder or a zip, below the folders ``above``, written in one order or the other."""
    files = dict.fromkeys(DAMAGED, b"not an image") | {"notes/read.txt": b"no class: there is no image here"}
    for number, name in enumerate(WHOLE):
        buffer = io.BytesIO()
        Image.new("RGB", (9, 9), colour(number)).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    files = {above + name: files[name] for name in sorted(files, reverse=backwards)}
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "zip":
        with zipfile.ZipFile(folder / "zoo.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return open_source(folder / "zoo.zip")
    for name, data in files.items():
        (folder / "zoo" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "zoo" / name).write_bytes(data)
    return open_source(folder / "zoo")


def pairs(store):
    """Which image has which class, read from pixels and labels alone."""
    numbers = [colour(number) for number in range(len(WHOLE))]
    places = [numbers.index(tuple(image[0, 0].tolist())) for image in store.images]
    return [(WHOLE[place], store.classes[label]) for place, label in zip(places, store.labels, strict=True)]


ANIMALS = [(name, name[:3]) for name in WHOLE]


def reference(tmp_path, **options):
    return content(prepare(Pictures(bad=[2, 11], **options), Recipe(8), tmp_path / "straight", **quiet).folder)


def draw_faces(count, size):
    """The first faces of seed 0 as a batch for the measures, (count, 3, size, size) uint8."""
    return np.stack([draw_face(index, size).transpose(2, 0, 1) for index in range(count)])
