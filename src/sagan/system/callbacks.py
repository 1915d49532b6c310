"""The callbacks through which a function tells a person something; a `Console` has both."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], object]
"""Takes one sentence."""

Progress = Callable[[int, int], None]
"""Takes how much is done, and how much there is in all."""
