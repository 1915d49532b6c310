"""Images in, batches out: sources, the prepared store, and batches by number."""

from sagan.data.batches import Batches
from sagan.data.prepare import Recipe, open_or_prepare, store_folder
from sagan.data.sources import Source, find_dataset, open_source
from sagan.run.store import Store

__all__ = [
    "Batches",
    "Recipe",
    "Source",
    "Store",
    "find_dataset",
    "open_or_prepare",
    "open_source",
    "store_folder",
]
