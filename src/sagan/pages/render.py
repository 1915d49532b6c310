"""Pages from templates. Texts in them are plain: they may be a stranger's, and mean nothing in HTML."""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sagan.system.sentences import visible


def render(template: str, **values: object) -> str:
    """A page from a template of this folder. In it, ``asset(name)`` is the text of a script or style, ``data(value)``
    a value as JSON for a script, and ``text | visible`` a text whose control characters are written out."""
    return _templates().get_template(template).render(**values)


def asset(name: str) -> Traversable:
    """A script or a style."""
    return importlib.resources.files("sagan.pages").joinpath("static", name)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("sagan.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"asset": lambda name: Markup(asset(name).read_text("utf-8")), "data": _data}
    made.filters["visible"] = visible
    return made


def _data(value: Any) -> Markup:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # no tag can end the script
