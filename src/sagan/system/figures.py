"""What all figures have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Where figures are drawn and saved: within, no text is a formula, whatever ``$`` a name in it has. Also a
    decorator."""
    import matplotlib  # takes half a second, and only figures need it

    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


def from_zero(axes: Axes) -> None:
    """Lets the vertical axis begin at 0, with room below, so that a line at 0 does not lie on the frame."""
    top = axes.get_ylim()[1]
    axes.set_ylim(-0.03 * top, top)
