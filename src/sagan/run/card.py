"""How a score was computed. Without its card, a Fréchet distance cannot be compared with any other."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sagan import __version__
from sagan.evaluation.extractors import NVIDIA_INCEPTION_SHA256
from sagan.system.errors import UserError
from sagan.system.typed import Count, ImageSize, Positive

# they say which images were drawn and by which build, not what is measured; is_fid and dim follow from the extractor,
# and what resizing made of the reference is in its hash
_MAY_DIFFER = {"seed", "repeats", "versions", "commit", "is_fid", "dim", "resized"}


@dataclass(frozen=True)
class Card:
    """Everything that a score depends on besides the images themselves."""

    extractor: str
    """Its name, which differs for other weights or another resize."""
    weights_sha256: str | None
    resize: str
    samples: Positive
    """Images of one draw that this metric used."""
    image_size: ImageSize
    """Of the images scored and of the reference, ``64x64``, before the extractor's resize."""
    reference: str
    """The hash of the reference's pixels: the same for a folder, a zip and a store of the same images."""
    reference_count: Positive
    reference_samples: Count
    """Images of the reference that this metric used."""
    reference_split: str
    """Which images of the reference this metric used: ``all``, ``random part`` or ``none``."""
    covariance: str
    source: str
    """``averaged generator, eval mode``, or ``images``."""
    seed: int
    repeats: Positive
    versions: Mapping[str, str]
    commit: str | None
    is_fid: bool
    """Whether a Fréchet distance by this extractor is called FID: only with the Inception network of 2015."""
    dim: Positive | None
    """Length of a feature vector; None if an earlier version did not record it."""
    resized: str | None = None
    """How images of other sizes were brought to ``image_size``; None where none were."""
    truncation: float | None = None
    """The largest magnitude of an entry of a latent; None where latents were not truncated."""

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a card, with those that earlier versions did not write: they follow from the names that
        extractors had then."""
        name = str(values.get("extractor"))
        known = {"inception": 2048, "efficientnet-lite0": 1280, "random-conv": 64}
        derived = {
            "is_fid": name.startswith("inception-2015-") or values.get("weights_sha256") == NVIDIA_INCEPTION_SHA256,
            "dim": next((dim for start, dim in known.items() if name.startswith(start)), None),
        }
        return {**derived, **values}


def differences(one: Card, other: Card) -> dict[str, tuple[Any, Any]]:
    """The fields that make two scores incomparable, with both values; empty if the scores may share an axis."""
    pairs = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(Card) if f.name not in _MAY_DIFFER}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def identity(card: Card) -> str:
    """A short text that two cards share if and only if their scores may share an axis."""
    fixed = [getattr(card, each.name) for each in fields(Card) if each.name not in _MAY_DIFFER]
    return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:16]


def refuse_unlike(cards: Iterable[tuple[str, Card]]) -> None:
    """Raises UserError, naming the fields, unless all cards, each with its owner's name, may share an axis."""
    named = list(cards)
    for owner, card in named[1:]:
        unlike = differences(named[0][1], card)
        if unlike:
            listed = "; ".join(f"{name}: {mine} and {theirs}" for name, (mine, theirs) in unlike.items())
            raise UserError(
                f"the scores of {named[0][0]} and {owner} cannot be compared, their cards differ in {listed}"
            )


def versions() -> dict[str, str]:
    """The versions of the packages that compute a score."""
    return {"sagan": __version__, **{name: version(name) for name in ("torch", "numpy", "pillow")}}


def commit(file: Path = Path(__file__)) -> str | None:
    """The commit of the source tree that this package runs from, with ``+`` if files have changed since; None for an
    installed package, even inside another repository."""
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        found = _git(file.parent, "describe", "--always", "--abbrev=12", "--exclude=*")
        # describe --dirty would write the index, whatever it is told
        changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
        return found + "+" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    harmless = "--no-optional-locks", "-c", "core.fsmonitor=false"  # writes no index, starts no program of a repository
    found = subprocess.run(
        ["git", *harmless, *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return found.stdout.strip()
