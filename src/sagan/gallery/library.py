"""The runs and sweeps under a folder, as pages show them: looked for anew each time, as they come and go.

Nothing is named by a path from outside: a run or a sweep is asked for by its name in the folder, and only those that
were found are known; a file in a run by its step. What lies outside the folder, behind a link, is not read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagan.gallery.curves import Curves
from sagan.run.card import identity
from sagan.run.config import Config, roles
from sagan.run.folder import Run, snapshot_step
from sagan.run.places import MODEL
from sagan.run.plan import nearest_preset, read_plan, spell, train_words
from sagan.run.records import ScoreRecord
from sagan.run.status import STATES, RunStatus, Watched
from sagan.system.console import duration
from sagan.system.errors import UserError
from sagan.system.files import read_regular
from sagan.system.images import LARGEST_PICTURE, read_png
from sagan.system.paths import command_without_paths, without_paths
from sagan.system.sentences import command, plural, visible

_DEEPEST = 6  # folders below the one that is served
_MOST = 20_000  # folders that are looked into
_READ = ("config.json", "records.jsonl", "samples", "snapshots", "checkpoints/last.pt", "plan.json")
_MOST_CURVES = 16  # in memory, each some MB


class Missing(UserError):
    """There is no such run, sweep or file."""


@dataclass(frozen=True)
class Found:
    """A run or a sweep: its name in the folder, parts joined by ``/``."""

    name: str
    folder: Path
    sweep: str | None = None
    """Of a run, the name of the sweep that it is of."""
    is_sweep: bool = False


class Library:
    """What is under ``root``, which may itself be a run or a sweep. It may be asked by several threads.

    ``start``: the folder from which commands on its runs are given, by default the one that ``root`` is in."""

    def __init__(self, root: Path, start: Path | None = None):
        self.root = root.resolve()
        self._start = self.root.parent if start is None else start.resolve()
        self._watched: dict[str, Watched] = {}
        self._curves: dict[Path, Curves] = {}
        self._lock = threading.Lock()

    def find(self) -> dict[str, Found]:
        """All runs and sweeps by name."""
        return {found.name: found for found in self._walk()}

    def _walk(self) -> Iterator[Found]:
        if _is_run(self.root) or _is_sweep(self.root):
            yield from self._inside(self.root, self.root.parent, None)
        else:
            yield from self._inside(self.root, self.root, None)

    def _inside(self, top: Path, base: Path, sweep: str | None) -> Iterator[Found]:
        looked = 0
        folders = [(top, 0, sweep)]
        while folders and looked < _MOST:
            folder, level, sweep = folders.pop()
            looked += 1
            name = visible(folder.relative_to(base).as_posix())  # so that it can be sent
            if _is_run(folder):
                yield Found(name, folder, sweep)
                continue
            if _is_sweep(folder):
                yield Found(name, folder, is_sweep=True)
                sweep, within = name, [folder / "runs"]
            else:
                within = _folders(folder)
            if level < _DEEPEST:
                folders += [(each, level + 1, sweep) for each in within if _is_own_folder(each)]

    def get(self, name: str, *, sweep: bool = False) -> Found:
        """The run, or the sweep, of a name. Raises Missing, and UserError for one of whose files is elsewhere."""
        found = self.find().get(name)
        if found is None or found.is_sweep != sweep:
            raise Missing(f"there is no {'sweep' if sweep else 'run'} {visible(name)} here; it may have been removed")
        _refuse_links_out(found.folder, _READ)
        return found

    def place(self, found: Found) -> str:
        """The folder of a run or a sweep as a command takes it."""
        return Path(os.path.relpath(os.path.realpath(found.folder), self._start)).as_posix()

    def status(self, found: Found) -> RunStatus:
        """How a run stands; only what was added to its records is read."""
        with self._lock:
            watched = self._watched.get(found.name)
            if watched is None or watched.run.folder != found.folder:
                sweep, log = found.folder.parents[1], f"logs/{found.folder.name}.failed"
                failure = sweep / log if found.sweep and _stays_inside(sweep, log) else None
                watched = self._watched[found.name] = Watched(found.folder, found.name, failure=failure)
            return watched.look()

    def curves(self, found: Found) -> Curves:
        """The curves of a run, which follow its records for as long as it is among the last ones looked at."""
        with self._lock:
            curves = self._curves.pop(found.folder, None) or Curves(Run(found.folder).records_file)
            self._curves[found.folder] = curves
            while len(self._curves) > _MOST_CURVES:
                self._curves.pop(next(iter(self._curves)))
            return curves

    def file(self, found: Found, *parts: str) -> Path:
        """A file of a run. Raises Missing where there is none, and where a link leads out of the run's folder."""
        path = found.folder.joinpath(*parts)
        real = Path(os.path.realpath(path))
        if not real.is_file() or not real.is_relative_to(os.path.realpath(found.folder)):
            raise Missing(f"{visible(found.name)} has no {'/'.join(parts)}")
        return real


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False) and each.name[0] != "."]
    except OSError:  # it was removed meanwhile, or may not be read
        return []


def _is_run(folder: Path) -> bool:
    """Whether it holds a run, and not a model for the hub."""
    return _is_file(folder / "config.json") and not _is_file(folder / MODEL)


def _is_sweep(folder: Path) -> bool:
    return _is_file(folder / "plan.json") and not _is_file(folder / "config.json")


def _is_own_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that may not be looked into
        return False


def _refuse_links_out(folder: Path, names: Sequence[str]) -> None:
    """Raises UserError where one of these files, or a folder that it is in, is a link that leads out of ``folder``."""
    for name in names:
        if not _stays_inside(folder, name):
            raise UserError(f"{name} is a link that leads out of the folder {visible(folder.name)}")


def _stays_inside(folder: Path, name: str) -> bool:
    return Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder))


# ---- a run in words and numbers


def row(library: Library, found: Found) -> dict[str, Any]:
    """What the list says about a run. A run that cannot be read is a row that says so."""
    about: dict[str, Any] = {"kind": "run", "name": found.name, "place": library.place(found), "sweep": found.sweep}
    try:
        _refuse_links_out(found.folder, _READ)
        config, status = Run(found.folder).config(), library.status(found)
    except (UserError, OSError) as error:
        return {**about, **damaged(error, found)}
    steps = grids(found)
    return {
        **about,
        "state": state_of(status),
        "said": _say(status, found),
        "step": status.step,
        "total": status.total,
        "speed": status.images_per_second if status.state == "running" else None,
        "left": None if status.seconds_left is None or status.state != "running" else duration(status.seconds_left),
        "span": str(config.model.span),
        "masking": config.model.masking,
        "size": config.model.imsize,
        "images": images_of(config),
        "score": None if status.best is None else score_of(status.best),
        "grid": steps[-1] if steps else None,
        "stamp": _stamp(found, steps[-1]) if steps else None,
        "snapshots": len(snapshot_steps(found)),
        "changed": _changed(found.folder),
    }


def damaged(error: BaseException, found: Found) -> dict[str, Any]:
    """What the list and a run's page say of one that cannot be read."""
    return {"state": "damaged", "said": _sentence(error, found), "changed": 0, "grid": None}


def rows(library: Library) -> list[dict[str, Any]]:
    """All runs and sweeps, those written to last first."""
    found = library.find().values()
    made = [row(library, each) for each in found if not each.is_sweep]
    made += [_sweep_row(library, each, made) for each in found if each.is_sweep]
    return sorted(made, key=lambda each: each["changed"], reverse=True)


def _sweep_row(library: Library, found: Found, made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the list says about a sweep, of whose runs the rows are ``made``."""
    begun = sorted((each for each in made if each["sweep"] == found.name), key=lambda each: each["changed"])
    done, running = (sum(each["state"] == state for each in begun) for state in ("done", "running"))
    about: dict[str, Any] = {"kind": "sweep", "name": found.name, "place": library.place(found), "done": done}
    drawn = [each for each in begun if each.get("grid") is not None]
    about["grid"] = _grid_of(drawn[-1]) if drawn else None
    about["changed"] = begun[-1]["changed"] if begun else _changed(found.folder)
    try:
        _refuse_links_out(found.folder, _READ)
        plan = read_plan(found.folder / "plan.json")
    except (UserError, OSError) as error:
        return {**about, "state": "damaged", "said": _sentence(error, found), "runs": len(begun)}
    runs = len(plan.runs())
    state = "running" if running else "done" if done >= runs else "stopped" if begun else "waiting"
    said = f"{done:,} of {plural(runs, 'run')} done" + (f", {running:,} running" if running else "")
    return {**about, "state": state, "said": said, "runs": runs}


def _grid_of(row: dict[str, Any]) -> dict[str, Any]:
    return {"run": row["name"], "step": row["grid"], "stamp": row["stamp"]}


def state_of(status: RunStatus) -> str:
    """The state of a run, in one word: one of `STATES`, "stopped" for "cut", or "collapsed" where the guard says so."""
    if status.state == "failed" and status.verdict not in ("", "healthy"):
        return "collapsed"
    return "stopped" if status.state == "cut" else status.state


def _say(status: RunStatus, found: Found) -> str:
    """Why a run stands as it does."""
    text = status.reason or STATES[status.state]
    if status.verdict not in ("", "healthy"):
        text += f"; the guard says: {status.verdict}"
    if status.rollbacks:
        text += f"; rolled back {status.rollbacks} times" if status.rollbacks > 1 else "; rolled back once"
    return without_paths(visible(text), [found.folder])


def _sentence(error: BaseException, found: Found) -> str:
    return without_paths(visible(str(error)), [found.folder])


def score_of(score: ScoreRecord) -> dict[str, Any]:
    """A score with what it is to be read with."""
    card = score.card
    return {
        "label": score.label,
        "step": score.step,
        "value": score.value,
        "spread": score.spread,
        "floor": score.floor,
        "samples": card.samples,
        "extractor": card.extractor,
        "reference": f"{plural(card.reference_count, 'image')} of hash {card.reference.removeprefix('pixels:')[:8]}",
        "card": identity(card),
    }


def images_of(config: Config) -> str:
    """The images that a run is trained on, without their folder."""
    data = config.data
    return data.dataset or (visible(Path(data.data).name) if data.data else "faces")


def _changed(folder: Path) -> float:
    """When a run was last written to, in seconds."""
    times = [0.0]
    for name in ("records.jsonl", "config.json", "plan.json"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def grids(found: Found) -> list[int]:
    """The steps of a run's grids of samples."""
    paths = [path for path in (found.folder / "samples").glob("*_fake.png") if path.is_file()]
    names = [path.name.removesuffix("_fake.png") for path in paths]
    return sorted(int(name) for name in names if name.isdecimal() and name.isascii() and len(name) < 20)


def _stamp(found: Found, step: int) -> str:
    """What changes when the grid of a step is written anew."""
    try:
        return f"{(found.folder / 'samples' / f'{step}_fake.png').stat().st_mtime_ns:x}"
    except OSError:
        return ""


def snapshot_steps(found: Found) -> list[int]:
    """The steps of a run's snapshots."""
    run = Run(found.folder)
    return sorted({snapshot_step(path) for path in [*run.snapshots(), *run.latest_snapshots()]})


def details(library: Library, found: Found) -> dict[str, Any]:
    """What a run's own page says, besides its curves."""
    about = row(library, found)
    if about["state"] == "damaged":
        return about
    config = Run(found.folder).config()
    elsewhere = replace(config, run=replace(config.run, run_dir=Config().run.run_dir))  # its own is taken
    preset, unlike = nearest_preset(config)
    steps = grids(found)
    changed = [
        {"name": name, "value": _spelt(own), "usual": _spelt(usual)}
        for name, (usual, own) in unlike.items()
        if roles()[name].effect != "place"
    ]
    return {
        **about,
        "grids": steps,
        "stamps": [_stamp(found, step) for step in steps],
        "snapshots": snapshot_steps(found),
        "preset": preset,
        "settings": changed,
        "commands": {
            "the run anew": command_without_paths(command(*train_words(elsewhere))),
            "go on with it": command("resume", library.place(found)),
        },
    }


def _spelt(value: Any) -> str:
    return without_paths(visible(" ".join(spell(value))))


def read_grid(library: Library, found: Found, step: int) -> bytes:
    """The grid of samples of a step, as PNG. Raises Missing without one, and for a file that is not a whole picture."""
    path = library.file(found, "samples", f"{step}_fake.png")
    try:
        read_png(path)
        return read_regular(path, LARGEST_PICTURE)
    except (UserError, OSError) as error:
        raise Missing(f"the grid of step {step:,} of {visible(found.name)} is not a whole picture") from error
