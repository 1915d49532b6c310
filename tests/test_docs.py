"""The documentation: its pages, links, commands and examples. `make docs` builds it, which checks more."""

import doctest
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import matplotlib as mpl
import numpy as np
import pytest

import sagan
from sagan.cli import COMMANDS
from sagan.cli.flags import class_as_label, flags_of, group

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GENERATED = re.compile(r"/docs/reference/(commands/|settings\.md)")
PAGES = sorted(page for page in DOCS.rglob("*.md") if not GENERATED.search(page.as_posix()))
READ = [*PAGES, ROOT / "README.md"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def in_toctrees(page: Path) -> Iterator[Path]:
    """The pages, without suffix, that the tables of contents of a page name."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line and not line.startswith(":") and "*" not in line:
                yield (page.parent / line).resolve()


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {found for page in PAGES for found in in_toctrees(page)}
    pages = {page.with_suffix("") for page in [*PAGES, *(DOCS / "notebooks").glob("*.ipynb")]}
    assert pages - {DOCS / "index"} == listed - {DOCS / "reference" / "settings"}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    titles = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```(?!\{image).*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r'(?:\]\(|\{image\} |src=")([^)"\s]+)', text):
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", path) or GENERATED.search(target.resolve().as_posix()):
            continue
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def commands(page: Path) -> Iterator[str]:
    """The lines of a page's blocks and code spans that begin with `sagan` and a command."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for line in [*lines, *(" ".join(span.split()) for span in spans)]:
        yield from (each for each in line.split(" && ") if re.match(r"sagan [a-z]", each))


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_the_commands_in_the_text_exist_with_their_flags(page: Path) -> None:
    for line in commands(page):
        _, name, *words = shlex.split(line.replace("...", ""), comments=True)
        assert name in COMMANDS, line
        flags = flags_of(shown if isinstance(shown := COMMANDS[name].shown([]), type) else type(shown))
        for each in group(class_as_label(words)):
            assert each.name in {"", "help", *flags}, f"{line}: there is no {each.flag}"


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text("utf-8")], ids=name_of)
def test_examples_print_what_the_pages_say(page: Path) -> None:
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0


def test_the_python_reference_has_every_public_name() -> None:
    documented = re.findall(r"\.\. auto\w+:: sagan\.(\w+)", (DOCS / "reference" / "python.md").read_text("utf-8"))
    assert sorted(documented) == sorted(sagan.__all__)


SMALLEST = {
    "train": {"data": "images.npy", "steps": 4, "batch_size": 2},
    "compare": {"data": "images.npy", "steps": 1, "batch_size": 2, "samples": 40, "seeds": (0,)},
    "attention": {"count": 1},
}


@pytest.mark.parametrize("name", SMALLEST)
def test_notebooks_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their cells, with the values of the cell `parameters` as small as can be; the site executes them as they are."""
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8))
    mpl.use("agg")
    space: dict[str, object] = {"__name__": name}
    for cell in json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec("".join(cell["source"]), space)  # our own file
            if "parameters" in cell["metadata"].get("tags", []):
                assert SMALLEST[name].keys() <= space.keys()
                space.update(SMALLEST[name])
