"""`sagan serve`: runs in a browser."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.run.config import check_device
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_unwritable
from sagan.system.sentences import plural


@dataclass(frozen=True)
class ServeFlags:
    """Show runs in a browser: their samples, curves and scores while they train, and pictures drawn from them."""

    runs: Annotated[Path, Positional] = Path("runs")
    """A folder with runs and sweeps, or one of these."""
    host: str = "127.0.0.1"
    """The address to listen at: by default only this machine is answered; 0.0.0.0 answers others too, who then need the
    token in the address that is printed."""
    port: int = 8017
    """0: any free one."""
    out: Path | None = None
    """Write the pages into this new folder, as files for a static host, and serve nothing. Without a server they draw
    nothing, but for runs in whose folder `sagan export --to web` wrote a page."""
    device: str = "auto"
    """Where pictures are drawn: auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UserError(f"`port` must be from 0 to 65535, got {self.port}")


def serve(words: Sequence[str], console: Console) -> int:
    """Show runs in a browser, live."""
    flags = parse(ServeFlags, words, "sagan serve")
    check_device(flags.device)
    if not flags.runs.is_dir():
        raise UserError(f"{flags.runs} is not a folder: give one with runs, or a run")
    if flags.out is not None:
        return _write(flags.runs, flags.out, console)
    with needs_serve():
        from sagan.gallery.server import run_server
    from sagan.system.devices import choose_device

    run_server(flags.runs, flags.host, flags.port, choose_device(flags.device), console)
    return 0


def _write(runs: Path, out: Path, console: Console) -> int:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already: give another `out`, or remove it")
    refuse_unwritable(out.parent, "--out")
    with needs_serve():
        from sagan.gallery.site import write_site

    with console.progress("writing pages") as progress:
        count = write_site(runs, out, progress)
    console.say(
        f"{out}: {plural(count, 'run')}; to look at it: {shlex.join(['python', '-m', 'http.server', '-d', str(out)])}"
    )
    return 0


@contextlib.contextmanager
def needs_serve() -> Iterator[None]:
    """Says which extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette"):
            raise
        raise UserError("`sagan serve` needs an extra: pip install 'sagan-attention[serve]'") from error
