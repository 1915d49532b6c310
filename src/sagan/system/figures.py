"""What all figures have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Where figures are drawn and saved: within, no text is a formula, whatever ``$`` a name in it has. Also a
    decorator."""
    import matplotlib  # takes half a second, and only figures need it

    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        yield
