"""A document of blocks, written as a self-contained HTML page, and as Markdown with its pictures beside it.

Texts are plain: names of files and classes in them may be a stranger's, and mean nothing in HTML or Markdown.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """A file in the document's folder, and what it shows. ``pixels``: it is enlarged without smoothing."""

    file: str
    caption: str
    pixels: bool = False


@dataclass(frozen=True)
class Code:
    """Lines of code. One may hold line breaks, as a quoted word of a command may."""

    lines: Sequence[str]


Block = Heading | Paragraph | Items | Table | Picture | Code

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}

_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #bbb }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
th { border-bottom: 2px solid #888 }
figure { margin: 1.2rem 0 } img { max-width: 100%; height: auto } .pixels { image-rendering: pixelated; min-width: 50% }
figcaption { font-size: .9rem; color: #333 }
pre { overflow-x: auto; background: #f4f4f4; padding: .7rem; font-size: .85rem }
@media print { body { max-width: none } pre { white-space: pre-wrap } }
"""


def to_html(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The document as one page in which its pictures, read from ``folder``, are embedded."""
    body = "\n".join(_html(block, folder) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"<h2>{_escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{_escape(text)}</p>"
        case Items(texts):
            return "<ul>\n" + "\n".join(f"<li>{_escape(text)}</li>" for text in texts) + "\n</ul>"
        case Table(rows):
            head, *rest = rows
            lines = [_row(head, "th"), *(_row(row, "td") for row in rest)]
            return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"
        case Picture(file, caption, pixels):
            data = base64.b64encode((folder / file).read_bytes()).decode()
            source = f"data:{_TYPES[Path(file).suffix]};base64,{data}"
            kind = ' class="pixels"' if pixels else ""
            words, first = _escape(caption), _escape(_first_sentence(caption))
            return f'<figure><img{kind} src="{source}" alt="{first}">\n<figcaption>{words}</figcaption></figure>'
        case Code(lines):
            return "<pre>" + html.escape(_code(lines)) + "</pre>"


def _escape(text: str) -> str:
    return html.escape(visible(text))


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_escape(cell)}</{tag}>" for cell in cells) + "</tr>"


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
