"""The attention op and its patterns under their public name, for use in other networks."""

from sagan.core.attention import *  # noqa: F403
from sagan.core.attention import __all__ as __all__
