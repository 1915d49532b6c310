"""The callbacks by which a function reports to a person; a `Console` has both."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], object]
"""Takes one sentence."""

Progress = Callable[[int, int], None]
"""Takes the amount of work done, and the total."""
