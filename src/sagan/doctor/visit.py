"""A visit of the doctor: what is looked at, and the report on it."""

from __future__ import annotations

import functools
from pathlib import Path

from sagan.core.shapes import ImageShape
from sagan.data.choice import choose_source
from sagan.data.sources.open import open_source
from sagan.data.sources.own import what_is_ours
from sagan.data.sources.source import Source
from sagan.data.sources.stored import StoreSource
from sagan.doctor.advice import Advice, advise, advised_shape
from sagan.doctor.findings import Finding
from sagan.doctor.images import examine_images, examine_overlap
from sagan.doctor.looks import Looks, look_at
from sagan.doctor.machine import examine_machine
from sagan.doctor.pictures import strips
from sagan.doctor.report import Report, Section
from sagan.doctor.runs import examine_run
from sagan.run.config import DataConfig
from sagan.run.presets import PRESETS, automatic_preset
from sagan.run.store import is_store
from sagan.system.console import Console
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.files import expand

_RUNS = "runs"  # where runs are by default


def visit(
    data: DataConfig, against: str | None, size: int | str | None, device: str, console: Console, *, measure: bool
) -> tuple[Report, list[Path]]:
    """The report on a run, on images and this machine, or, where ``data`` names nothing, on the machine alone; and the
    folders that it speaks of. ``against``: images that were held out. Raises UserError for a place that is neither."""
    place = None if data.data in (None, "faces") else expand(str(data.data))
    if place is not None and _is_run(place):
        if against is not None:
            raise UserError(f"--against compares images, and {place} is a run: give the images that it was trained on")
        return _on_run(place, console), [place]
    chosen = choose_device(device)
    machine = Section("Machine", "", examine_machine(chosen, {"prepared": data.prepared, "run_dir": _RUNS}))
    if data.data is None and data.dataset is None:
        if against is not None:
            raise UserError("--against compares images with others: give those too, as in `sagan doctor my_photos`")
        first = ("sagan train --preset quick", ("a first run, on drawn faces, to see whether all works",))
        return Report("this machine", (machine,), (first,)), []
    usual = PRESETS[automatic_preset(chosen.type)].model.imsize
    source = _source(data, size or usual)
    looks = _look(source, data, console)
    if size is not None:
        shape = ImageShape.of(size)
    else:
        shape = source.store.shape if isinstance(source, StoreSource) else advised_shape(looks, chosen)
    findings = examine_images(looks, shape, data.crop)
    places = [source.place] if source.place else []
    if against is not None:
        heldout = open_source(against, max_pixels=data.max_pixels)
        findings += examine_overlap(looks, _look(heldout, data, console), against)
        places += [heldout.place] if heldout.place else []
    advice: Advice | None = None
    if looks.figures["readable"].any():
        if measure:
            console.say("measuring how long training would take, in up to 40 s")
        advice = advise(looks, data, shape, chosen, measure=measure)
    images = Section("Images", source.description, [*findings, *_against(advice)], functools.partial(strips, looks))
    return Report(_title(source), (images, machine), [(advice.command, advice.sentences)] if advice else []), places


def _is_run(place: Path) -> bool:
    return place.is_dir() and what_is_ours(entry.name for entry in place.iterdir()) == "a run"


def _on_run(place: Path, console: Console) -> Report:
    with console.progress("reading the files of the run") as progress:
        health = examine_run(place, progress)
    steps = [(command, (why,)) for command, why in health.next]
    return Report(f"run {place.name}", (Section("Run", str(place), health.findings),), steps)


def _source(data: DataConfig, size: int | str) -> Source:
    """The images. Prepared ones are looked at at their own size, unless another is asked for."""
    place = None if data.data in (None, "faces") else expand(str(data.data))
    if place is not None and is_store(place):
        return StoreSource(place)
    return choose_source(data, size)


def _look(source: Source, data: DataConfig, console: Console) -> Looks:
    with console.progress(f"looking at {source.description}") as progress:
        return look_at(source, expand(data.prepared), progress)


def _against(advice: Advice | None) -> tuple[Finding, ...]:
    return advice.findings if advice else ()


def _title(source: Source) -> str:
    return f"images: {source.place.name if source.place else source.description}"
