import dataclasses

import pytest
import torch

from sagan.evaluation.evaluate import reference_statistics
from sagan.evaluation.metrics.moments import Moments
from tests.evaluation.evaluate.conftest import silent


def test_holds_the_moments_and_features_of_all_images(reference, faces, extractor):
    features = extractor(faces.read(0, faces.count))
    torch.testing.assert_close(reference.features, features.cpu(), rtol=1e-4, atol=1e-5)
    expected = Moments.of(features)
    torch.testing.assert_close(reference.moments.mean, expected.mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(reference.moments.covariance, expected.covariance, rtol=1e-4, atol=1e-8)
    assert reference.kept.tolist() == list(range(faces.count))


def test_the_floor_is_one_half_against_the_other(reference):
    assert reference.floors["frechet"] > 0
    assert abs(reference.floors["kernel"]) < reference.floors["frechet"]


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
