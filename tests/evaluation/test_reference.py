import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import sagan.evaluation.reference as reference_module
from sagan.data import Recipe, open_or_prepare, open_source
from sagan.evaluation.image_sets import open_images, store_images
from sagan.evaluation.metrics.moments import Moments
from sagan.evaluation.reference import open_reference
from sagan.system.console import Console

QUIET = Console(quiet=True)


def counted(images):
    """The images, and a list that grows with each read of them."""
    reads = []
    return dataclasses.replace(images, read=lambda *ends: reads.append(ends) or images.read(*ends)), reads


def test_holds_the_moments_and_features_of_all_images(reference, faces, extractor):
    features = extractor(faces.sample(0, faces.count))
    torch.testing.assert_close(reference.features, features.cpu(), rtol=1e-4, atol=1e-5)
    expected = Moments.of(features)
    torch.testing.assert_close(reference.moments.mean, expected.mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(reference.moments.covariance, expected.covariance, rtol=1e-4, atol=1e-8)
    assert len(reference.compared) == faces.count


def test_the_floor_is_one_half_against_the_other(reference):
    assert reference.floors["frechet"].value > 0
    assert abs(reference.floors["kernel"].value) < reference.floors["frechet"].value
    assert all(0 < reference.floors[name].value <= 1.2 for name in ("precision", "recall", "density", "coverage"))
    assert {floor.samples for name, floor in reference.floors.items() if name != "nearest_distance"} == {60}


def test_is_computed_once(faces, extractor, tmp_path):
    images, reads = counted(faces)
    one = open_reference(images, extractor, tmp_path, QUIET)
    assert len(reads) == faces.count
    other = open_reference(images, extractor, tmp_path, QUIET)
    assert len(reads) == faces.count
    assert one.floors == other.floors
    assert torch.equal(one.moments.covariance, other.moments.covariance)


def test_a_large_reference_says_what_takes_long(faces, extractor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference_module, "SLOW", faces.count)
    open_reference(faces, extractor, tmp_path, Console())
    printed = capsys.readouterr()
    assert "comparing the two halves of 120 real images, for the floors" in printed.out
    assert "real images: 120 images are few for features of 64 numbers" in printed.err


def test_other_images_are_another_reference(faces, extractor, tmp_path):
    open_reference(faces, extractor, tmp_path, QUIET)
    images, reads = counted(dataclasses.replace(faces, identity="pixels:other"))
    open_reference(images, extractor, tmp_path, QUIET)
    assert reads


def spoil_moments(path):
    tensors = load_file(path)
    tensors["mean1"][3] = torch.nan
    save_file(tensors, path)


def drop_moments(path):
    tensors = load_file(path)
    del tensors["mean1"]
    save_file(tensors, path)


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:100]), spoil_moments, drop_moments]
)
def test_a_damaged_file_is_computed_again(faces, extractor, tmp_path, damage):
    one = open_reference(faces, extractor, tmp_path, QUIET)
    (path,) = (tmp_path / "statistics").glob("*.safetensors")
    damage(path)
    again = open_reference(faces, extractor, tmp_path, QUIET)
    assert torch.equal(again.moments.covariance, one.moments.covariance)


def test_too_few_images_are_refused(faces, extractor, tmp_path):
    few = dataclasses.replace(faces, count=5)
    with pytest.raises(ValueError, match="a reference needs 20 images or more, .* has 5"):
        open_reference(few, extractor, tmp_path, QUIET)


def test_the_nearest_other_image_is_never_the_image_itself(reference):
    assert reference.floors["nearest_distance"].value > 0


def test_a_folder_and_a_store_of_the_same_images_are_one_reference(extractor, tmp_path):
    draw = np.random.default_rng(0)
    for place, numbers in (("one", range(24)), ("other", range(23, -1, -1))):
        (tmp_path / place).mkdir()
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / place / f"{abs(number - (23 if place == 'other' else 0))}.png")
    store = open_or_prepare(open_source(tmp_path / "one"), Recipe(16), tmp_path / "prepared")
    cache = tmp_path / "cache"
    sets = [
        open_images(tmp_path / "one", cache, QUIET),
        open_images(tmp_path / "other", cache, QUIET),
        store_images(store),
    ]
    found = [open_reference(images, extractor, tmp_path, QUIET) for images in sets]
    assert len({each.identity for each in found}) == 1
    Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "one" / "24.png")
    more = open_reference(open_images(tmp_path / "one", cache, QUIET), extractor, tmp_path, QUIET)
    assert more.identity != found[0].identity


def test_a_small_reference_is_named(reference):
    assert "real images: 120 images are few" in reference.small_sample()
    enough = dataclasses.replace(reference, moments=Moments.of(torch.randn(300, 64)))
    assert "each half of the real images has 60" in enough.small_sample()


def test_who_waits_for_another_says_so(faces, extractor, tmp_path):
    warnings, busy, go_on = [], threading.Event(), threading.Event()

    def slow(start, stop):
        busy.set()
        go_on.wait(10)
        return faces.read(start, stop)

    class Hearing(Console):
        def warn(self, sentence):
            warnings.append(sentence)
            go_on.set()

    images = dataclasses.replace(faces, read=slow)
    first = threading.Thread(target=open_reference, args=(images, extractor, tmp_path, QUIET))
    first.start()
    assert busy.wait(10)
    never = dataclasses.replace(faces, read=lambda start, stop: pytest.fail("computed twice"))
    second = open_reference(never, extractor, tmp_path, Hearing())
    first.join()
    assert second.moments.count == faces.count
    assert "another process is computing the features of" in warnings[0]
    assert not any("another process" in warning for warning in warnings[1:])


TWO = """
import dataclasses
import sys
from pathlib import Path
from sagan.data.faces import FacesSource
from sagan.data import Recipe, open_or_prepare
from sagan.evaluation.image_sets import store_images
from sagan.evaluation.reference import open_reference
from sagan.system.console import Console
from sagan.evaluation.extractors.table import load_extractor
folder = Path(sys.argv[1])
images = store_images(open_or_prepare(FacesSource(40, 16), Recipe(16), folder))
reads = []
counted = dataclasses.replace(images, read=lambda *ends: reads.append(ends) or images.read(*ends))
reference = open_reference(counted, load_extractor("random-conv"), folder, Console())
print("computed" if reads else "read", reference.identity, reference.floors["frechet"].value)
"""


def test_two_processes_share_one_cache(tmp_path):
    both = [
        subprocess.Popen([sys.executable, "-c", TWO, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[0].splitlines()[-1].split() for process in both]
    assert sorted(words[0] for words in told) == ["computed", "read"]
    assert told[0][1:] == told[1][1:]


@pytest.mark.parametrize("name", ["mean0", "radii", "features", "pixels", "count0", "scatter1", "floor frechet"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 3, 3)])
def test_tensors_of_another_shape_are_computed_again(faces, extractor, tmp_path_factory, reference, name, shape):
    cache = tmp_path_factory.mktemp("cache")
    open_reference(faces, extractor, cache, QUIET)
    (path,) = (cache / "statistics").glob("*.safetensors")
    tensors = load_file(path)
    tensors[name] = torch.zeros(shape, dtype=tensors[name].dtype)
    save_file(tensors, path)
    assert open_reference(faces, extractor, cache, QUIET).identity == reference.identity
