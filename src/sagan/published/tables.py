"""The FIDs printed in the published notebooks, and their caveats.

Each curve is of one training run, evaluated once: there are no seeds and no error bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sagan.data import choose_recipe
from sagan.run.card import Card
from sagan.run.config import DataConfig
from sagan.system.errors import UserError

Dataset = Literal["celeb", "lsun"]

SAMPLES = 64_000
LEAST_SAMPLES = 50_000  # papers use as many; from there on, more samples change a FID by less than a tenth
IMAGES = {"celeb": 202_599, "lsun": 126_227}  # in their reference: all images they trained on
SPANS = (0, 1, 2, 3, 4)


class Point(NamedTuple):
    """A row of a table: the FID at a step, of a number of samples."""

    step: int
    fid: float
    samples: int = SAMPLES

    @property
    def whole(self) -> bool:
        """Whether it is of enough samples to be compared with the others."""
        return self.samples >= SAMPLES


@dataclass(frozen=True)
class PublishedCurve:
    """The points of one span."""

    dataset: Dataset
    span: int
    points: tuple[Point, ...]


_CELEB_SPAN_0_STEPS = (12660, 22155, 31650, 41145, 50640, 60135, 72795, 82290, 91785, 101280)
_CELEB_SPAN_0 = (69.5563, 59.2683, 48.8126, 49.1614, 42.0820, 41.9657, 37.0749, 35.2040, 32.1396, 30.4276)
_CELEB_SPAN_0_LONG = (
    *(Point(202560, 27.7345), Point(300675, 24.9998), Point(401955, 26.2585), Point(500070, 28.4905)),
    *(Point(601350, 28.4058), Point(702630, 32.8348), Point(800745, 32.5001), Point(902025, 34.4738)),
    Point(996975, 36.2645, 202_560),
)
_ROUND_STEPS = tuple(range(10_000, 100_001, 10_000))
_FIDS: dict[tuple[Dataset, int], tuple[float, ...]] = {
    ("celeb", 1): (68.4376, 44.8502, 36.0266, 32.3586, 30.5428, 33.4077, 32.2965, 31.5173, 31.8387, 34.6359),
    ("celeb", 2): (80.6629, 51.8904, 39.8933, 34.4207, 31.2633, 32.0592, 31.7009, 34.8386, 31.4451, 30.9345),
    ("celeb", 3): (68.8826, 49.6762, 42.5999, 36.2135, 32.6856, 32.0307, 29.9374, 26.5814, 27.2047, 25.2475),
    ("celeb", 4): (58.6476, 51.9043, 43.3734, 37.1310, 34.7123, 28.6806, 28.7158, 185.8115, 58.1317, 311.3758),
    ("lsun", 0): (165.5599, 143.4078, 113.7090, 98.0778, 107.4686, 89.5278, 90.7094, 72.1140, 65.6282, 66.5318),
    ("lsun", 1): (146.9862, 119.0247, 102.3304, 101.6386, 91.8992, 80.4639, 75.1665, 79.4448, 68.2596, 71.2410),
    ("lsun", 2): (218.9660, 286.7280, 187.3168, 229.2150, 195.1032, 176.0746, 208.2848, 176.2613, 167.9029, 189.9345),
    ("lsun", 3): (159.7471, 108.9292, 112.8228, 189.0231, 202.4096, 137.9129, 178.1085, 168.6271, 193.9691, 178.9166),
    ("lsun", 4): (195.7688, 237.9643, 198.6772, 153.5463, 394.9457, 293.9015, 356.7293, 273.6003, 304.2884, 359.9275),
}
_INTERRUPTED = {("celeb", 4, 80_000): 3_619}  # samples, where drawing was interrupted


def published_curves(dataset: Dataset) -> list[PublishedCurve]:
    """The published curves of a data set, spans 0 to 4, at the steps at which they were measured."""
    return [PublishedCurve(dataset, span, _points(dataset, span)) for span in SPANS]


def _points(dataset: Dataset, span: int) -> tuple[Point, ...]:
    if (dataset, span) == ("celeb", 0):
        short = zip(_CELEB_SPAN_0_STEPS, _CELEB_SPAN_0, strict=True)
        return (*(Point(step, fid) for step, fid in short), *_CELEB_SPAN_0_LONG)
    return tuple(
        Point(step, fid, _INTERRUPTED.get((dataset, span, step), SAMPLES))
        for step, fid in zip(_ROUND_STEPS, _FIDS[dataset, span], strict=True)
    )


_CAVEATS = (
    "Published curves: one training run each and one evaluation, no seed, no error bar; even neighbouring checkpoints "
    "differ by 2 to 3.",
    "They are of 64,000 samples, drawn with batch norm in training mode and without EMA.",
    "Every published span above 0 was trained with the square masked before the softmax.",
)
_OF_DATASET: dict[Dataset, tuple[str, ...]] = {
    "celeb": (
        "Their reference on CelebA was saved as JPEG of quality 75 and the samples as PNG: even perfect samples would "
        "not score 0, and scores against lossless images are on a slightly different scale.",
        "Their span 0 comes from earlier code without any mask, and was measured at other steps than the rest.",
        "Span 4 at step 80,000 is omitted: only 3,619 of 64,000 samples were drawn for it.",
    ),
    "lsun": (
        "Their spans 1 to 4 on LSUN were sampled with span 0, whatever they were trained with: they say nothing about "
        "sparse attention.",
        "Their span 0 on LSUN hides the pixel itself, in training and in sampling.",
    ),
}


def caveats(dataset: Dataset) -> list[str]:
    """Sentences that a caption of the published curves of a data set must include."""
    return [*_CAVEATS, *_OF_DATASET[dataset]]


def comparable_dataset(card: Card, metric: str, data: DataConfig) -> Dataset:
    """The published data set whose curves are comparable with scores of this card, of runs on ``data``.

    Raises UserError, with the reason, where none is: for another metric or extractor than FID's, another size, other
    images, crop or filter, a reference other than all of the images, or too few samples.
    """
    if metric != "frechet":
        raise UserError(f"the published figures are FIDs and cannot be compared with the metric {metric!r}")
    if not (card.is_fid and "TF1" in card.resize):
        raise UserError(
            f"the published figures are FIDs by Inception, and these scores are by {card.extractor}, which cannot "
            "share an axis; score the sweep's runs with `sagan evaluate RUN --extractor inception` first"
        )
    if card.image_size != "64x64":
        raise UserError(f"the published figures are of images of 64x64, and these scores are of {card.image_size}")
    if data.dataset is None:
        raise UserError(
            "the published figures are of CelebA and of LSUN church, and this sweep was trained on neither "
            "(--dataset celeb, --dataset lsun)"
        )
    published, ours = (choose_recipe(each, 64) for each in (DataConfig(dataset=data.dataset), data))
    if ours != published:
        raise UserError(
            f"the published figures are of images with crop {published.crop} and filter {published.filter}, and "
            f"these have crop {ours.crop} and filter {ours.filter}"
        )
    if card.reference_count != IMAGES[data.dataset]:
        raise UserError(
            f"the published figures are against all {IMAGES[data.dataset]:,} images of {data.dataset}, and these "
            f"scores against {card.reference_count:,}"
        )
    if card.samples < LEAST_SAMPLES:
        raise UserError(
            f"the published figures are of {SAMPLES:,} samples, and these scores of {card.samples:,}, which makes a "
            f"FID larger: run `sagan evaluate RUN --num {LEAST_SAMPLES}` or more first"
        )
    return data.dataset
