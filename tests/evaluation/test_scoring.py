import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.evaluation.reference as reference_module
import sagan.evaluation.scoring as scoring_module
from sagan.core.shapes import ImageShape
from sagan.data import Recipe, open_or_prepare, open_source
from sagan.data.faces import FacesSource
from sagan.evaluation.image_sets import open_images, store_images
from sagan.evaluation.reference import open_reference
from sagan.evaluation.scoring import nearest_real, score_images
from sagan.system.console import Console
from tests.evaluation.conftest import silent


def spoilt(faces, change):
    return dataclasses.replace(faces, read=lambda start, stop: change(faces.read(start, stop)), identity="spoilt")


def scores_of(draws, reference, extractor, warn=lambda sentence: None):
    scores, _ = score_images(draws, reference, extractor, progress=silent, warn=warn)
    return {score.metric: score for score in scores}


def test_the_images_themselves_score_as_well_as_can_be(faces, reference, extractor):
    scores = scores_of([faces], reference, extractor)
    assert scores["frechet"].value == pytest.approx(0, abs=1e-6)
    assert scores["precision"].value == scores["recall"].value == scores["coverage"].value == 1
    assert scores["eye_colour_agreement"].value > 0.9


def test_worse_images_score_worse(faces, reference, extractor):
    def noise(images):
        draw = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, images.shape, generator=draw, dtype=torch.uint8)

    def blur(images):
        return torch.nn.functional.avg_pool2d(images.float(), 3, 1, 1).to(torch.uint8)

    values = [scores_of([spoilt(faces, change)], reference, extractor) for change in (blur, noise)]
    assert 0 < values[0]["frechet"].value < values[1]["frechet"].value
    assert values[0]["kernel"].value < values[1]["kernel"].value


def test_draws_give_a_mean_and_a_spread(faces, reference, extractor):
    darker = spoilt(faces, lambda images: images // 2)
    one, other = (scores_of([images], reference, extractor)["frechet"].value for images in (faces, darker))
    both = scores_of([faces, darker], reference, extractor)["frechet"]
    assert both.value == pytest.approx((one + other) / 2)
    assert both.spread == pytest.approx(abs(one - other) / 2**0.5)
    alone = scores_of([faces], reference, extractor)
    assert alone["frechet"].spread is None
    assert alone["kernel"].error > 0
    assert scores_of([faces, darker], reference, extractor)["kernel"].error is None


def test_only_the_inception_of_2015_is_called_fid(faces, reference, extractor):
    labels = [score.label for score in scores_of([faces], reference, extractor).values()]
    assert not any("FID" in label or "KID" in label for label in labels)
    for qualifier, name in (("", "FID"), ("(clean resize)", "FID (clean resize)")):
        inception = dataclasses.replace(extractor, qualifier=qualifier, is_fid=True)
        scores = scores_of([faces], reference, inception)
        assert scores["frechet"].label == name
        assert scores["kernel"].label == name.replace("FID", "KID")


def test_small_samples_are_named(faces, reference, extractor):
    sentences = []
    scores_of([dataclasses.replace(faces, count=30)], reference, extractor, warn=sentences.append)
    assert len(sentences) == 2
    assert "30 images" in sentences[0]
    assert "at infinitely many images is left out: it needs 256 images or more" in sentences[1]


def test_other_sizes_and_too_few_images_are_refused(faces, reference, extractor):
    with pytest.raises(ValueError, match="the images to score are 32x16, the reference's are 16x16"):
        scores_of([dataclasses.replace(faces, shape=ImageShape(3, 32, faces.shape.width))], reference, extractor)
    with pytest.raises(ValueError, match="a score needs 20 images or more"):
        scores_of([dataclasses.replace(faces, count=3)], reference, extractor)


def test_the_nearest_real_image_of_a_copy_is_its_original(faces, reference, extractor):
    _, found = score_images([faces], reference, extractor, progress=silent, warn=print)
    pictures = nearest_real(found, reference, rows=3, neighbours=2)
    assert pictures.shape == (9, 3, 16, 16)
    for row in range(3):
        assert torch.equal(pictures[3 * row], pictures[3 * row + 1])
        assert not torch.equal(pictures[3 * row], pictures[3 * row + 2])


def test_a_copied_image_is_at_no_distance(faces, reference, extractor):
    scores = scores_of([faces], reference, extractor)
    assert scores["nearest_distance"].value == 0 < scores["nearest_distance"].floor
    darker = scores_of([spoilt(faces, lambda images: images // 2)], reference, extractor)
    assert darker["nearest_distance"].value > 0


@pytest.fixture
def few_kept(monkeypatch):
    for module in (reference_module, scoring_module):
        monkeypatch.setattr(module, "KEPT", 60)


def two_classes(folder):
    """A folder that begins with dark images and ends with bright ones."""
    folder.mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 100, (200, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(image + 150 * (number >= 100)).save(folder / f"{number:03d}.png")
    return folder


def test_a_folder_sorted_by_class_is_scored_on_all_of_them(few_kept, extractor, tmp_path):
    images = open_images(two_classes(tmp_path / "real"), tmp_path / "cache", Console(quiet=True))
    store = store_images(open_or_prepare(open_source(tmp_path / "real"), Recipe(16), tmp_path / "prepared"))
    for found in (images, store):
        bright = (found.sample(0, 60).float().mean((1, 2, 3)) > 125).sum()
        assert 15 < bright < 45
    real = open_reference(images, extractor, tmp_path, Console(quiet=True))
    other = dataclasses.replace(images, read=lambda start, stop: images.read(200 - stop, 200 - start).flip(0))
    scores = scores_of([other], real, extractor)
    assert scores["recall"].value > 0.8
    dark = dataclasses.replace(images, count=100, read=lambda start, stop: images.read(start, stop) // 4)
    assert abs(scores["kernel"].value) < scores_of([dark], real, extractor)["kernel"].value / 20


def test_each_score_says_how_many_images_it_looked_at(few_kept, faces, extractor, tmp_path):
    real = open_reference(faces, extractor, tmp_path, Console(quiet=True))
    scores = scores_of([faces], real, extractor)
    counts = {name: (scores[name].samples, scores[name].reference_samples) for name in ("frechet", "kernel", "recall")}
    assert counts == {"frechet": (120, 120), "kernel": (60, 60), "recall": (60, 60)}
    assert (scores["frechet"].floor_samples, scores["kernel"].floor_samples) == (60, 30)


def test_the_distance_at_infinity_has_no_floor(faces, extractor, tmp_path):
    many = store_images(open_or_prepare(FacesSource(300, 16), Recipe(16), tmp_path))
    scores = scores_of([many], open_reference(faces, extractor, tmp_path, Console(quiet=True)), extractor)
    assert scores["frechet_infinity"].floor is None
    assert "infinitely many samples to these 120 images" in scores["frechet_infinity"].label


def test_faces_are_measured_beside_as_many_of_the_references_own(faces, reference, extractor):
    some = scores_of([dataclasses.replace(faces, count=30)], reference, extractor)
    every = scores_of([faces], reference, extractor)
    for name in ("eye_colour_agreement", "eye_colour_chance", "eye_colour_confident", "symmetry"):
        assert (some[name].samples, some[name].reference_samples, some[name].floor_samples) == (30, 30, 30)
        assert every[name].value == every[name].floor
    black = scores_of([spoilt(faces, torch.zeros_like)], reference, extractor)
    assert "eye_colour_agreement" not in black
    assert all(math.isfinite(score.value) for score in black.values())


def test_a_folder_named_faces_holds_no_drawn_faces(tmp_path):
    two_classes(tmp_path / "faces")
    store = open_or_prepare(open_source(tmp_path / "faces"), Recipe(16), tmp_path / "prepared")
    assert not store_images(store).drawn_faces
    drawn = open_or_prepare(FacesSource(20, 16), Recipe(16), tmp_path / "prepared")
    assert store_images(drawn).drawn_faces


def test_a_folder_with_a_meta_json_of_its_own_is_a_folder_of_images(tmp_path):
    (two_classes(tmp_path / "real") / "meta.json").write_text('{"author": "x"}')
    assert open_images(tmp_path / "real", tmp_path / "cache", Console(quiet=True)).count == 200


def test_images_of_mixed_sizes_are_refused_with_the_way_out(tmp_path):
    folder = two_classes(tmp_path / "real")
    Image.new("RGB", (20, 16)).save(folder / "120.png")
    images = open_images(folder, folder.parent / "cache", Console(quiet=True))
    with pytest.raises(ValueError, match="must be of one size, .*: --imsize SIZE brings them to one"):
        images.read(0, 200)
