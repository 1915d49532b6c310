"""What the images of a source need, found by looking at them: channels, and the range of 16-bit values.

A data set has the most channels that one of its images needs, and one range for all of them, or the brightness of two
images could not be compared. A few images are looked at first. Preparing then looks at each, and where one needs more
than those few, all are looked at before it begins again. What was found is kept beside the identities of sources.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from PIL import Image

from sagan.data.recipe import Recipe
from sagan.data.sources.decode import DEEP, channels_of, levels_of
from sagan.data.sources.names import digest
from sagan.data.sources.remarks import collect_remarks
from sagan.data.sources.room import one_image
from sagan.data.sources.source import Source, unseen
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import write_whole
from sagan.system.typed import from_plain, read_json, to_plain

FIRST = 8  # images that are looked at, spread over all
_AT_ONCE = 256  # images of a survey that are waited for together
_FAR_BELOW = 2**14  # what has 14 bits or less is shown by its own range


@dataclass(frozen=True)
class Needs:
    """``channels``: 1, 3 or 4, the most that an image needs. ``levels``: the smallest and the largest value of all
    images of 16 bits; empty where there are none."""

    channels: int = 1
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.channels not in (1, 3, 4) or len(self.levels) not in (0, 2):
            raise UserError(f"these are no needs of images: {self}")

    def and_of(self, other: Needs) -> Needs:
        """Those of these images and of others."""
        ends = sorted(self.levels + other.levels)
        return Needs(max(self.channels, other.channels), (ends[0], ends[-1]) if ends else ())

    @property
    def range(self) -> tuple[int, int] | None:
        """The values that become black and white; None for 0 and 65535. A range that reaches far into the 16 bits is
        left as it is: images of one kind stay comparable with others of it."""
        if not self.levels:
            return None
        low, high = self.levels
        narrow = high < _FAR_BELOW or low > 65535 - _FAR_BELOW
        return (low, high) if narrow and low < high else None


def settled(recipe: Recipe, needs: Needs) -> Recipe:
    """A recipe whose channels and range are what images need, where they were to be."""
    channels = needs.channels if recipe.channels == "auto" else recipe.channels
    return replace(recipe, channels=channels, range=needs.range if recipe.range == "auto" else recipe.range)


class Unforeseen(Exception):
    """An image needs more than those that were looked at."""


def check_of(recipe: Recipe, needs: Needs) -> Callable[[Image.Image], None]:
    """Raises Unforeseen for an image that needs more than ``needs``, where the recipe has what images need."""

    def check(image: Image.Image) -> None:
        more_channels = recipe.channels == "auto" and channels_of(image, needs.channels) > needs.channels
        if more_channels or (recipe.range == "auto" and image.mode == DEEP and not needs.levels):
            raise Unforeseen

    return check


def first_needs(source: Source) -> Needs:
    """The needs of a few images, spread over all."""
    return needs_of(source, sorted({len(source) * part // FIRST for part in range(FIRST)}), 1)


def needs_of(source: Source, numbers: Sequence[int], workers: int, progress: Progress = unseen) -> Needs:
    """The needs of some images of a source. Those that cannot be read have none, as they will be left out."""
    found = Needs()

    def look(number: int) -> Needs:
        with contextlib.suppress(UserError), one_image(), collect_remarks():
            image = source.read(number)
            levels = levels_of(image) if image.mode == DEEP else ()
            return Needs(channels_of(image, found.channels), levels)
        return found

    with ThreadPoolExecutor(workers, thread_name_prefix="survey") as pool:
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            found = functools.reduce(Needs.and_of, pool.map(look, some), found)
            progress(start + len(some), len(numbers))
    return found


# ---- what was found before


def remembered_needs(source: Source, recipe: Recipe, root: Path) -> Needs | None:
    """What all images of a source were found to need, of what the recipe leaves to them; None where nobody looked."""
    with contextlib.suppress(OSError, UserError):  # it is not there, or damaged
        return from_plain(Needs, read_json(_file(source, recipe, root), 1000), "the needs of images")
    return None


def remember_needs(source: Source, recipe: Recipe, root: Path, needs: Needs) -> None:
    with contextlib.suppress(OSError):  # if it cannot be written, all are looked at again
        write_whole(_file(source, recipe, root), lambda file: file.write(json.dumps(to_plain(needs)).encode()))


def _file(source: Source, recipe: Recipe, root: Path) -> Path:
    left = [name for name, value in asdict(recipe).items() if value == "auto"]
    return root / "identities" / f"{digest([source.identity, str(source.max_pixels), *left])}.json"
