"""What a folder that may be a stranger's cannot do by itself when its run, or its sweep, goes on.

It runs no code but this program's, and writes only inside itself, in ``./prepared`` and in folders that hold prepared
images already. A person names again whatever else its settings ask for.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from sagan.run.config import Config, DataConfig, override
from sagan.run.folder import Run
from sagan.run.store import is_store
from sagan.system.errors import UserError
from sagan.system.files import expand, refuse_links_out
from sagan.system.sentences import typed

TO_BE_NAMED = ("extractor", "sample_dir", "prepared")


def resumed_config(run: Run, changes: Mapping[str, Any]) -> Config:
    """A run's config with what a person changes, or names again. Raises UserError for what must be named, and for
    links that lead out of the run's folder."""
    refuse_links_out(run.folder)
    config = override(run.config(), dict(changes))
    refuse_unnamed(config, run.folder, changes)
    return config


def refuse_unnamed(config: Config, folder: Path, named: Container[str]) -> None:
    """Raises UserError for a config from ``folder`` that runs code, or writes elsewhere, by a setting not ``named``."""
    extractor, samples = config.run.extractor, config.run.sample_dir
    if extractor is not None and ":" in extractor and "extractor" not in named:
        raise UserError(
            f"the settings in {folder} name the extractor {extractor}, which may run any code: if you trust it, name "
            f"it again with {typed('--extractor', extractor)}, else name another one"
        )
    if samples is not None and "sample_dir" not in named and not _is_within(expand(samples), folder):
        raise UserError(
            f"the settings in {folder} write samples into {samples}, outside of it: if you want that, name it again "
            f"with {typed('--sample_dir', samples)}, else name another folder"
        )
    if "prepared" not in named:
        images_folder(config, folder)


def images_folder(config: Config, folder: Path, named: Path | None = None) -> Path:
    """The folder for prepared images of a run in ``folder``: that of its config or, where this must be named, the one
    that a person ``named``. Raises UserError without one.

    It need not be named inside of ``folder``, where it is the default one of the working folder, and where prepared
    images are already.
    """
    own = expand(config.data.prepared)
    usual = _is_within(own, folder) or own.resolve() == Path(DataConfig.prepared).resolve()
    if usual or (own.is_dir() and any(map(_has_images, own.iterdir()))):
        return own
    if named is None:
        raise UserError(
            f"the settings in {folder} keep prepared images in {own}, outside of it, where there are none yet: if you "
            f"want that, name it again with {typed('--prepared', own)}, else name another folder"
        )
    return named


def _has_images(folder: Path) -> bool:
    return is_store(folder) or (folder / "journal.jsonl").is_file()  # one whose preparation was interrupted


def _is_within(place: Path, folder: Path) -> bool:
    return place.resolve().is_relative_to(folder.resolve())
