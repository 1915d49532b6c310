"""Moving pictures as files: animated WebP and GIF by Pillow, MP4 by ffmpeg. The same frames give the same bytes."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sagan.data.sources.own import OWN_NOTES
from sagan.system.errors import UserError
from sagan.system.files import write_whole

SUFFIXES = (".webp", ".gif", ".mp4")
_LARGEST_SIDE = 16_383  # of a WebP, and about that of an MP4


def check_animation(path: Path, rate: float) -> None:
    """Raises UserError, before any work, for a file that cannot be written as an animation."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"`out` must end in {', '.join(SUFFIXES)}, got {path}")
    if path.exists():
        raise UserError(f"{path} is there already: give another `out`, or remove it")
    most = 50 if path.suffix.lower() == ".gif" else 100  # players slow down what is faster
    if not 1 <= rate <= most:
        raise UserError(f"`fps` must be from 1 to {most} frames a second, got {rate:g}")
    if path.suffix.lower() == ".mp4":
        _check_ffmpeg()


def write_animation(path: Path, frames: Iterable[np.ndarray], rate: float) -> int:
    """Writes frames, uint8 (height, width, 3) of one size, at ``rate`` a second; returns how many there are.

    WebP and GIF go round for ever. Raises UserError as `check_animation`, and for frames too large.
    """
    check_animation(path, rate)
    if path.suffix.lower() == ".mp4":
        return _write_mp4(path, frames, rate)
    pictures = [Image.fromarray(frame) for frame in frames]
    _refuse_large(*pictures[0].size)
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "loop": 0}
    options["duration"] = round(1000 / rate)
    if path.suffix.lower() == ".gif":  # which counts hundredths of a second
        ends = [10 * round(100 * number / rate) for number in range(len(pictures) + 1)]
        options["duration"] = [end - start for start, end in itertools.pairwise(ends)]
    if path.suffix.lower() == ".webp":
        options |= {"format": "WEBP", "quality": 90, "method": 4}
    else:
        options |= {"format": "GIF", "optimize": False}
    key, mark = OWN_NOTES[options["format"]]  # so that its first frame is no training image
    options[key] = mark
    write_whole(path, lambda file: pictures[0].save(file, **options))
    return len(pictures)


def _refuse_large(width: int, height: int) -> None:
    if max(width, height) > _LARGEST_SIDE:
        raise UserError(f"a frame of {width:,}x{height:,} pixels is too large: draw fewer images")


def _check_ffmpeg() -> None:
    """Raises UserError where there is no ffmpeg."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ModuleNotFoundError as error:
        raise UserError("MP4 needs an extra: pip install 'sagan-attention[video]'; .webp and .gif do not") from error
    try:
        program = get_ffmpeg_exe()
    except RuntimeError as error:  # the package was installed without the program
        raise UserError(
            "MP4 needs ffmpeg, and imageio-ffmpeg finds none: install ffmpeg; .webp and .gif do not"
        ) from error
    if shutil.which(program) is None:  # it is named in the environment, and not looked for
        raise UserError(
            f"MP4 needs ffmpeg, and {program}, which IMAGEIO_FFMPEG_EXE names, is no program: unset it, to use that of "
            "pip install 'sagan-attention[video]', or write .webp or .gif"
        )


def _write_mp4(path: Path, frames: Iterable[np.ndarray], rate: float) -> int:
    from imageio_ffmpeg import write_frames

    count = 0
    following = iter(frames)
    first = next(following)
    height, width = first.shape[:2]
    _refuse_large(width, height)
    exact = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-crf", "16"]
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "film.mp4")
        writer = write_frames(
            str(part),
            (width + width % 2, height + height % 2),
            fps=rate,
            macro_block_size=2,
            codec="libx264",
            quality=None,
            output_params=exact,
        )
        writer.send(None)
        for frame in _even(first, following):
            writer.send(np.ascontiguousarray(frame))
            count += 1
        writer.close()
        data = part.read_bytes() if part.is_file() else b""
    if not data:
        raise UserError("ffmpeg cannot write these frames as MP4, see above: write .webp or .gif")
    write_whole(path, lambda file: file.write(data))
    return count


def _even(first: np.ndarray, following: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames with an even height and width, as the codec needs."""
    pad = ((0, first.shape[0] % 2), (0, first.shape[1] % 2), (0, 0))
    yield np.pad(first, pad)
    for frame in following:
        yield np.pad(frame, pad)


def enlarged(picture: np.ndarray, least: int = 256) -> np.ndarray:
    """A picture in whole multiples of its pixels, at least ``least`` high."""
    times = max(1, -(-least // picture.shape[0]))
    return picture.repeat(times, 0).repeat(times, 1)
