"""Scoring: image sets through an extractor, against a reference, into records with their cards."""

from sagan.evaluation.evaluate.image_sets import ImageSet, generated_images, open_images, store_images
from sagan.evaluation.evaluate.reference import Reference, reference_statistics
from sagan.evaluation.evaluate.scoring import Score, score_images

__all__ = [
    "ImageSet",
    "Reference",
    "Score",
    "generated_images",
    "open_images",
    "reference_statistics",
    "score_images",
    "store_images",
]
