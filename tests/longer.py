"""What the longer suite (``-m slow``) tests besides."""

import pytest


def some_of(values, *usual):
    """The params of a test: the ``usual`` ones of ``values`` are always tested, the others in the longer suite."""
    assert set(usual) < set(values)
    return [value if value in usual else pytest.param(value, marks=pytest.mark.slow) for value in values]
