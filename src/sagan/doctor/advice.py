"""The one command to give next for images on this machine, and what it will cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sagan.bench.cost import TakesTooLong, count_cost
from sagan.bench.machine import free_memory
from sagan.bench.pace import MOST_SECONDS, measured_pace
from sagan.core.shapes import ImageShape
from sagan.doctor.findings import Finding
from sagan.doctor.images import ENOUGH, fitting_shape
from sagan.doctor.looks import Looks
from sagan.run.config import Config, DataConfig, override
from sagan.run.keeping import free_bytes, run_bytes
from sagan.run.plan import spell
from sagan.run.presets import PRESETS, automatic_preset
from sagan.system.files import expand
from sagan.system.sentences import binary, command
from sagan.training.outlook import about
from sagan.training.start import settle

_SIZES = (128, 64)  # for a GPU, the largest first
_LARGE_ENOUGH = 0.9  # of the images must not be enlarged
_MOST_CLASSES, _LEAST = 1000, 50  # classes, and images of the smallest, to learn them
_FULL = 0.9  # of the memory that a run may take
_SMALLEST_BATCH = 8
_RUNS = "runs"  # where runs are by default


@dataclass(frozen=True)
class Advice:
    """A command; sentences on why it is this one, and what it costs; and what stands against it."""

    command: str
    sentences: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def advised_shape(looks: Looks, device: torch.device) -> ImageShape:
    """The shape to train at, with the aspect that most images have; its shorter side is that of the preset on a
    processor, on a GPU the largest that most images have."""
    usual = PRESETS[automatic_preset(device.type)].model.shape.shorter
    figures = looks.figures[looks.figures["readable"]]
    if device.type == "cpu" or not len(figures):
        return fitting_shape(looks, usual)
    shorter = np.minimum(figures["width"], figures["height"])
    return fitting_shape(looks, next((size for size in _SIZES if (shorter >= size).mean() >= _LARGE_ENOUGH), usual))


def advise(looks: Looks, data: DataConfig, shape: ImageShape, device: torch.device, *, measure: bool) -> Advice:
    """The command to train on images, of which at least one can be read. ``measure``: its memory and pace too, which
    takes 40 seconds at most."""
    preset, count = automatic_preset(device.type), int(looks.figures["readable"].sum())
    changes, why = _changes(looks, preset, shape, count)
    counted = override(PRESETS[preset], changes | ({"num_classes": _classes(looks)} if _classes(looks) else {}))
    config = settle(counted, device)
    costs = list[str]()
    if measure:
        config, costs = _measured(config, device)
        if config.game.batch_size < PRESETS[preset].game.batch_size:
            changes["batch_size"] = config.game.batch_size
    run, prepared = run_bytes(config), count * config.model.shape.numel
    costs.append(f"disk: {binary(run)} for the run at most, {binary(prepared)} for the prepared images")
    findings = [*_room(_RUNS, run), *_room(data.prepared, prepared)]
    words = [*_words(_given(data)), "--preset", preset, *_words(changes)]
    return Advice(command("train", *words), (*why, *costs), tuple(findings))


def _changes(looks: Looks, preset: str, shape: ImageShape, count: int) -> tuple[dict[str, Any], list[str]]:
    """What the images change in the preset, and why."""
    usual = PRESETS[preset]
    changes, why = dict[str, Any](), [f"{preset} is the preset for {'a GPU' if preset == 'best' else 'a processor'}"]
    if shape.size != usual.model.imsize:
        changes["imsize"] = shape.size
    if shape.height != shape.width:
        why.append(f"images are cut to {shape} (height x width)")
    if classes := _classes(looks):
        changes["num_classes"] = "auto"
        why.append(f"{classes:,} classes are learned, each has {_LEAST} images or more")
    if count < ENOUGH:
        changes |= {"augment": ("color", "translation", "cutout"), "flip": True}
        why.append("few images are augmented; leave out --flip where a mirrored image is wrong, as text is")
    if count < usual.game.batch_size:
        changes["batch_size"] = 2 ** (count.bit_length() - 1)
        why.append("there are fewer images than in a usual batch")
    return changes, why


def _classes(looks: Looks) -> int:
    """The number of classes if they can be learned, else 0."""
    if looks.source.no_classes:
        return 0
    counts = Counter(looks.source.class_of(number) for number in np.flatnonzero(looks.figures["readable"]).tolist())
    return len(counts) if 1 < len(counts) <= _MOST_CLASSES and min(counts.values()) >= _LEAST else 0


def _measured(config: Config, device: torch.device) -> tuple[Config, list[str]]:
    """The config with a batch that fits, and sentences on its memory and time."""
    free = free_memory(device)
    try:
        cost = count_cost(config, device, MOST_SECONDS)
        while free is not None and cost.memory > _FULL * free and config.game.batch_size > _SMALLEST_BATCH:
            config = override(config, {"batch_size": config.game.batch_size // 2})
            cost = count_cost(config, device, MOST_SECONDS)
    except TakesTooLong:
        return config, [f"memory and time: not counted, which takes more than {MOST_SECONDS:.0f} s here now"]
    memory = f"memory: {binary(cost.memory)}, and what the libraries need"
    if free is not None and cost.memory > free:
        return config, [f"{memory}; only {binary(free)} are free, so the pace is not measured"]
    pace = measured_pace(config, device)
    each, total = about(pace.seconds_per_step), about(pace.total_seconds)
    return config, [memory, f"time: {each} a step, {total} for {config.run.total_step:,} steps, as busy as it is now"]


def _room(place: str, needed: int) -> list[Finding]:
    folder = expand(place).absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = free_bytes(folder)
    if needed <= free:
        return []
    text = f"{binary(needed)} may be written to {place}, and {binary(free)} are free there"
    return [Finding("warning", "disk", text, "make room, or give --keep_snapshots 3")]


def _given(data: DataConfig) -> dict[str, Any]:
    """The settings of the images that are not the usual ones."""
    usual = vars(DataConfig())
    return {name: value for name, value in vars(data).items() if value != usual[name]}


def _words(settings: Mapping[str, Any]) -> list[str]:
    words = list[str]()
    for name, value in settings.items():
        words += [f"--{name}", *([] if value is True else spell(value))]
    return words
