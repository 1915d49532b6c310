"""The Fréchet distance between two folders of images of one size.

    python examples/frechet_between_folders.py REAL OTHER [EXTRACTOR]

EXTRACTOR: as for `sagan evaluate`; random-conv needs nothing installed, and inception is what FID means.
"""

import sys
from pathlib import Path

import torch

from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.features import features_of
from sagan.evaluation.image_sets import open_images
from sagan.evaluation.metrics.frechet import frechet_distance
from sagan.evaluation.metrics.moments import Moments
from sagan.system.console import Console
from sagan.system.world import World


def distance(one: Path, other: Path, extractor_name: str = "random-conv") -> float:
    """Computed in one pass over each folder; memory does not grow with the images."""
    extractor = load_extractor(extractor_name, device=torch.device("cpu"))
    found = []
    for folder in (one, other):
        images = open_images(folder, Path("prepared"), Console(quiet=True))
        moments = Moments(extractor.dim)
        for _, _, features, _ in features_of(images, extractor, World()):
            moments.add(features)
        found.append(moments)
    return frechet_distance(*found)


if __name__ == "__main__":
    print(f"{distance(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]):.3f}")
