"""The gallery as files, for a static host: every page but the studio, with what the server would answer beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagan.gallery.app import STATIC, served_page
from sagan.gallery.library import Found, Library, Missing, damaged, details, read_grid, row, rows
from sagan.gallery.sweeps import sweep_details
from sagan.pages.render import asset
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import refuse_links_out, whole_folder

_EXPORTED = {"index.html", "model.json", "model.onnx"}  # files of `sagan export --to web`


def write_site(root: Path, out: Path, progress: Progress = lambda done, total: None) -> int:
    """Writes the folder ``out``; returns how many runs it shows. A page exported into a run's folder is copied there,
    to draw from the run. Raises UserError where there is no run, and for a folder that is not empty."""
    library = Library(root)
    found = library.find()
    runs = [each for each in found.values() if not each.is_sweep]
    if not runs:
        raise UserError(f"{root} contains no run: give a folder with runs, or a run")
    with whole_folder(out) as folder:
        for name in STATIC:
            _write(folder / "static" / name, asset(name).read_bytes())
        _write_json(folder / "api" / "runs.json", rows(library))
        _write(folder / "index.html", served_page("runs.html", root="./", live=False, title=library.root.name).encode())
        for number, each in enumerate(runs, 1):
            _write_run(library, each, folder)
            progress(number, len(runs))
        for each in found.values():
            if each.is_sweep:
                _write_page(folder, "sweep", each)
                _write_json(folder / "api" / "sweep" / f"{each.name}.json", _tried(sweep_details, each))
    return len(runs)


def _write_run(library: Library, found: Found, folder: Path) -> None:
    try:
        about = details(library, found)
        exported = next((path for path in sorted(found.folder.iterdir()) if _is_exported(path)), None)
        curves = library.curves(found).read()
        if exported is not None:
            refuse_links_out(exported)
            shutil.copytree(exported, folder / "draw" / found.name)
    except (UserError, OSError, shutil.Error) as error:  # the others are written all the same
        about, curves, exported = row(library, found) | damaged(error, found), {}, None
    own = folder / "api" / "run" / found.name
    if exported is not None:
        about["drawing"] = _way_back("run", found) + f"draw/{found.name}/"
    _write_json(own / "facts.json", about)
    _write_json(own / "curves.json", curves)
    for step in about.get("grids", []):
        try:
            _write(own / "grid" / f"{step}.png", read_grid(library, found, step))
        except Missing:
            continue  # a torn one; the page shows the others
    _write_page(folder, "run", found)


def _is_exported(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and all((path / name).is_file() for name in _EXPORTED)


def _write_page(folder: Path, kind: str, found: Found) -> None:
    page = served_page(f"{kind}.html", root=_way_back(kind, found), live=False, title=found.name, name=found.name)
    _write(folder / kind / found.name / "index.html", page.encode())


def _way_back(kind: str, found: Found) -> str:
    return "../" * (1 + len(Path(found.name).parts))


def _tried(make: Any, found: Found) -> Mapping[str, Any]:
    try:
        made: Mapping[str, Any] = make(found)
        return made
    except UserError as error:
        return {"error": str(error)}


def _write_json(path: Path, value: object) -> None:
    _write(path, json.dumps(value, allow_nan=False).encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
