import numpy as np
import pytest
import torch

from sagan.evaluation.metrics.inception_score import InceptionScoreStream


def logits(count=205, classes=16):
    random = np.random.RandomState(3)
    mix = np.eye(classes) + 0.3 * random.standard_normal((classes, classes))
    return torch.from_numpy(3 * (0.3 + random.standard_normal((count, classes)) @ mix))


def inception_score(logits, *, splits=10):
    stream = InceptionScoreStream(len(logits), splits)
    stream.add(logits)
    return stream.score()


def test_torch_fidelity_gives_the_same():
    """torch-fidelity 0.4.0: ``isc_features_to_metric(logits, splits=10, shuffle=False)``."""
    score = inception_score(logits())
    assert score.value == pytest.approx(5.680941564160931, rel=1e-9)
    assert score.standard_error == pytest.approx(0.8329622906755929 / 10**0.5, rel=1e-9)
    order = np.random.RandomState(2020).permutation(205)  # and with shuffle=True
    assert inception_score(logits()[order]).value == pytest.approx(5.379442331012198, rel=1e-9)


def test_the_definition():
    p = logits(40).softmax(1)
    marginal = p.mean(0)
    expected = (p * (p / marginal).log()).sum(1).mean().exp().item()
    score = inception_score(logits(40), splits=1)
    assert score.value == pytest.approx(expected, rel=1e-12)
    assert score.standard_error == 0


@pytest.mark.parametrize("batch", [1, 7, 20, 64, 205])
@pytest.mark.parametrize("splits", [1, 10, 205])
def test_batches_of_any_size_give_the_same(batch, splits):
    stream = InceptionScoreStream(205, splits)
    for rows in logits().split(batch):
        stream.add(rows)
        stream.add(rows[:0])
    score, expected = stream.score(), inception_score(logits(), splits=splits)
    assert score.value == pytest.approx(expected.value, rel=1e-12)
    assert score.standard_error == pytest.approx(expected.standard_error, rel=1e-9, abs=1e-12)


def test_certain_and_even_over_k_classes_scores_k_and_uncertain_scores_1():
    certain = 200 * torch.eye(8)[torch.arange(400) % 8]
    assert inception_score(certain).value == pytest.approx(8)
    assert inception_score(torch.zeros(400, 8)).value == pytest.approx(1)
    assert inception_score(certain[:1].expand(400, -1)).value == pytest.approx(1)


def test_images_sorted_by_class_score_low_as_the_docstring_warns():
    certain = 200 * torch.eye(8)[torch.arange(400) // 50]
    assert inception_score(certain).value < 3


def test_adding_a_number_to_all_logits_of_an_image_changes_nothing():
    moved = logits() + 1000 * torch.arange(205).unsqueeze(1)
    assert inception_score(moved).value == pytest.approx(inception_score(logits()).value, rel=1e-9)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="1 of 20 images have logits that are NaN or infinite"):
        inception_score(torch.cat([logits(19), torch.full((1, 16), torch.inf)]))
    stream = InceptionScoreStream(30)
    stream.add(logits(20))
    with pytest.raises(AssertionError, match="30 images were announced, 20 have come"):
        stream.score()
    stream.add(logits(10))
    assert stream.score().value > 1
    stream.add(logits(10))
    with pytest.raises(AssertionError, match="30 images were announced, 40 have come"):
        stream.score()
