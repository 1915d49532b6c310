"""How fast images are scored: features a second, and the time of a Fréchet distance."""

from __future__ import annotations

import torch

from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.timing import time_in_turns
from sagan.evaluation.extractors.table import default_extractor, load_extractor
from sagan.evaluation.metrics.frechet import covariance_factor, frechet_distance
from sagan.evaluation.metrics.moments import Moments
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError


def measure_scoring(settings: BenchSettings, progress: Progress) -> Result:
    """Images a second through the extractor, and seconds of a Fréchet distance to a prepared reference."""
    notes, name = [], settings.extractor
    if name is None:
        try:
            name = default_extractor()
        except UserError as error:
            name = "random-conv"
            notes.append(f"random-conv, a small network, was measured because {error}")
    extractor = load_extractor(name, device=settings.device)
    count = 8 if settings.quick else extractor.batch_size * (8 if settings.on_gpu else 1)
    draw = torch.Generator().manual_seed(0)
    shape = count, *settings.config().model.shape.chw
    images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8).to(settings.device)
    # one more vector than dims: full covariance matrices from small sets
    known, other = (Moments.of(torch.randn(extractor.dim + 1, extractor.dim, generator=draw)) for _ in range(2))
    factor = covariance_factor(known)
    ways = {"extractor": lambda: extractor(images), "frechet": lambda: frechet_distance(other, known, factor=factor)}
    timings = time_in_turns(ways, settings.device, on_round=progress)
    return {
        "extractor": extractor.name,
        "dim": extractor.dim,
        "images": count,
        "extractor_seconds": timings["extractor"].to_dict(),
        "images_per_second": count / timings["extractor"].median,
        "frechet_seconds": timings["frechet"].to_dict(),
        "notes": notes,
    }


def scoring_rows(result: Result) -> Rows:
    features, frechet = result["extractor_seconds"], result["frechet_seconds"]
    rate = f"{result['images_per_second']:.4g} images/s"
    return [
        ["what", "figure", "spread"],
        [f"features of {result['extractor']}", rate, f"{features['spread']:.0%}"],
        [f"Fréchet distance of {result['dim']:,} dims", f"{frechet['median']:.3g} s", f"{frechet['spread']:.0%}"],
    ]
