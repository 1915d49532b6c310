"""The pictures of a report: small copies of images side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

from sagan.core.shapes import ImageShape
from sagan.data.recipe import Recipe, prepare_image
from sagan.data.sources.decode import to_rgb
from sagan.data.sources.remarks import collect_remarks
from sagan.doctor.findings import Finding, Picture
from sagan.doctor.looks import Looks
from sagan.system.errors import UserError

_THUMB, _LARGE, _GAP = 96, 192, 4  # pixels
_CROPS = "fill", "squash", "pad"
_GROUND, _MARK = (128, 128, 128), (255, 60, 60)


def strips(looks: Looks, finding: Finding) -> list[Picture]:
    """The images that show a finding: those of a group side by side."""
    made = (side_by_side([(looks, number) for number in group]) for group in finding.shown)
    return [each for each in made if each is not None]


def side_by_side(images: Sequence[tuple[Looks, int]]) -> Picture | None:
    """Images by their numbers in one picture; None where one can no longer be read."""
    found = [_read(looks, number) for looks, number in images]
    whole = [image for image in found if image is not None]
    if len(whole) < len(found):
        return None
    return Picture(_row(map(_thumbnail, whole)), " = ".join(looks.name(number) for looks, number in images))


def crop_picture(looks: Looks, number: int, shape: ImageShape) -> Picture | None:
    """An image in which the part that fill keeps is marked, and what each crop makes of it."""
    image = _read(looks, number)
    if image is None:
        return None
    whole = image.copy()
    whole.thumbnail((2 * _LARGE, _LARGE))
    width = min(whole.width, round(whole.height * shape.width / shape.height))
    height = min(whole.height, round(whole.width * shape.height / shape.width))
    left, top = (whole.width - width) // 2, (whole.height - height) // 2
    ImageDraw.Draw(whole).rectangle((left, top, left + width - 1, top + height - 1), outline=_MARK, width=2)
    made = [prepare_image(looks.source, number, Recipe(shape.size, crop)).pixels for crop in _CROPS]
    cut = [Image.frombytes("RGB", (shape.width, shape.height), pixels) for pixels in made if pixels is not None]
    enlarged = round(_LARGE * shape.width / shape.height), _LARGE
    sheet = _row([whole, *(each.resize(enlarged, Image.Resampling.BICUBIC) for each in cut)])
    kept = width * height / (whole.width * whole.height)
    about = f"{looks.name(number)}, {image.width}x{image.height}: fill keeps {kept:.0%}; then {', '.join(_CROPS)}"
    return Picture(sheet, about)


def _read(looks: Looks, number: int) -> Image.Image | None:
    """An image in RGB; None where it has changed since it was measured."""
    try:
        with collect_remarks():  # they were made when it was measured
            return to_rgb(looks.source.read(number))
    except (UserError, OSError):
        return None


def _thumbnail(image: Image.Image) -> Image.Image:
    small = Image.new("RGB", (_THUMB, _THUMB), _GROUND)
    image.thumbnail((_THUMB, _THUMB))
    small.paste(image, ((_THUMB - image.width) // 2, (_THUMB - image.height) // 2))
    return small


def _row(images: Iterable[Image.Image]) -> Image.Image:
    """Pictures side by side."""
    shown = list(images)
    width = sum(each.width + _GAP for each in shown) - _GAP
    row, left = Image.new("RGB", (width, max(each.height for each in shown)), _GROUND), 0
    for each in shown:
        row.paste(each, (left, 0))
        left += each.width + _GAP
    return row
