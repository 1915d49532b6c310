"""Where a trained generator may be: a run, a snapshot, an exported folder, the package itself, or the hub."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Iterator
from pathlib import Path

from sagan.run.folder import Run
from sagan.system.errors import UserError
from sagan.system.sentences import did_you_mean

PRETRAINED = "pretrained:"
HUB = "hf:"
MODEL = "model.safetensors"
"""The snapshot in a folder for the hub."""


def find_snapshot(place: Path, step: int | None = None) -> Path:
    """The snapshot file of a place: a run's folder (the snapshot of ``step``, by default the newest), a snapshot file,
    a folder that ``sagan export --to hub`` wrote, ``pretrained:NAME``, or ``hf:OWNER/NAME`` of the Hugging Face hub,
    which ``@REVISION`` may follow.

    Raises UserError if there is none, and for a step together with a place that holds one snapshot only.
    """
    text = place.as_posix()
    if text.startswith(PRETRAINED):
        found = pretrained_file(text.removeprefix(PRETRAINED))
    elif text.startswith(HUB):
        found = _download(text.removeprefix(HUB))
    elif place.is_file():
        found = place
    elif (place / MODEL).is_file():
        found = place / MODEL
    else:
        run = Run(place) if (place / "snapshots").is_dir() else Run.open(place)
        return run.snapshot(step)
    if step is not None:
        raise UserError(f"{text} is one snapshot: `step` chooses among those of a run's folder")
    return found


# ---- models in the package


def pretrained_names() -> list[str]:
    """The names that ``pretrained:NAME`` takes."""
    return sorted(path.stem for path in _models().glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    """The snapshot of a model that comes with the package. Raises UserError if there is none of this name."""
    known = pretrained_names()
    if name not in known:
        raise UserError(
            f"there is no pretrained model {name!r}; there is {', '.join(known)}{did_you_mean(name, known)}"
        )
    return _models() / f"{name}.safetensors"


def pretrained_card(name: str) -> str:
    """What a model of the package is, in Markdown."""
    return pretrained_file(name).with_suffix(".md").read_text("utf-8")


def _models() -> Path:
    return Path(str(importlib.resources.files("sagan.models")))


# ---- on the hub


def _download(name: str) -> Path:
    """The snapshot of a model on the Hugging Face hub, from its cache where it is there. Its contents are a stranger's,
    and checked like those of any snapshot."""
    with hub_errors(name, "model", f"it has no {MODEL}"):
        from huggingface_hub import hf_hub_download

        repository, _, revision = name.partition("@")
        return Path(hf_hub_download(repository, MODEL, revision=revision or None, library_name="sagan"))


@contextlib.contextmanager
def hub_errors(name: str, kind: str, lack: str) -> Iterator[None]:
    """What goes wrong with ``OWNER/NAME@REVISION`` of the hub inside as UserErrors. ``kind``: what it should be;
    ``lack``: what it has not, if a file is not there."""
    try:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ModuleNotFoundError as error:
        raise UserError(f"{HUB}{name} needs an extra: pip install 'sagan-attention[export]'") from error
    repository, _, revision = name.partition("@")
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{HUB}{name} is no name of a {kind} on the hub: {HUB}OWNER/NAME is one") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{HUB}{repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{HUB}{name} is not on the hub, or private: `hf auth login` gives access to yours") from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{HUB}{name} cannot be fetched: the hub cannot be reached, and it is not in its cache"
        ) from error
    except EntryNotFoundError as error:
        raise UserError(f"{HUB}{name} is no {kind} of sagan: {lack}") from error
    except OSError as error:  # its errors of HTTP are OSErrors
        raise UserError(f"{HUB}{name} cannot be fetched: {str(error).splitlines()[0]}") from error
