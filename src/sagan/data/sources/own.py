"""Folders that this program made: what lies in them is no training image, even inside a folder of images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MARK = ".sagan"  # a file in folders of samples and figures, which nothing else tells apart
_RUN = {"config.json", "records.jsonl"}
_SWEEP = {"plan.json", "runs"}
_STORES = {"meta.json", "images.npy"}, {"journal.jsonl", "images.npy"}


def what_is_ours(names: Iterable[str]) -> str:
    """What of ours a folder with these entries is, for a person: "a run", or an empty text."""
    names = set(names)
    if names >= _RUN:
        return "a run"
    if names >= _SWEEP:
        return "a sweep"
    if any(store <= names for store in _STORES):
        return "prepared images"
    return "samples or figures" if MARK in names else ""


def mark_as_ours(folder: Path) -> None:
    """Makes the folder, and marks what will be written there as no training images."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("Written by sagan. The images in this folder are not taken for training images.\n")
