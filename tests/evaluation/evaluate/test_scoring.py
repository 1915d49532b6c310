import dataclasses

import pytest
import torch

from sagan.evaluation.evaluate import score_images
from sagan.evaluation.evaluate.scoring import nearest_real
from tests.evaluation.evaluate.conftest import silent


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
    assert scores_of([faces], reference, extractor)["frechet"].spread is None


def test_only_the_inception_of_2015_is_called_fid(faces, reference, extractor):
    labels = [score.label for score in scores_of([faces], reference, extractor).values()]
    assert not any("FID" in label or "KID" in label for label in labels)


def test_small_samples_are_named(faces, reference, extractor):
    sentences = []
    scores_of([dataclasses.replace(faces, count=30)], reference, extractor, warn=sentences.append)
    assert len(sentences) == 1
    assert "30 images" in sentences[0]


def test_other_sizes_and_too_few_images_are_refused(faces, reference, extractor):
    with pytest.raises(ValueError, match="the images to score are 32x16, the reference's are 16x16"):
        scores_of([dataclasses.replace(faces, height=32)], reference, extractor)
    with pytest.raises(ValueError, match="a score needs 20 images or more"):
        scores_of([dataclasses.replace(faces, count=3)], reference, extractor)


def test_the_nearest_real_image_of_a_copy_is_its_original(faces, reference, extractor):
    _, found = score_images([faces], reference, extractor, progress=silent, warn=print)
    pictures = nearest_real(found, reference, rows=3, neighbours=2)
    assert pictures.shape == (9, 3, 16, 16)
    for row in range(3):
        assert torch.equal(pictures[3 * row], pictures[3 * row + 1])
        assert not torch.equal(pictures[3 * row], pictures[3 * row + 2])
