"""Classes by name and number."""

import unicodedata

import pytest

from sagan.run.classes import class_number, describe_class, list_classes

NAMES = ("1", "10", "2", "Café", "grey wolf")


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("2", 2),  # a name wins over a number
        ("10", 1),
        ("3", 3),
        ("0", 0),
        (2, 2),
        ("Café", 3),
        (unicodedata.normalize("NFD", "Café"), 3),
        ("grey wolf", 4),
    ],
)
def test_a_label_is_a_name_or_else_a_number(label, number):
    assert class_number(label, NAMES, 5) == number


def test_names_that_differ_only_in_form_stay_different():
    names = tuple(unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    assert [class_number(name, names, 2) for name in names] == [0, 1]


@pytest.mark.parametrize("label", [5, -1, "5", "-1", "1.0", "", "grey", "GREY WOLF", "²"])
def test_any_other_label_is_refused_with_the_names(label):
    with pytest.raises(
        ValueError, match=r"classes 0 to 4, got label .*: they are 0 .'1'., 1 .'10'., 2 .'2'., 3 .'Café'., "
    ):
        class_number(label, NAMES, 5)


@pytest.mark.parametrize(
    ("label", "end"), [("CAFÉ", "did you mean Café?"), ("gray wolf", "did you mean grey wolf?"), ("zebra", "wolf'[)]")]
)
def test_the_nearest_name_is_said(label, end):
    with pytest.raises(ValueError, match=f"{end.replace('?', '[?]')}$"):
        class_number(label, NAMES, 5)


def test_without_names_there_are_numbers_and_without_classes_nothing():
    assert class_number("2", (), 3) == class_number(2, (), 3) == 2
    with pytest.raises(ValueError, match="classes 0 to 2, got label 'cat': their names are unknown"):
        class_number("cat", (), 3)
    for label in ("cat", "0", 0):
        with pytest.raises(ValueError, match="this generator has no classes, got label"):
            class_number(label, (), 0)


def test_classes_in_words():
    assert list_classes(["ant", "bat"]) == "0 ant, 1 bat"
    many = list_classes([f"c{number}" for number in range(1000)])
    assert many.startswith("0 c0, 1 c1, ")
    assert many.endswith(", ... 999 c999")
    assert len(many) < 100
    assert (describe_class(1, ("ant", "bat")), describe_class(1, ())) == ("1 ('bat')", "1")
    assert list_classes(["2", "10"]) == "0 ('2'), 1 ('10')"
