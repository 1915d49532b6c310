"""From images to batches: sources, the prepared store, and batches by index."""

from sagan.data.choice import choose_recipe, choose_source, prepared_store
from sagan.data.prepare import open_or_prepare
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from sagan.data.sources.places import find_dataset
from sagan.data.sources.source import Source
from sagan.run.store import Store

__all__ = [
    "Recipe",
    "Source",
    "Store",
    "choose_recipe",
    "choose_source",
    "find_dataset",
    "open_or_prepare",
    "open_source",
    "prepared_store",
]
