"""A run's folder: its files, and its records.

config.json      every setting; with the images, enough to repeat the run
records.jsonl    one JSON object per line, in the order of the steps
samples/         {step}_fake.png: grids of samples, all from the same z
snapshots/       {step}.safetensors: the averaged generator and its config, to use
checkpoints/     last.pt: everything needed to resume; healthy.pt: an older one that the run may be rolled back to;
                 pending.pt: one that may become healthy.pt; start.pt: the trained networks that a run started from
attempt-N/       records, snapshots and the last checkpoint of the steps undone by a rollback
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sagan.run.config import Config, from_dict, to_dict
from sagan.run.records import LookRecord, Record, RecordReader, RollbackRecord, ScoreRecord, TrainRecord, to_line
from sagan.system.errors import UserError
from sagan.system.files import (
    exclusive_lock,
    flush_to_disk,
    open_regular,
    partial_files,
    read_regular,
    remove_partial_files,
    write_whole,
)
from sagan.system.sentences import command
from sagan.system.typed import read_json

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Run:
    """A run's folder, which exists and holds a config."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.json"

    @property
    def records_file(self) -> Path:
        return self.folder / "records.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    @property
    def healthy_file(self) -> Path:
        return self.folder / "checkpoints" / "healthy.pt"

    @property
    def pending_file(self) -> Path:
        return self.folder / "checkpoints" / "pending.pt"

    @property
    def start_file(self) -> Path:
        return self.folder / "checkpoints" / "start.pt"

    def attempt_folder(self, number: int) -> Path:
        """The folder for what a rollback undid of an attempt."""
        return self.folder / f"attempt-{number}"

    def snapshot_file(self, step: int) -> Path:
        return self.folder / "snapshots" / f"{step:08d}.safetensors"

    def snapshots(self) -> list[Path]:
        """The snapshots, oldest first."""
        return [path for path in sorted((self.folder / "snapshots").glob("*.safetensors")) if path.stem.isdecimal()]

    def latest_file(self, step: int) -> Path:
        """The snapshot between two that are due, which the next one replaces."""
        return self.folder / "snapshots" / f"latest-{step:08d}.safetensors"

    def latest_snapshots(self) -> list[Path]:
        """The file that `latest_file` names; two of them where a process died between writing and removing."""
        found = sorted((self.folder / "snapshots").glob("latest-*.safetensors"))
        return [path for path in found if path.stem.removeprefix("latest-").isdecimal()]

    def snapshot(self, step: int | None = None) -> Path:
        """The snapshot of a step, or the newest; if there is none, the checkpoint, which holds one too.

        Raises UserError, with the steps of all snapshots, without one.
        """
        found = [*self.snapshots(), *self.latest_snapshots()]
        if step is None and (found or self.checkpoint_file.is_file()):
            return max(found, key=snapshot_step) if found else self.checkpoint_file
        for path in found:
            if snapshot_step(path) == step:
                return path
        if not found:
            raise UserError(
                f"{self.folder} has no snapshot yet, as none of its steps was saved: "
                f"`{command('resume', self.folder)}` trains it, and saves at a stop and every few minutes"
            )
        steps = ", ".join(str(snapshot_step(path)) for path in found)
        raise UserError(f"{self.folder} has no snapshot of step {step}, only of {steps}")

    @classmethod
    def create(cls, folder: Path, config: Config) -> Run:
        """A new run in a new or empty folder, or beside checkpoints of the published program.

        Raises UserError if the folder holds anything else, OSError if it cannot be made.
        """
        check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)
        run = cls(folder)
        run.write_config(config)
        return run

    def discard_unbegun(self) -> bool:
        """Removes what is in the folder of a run that has saved nothing and drawn nothing but noise; keeps files
        ``*.pth``, which were there before. Returns whether it was such a run."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".pth"]
        made = {self.config_file, self.records_file, self.start_file, self.folder / "samples" / "0_fake.png"}
        made |= {self.folder / name for name in ("samples/.sagan", "running.lock", "records.lock")}
        made |= {path for path in found if path.parent == self.folder / "tensorboard"}
        if not made.issuperset(found) or self.records():
            return False
        for path in found:
            path.unlink()
        for name in ("samples", "tensorboard", "checkpoints"):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).rmdir()
        return True

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run. Raises UserError if there is none."""
        if not (folder / "config.json").is_file():
            what = "has no config.json, so it is not a run" if folder.is_dir() else absent(folder)
            within = sorted(folder.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
            newest = f"the newest run in it is {within[-1].parent}" if within else ""
            raise UserError(
                f"{folder} {what}; {newest or 'a run is a folder that `sagan train` made, such as runs/NAME'}"
            )
        return cls(folder)

    def config(self) -> Config:
        """The run's settings. Raises UserError, naming the file, if they are damaged."""
        return from_dict(read_json(self.config_file), str(self.config_file))

    def is_finished(self) -> bool:
        """Whether it has reached its last step, so that its last snapshot exists."""
        return self.snapshot_file(self.config().run.total_step).is_file()

    def write_config(self, config: Config) -> None:
        text = json.dumps(to_dict(config), indent=1) + "\n"
        write_whole(self.config_file, lambda file: file.write(text.encode()))

    def append(self, *records: Record) -> None:
        """Adds records, all in one write; an incomplete last line of a killed process is removed first."""
        with self._records_lock(), self.records_file.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(b"".join(map(to_line, records)))

    def _records_lock(self) -> contextlib.AbstractContextManager[None]:
        """A run may be scored by one process while another trains it."""
        return exclusive_lock(self.folder / "records.lock", lambda: None)

    def sync_records(self) -> None:
        """Flushes all records to the disk, so that they survive a power failure."""
        if self.records_file.exists():
            with open_regular(self.records_file) as file:
                flush_to_disk(file.fileno(), self.records_file)

    def records(self) -> list[Record]:
        """All records, without an incomplete last line of a killed process.

        Raises UserError, naming the line, if one is damaged.
        """
        return RecordReader(self.records_file).read()

    def records_of(self, kind: type[R]) -> list[R]:
        """The records of one kind."""
        return [record for record in self.records() if isinstance(record, kind)]

    def rewind_records(self, step: int) -> None:
        """Removes the records of training after ``step``, which the run that is resumed there will write again."""
        with self._records_lock():
            self._keep_records(lambda record: not isinstance(record, TrainRecord | LookRecord) or record.step <= step)

    def forget_torn_scores(self) -> None:
        """Removes the scores of a snapshot that a process was killed in the middle of writing: their Fréchet distance,
        which comes last, is missing."""

        def group(score: ScoreRecord) -> tuple[object, ...]:
            card = score.card
            made = score.step, score.snapshot_sha256, score.seconds
            return *made, card.extractor, card.seed, card.repeats, card.truncation

        with self._records_lock():
            whole = {group(score) for score in self.records_of(ScoreRecord) if score.metric == "frechet"}
            self._keep_records(lambda record: not isinstance(record, ScoreRecord) or group(record) in whole)

    def forget_rollbacks(self, attempt: int) -> None:
        """Removes the records of rollbacks after an attempt, to which the run goes back: they may happen again."""
        with self._records_lock():
            self._keep_records(lambda record: not isinstance(record, RollbackRecord) or record.attempt <= attempt)

    def set_aside(self, step: int, attempt: int, sample_folders: Sequence[Path] = ()) -> None:
        """Moves everything that an attempt wrote after ``step`` into its folder: records and scores, snapshots,
        published checkpoints and grids of samples, including those in ``sample_folders``. Records of rollbacks stay.
        After an interruption it can be called again."""
        folder = self.attempt_folder(attempt)
        folder.mkdir(exist_ok=True)

        def stays(record: Record) -> bool:
            return isinstance(record, RollbackRecord) or record.step <= step

        with self._records_lock():
            taken = [line for line, record in self._records_with_lines() if not stays(record)]
            if taken:  # written there before they are removed here
                former = folder / "records.jsonl"
                content = (read_regular(former) if former.exists() else b"") + b"".join(taken)
                write_whole(former, lambda file: file.write(content))
            self._keep_records(stays)
        grids = [path for each in (self.folder / "samples", *sample_folders) for path in each.glob("*_fake.png")]
        pairs = [*self.folder.glob("*_G.pth"), *self.folder.glob("*_D.pth")]
        for path in [*self.snapshots(), *self.latest_snapshots(), *grids, *pairs]:
            number = path.stem.removeprefix("latest-").partition("_")[0]
            if number.isdecimal() and int(number) > step:
                shutil.move(path, folder / path.name)  # a folder of samples may be on another disk

    def _records_with_lines(self) -> list[tuple[bytes, Record]]:
        return list(RecordReader(self.records_file).read_with_lines())

    def _keep_records(self, stays: Callable[[Record], bool]) -> None:
        records = self._records_with_lines()
        kept = [line for line, record in records if stays(record)]
        if len(kept) < len(records):
            write_whole(self.records_file, lambda file: file.write(b"".join(kept)))

    def remove_partial_files(self) -> None:
        """Removes the unfinished files of killed processes, while the run is locked."""
        for folder in (self.folder, *(self.folder / name for name in ("checkpoints", "snapshots", "samples"))):
            remove_partial_files(folder)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keeps a second process from training in the same folder; the lock is released when its process ends.

        Raises UserError while another process holds it.
        """

        def refuse() -> None:
            raise UserError(f"{self.folder} is being trained by another process: wait until it ends, or stop it")

        return exclusive_lock(self.folder / "running.lock", refuse)


def check_free(folder: Path) -> None:
    """Raises UserError unless a run can be made there: the folder is missing, or holds only files ``*.pth`` and the
    unfinished config.json of a process that was killed."""
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder} already holds a run: `{command('resume', folder)}` continues it, or give another `run_dir`"
        )
    if folder.exists() and not is_free(folder):
        raise UserError(f"{folder} is not an empty folder: give another `run_dir`")


def is_free(folder: Path) -> bool:
    """Whether a folder holds nothing that a new run would mix with, as `check_free` says."""
    if not folder.is_dir():
        return False
    unfinished = partial_files(folder, "config.json")
    return all(path.suffix == ".pth" or path in unfinished for path in folder.iterdir())


def absent(folder: Path) -> str:
    """Why there is no folder of this name, after the name."""
    if not folder.exists():
        return "does not exist"
    run = owner(folder)
    return "is a file, not a folder" if run is None else f"is a file of the run {run}, not a folder"


def owner(place: Path) -> Path | None:
    """The run that a file or a folder in it belongs to, if there is one."""
    return next((folder for folder in [*place.parents][:2] if (folder / "config.json").is_file()), None)


def make_free_folder(wanted: Path, may_take: Callable[[Path], bool] = lambda folder: False) -> Path:
    """Creates the folder ``wanted`` or, if it exists, the first of wanted-2, wanted-3 ... that does not; an existing
    one may be taken instead where ``may_take`` says so."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if may_take(folder):
            return folder
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("there is always a larger number")


def snapshot_step(path: Path) -> int:
    """The step of a snapshot file, by its name."""
    return int(path.stem.removeprefix("latest-"))
