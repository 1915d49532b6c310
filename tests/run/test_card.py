import dataclasses
import json
import os
import subprocess

import pytest

from sagan.run.card import Card, commit, differences, identity, refuse_unlike, versions
from sagan.system.typed import from_plain, to_plain
from tests.records import CARD


@pytest.mark.parametrize("card", [CARD, dataclasses.replace(CARD, versions=versions(), commit=commit())])
def test_a_card_comes_back_from_json(card):
    assert from_plain(Card, json.loads(json.dumps(to_plain(card))), "the card") == card


@pytest.mark.parametrize(
    "field",
    [
        "extractor",
        "weights_sha256",
        "resize",
        "samples",
        "image_size",
        "reference",
        "reference_samples",
        "covariance",
    ],
)
def test_what_decides_a_score_keeps_unlike_ones_apart(field):
    other = dataclasses.replace(CARD, **{field: "another"})
    assert list(differences(CARD, other)) == [field]
    assert identity(CARD) != identity(other)
    with pytest.raises(ValueError, match=f"the scores of a and b cannot be compared, their cards differ in {field}: "):
        refuse_unlike([("a", CARD), ("b", other)])


def test_another_draw_or_build_may_be_compared():
    other = dataclasses.replace(CARD, seed=1, repeats=3, versions={"torch": "1"}, commit="x")
    refuse_unlike([("a", CARD), ("b", other)])
    assert identity(CARD) == identity(other)
    refuse_unlike([])


def test_unknown_fields_are_of_a_newer_version_and_missing_ones_damage():
    with pytest.raises(ValueError, match="^the card was written by a newer sagan: this version does not know colour$"):
        from_plain(Card, to_plain(CARD) | {"colour": 1}, "the card")
    lacking = {name: value for name, value in to_plain(CARD).items() if name != "resize"}
    with pytest.raises(ValueError, match="^the card is damaged: resize missing$"):
        from_plain(Card, lacking, "the card")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("samples", -5, "1 or more"),
        ("reference_count", 0, "1 or more"),
        ("reference_samples", -1, "0 or more"),
        ("dim", -1, "1 or more"),
        ("repeats", 0, "1 or more"),
        ("image_size", "banana", "height x width, such as 64x64"),
        ("image_size", "0x16", "height x width, such as 64x64"),
    ],
)
def test_what_no_score_has_is_damage(field, value, allowed):
    with pytest.raises(ValueError, match=f"^the card is damaged: {field} must be {allowed}, got {value!r}$"):
        from_plain(Card, to_plain(CARD) | {field: value}, "the card")


def test_a_repository_that_merely_lies_around_the_package_is_not_its_own(tmp_path):
    def git(*arguments):
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "site" / "card.py"
    file.parent.mkdir()
    file.write_text("")
    assert commit(file) is None
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    assert commit(file) is None
    git("add", ".")
    git("commit", "-m", "second")
    assert len(commit(file)) == 12
    index = tmp_path / ".git" / "index"
    os.utime(file, (0, 0))  # git would note in its index that the file is the same
    before = index.read_bytes()
    git("config", "core.fsmonitor", "touch ran")  # a program that git starts
    assert len(commit(file)) == 12
    assert index.read_bytes() == before
    assert not list(tmp_path.rglob("ran"))
    file.write_text("changed")
    assert commit(file).endswith("+")


@pytest.mark.parametrize(
    ("extractor", "is_fid", "dim"),
    [
        ("inception-2015-tf1", True, 2048),
        ("inception-0a1b2c3d-tf1", False, 2048),
        ("inception-20150a1b-tf1", False, 2048),
        ("efficientnet-lite0", False, 1280),
        ("torchscript-0a1b2c3d", False, None),
    ],
)
def test_a_card_of_an_earlier_version_is_known_by_its_extractor(extractor, is_fid, dim):
    values = to_plain(dataclasses.replace(CARD, extractor=extractor))
    del values["is_fid"], values["dim"]
    card = from_plain(Card, values, "a card")
    assert (card.is_fid, card.dim) == (is_fid, dim)
    assert not differences(card, dataclasses.replace(card, dim=5))  # the extractor's name says it all
