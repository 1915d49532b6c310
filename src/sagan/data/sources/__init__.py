"""Where images come from: a folder, a zip, an LSUN LMDB or an array file, all read through one small protocol.

Every source hands out RGB images by number, in an order that depends on the names alone. What cannot be read is an
error that names the image; what is left out on purpose is said in the source's ``description``.
"""

from sagan.data.sources.open import open_source
from sagan.data.sources.places import find_dataset
from sagan.data.sources.source import Source

__all__ = ["Source", "find_dataset", "open_source"]
