"""A document of blocks, written as a self-contained HTML page, and as Markdown with its pictures beside it.

Texts are plain: names of files and classes in them may be a stranger's, and mean nothing in HTML or Markdown.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sagan.pages.render import render
from sagan.system.sentences import visible


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of them headings."""

    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A file in the document's folder, and what it shows. ``pixels``: it is three times as large, without smoothing.
    ``rows``: what stands beside each of equally high rows of it."""

    file: str
    caption: str
    pixels: bool = False
    rows: Sequence[str] = ()


@dataclass(frozen=True)
class Code:
    """Lines of code. One may hold line breaks, as a quoted word of a command may."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when a person asks for them."""

    summary: str
    blocks: Sequence[Block]


Block = Heading | Paragraph | Items | Table | Picture | Code | Folded

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def to_html(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The document as one page in which its pictures, read from ``folder``, are embedded."""
    return render("document.html", title=title, blocks=[_filled(block, folder) for block in blocks])


def _filled(block: Block, folder: Path) -> dict[str, object]:
    """A block as the template takes it."""
    match block:
        case Picture(file, caption):
            data = (folder / file).read_bytes()
            source = f"data:{_TYPES[Path(file).suffix]};base64,{base64.b64encode(data).decode()}"
            width = Image.open(io.BytesIO(data), formats=["PNG"]).width if block.pixels else 0
            about = {"source": source, "alt": _first_sentence(caption), "width": width}
            return {"kind": "picture", "caption": caption, "pixels": block.pixels, "rows": block.rows, **about}
        case Code(lines):
            return {"kind": "code", "text": _code(lines)}
        case Folded(summary, inner):
            return {"kind": "folded", "summary": summary, "blocks": [_filled(each, folder) for each in inner]}
    return {"kind": type(block).__name__.lower(), **vars(block)}


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown, with links to its pictures."""
    return "\n\n".join([f"# {_plain(title)}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Paragraph(text):
            return _line(text)
        case Items(texts):
            return "\n".join(f"* {_line(text)}" for text in texts)
        case Table(rows):
            head, *rest = ("| " + " | ".join(map(_plain, row)) + " |" for row in rows)
            return "\n".join([head, "|" + " --- |" * len(rows[0]), *rest])
        case Folded(summary, inner):
            return "\n\n".join([f"**{_plain(summary)}**", *map(_markdown, inner)])
        case Picture(file, caption):
            return f"![{_plain(_first_sentence(caption))}]({file})\n\n{_line(caption)}"
        case Code(lines):
            code = _code(lines)
            longest = max(map(len, re.findall("`+", code)), default=0)
            fence = "`" * max(3, longest + 1)  # which nothing within can end
            return f"{fence}\n{code}\n{fence}"


def _code(lines: Sequence[str]) -> str:
    return "\n".join(visible(part) for line in lines for part in line.split("\n"))


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return re.sub(r"[\\*_`\[\]<>#|~$]|&(?=[#\w])", r"\\\g<0>", visible(text))


def _line(text: str) -> str:
    """`_plain` where a line begins: there, a dash or a number would begin a list."""
    return re.sub(r"^\s*(?=[-+=])|^\s*\d+(?=[.)])", r"\g<0>\\", _plain(text))
