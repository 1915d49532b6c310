"""A run's folder: what lies where, and its records.

config.json      every setting; enough, with the images, to repeat the run
records.jsonl    one JSON object a line, in the order of the steps
samples/         {step}_fake.png: grids from the same z all along
snapshots/       {step}.safetensors: the averaged generator with its config inside, to use
checkpoints/     last.pt: everything, to resume
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Run:
    """One run folder, which exists and holds a config."""

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

    def snapshot_file(self, step: int) -> Path:
        return self.folder / "snapshots" / f"{step:08d}.safetensors"

    def snapshots(self) -> list[Path]:
        """The snapshots, oldest first."""
        return sorted((self.folder / "snapshots").glob("[0-9]*.safetensors"))

    def snapshot(self, step: int | None = None) -> Path:
        """The snapshot of a step, or the newest. Raises ValueError, saying which there are, where there is none."""
        found = self.snapshots()
        if step is None and found:
            return found[-1]
        if step is not None and self.snapshot_file(step) in found:
            return self.snapshot_file(step)
        steps = ", ".join(str(int(path.stem)) for path in found) or "none yet"
        raise ValueError(f"{self.folder} has no snapshot{'' if step is None else f' of step {step}'} (it has {steps})")

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any]) -> Run:
        """A new run in an empty folder, or beside checkpoints of the published program.

        Raises ValueError where the folder already holds something else, OSError where it cannot be made.
        """
        if folder.exists() and (not folder.is_dir() or any(path.suffix != ".pth" for path in folder.iterdir())):
            if (folder / "config.json").exists():
                raise ValueError(
                    f"{folder} already holds a run: `sagan resume {folder}` goes on with it, or give another --run_dir"
                )
            raise ValueError(f"{folder} is not an empty folder: give another --run_dir")
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder)
        run.write_config(config)
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """A run that exists. Raises ValueError where there is none."""
        if not (folder / "config.json").is_file():
            what = "has no config.json, so it is not a run" if folder.is_dir() else "does not exist"
            raise ValueError(f"{folder} {what}; a run is a folder that `sagan train` made, such as runs/NAME")
        return cls(folder)

    def config(self) -> dict[str, Any]:
        """The run's settings as `config.to_dict` wrote them. Raises ValueError if the file is not JSON."""
        try:
            values = json.loads(self.config_file.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.config_file} is not readable as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{self.config_file} does not hold a config")
        return values

    def write_config(self, config: dict[str, Any]) -> None:
        text = json.dumps(config, indent=1) + "\n"
        write_whole(self.config_file, lambda file: file.write(text.encode()))

    def append(self, record: dict[str, Any]) -> None:
        """Adds one record."""
        with self.records_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def sync_records(self) -> None:
        """Returns when all records are on the disk, where a power failure leaves them."""
        if self.records_file.exists():
            with self.records_file.open("rb") as file:
                os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """All records; a last line that a killed process left unfinished is left out."""
        return [json.loads(line) for line in self._whole_lines()]

    def rewind_records(self, step: int) -> None:
        """Drops the training records after ``step``: they will be written again by the run that goes on from there."""
        if not self.records_file.exists():
            return
        kept = [r for r in self.records() if not (r.get("kind") == "train" and r["step"] > step)]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_whole(self.records_file, lambda file: file.write(text.encode()))

    def _whole_lines(self) -> Iterator[str]:
        if not self.records_file.exists():
            return
        with self.records_file.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield line

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process from training in the same folder; the lock of a process that died does not hold.

        Raises ValueError while another live process of this machine holds it.
        """
        lock = self.folder / "running.pid"
        while True:
            try:
                with lock.open("x") as file:
                    file.write(str(os.getpid()))
                break
            except FileExistsError:
                owner = lock.read_text().strip()
                if owner.isdecimal() and int(owner) != os.getpid() and _alive(int(owner)):
                    raise ValueError(
                        f"{self.folder} is being trained by process {owner}; wait for it, or delete {lock} if it is not"
                    ) from None
                lock.unlink(missing_ok=True)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def free_folder(wanted: Path) -> Path:
    """``wanted``, or with the first number from 2 behind it that is free."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that it is at any moment, whatever dies, either its old self or its whole new self.

    ``write`` fills an open file beside it, which is flushed to the disk and then takes the name. On an error, such as
    a full disk, the old file stays and the new one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename is durable by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
