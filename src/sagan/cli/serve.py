"""`sagan serve`: runs in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.run.config import check_device
from sagan.system.console import Console
from sagan.system.errors import UserError


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
    from sagan.gallery.server import run_server
    from sagan.system.devices import choose_device

    run_server(flags.runs, flags.host, flags.port, choose_device(flags.device), console)
    return 0
