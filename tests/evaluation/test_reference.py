import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.evaluation.reference as reference_module
from sagan.data import Recipe, open_or_prepare, open_source
from sagan.evaluation.image_sets import open_images, store_images
from sagan.evaluation.metrics.moments import Moments
from sagan.evaluation.reference import reference_statistics
from tests.evaluation.conftest import silent


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
    calls = []

    def counting(done, total):
        calls.append(done)

    one = reference_statistics(faces, extractor, tmp_path, counting)
    assert calls[-1] == faces.count
    calls.clear()
    other = reference_statistics(faces, extractor, tmp_path, counting)
    assert not calls
    assert one.floors == other.floors
    assert torch.equal(one.moments.covariance, other.moments.covariance)


def test_a_large_reference_says_what_takes_long(faces, extractor, tmp_path, monkeypatch):
    sentences = []
    monkeypatch.setattr(reference_module, "SLOW", faces.count)
    reference_statistics(faces, extractor, tmp_path, silent, say=sentences.append)
    assert sentences == ["comparing the two halves of 120 real images, for the floors"]


def test_other_images_are_another_reference(faces, extractor, tmp_path):
    reference_statistics(faces, extractor, tmp_path, silent)
    calls = []
    other = dataclasses.replace(faces, identity="pixels:other")
    reference_statistics(other, extractor, tmp_path, lambda done, total: calls.append(done))
    assert calls


def test_a_torn_file_is_computed_again(faces, extractor, tmp_path):
    reference_statistics(faces, extractor, tmp_path, silent)
    (path,) = (tmp_path / "statistics").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    again = reference_statistics(faces, extractor, tmp_path, silent)
    assert again.moments.count == faces.count


def test_too_few_images_are_refused(faces, extractor, tmp_path):
    few = dataclasses.replace(faces, count=5)
    with pytest.raises(ValueError, match="a reference needs 20 images or more, .* has 5"):
        reference_statistics(few, extractor, tmp_path, silent)


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
    sets = [open_images(tmp_path / "one"), open_images(tmp_path / "other"), store_images(store)]
    found = [reference_statistics(images, extractor, tmp_path, silent) for images in sets]
    assert len({each.identity for each in found}) == 1
    Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "one" / "24.png")
    more = reference_statistics(open_images(tmp_path / "one"), extractor, tmp_path, silent)
    assert more.identity != found[0].identity


def test_a_small_reference_is_named(reference):
    assert "real images: 120 images are few" in reference.small_sample()
    enough = dataclasses.replace(reference, moments=Moments.of(torch.randn(300, 64)))
    assert "each half of the real images has 60" in enough.small_sample()


def test_who_waits_for_another_says_so(faces, extractor, tmp_path):
    sentences, computed, busy, go_on = [], [], threading.Event(), threading.Event()

    def slow(done, total):
        busy.set()
        go_on.wait(10)
        computed.append(done)

    def hear(sentence):
        sentences.append(sentence)
        go_on.set()

    first = threading.Thread(target=reference_statistics, args=(faces, extractor, tmp_path, slow))
    first.start()
    assert busy.wait(10)
    second = reference_statistics(faces, extractor, tmp_path, lambda done, total: pytest.fail("computed twice"), hear)
    first.join()
    assert len(sentences) == 1
    assert "another process is computing the features of" in sentences[0]
    assert computed[-1] == second.moments.count == faces.count


TWO = """
import sys
from pathlib import Path
from sagan.data.faces import FacesSource
from sagan.data import Recipe, open_or_prepare
from sagan.evaluation.image_sets import store_images
from sagan.evaluation.reference import reference_statistics
from sagan.evaluation.extractors.table import load_extractor
folder = Path(sys.argv[1])
images = store_images(open_or_prepare(FacesSource(40, 16), Recipe(16), folder))
calls = []
reference = reference_statistics(images, load_extractor("random-conv"), folder, lambda d, t: calls.append(d), print)
print("computed" if calls else "read", reference.identity, reference.floors["frechet"].value)
"""


def test_two_processes_share_one_cache(tmp_path):
    both = [
        subprocess.Popen([sys.executable, "-c", TWO, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[0].splitlines()[-1].split() for process in both]
    assert sorted(words[0] for words in told) == ["computed", "read"]
    assert told[0][1:] == told[1][1:]
