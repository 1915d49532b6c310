"""Names of files, classes and runs that a stranger chose: they are text wherever they are shown, and do nothing."""

import io
import json
import re
import warnings
from html.parser import HTMLParser

import pytest
import rich.console
from matplotlib.text import Text

from sagan.cli import main
from sagan.experiments.board import _drawn
from sagan.experiments.document import Code, Heading, Items, Paragraph, Table, to_html, to_markdown
from sagan.experiments.plots import Curve, Times, draw_arms, draw_differences, draw_scores, draw_times, save_figure
from sagan.experiments.report import write_report
from sagan.experiments.statistics import compare
from sagan.run.status import RunStatus
from sagan.system.console import Console, run_safely
from sagan.system.errors import UserError
from sagan.system.sentences import visible
from tests.experiments.made import full_sweep

ESCAPES = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\nerror: b", "a\rb", "\x00", "\x7f", "\u202eoof", "\u2028", "\udcff"),
]
MARKUP = [
    *("# heading", "a\n# heading", "```", "a\n```\n# out", "~~~", "<script>alert(1)</script>", "&lt;b&gt;", "* item"),
    *("- item", "+ item", "1. item", "2) item", "===", "---", "[a](javascript:b)", "![a](http://b)", "`code`", "a | b"),
    *("$x^2$", "$\\frac{", "**bold**", "_a_", "\\", "> quote", "</pre><img src=x onerror=b>", "<!--", '"><b>'),
]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_control_character_of_a_name_reaches_a_terminal(name, capsys):
    console = Console()
    console.say(f"say {name}")
    console.warn(name)
    console.table([["head", "other"], [name, "x"]])
    with console.training(0, 1) as show:
        show(1, type("Record", (), {"describe": lambda self: name})())

    def fail():
        error = UserError(name)
        error.add_note(name)
        raise error

    assert run_safely(fail, console) == 2
    assert main(["train", f"--{name}"]) == 2
    assert main(["sample", name, "--out", name]) == 2
    assert main([name]) == 2
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert (out.count("\n"), err.count("\n")) == (4, 5)


@pytest.mark.parametrize("name", [*ESCAPES, "[red]a", "{task.nothing} {0}"])
def test_nor_in_a_bar_or_a_table_that_is_redrawn(name, monkeypatch):
    file, real = io.StringIO(), rich.console.Console
    on_terminal = lambda **options: real(**options, file=file, force_terminal=True, width=200)  # noqa: E731
    monkeypatch.setattr("sagan.system.console.rich.console.Console", on_terminal)
    with Console().progress(f"reading {name}") as progress:
        progress(1, 2)
    drawn = _drawn([RunStatus(name, "cut", 1, 2)], 1).plain
    assert visible(name) in file.getvalue()
    assert visible(name) in drawn
    own = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())  # what the bar itself does
    assert own.replace("\n", "").replace("\r", "").isprintable()
    assert drawn.count("\n") == 2


def test_ordinary_names_stand_as_they_are():
    for name in ("Müller", "日本", "a b", "👩‍👩‍👧", "x [1] {2} $3 \\n", "10\xa0000"):
        assert visible(name) == name
    assert visible(visible("\x1b")) == visible("\x1b") == "\\x1b"


# ---- documents


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("name", [*ESCAPES, *MARKUP])
def test_a_name_is_no_html(name, tmp_path):
    def page(text):
        blocks = [Heading(text), Paragraph(text), Items([text]), Table([[text], [text]]), Code([text])]
        return to_html(text, blocks, tmp_path)

    found, plain = Tags(page(name)), Tags(page("name"))
    assert (found.tags, found.attributes) == (plain.tags, plain.attributes)
    assert page(name).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", [*ESCAPES, *MARKUP])
def test_a_name_is_no_markdown(name):
    text = to_markdown(name, [Heading(name), Paragraph(name), Items([name]), Table([[name], [name]])])
    lines = text.splitlines()
    assert len(lines) == 11, "no name begins a line of its own"
    assert [line[:3] for line in lines if line.startswith("#")] == ["# " + lines[0][2], "## "]
    assert not re.search(r"(?<!\\)(\\\\)*[`<$\[~]", text)
    for line in (lines[4], lines[6].removeprefix("* ")):
        assert not re.match(r"\s*([-+*=>#]|\d+[.)])", line)
    assert [line.replace("\\|", "").count("|") for line in lines[8:]] == [2, 2, 2]


@pytest.mark.parametrize("code", ["```", "a\n```\n# out", "`````` x", "~~~\n", "\x1b[2J", "a\r```"])
def test_code_never_ends_its_fence(code):
    lines = to_markdown("t", [Code([code]), Paragraph("after")]).splitlines()
    fence = lines[2]
    assert set(fence) == {"`"}
    assert [number for number, line in enumerate(lines) if line.startswith(fence)] == [2, len(lines) - 3]
    assert "".join(lines).isprintable()


# ---- figures


@pytest.mark.parametrize("name", ["$x^2$", "$\\frac{", "a $ b $", "$$"])
def test_a_dollar_is_no_formula(name, tmp_path):
    curves = [Curve(name, {0: [(1, 2.0), (2, 50.0)]}, [(1, 2.0), (2, 50.0)]), Curve("b", {0: [(1, 3.0)]}, [(1, 3.0)])]
    comparison = compare([{0: 1.0, 1: 2.0}], {0: 2.0, 1: 2.5})[0]
    figures = [
        draw_scores(curves, name, name, floor=1.0, threshold=3.0),
        draw_arms(curves, name, name, name),
        draw_differences([name], [comparison], [[1.0]], name),
        draw_times([Times(name, {0: 1.0}, {1: 2.0})], name),
    ]
    for figure in figures:
        texts = [each for each in figure.findobj(Text) if each.get_text() == name]
        assert texts
        assert not any(each.get_parse_math() for each in texts)
    save_figure(figures[0], tmp_path / "figure")


def test_a_report_of_hostile_names_is_whole(tmp_path):
    name = "$\\frac{ </pre>\n# x\x1b[2J"
    sweep = full_sweep(tmp_path / "S", seeds=(0, 1))
    for planned in sweep.plan.runs():
        records = sweep.run_folder(planned) / "records.jsonl"
        label = json.dumps("Fréchet distance (random-conv)")
        records.write_text(records.read_text().replace(label, json.dumps(name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(tmp_path / "S", tmp_path / "S" / "report")
    page, text = (tmp_path / "S" / "report" / f"report.{ending}" for ending in ("html", "md"))
    assert visible(name).replace("<", "&lt;").replace(">", "&gt;") in page.read_text()
    assert "\n# x" not in text.read_text()
    assert text.read_text().replace("\n", "").isprintable()
