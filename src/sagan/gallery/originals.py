"""The images that a run was trained on, where their prepared store is still there."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import Tensor

from sagan.data.changes import find_store
from sagan.run.folder import Run
from sagan.run.store import Store, refuse_cut
from sagan.run.weights import Snapshot
from sagan.system.errors import UserError
from sagan.system.files import expand


class Originals:
    """Real images of runs. A store is taken only where the hash of its pixels is the one that the snapshot records, so
    a config that names another folder shows nothing of it."""

    def __init__(self, root: Path):
        self._near = (root / "prepared", root.parent / "prepared")  # where training usually begins
        self._stores: dict[str, Store] = {}  # by the hash of their pixels
        self._lock = threading.Lock()

    def count(self, snapshot: Snapshot) -> int:
        """How many images there are, 0 where their store is not found."""
        store = self._store(snapshot)
        return 0 if store is None else store.count

    def picture(self, run: Run, snapshot: Snapshot, number: int) -> Tensor:
        """The image of a number, uint8 (3, height, width). Raises UserError where there is none."""
        store = self._store(snapshot)
        if store is None:
            raise UserError(f"the prepared images of {run.folder.name} are not found: serve from where it was trained")
        if number >= store.count:
            raise UserError(f"there are {store.count:,} images, counted from 0, got number {number:,}")
        refuse_cut(store.images)
        return torch.tensor(store.images[number]).permute(2, 0, 1)

    def _store(self, snapshot: Snapshot) -> Store | None:
        pixels = (snapshot.images or "").partition(" ")[0]
        with self._lock:
            found = self._stores.get(pixels)
            if pixels and (found is None or not found.folder.is_dir()):
                found = find_store(pixels, (expand(snapshot.config.data.prepared), *self._near))
                if found is None:
                    self._stores.pop(pixels, None)
                else:
                    self._stores[pixels] = found
            return found if found is not None and found.shape == snapshot.generator.shape else None
