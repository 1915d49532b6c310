"""The sections of `sagan bench`, measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sagan.bench.backends import attention_rows, measure_attention
from sagan.bench.loading import loading_rows, measure_loading
from sagan.bench.machine import describe_machine, machine_card
from sagan.bench.scoring import measure_scoring, scoring_rows
from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.step import measure_step, step_rows
from sagan.system.callbacks import Progress
from sagan.system.console import Console


class Section(NamedTuple):
    """A measurement, and its result as a table."""

    title: str
    measure: Callable[[BenchSettings, Progress], Result]
    rows: Callable[[Result], Rows]


SECTIONS = {
    "attention": Section("attention backends", measure_attention, attention_rows),
    "step": Section("a training step", measure_step, step_rows),
    "data": Section("loading of images", measure_loading, loading_rows),
    "evaluation": Section("scoring", measure_scoring, scoring_rows),
}


def run_bench(names: Sequence[str], settings: BenchSettings, console: Console) -> Result:
    """Measures the sections with these names and prints each when it is done; returns all results, JSON-ready."""
    card = machine_card(settings.device)
    console.say(describe_machine(card))
    report: Result = {"card": card, "settings": _plain(settings)}
    for name in names:
        section = SECTIONS[name]
        with console.progress(section.title) as progress:
            result = report[name] = section.measure(settings, progress)
        console.say("")
        console.say(section.title)
        console.table(section.rows(result))
        for note in result["notes"]:
            console.say(note)
    return report


def _plain(settings: BenchSettings) -> Result:
    return {**vars(settings), "device": str(settings.device)}
