import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import Positional

from sagan.cli.flags import Group, convert, did_you_mean, group, read, truth
from sagan.system.typed import fill, suits, wording

Span = int | Literal["self"]


@dataclass(frozen=True)
class Inner:
    """What is inside."""

    loss: Literal["hinge", "wgan-gp"] = "hinge"
    """The loss."""
    rate: float = 0.1
    """The rate."""


@dataclass(frozen=True)
class Flags:
    """A command."""

    place: Annotated[Path, Positional]
    """A place."""
    batch_size: int
    """Images."""
    span: Span = 0
    """The span."""
    sizes: tuple[int, ...] | None = None
    """The sizes."""
    strict: bool = False
    """Whether."""
    name: str | None = None
    """A name."""
    inner: Inner = field(default_factory=Inner)


def given(*words):
    return read(Flags, ["here", "--batch_size", "8", *words], "sagan try")


def refusal(*words):
    with pytest.raises(ValueError, match=".") as error:
        read(Flags, words, "sagan try", {"epochs": "count steps"})
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


def test_words_are_grouped_by_the_flags_before_them():
    words = ["a", "b", "--batch-size", "-1", "c", "--json=x=y", "z", "-", "-b", "--alone"]
    groups = group(words)
    assert groups == [
        Group("", ["a", "b"]),
        Group("--batch-size", ["-1", "c"]),
        Group("--json", ["x=y", "z", "-"], joined=True),
        Group("-b", []),
        Group("--alone", []),
    ]
    assert [each.name for each in groups] == ["", "batch_size", "json", "b", "alone"]
    assert [word for each in groups for word in each.words] == words
    assert group([]) == []


@dataclass(frozen=True)
class Several:
    """A command of several places."""

    places: Annotated[tuple[Path, ...], Positional] = ()
    """Places."""
    quick: bool = False
    """Quick."""
    count: int = 1
    """How many."""


def test_a_place_of_several_takes_every_word_that_stands_alone():
    values = {"places": (Path("a,b"), Path("none"), Path("d")), "quick": True, "count": 2}
    assert read(Several, ["a,b", "--quick", "none", "--count", "2", "d"], "sagan try") == values
    assert read(Several, ["--quick"], "sagan try") == {"quick": True}


def test_a_command_may_take_more_than_a_field_holds():
    assert read(Several, ["--count", "auto"], "sagan try", wider={"count": int | Literal["auto"]}) == {"count": "auto"}
    with pytest.raises(ValueError, match="--count must be a whole number, got 'auto'"):
        read(Several, ["--count", "auto"], "sagan try")


@pytest.mark.parametrize(
    "words", [["--batch-size", "8"], ["--batch_size=8"], ["--batch-size=8"], ["--batch_size", "8"]]
)
def test_underscores_are_dashes_and_an_equals_sign_is_a_blank(words):
    assert read(Flags, ["here", *words], "sagan try") == {"place": Path("here"), "batch_size": 8}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--span", "3"], "span", 3),
        (["--span", "self"], "span", "self"),
        (["--span", "-1"], "span", -1),
        (["--batch_size", "1e3"], "batch_size", 1000),
        (["--rate", "1e-4"], "rate", 1e-4),
        (["--loss", "wgan-gp"], "loss", "wgan-gp"),
        (["--sizes", "8", "16"], "sizes", (8, 16)),
        (["--sizes", "8,16"], "sizes", (8, 16)),
        (["--sizes", "none"], "sizes", ()),
        (["--name", "None"], "name", None),
        (["--name", "a b"], "name", "a b"),
        (["--strict"], "strict", True),
        (["--strict", "FALSE"], "strict", False),
        (["--strict=yes"], "strict", True),
        (["--strict", "--span", "1"], "strict", True),
    ],
)
def test_values_are_read_by_their_type(words, name, value):
    rest = [] if name == "batch_size" else ["--batch_size", "8"]
    read_value = read(Flags, ["here", *rest, *words], "sagan try")[name]
    assert read_value == value
    assert type(read_value) is type(value)


def test_a_flag_alone_leaves_a_place_its_word():
    assert read(Flags, ["--strict", "here", "--batch_size", "8"], "x")["place"] == Path("here")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--spam", "3"], "there is no flag --spam: did you mean --span?"),
        (["--batch", "3"], "there is no flag --batch: did you mean --batch_size?"),
        (["--zzz"], "there is no flag --zzz. `sagan try --help all`"),
        (["-b", "3"], "there is no flag -b"),
        (["--place", "x"], "there is no flag --place"),
        (["--epochs", "3"], "`sagan try` has no flag --epochs: count steps"),
        (["a", "b"], "no place for 'b'"),
        (["a", "--span"], "--span needs a value: a whole number or self"),
        (["a", "--span", "--strict"], "--span needs a value"),
        (["a", "--span="], "--span needs a value"),
        (["a", "--span", "1.5"], "--span must be a whole number or self, got '1.5'"),
        (["a", "--rate", "x"], "--rate must be a number, got 'x'"),
        (["a", "--loss", "hing"], "--loss must be hinge or wgan-gp, got 'hing'"),
        (["a", "--strict", "maybe"], "--strict must be true or false, got 'maybe'"),
        (["a", "--sizes", "8", "x"], "--sizes must be a whole number, got 'x'"),
        (["a", "--span", "1", "--span=2"], "--span is given twice"),
        (["a"], "needs --batch_size"),
        ([], "needs PLACE and --batch_size"),
    ],
)
def test_what_is_wrong_is_one_sentence(words, said):
    assert said in refusal(*words)


def test_a_misspelt_flag_is_answered_with_the_nearest():
    flags = ["span", "g_lr", "d_lr", "total_step"]
    assert did_you_mean("spann", flags) == ": did you mean --span?"
    assert did_you_mean("lr", flags) == ": did you mean --g_lr or --d_lr?"
    assert did_you_mean("total", flags) == ": did you mean --total_step?"
    assert did_you_mean("q", flags) == ""


def test_filling_takes_values_by_their_bare_names_and_the_rest_from_a_base():
    flags = fill(Flags, given("--loss", "wgan-gp"))
    assert flags == Flags(Path("here"), 8, inner=Inner("wgan-gp"))
    base = dataclasses.replace(flags, span=4)
    assert fill(Flags, {"rate": 2.0}, base) == dataclasses.replace(base, inner=Inner("wgan-gp", 2.0))


@pytest.mark.parametrize("text", ["true", "TRUE", "Yes", "on", "1"])
def test_truth_in_any_case(text):
    assert truth(text)
    assert not truth({"true": "False", "TRUE": "FALSE", "Yes": "no", "on": "Off", "1": "0"}[text])


def test_truth_is_no_substring():
    for text in ("", "t", "tru"):
        with pytest.raises(ValueError, match="true or false"):
            truth(text)


@pytest.mark.parametrize(
    ("value", "hint", "whether"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        ("1", float, False),
        ("self", Span, True),
        (-1, Span, True),
        ("selv", Span, False),
        (None, int | None, True),
        (None, int, False),
        ((1, 2), tuple[int, ...], True),
        ((1, "2"), tuple[int, ...], False),
        ([1], tuple[int, ...], False),
        (1, bool, False),
        (True, Literal[1], False),
    ],
)
def test_values_suit_their_hints(value, hint, whether):
    assert suits(value, hint) is whether


def test_what_is_allowed_is_said_in_words():
    assert wording(Span | None) == "a whole number or self"
    assert wording(bool) == "true or false"
    assert convert(["3"], Span) == 3


def test_a_path_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert convert(["~/a"], Path) == convert(["~/a"], Path | None) == Path("/home/me/a")
    assert convert(["~/a", "b,c"], tuple[Path, ...]) == (Path("/home/me/a"), Path("b,c"))
    for hint in (Path, Path | None, tuple[Path, ...]):
        with pytest.raises(ValueError, match="~nobody-here is not the home folder of a user here"):
            convert(["~nobody-here/a"], hint)
