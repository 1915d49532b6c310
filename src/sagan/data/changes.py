"""How the images of two stores differ, for a person whose run cannot be resumed on the newer ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sagan.run.config import DataConfig
from sagan.run.store import Store, is_store, refuse_cut
from sagan.system.errors import UserError
from sagan.system.sentences import command

_NAMED = 3  # images of a kind


def other_images(run: Path, data: DataConfig, found: Store, trained: str) -> str:
    """The sentence for a run that was trained on other images than ``found``; ``trained``: the hash of their pixels,
    and perhaps that of their classes after a space."""
    now = f"the run in {run} was trained on other images than are in {data.data or data.image_path} now"
    if trained.partition(" ")[0] == found.hash:
        return f"{now}: they are the same, but in other classes; move them back, or start a new run with --run_dir"
    old = find_store(trained.partition(" ")[0], (Path(data.prepared), found.folder.parent))
    if old is None:
        return f"{now}: bring those back, or start a new run with another --run_dir"
    flag = "--data" if data.dataset is None else "--image_path"
    again = command("resume", run, flag, old.folder)
    return f"{now}: {describe_changes(old, found)}. Those it was trained on are still prepared: `{again}` uses them"


def find_store(pixels: str, roots: Sequence[Path]) -> Store | None:
    """The whole store with this hash of its pixels directly in one of the folders, if there is one."""
    for folder in sorted({path.parent for root in roots for path in root.glob("*/meta.json")}):
        try:
            if is_store(folder) and (store := Store.open(folder)).hash == pixels:
                return store
        except (UserError, OSError):  # damaged, or of a newer version: another one may serve
            continue
    return None


def describe_changes(old: Store, new: Store) -> str:
    """Such as "of 40 images, 2 gone (a.png, b.png), 1 new (c.png) and 1 changed (d.png)"."""
    names, others = old.names(), new.names()
    was, now = _hashes(old), _hashes(new)
    if names is None or others is None:  # a store of an earlier version: only pixels can be compared
        lost, added = Counter(was) - Counter(now), Counter(now) - Counter(was)
        which = [] if others is None else [name for name, pixels in zip(others, now, strict=True) if pixels in added]
        parts = [_part(lost.total(), "gone or changed", []), _part(added.total(), "new or changed", which)]
    else:
        before, after = dict(zip(names, was, strict=True)), dict(zip(others, now, strict=True))
        gone = [name for name in names if name not in after]
        new_ones = [name for name in others if name not in before]
        changed = [name for name in names if name in after and before[name] != after[name]]
        kinds = {"gone": gone, "new": new_ones, "changed": changed}
        parts = [_part(len(which), kind, which) for kind, which in kinds.items()]
    *first, last = [part for part in parts if part] or ["none gone or new, but in another order"]
    return f"of {old.count:,} images, {', '.join(first) + ' and ' if first else ''}{last}"


def _part(count: int, what: str, names: Sequence[str]) -> str:
    if count == 0:
        return ""
    listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{count:,} {what}" + (f" ({listed})" if listed else "")


def _hashes(store: Store) -> list[bytes]:
    refuse_cut(store.images)
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in store.images]
