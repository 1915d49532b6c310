"""A document of blocks, written as a self-contained HTML page, and as Markdown with its pictures beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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
    """Lines of code."""

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
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Items(texts):
            return "<ul>\n" + "\n".join(f"<li>{html.escape(text)}</li>" for text in texts) + "\n</ul>"
        case Table(rows):
            head, *rest = rows
            lines = [_row(head, "th"), *(_row(row, "td") for row in rest)]
            return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"
        case Picture(file, caption, pixels):
            data = base64.b64encode((folder / file).read_bytes()).decode()
            source = f"data:{_TYPES[Path(file).suffix]};base64,{data}"
            kind = ' class="pixels"' if pixels else ""
            words, first = html.escape(caption), html.escape(_first_sentence(caption))
            return f'<figure><img{kind} src="{source}" alt="{first}">\n<figcaption>{words}</figcaption></figure>'
        case Code(lines):
            return "<pre>" + html.escape("\n".join(lines)) + "</pre>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown, with links to its pictures."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Paragraph(text):
            return _plain(text)
        case Items(texts):
            return "\n".join(f"* {_plain(text)}" for text in texts)
        case Table(rows):
            head, *rest = ("| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
            return "\n".join([head, "|" + " --- |" * len(rows[0]), *rest])
        case Picture(file, caption):
            return f"![{_plain(_first_sentence(caption))}]({file})\n\n{_plain(caption)}"
        case Code(lines):
            return "```\n" + "\n".join(lines) + "\n```"


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    for character in "\\*_`[]<>":
        text = text.replace(character, f"\\{character}")
    return text
