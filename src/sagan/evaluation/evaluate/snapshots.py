"""Scoring the snapshots of a run: into its records, with their card, a picture of nearest images and a curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sagan.config import from_dict
from sagan.console import Console
from sagan.evaluation.card import Card, commit, differences, refuse_unlike, versions
from sagan.evaluation.evaluate.curves import draw_curve
from sagan.evaluation.evaluate.image_sets import generated_images
from sagan.evaluation.evaluate.reference import Reference
from sagan.evaluation.evaluate.scoring import Score, nearest_real, score_images
from sagan.evaluation.features import FeatureExtractor
from sagan.evaluation.metrics.moments import COVARIANCE_CONVENTION
from sagan.images import grid, save_png
from sagan.models.build import load_snapshot
from sagan.runs import Run


@dataclass(frozen=True)
class Scorer:
    """Scores images of one size the same way again and again: an extractor, a reference, and how many images to draw.

    ``repeats`` draws of ``samples`` images, with seeds ``seed``, ``seed + 1`` ...
    """

    extractor: FeatureExtractor
    reference: Reference
    samples: int
    repeats: int = 1
    seed: int = 0
    device: str = "cpu"

    def card(self, source: str = "averaged generator, eval mode", samples: int | None = None) -> Card:
        """The card of a score made now."""
        images = self.reference.images
        return Card(
            extractor=self.extractor.name,
            weights_sha256=self.extractor.weights_sha256,
            resize=self.extractor.resize,
            samples=self.samples if samples is None else samples,
            image_size=images.image_size,
            reference=images.identity,
            reference_count=images.count,
            reference_split="all",
            covariance=COVARIANCE_CONVENTION,
            source=source,
            seed=self.seed,
            repeats=self.repeats,
            versions=versions(),
            commit=commit(),
        )

    def score_snapshot(self, run: Run, path: Path, console: Console) -> list[Score]:
        """Scores one snapshot of a run and writes the records, the picture of nearest images and the curve.

        Raises ValueError for a snapshot of a run with other networks.
        """
        generator, config, facts = load_snapshot(path)
        if config.model != from_dict(run.config()).model:
            raise ValueError(f"{path} is not of the run in {run.folder}: its networks have other settings")
        step = int(facts["step"])
        draws = [
            generated_images(
                generator,
                config.model.z_dim,
                config.model.imsize,
                self.samples,
                self.seed + repeat,
                device=torch.device(self.device),
                name=f"{run.folder.name} at step {step:,}",
            )
            for repeat in range(self.repeats)
        ]
        with console.progress(f"scoring step {step:,}") as progress:
            scores, found = score_images(draws, self.reference, self.extractor, progress=progress, warn=console.warn)
        for record in score_records(scores, self.card(), step):
            run.append(record)
        folder = run.folder / "evaluation"
        save_png(grid(nearest_real(found, self.reference)), folder / f"{step}_nearest.png")
        draw_curve(run, folder)
        return scores


def score_records(scores: Iterable[Score], card: Card, step: int | None = None) -> list[dict[str, Any]]:
    """One record a metric, each with the card."""
    return [
        {
            "kind": "score",
            "metric": score.metric,
            "label": score.label,
            "step": step,
            "value": score.value,
            "spread": score.spread,
            "error": score.error,
            "floor": score.floor,
            "card": card.to_dict(),
        }
        for score in scores
    ]


def scored_steps(run: Run, card: Card) -> set[int]:
    """The steps that already have a score which may share an axis with one of this card."""
    return {
        record["step"]
        for record in run.records()
        if record.get("kind") == "score" and not differences(Card.from_dict(record["card"]), card)
    }


def score_table(scores: Iterable[Score]) -> list[list[str]]:
    """Rows for a terminal: metric, value with spread, what real images score."""

    def number(value: float) -> str:
        return f"{value:.5f}" if abs(value) < 0.1 else f"{value:.3f}"

    rows = [["metric", "value", "real images"]]
    for score in scores:
        value = number(score.value)
        if score.spread is not None:
            value += f" ± {number(score.spread)} over draws"
        elif score.error is not None:
            value += f" ± {number(score.error)}"
        rows.append([score.label, value, "" if score.floor is None else number(score.floor)])
    return rows


def best_step(run: Run, metric: str = "frechet") -> int:
    """The step with the lowest score among those like the newest. Raises ValueError where there is none."""
    return int(min(_newest_scores(run, metric), key=lambda record: record["value"])["step"])


def comparison_table(one: Run, other: Run, metric: str) -> list[list[str]]:
    """A metric of two runs, step by step. Raises ValueError, naming what differs, where their cards are unlike."""
    scores = {str(run.folder): _newest_scores(run, metric) for run in (one, other)}
    refuse_unlike((name, Card.from_dict(records[-1]["card"])) for name, records in scores.items())
    columns = {name: {record["step"]: record["value"] for record in records} for name, records in scores.items()}
    rows = [[f"{scores[str(one.folder)][-1]['label']}, at step", *columns]]
    for step in sorted(set().union(*columns.values())):
        cells = [f"{column[step]:.4f}" if step in column else "not scored" for column in columns.values()]
        rows.append([f"{step:,}", *cells])
    return rows


def _newest_scores(run: Run, metric: str) -> list[dict[str, Any]]:
    """A run's scores of a metric with cards like the newest's, oldest first."""
    scores = [r for r in run.records() if r.get("kind") == "score" and r["step"] is not None]
    found = [record for record in scores if record["metric"] == metric]
    if not found:
        have = ", ".join(sorted({record["metric"] for record in scores})) or "none"
        raise ValueError(
            f"{run.folder} has no score {metric!r} (it has: {have}); `sagan evaluate {run.folder}` makes them"
        )
    newest = Card.from_dict(found[-1]["card"])
    return [record for record in found if not differences(newest, Card.from_dict(record["card"]))]
