import dataclasses

import pytest

from sagan.evaluation.card import Card, commit, differences, refuse_unlike, versions

CARD = Card(
    extractor="random-conv", weights_sha256=None, resize="none", samples=100, image_size="16x16",
    reference="pixels:abc", reference_count=200, reference_split="all", covariance="unbiased", source="images",
    seed=0, repeats=1, versions=versions(), commit=commit(),
)  # fmt: skip


def test_a_card_comes_back_from_json():
    import json

    assert Card.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD


@pytest.mark.parametrize(
    "field", ["extractor", "weights_sha256", "resize", "samples", "image_size", "reference", "covariance"]
)
def test_what_decides_a_score_keeps_unlike_ones_apart(field):
    other = dataclasses.replace(CARD, **{field: "another"})
    assert list(differences(CARD, other)) == [field]
    with pytest.raises(ValueError, match=f"the scores of a and b cannot be compared, their cards differ in {field}: "):
        refuse_unlike([("a", CARD), ("b", other)])


def test_another_draw_or_build_may_be_compared():
    refuse_unlike([("a", CARD), ("b", dataclasses.replace(CARD, seed=1, versions={"torch": "1"}, commit="x"))])
    refuse_unlike([])


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="missing or unknown fields: colour"):
        Card.from_dict(CARD.to_dict() | {"colour": 1})
