import dataclasses

import pytest

from sagan.published.tables import SAMPLES, caveats, comparable_dataset, published_curves
from sagan.run.config import DataConfig
from tests.records import CARD

FID = dataclasses.replace(
    CARD, extractor="inception-2015-tf1", resize="bilinear TF1 to 299", is_fid=True, dim=2048,
    image_size="64x64", samples=64_000, reference_count=202_599,
)  # fmt: skip


def fids(dataset, span):
    return {point.step: point.fid for point in published_curves(dataset)[span].points}


def test_figures_that_the_published_claims_rest_on():
    assert fids("celeb", 0)[101280] == 30.4276
    assert fids("celeb", 3)[100000] == 25.2475
    assert min(fids("celeb", 0).values()) == fids("celeb", 0)[300675] == 24.9998
    assert {span: fids("celeb", span)[40000] for span in (1, 2, 3, 4)} == {
        1: 32.3586,
        2: 34.4207,
        3: 36.2135,
        4: 37.131,
    }
    assert (fids("lsun", 0)[100000], fids("lsun", 1)[100000]) == (66.5318, 71.241)


@pytest.mark.parametrize("dataset", ["celeb", "lsun"])
def test_every_span_has_its_points_in_order(dataset):
    curves = published_curves(dataset)
    assert [curve.span for curve in curves] == [0, 1, 2, 3, 4]
    for curve in curves:
        steps = [point.step for point in curve.points]
        assert steps == sorted(set(steps))
        assert len(steps) == (19 if (dataset, curve.span) == ("celeb", 0) else 10)


def test_a_score_of_too_few_samples_is_marked():
    odd = [(c.span, p.step) for d in ("celeb", "lsun") for c in published_curves(d) for p in c.points if not p.whole]
    assert odd == [(4, 80000)]
    assert published_curves("celeb")[4].points[7].samples < SAMPLES


@pytest.mark.parametrize("dataset", ["celeb", "lsun"])
def test_captions_say_what_is_wrong_with_the_figures(dataset):
    said = " ".join(caveats(dataset))
    assert "no seed" in said
    assert ("JPEG" in said, "sampled with span 0" in said) == (dataset == "celeb", dataset == "lsun")


def test_only_the_fid_of_the_same_images_shares_their_axis():
    church = dataclasses.replace(FID, reference_count=126_227)
    assert comparable_dataset(FID, "frechet", DataConfig(dataset="celeb")) == "celeb"
    assert comparable_dataset(church, "frechet", DataConfig(dataset="lsun")) == "lsun"
    for change, metric, data, said in [
        ({}, "kernel", {}, "'kernel'"),
        ({"extractor": "efficientnet-lite0", "is_fid": False}, "frechet", {}, "by efficientnet-lite0"),
        ({"extractor": "inception-2015-clean", "resize": "bicubic"}, "frechet", {}, "by inception-2015-clean"),
        ({"image_size": "32x32"}, "frechet", {}, "32x32"),
        ({}, "frechet", {"dataset": None}, "neither"),
        ({}, "frechet", {"crop": "square"}, "crop square"),
        ({}, "frechet", {"filter": "box"}, "filter box"),
        ({}, "frechet", {"dataset": "lsun"}, "against all 126,227 images of lsun"),
        ({"samples": 10_000}, "frechet", {}, "these scores of 10,000, which makes a FID larger"),
    ]:
        with pytest.raises(ValueError, match=said):
            comparable_dataset(dataclasses.replace(FID, **change), metric, DataConfig(**{"dataset": "celeb"} | data))
