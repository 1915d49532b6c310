"""What was noticed about an image that can be used: said once for all images of a kind, not once for each."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

from PIL import Image

from sagan.system.shared import WhileAny

_MOST, _LONGEST = 10, 200  # remarks on an image, and characters of one: a file may lead to any number

LOGGER = logging.getLogger(__name__)


class _Thread(threading.local):
    name = ""  # of the image that this thread is decoding
    found: list[str] | None = None


_thread = _Thread()


@contextlib.contextmanager
def collect_remarks() -> Iterator[list[str]]:
    """The remarks made by this thread inside, which would otherwise go to the log with the image's name."""
    before, _thread.found = _thread.found, []
    try:
        yield _thread.found
    finally:
        _thread.found = before


def remark(text: str) -> None:
    """Notes something about the image that is being decoded. ``text`` fits behind "N images: "."""
    if _thread.found is None:
        LOGGER.warning("%s: %s", _thread.name, text)
    elif len(_thread.found) < _MOST:
        _thread.found.append(text[:_LONGEST])


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Pillow's warnings inside become remarks on the image of this name, and its limit on pixels is lifted."""
    before, _thread.name = _thread.name, name
    try:
        with _PILLOW:
            yield
    finally:
        _thread.name = before


@contextlib.contextmanager
def _pillow() -> Iterator[None]:
    with warnings.catch_warnings():
        show = warnings.showwarning

        def told(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if _thread.name:
                remark(" ".join(str(message).split()))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.filterwarnings("always", module=r"PIL\.")
        warnings.showwarning = told
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            if Image.MAX_IMAGE_PIXELS is None:  # else it was set to another value inside, which stays
                Image.MAX_IMAGE_PIXELS = limit


_PILLOW = WhileAny(_pillow)
