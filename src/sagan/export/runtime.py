"""ONNX Runtime Web, which draws in a browser: the files of it that a page needs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from sagan.system.errors import UserError
from sagan.system.files import read_regular

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
_LARGEST = 2**26  # bytes of a file
_FILES = {  # and the SHA-256 of each, as this version has it
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}


def runtime_files(folder: Path | None) -> dict[str, bytes]:
    """The runtime's files by name: from a ``folder`` with the npm package `PACKAGE`, or else fetched by npm.

    Raises UserError where they are not all there, where they are not those of `PACKAGE`, and where there is no npm.
    """
    files = _fetched() if folder is None else _found(folder)
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != _FILES[name]:
            raise UserError(f"{name} {_in(folder)} is not that of {PACKAGE}, with which pages are tested")
    return files


def _in(folder: Path | None) -> str:
    return "from npm" if folder is None else f"in {folder}"


def _found(folder: Path) -> dict[str, bytes]:
    """The files of a folder with them, of the package's folder, or of one where it is installed."""
    for place in (folder, folder / "dist", folder / "node_modules" / "onnxruntime-web" / "dist"):
        if all((place / name).is_file() for name in _FILES):
            return {name: read_regular(place / name, _LARGEST) for name in _FILES}
    raise UserError(
        f"{folder} does not hold {', '.join(_FILES)}: give `runtime` a folder in which `npm install {PACKAGE}` was run"
    )


def _fetched() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"a page needs ONNX Runtime Web, and there is no npm to fetch it: on a machine with npm run "
            f"`npm install {PACKAGE}`, and give that folder as `runtime`"
        )
    with tempfile.TemporaryDirectory() as folder:
        words = [npm, "pack", PACKAGE, "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600, check=False
            )
            said = done.stderr.strip().splitlines()
        except subprocess.TimeoutExpired:
            said = ["it took longer than ten minutes"]
        packed = next(Path(folder).glob("*.tgz"), None)
        if packed is None:
            reason = f" ({said[-1]})" if said else ""
            raise UserError(
                f"npm cannot fetch {PACKAGE}{reason}: give `runtime` a folder in which `npm install {PACKAGE}` was run"
            )
        try:
            with tarfile.open(packed) as archive:
                return {name: _member(archive, f"package/dist/{name}") for name in _FILES}
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UserError(f"{PACKAGE} from npm cannot be read ({error})") from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise UserError(f"{PACKAGE} from npm has no {name}")
    return file.read(_LARGEST)
