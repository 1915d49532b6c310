"""One pass over the images of a source, which measures each, and is kept for the next time."""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sagan.data.prepare import cores, settle_identity
from sagan.data.sources.decode import to_rgb
from sagan.data.sources.names import digest
from sagan.data.sources.remarks import collect_remarks
from sagan.data.sources.room import one_image
from sagan.data.sources.source import Source
from sagan.doctor.figures import FRAME, MEASURED, VIEWS, Values, edges, measure
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import read_regular, write_whole
from sagan.system.typed import Count, from_plain, parse_json

_VERSION = "looks 1"  # of the figures: what another version measured is not used
_LAID = 2000  # images that are laid over each other, spread over all
_LARGEST = 2**32  # bytes of what is kept
_LARGEST_HEAD = 2**28

_LAYERS = len(VIEWS), FRAME, FRAME

Figures = npt.NDArray[np.void]
Frame = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """What the reader of an image said of it: why it cannot be used, or what is remarkable."""

    number: Count
    text: str


@dataclass(frozen=True)
class _Head:
    count: Count
    laid: tuple[int, ...]
    refused: tuple[Said, ...]
    remarks: tuple[Said, ...]


@dataclass(frozen=True, eq=False)
class Looks:
    """What was measured of each image of a source: ``figures`` of the type `MEASURED`, in the source's order.

    ``laid``: how many different images were laid over each other in each of the `VIEWS`; ``mean`` and ``spread``: the
    mean and the standard deviation of their `edges`, at each place of it.
    """

    source: Source
    figures: Figures
    refused: tuple[Said, ...]
    remarks: tuple[Said, ...]
    laid: tuple[int, ...]
    mean: Frame
    spread: Frame

    def name(self, number: int) -> str:
        """The name of an image within its source."""
        return self.source.name_within(int(number))


def look_at(source: Source, root: Path, progress: Progress | None = None) -> Looks:
    """Measures every image of a source, or reads what was measured before, which is kept under ``root`` by the
    identity of the source. Raises OSError if an image cannot be reached."""
    settle_identity(source, root, progress)
    file = root / "looks" / digest([_VERSION, source.identity, str(source.max_pixels)])
    with contextlib.suppress(OSError, UserError, ValueError):  # it is not there, or damaged
        return _from_bytes(source, read_regular(file, _LARGEST))
    looks = _look(source, progress)
    with contextlib.suppress(OSError):  # if it cannot be written, the next time all are read again
        write_whole(file, lambda opened: opened.write(_to_bytes(looks)), sync=False)
    return looks


def _look(source: Source, progress: Progress | None) -> Looks:
    figures = np.zeros(len(source), MEASURED)
    refused, remarks = list[Said](), list[Said]()
    every = max(1, len(source) // _LAID)
    total, squares, laid, seen = np.zeros(_LAYERS), np.zeros(_LAYERS), np.zeros(len(VIEWS), int), set[bytes]()
    for number, look in enumerate(_each(source, every)):
        remarks += [Said(number, text) for text in look.remarks]
        if look.figures is None:
            refused.append(Said(number, look.reason))
        else:
            figures[number] = look.figures
            pixels = look.figures["pixels"].tobytes()
            if look.edges is not None and pixels not in seen:  # one image many times is no pattern
                seen.add(pixels)
                known = np.nan_to_num(look.edges)
                laid, total, squares = laid + ~np.isnan(look.edges[:, 0, 0]), total + known, squares + known**2
        if progress:
            progress(number + 1, len(source))
    counts = np.maximum(1, laid)[:, None, None]
    mean = total / counts
    spread: Frame = np.sqrt(np.maximum(squares / counts - mean**2, 0))
    return Looks(source, figures, tuple(refused), tuple(remarks), tuple(laid.tolist()), mean, spread)


@dataclass(frozen=True, eq=False)
class _Look:
    figures: Figures | None
    reason: str = ""
    remarks: tuple[str, ...] = ()
    edges: Values | None = None


def _each(source: Source, every: int) -> Iterator[_Look]:
    """The looks of all images, in order, by a thread for each core."""
    ahead: deque[Future[_Look]] = deque()
    with ThreadPoolExecutor(cores(), thread_name_prefix="doctor") as pool:
        try:
            for number in range(len(source)):
                ahead.append(pool.submit(_look_at_one, source, number, number % every == 0))
                if len(ahead) >= 4 * cores():
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _look_at_one(source: Source, number: int, lay: bool) -> _Look:
    name = source.name(number)
    try:
        with one_image(), collect_remarks() as remarks:
            image = source.read(number)
            rgb = to_rgb(image)
            found = measure(image, rgb)
            return _Look(found, "", tuple(remarks), edges(rgb.convert("L"), found["borders"].tolist()) if lay else None)
    except UserError as error:
        return _Look(None, str(error).removeprefix(name).lstrip(" :").removeprefix("cannot be read: "))
    except OSError as error:
        error.filename = error.filename or name
        raise


# ---- what is kept


def _to_bytes(looks: Looks) -> bytes:
    said = {kind: [vars(each) for each in each_kind] for kind, each_kind in _said(looks).items()}
    head = {"count": len(looks.figures), "laid": looks.laid, **said}
    return b"\n".join([json.dumps(head).encode(), b"".join(each.tobytes() for each in _arrays(looks))])


def _said(looks: Looks) -> dict[str, tuple[Said, ...]]:
    return {"refused": looks.refused, "remarks": looks.remarks}


def _arrays(looks: Looks) -> tuple[npt.NDArray[np.generic], ...]:
    return looks.figures, looks.mean, looks.spread


def _from_bytes(source: Source, data: bytes) -> Looks:
    """Raises UserError or ValueError for anything but what `_to_bytes` made of this source."""
    first, _, rest = data.partition(b"\n")
    head = from_plain(_Head, parse_json(first, "what was measured", _LARGEST_HEAD), "what was measured")
    size, frame = head.count * MEASURED.itemsize, math.prod(_LAYERS) * 8
    if (head.count, len(head.laid)) != (len(source), len(VIEWS)) or len(rest) != size + 2 * frame:
        raise ValueError("it is cut, or of other images")
    if any(said.number >= head.count for said in (*head.refused, *head.remarks)):
        raise ValueError("it speaks of images that there are not")
    figures = np.frombuffer(rest, MEASURED, head.count)
    mean, spread = (np.frombuffer(rest, "<f8", math.prod(_LAYERS), size + at).reshape(_LAYERS) for at in (0, frame))
    return Looks(source, figures, head.refused, head.remarks, head.laid, mean, spread)
