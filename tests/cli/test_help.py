"""What --help prints: on one screen what matters, and all of it when asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import Positional

from sagan.cli.help import short_help, show_help

Span = int | Literal["self"]


@dataclass(frozen=True)
class Inner:
    """What is inside."""

    loss: Literal["hinge", "wgan-gp"] = "hinge"
    """The loss. Of which more can be said."""
    rate: float = 0.1
    """The rate, which is explained at so great a length that it takes more than the two lines that there are for it, as
    it must be cut somewhere."""


@dataclass(frozen=True)
class Flags:
    """A command.
    sagan try HERE
    """

    place: Annotated[Path, Positional]
    """A place."""
    span: Span = 0
    """The span."""
    sizes: tuple[int, ...] | None = None
    """The sizes."""
    strict: bool = False
    """Whether."""
    inner: Inner = field(default_factory=Inner)


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_all_of_the_help_draws_every_flag_with_its_text_and_default(capsys):
    show_help(Flags, "sagan try")
    shown = capsys.readouterr().out
    for text in (
        "A command.",
        "PLACE",
        "--span INT|self",
        "The span. (default: 0)",
        "{hinge,wgan-gp}",
        "{true,false}",
    ):
        assert text in shown, text
    assert "(default: unset)" in shown
    assert "(required)" in shown


def test_the_short_help_has_first_sentences_and_defaults():
    lines = short_help(Flags, "sagan try", ())
    assert lines[0] == "usage: sagan try PLACE [--flag value ...]"
    assert "  --loss {hinge,wgan-gp}  The loss [hinge]" in lines
    assert "  --span INT|self         The span [0]" in lines
    assert "  --strict {true,false}   Whether" in lines
    (cut,) = (number for number, line in enumerate(lines) if line.startswith("  --rate"))
    assert lines[cut + 1].endswith("... [0.1]")
    assert lines[-1] == "[default]   sagan try --help all: more about each"


def test_of_many_flags_only_the_first_are_shown():
    lines = short_help(Flags(Path("x"), span=3), "sagan try", ("rate", "span"))
    shown = [line.split()[0] for line in lines if line.startswith("  --")]
    assert shown == ["--rate", "--span"]
    assert any("The span [3]" in line for line in lines)
    assert lines[-1].endswith("more about each, and 3 more flags")
