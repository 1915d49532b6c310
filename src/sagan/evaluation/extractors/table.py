"""The table of feature extractors; ``load_extractor(name)`` makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from sagan.evaluation.extractors.efficientnet import load_efficientnet, missing_efficientnet
from sagan.evaluation.extractors.inception import load_inception, missing_inception
from sagan.evaluation.extractors.interface import FeatureExtractor, Request
from sagan.evaluation.extractors.random_conv import load_random_conv
from sagan.evaluation.extractors.resize import CLEAN, TF1
from sagan.evaluation.extractors.timm import load_timm
from sagan.evaluation.extractors.torchscript import load_torchscript
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.sentences import did_you_mean


@dataclass(frozen=True)
class Kind:
    """A row of ``EXTRACTORS``.

    ``argument`` is what must follow the name after a colon, if anything. ``missing`` says what must be installed or
    fetched before it can be loaded without a download; empty where nothing is.
    """

    load: Callable[[Request], FeatureExtractor]
    argument: str = ""
    takes_weights: bool = False
    missing: Callable[[], str] = lambda: ""


EXTRACTORS = {
    # the Inception of 2015 with TensorFlow's bilinear resize, as in the FID of papers; then with that of clean-fid
    "inception": Kind(partial(load_inception, resize=TF1), takes_weights=True, missing=missing_inception),
    "inception-clean": Kind(partial(load_inception, resize=CLEAN), takes_weights=True, missing=missing_inception),
    "efficientnet-lite0": Kind(load_efficientnet, missing=missing_efficientnet),
    "torchscript": Kind(load_torchscript, argument="FILE"),
    "timm": Kind(load_timm, argument="NAME", takes_weights=True),
    "random-conv": Kind(load_random_conv),
}
BATCH_SIZES = {"cuda": 256, "cpu": 8}  # images in one pass through a network; more do not fit a CPU's caches
DEFAULTS = ("inception", "efficientnet-lite0")  # the first that can be loaded without a download


def load_extractor(
    name: str | None = None, *, weights: Path | None = None, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The extractor called ``name``, a key of ``EXTRACTORS``, with ":FILE" or ":NAME" where the table says so.

    Without a name: the FID Inception where its weights are found (or ``weights`` given), else EfficientNet-Lite0.
    ``device``: as for `choose_device`. Downloads only what is named. Raises UserError or OSError, in one sentence,
    where it cannot be loaded.
    """
    if name is None:
        name = DEFAULTS[0] if weights else default_extractor()
    key, _, argument = name.partition(":")
    kind = EXTRACTORS.get(key)
    if kind is None:
        names = [f"{key}:{kind.argument}" if kind.argument else key for key, kind in EXTRACTORS.items()]
        raise UserError(f"`extractor` must be one of {', '.join(names)}, got {name!r}{did_you_mean(key, EXTRACTORS)}")
    if bool(argument) != bool(kind.argument) or (":" in name and not kind.argument):
        wanted = f"{key}:{kind.argument}" if kind.argument else key
        raise UserError(f"extractor {key} is named as {wanted}, got {name!r}")
    if weights is not None and not kind.takes_weights:
        raise UserError(f"extractor {name} brings its own weights: leave out `weights`, got {weights}")
    extractor = kind.load(Request(argument, weights, choose_device(str(device))))
    return replace(extractor, batch_size=BATCH_SIZES.get(extractor.device.type, extractor.batch_size))


def default_extractor() -> str:
    """The first of ``DEFAULTS`` that needs no download. Raises UserError, saying what to install, where all do."""
    remedies = []
    for name in DEFAULTS:
        if not (remedy := EXTRACTORS[name].missing()):
            return name
        remedies.append(remedy)
    raise UserError(f"no feature extractor is installed; either {'; or '.join(reversed(remedies))}")
