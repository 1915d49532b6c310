"""`sagan bench`: how fast this machine is."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.run.config import GameConfig, ModelConfig, Span, check_device
from sagan.system.console import Console, reader_may_leave
from sagan.system.errors import UserError
from sagan.system.files import write_whole
from sagan.system.sentences import did_you_mean
from sagan.system.typed import refuse_beyond

_BATCH, _QUICK_BATCH = 64, 8
_MOST_THREADS = 10_000


@dataclass(frozen=True)
class BenchFlags:
    """Measure this machine: the attention backends, a training step, the loading of images, the scoring.
    Every figure is the median of five rounds, in which whatever is compared takes turns."""

    sections: Annotated[tuple[str, ...], Positional] = ()
    """Any of attention, step, data and evaluation; all by default."""
    json: str | None = None
    """Also write all results to this file; '-' prints only those."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Processor threads for torch; its own choice by default."""
    imsize: int = 64
    """Size of the images."""
    batch_size: int | None = None
    """Images in a step. By default 64, or 8 with --quick."""
    span: Span = 3
    """The square that attention excludes; excluding it saves no time."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: products in bfloat16."""
    extractor: str | None = None
    """The network to score with, as for `sagan evaluate`."""
    quick: bool = False
    """Under a minute: small batches, few sizes."""

    def __post_init__(self) -> None:
        check_device(self.device)
        ModelConfig(imsize=self.imsize, span=self.span)  # checks the size and the span
        GameConfig(batch_size=_BATCH if self.batch_size is None else self.batch_size)
        if self.threads is not None and self.threads < 1:
            raise UserError(f"`threads` must be 1 or more, got {self.threads}")
        refuse_beyond("threads", self.threads or 0, _MOST_THREADS)


def bench(words: Sequence[str], console: Console) -> int:
    """Measure how fast attention, training, loading and scoring are on this machine."""
    flags = parse(BenchFlags, words, "sagan bench")
    from sagan.bench.sections import SECTIONS, run_bench
    from sagan.bench.settings import BenchSettings
    from sagan.system.devices import choose_device

    for name in flags.sections:
        if name not in SECTIONS:
            raise UserError(
                f"a section must be one of {', '.join(SECTIONS)}, got {name!r}{did_you_mean(name, SECTIONS)}"
            )
    names = list(dict.fromkeys(flags.sections)) or list(SECTIONS)
    _check_before_measuring(flags, names)
    settings = BenchSettings(
        choose_device(flags.device),
        flags.imsize,
        flags.batch_size or (_QUICK_BATCH if flags.quick else _BATCH),
        flags.span,
        flags.precision,
        flags.extractor,
        flags.quick,
    )
    with _threads(flags.threads):
        report = run_bench(names, settings, Console(quiet=True) if flags.json == "-" else console)
    _write(report, flags.json, console)
    return 0


def _check_before_measuring(flags: BenchFlags, names: list[str]) -> None:
    """Raises at once the errors that would otherwise come minutes later."""
    if flags.json is not None and Path(flags.json).is_dir():
        raise UserError(f"--json must be a file to write or '-', got the folder {flags.json}")
    if flags.json not in (None, "-"):
        Path(str(flags.json)).parent.mkdir(parents=True, exist_ok=True)
        with Path(str(flags.json)).open("ab"):  # raises OSError where it cannot be written
            pass
    if flags.extractor is not None and "evaluation" in names:
        from sagan.evaluation.extractors.table import load_extractor

        load_extractor(flags.extractor)


def _write(report: dict[str, object], where: str | None, console: Console) -> None:
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    if where == "-":
        with reader_may_leave():
            sys.stdout.write(text)
    elif where is not None:
        write_whole(Path(where), lambda file: file.write(text.encode()))
        console.say(f"written to {where}")


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets torch's number of threads within the context."""
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(count or former)
    try:
        yield
    finally:
        torch.set_num_threads(former)
