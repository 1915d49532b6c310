"""`sagan doctor`: what is wrong with images, a machine or a run, before it costs a night."""

from __future__ import annotations

import dataclasses
import json as json_module
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import read
from sagan.cli.train import check_image_path
from sagan.run.config import DataConfig, ModelConfig, check_device
from sagan.system.console import Console, reader_may_leave
from sagan.system.errors import UserError
from sagan.system.files import write_whole
from sagan.system.typed import fill


@dataclass(frozen=True)
class DoctorFlags:
    """Look at images before training, at a run, or at this machine alone, and say what is wrong, worst first, and what
    to do. Exit status: 0 sound, 1 warnings, 2 cannot train.
      sagan doctor
      sagan doctor my_photos --out doctor.html
      sagan doctor runs/photos-64px-span3"""

    place: Annotated[str | None, Positional] = None
    """Images, as for `sagan train --data`, or a run's folder. Without it only the machine is looked at."""
    against: str | None = None
    """Other images, held out for scores: which of the images are among them, to the pixel or nearly?"""
    imsize: int | str | None = None
    """Size of the images to train at, such as 64, or 64x96 (height x width); by default one that suits the images and
    the machine."""
    out: Path | None = None
    """Also write a page with pictures to this file, such as doctor.html."""
    json: str | None = None
    """Also write everything, with all names, to this file; '-' prints only that."""
    quick: bool = False
    """Do not measure how long training would take, which takes up to 40 s."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.imsize is not None:
            ModelConfig(imsize=self.imsize)  # checks the size
        for name, file in (("out", self.out), ("json", None if self.json in (None, "-") else self.json)):
            if file is not None and Path(file).is_dir():
                raise UserError(f"`{name}` must be a file to write, got the folder {file}")


def doctor(words: Sequence[str], console: Console) -> int:
    """Look at images, a run or this machine, and say what is wrong."""
    given = read(DoctorFlags, words, "sagan doctor")
    check_image_path(given)
    flags = fill(DoctorFlags, given)
    if flags.place is not None and (flags.data.data or flags.data.dataset):
        raise UserError(f"give one thing to look at: {flags.place!r}, or --data or --dataset")
    data = flags.data if flags.place is None else dataclasses.replace(flags.data, data=flags.place)
    from sagan.doctor.report import as_json, lines, write_page
    from sagan.doctor.visit import visit

    report, places = visit(
        data, flags.against, flags.imsize, flags.device, Console(quiet=True) if flags.json == "-" else console,
        measure=not flags.quick,
    )  # fmt: skip
    text = json_module.dumps(as_json(report), indent=1, allow_nan=False) + "\n"
    if flags.json == "-":
        with reader_may_leave():
            sys.stdout.write(text)
    else:
        for line in lines(report):
            console.say(line)
    if flags.json not in (None, "-"):
        write_whole(Path(str(flags.json)), lambda file: file.write(text.encode()))
    if flags.out is not None:
        write_page(report, flags.out, places)
        if flags.json != "-":
            console.say(f"page: {flags.out}")
    return report.status
