"""Scoring a run while it is trained."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.image_sets import store_images
from sagan.evaluation.reference import open_reference
from sagan.evaluation.scoring import refuse_few
from sagan.evaluation.snapshots import Scorer, redraw_curves
from sagan.run.card import Card
from sagan.run.config import Config
from sagan.run.folder import Run, snapshot_step
from sagan.run.records import TrainRecord
from sagan.run.scores import scored_steps
from sagan.run.store import Store
from sagan.system.console import Console, duration

FULL = 5  # times the images of a score during training, for the score of the last step
MOST = 0.05  # of the time of a training that scoring should take


def score_while_training(config: Config, console: Console) -> ScoringWhileTraining | None:
    """What training calls with a snapshot every ``eval_every`` steps, or None where this setting is None."""
    return ScoringWhileTraining(config, console) if config.run.eval_every is not None else None


class ScoringWhileTraining:
    """Scores snapshots while a run is trained: ``eval_num`` images each, and `FULL` times as many at the last step.

    Given to training as its ``on_snapshot``. Raises UserError when it is created, before training begins, where the
    extractor cannot be loaded or ``eval_num`` is too small.
    """

    def __init__(self, config: Config, console: Console):
        refuse_few("eval_num", config.run.eval_num)
        self.config, self.console = config, console
        self.extractor = load_extractor(config.run.extractor, device=config.run.device)
        self.scorer: Scorer | None = None
        self.began = time.monotonic()
        self.seconds = 0.0

    def __call__(self, run: Run, store: Store, path: Path) -> None:
        """Makes the scores that a snapshot of a run lacks, which is trained on the images of a store, and says what
        share of the time scoring takes. Without any to make, draws the run's curves from its records."""
        start = time.monotonic()
        lacking = self._lacking(run, path)
        if not lacking:
            redraw_curves(run)
            return
        self.scorer = self.scorer or self._make_scorer(store)
        costs = [self._score(run, path, dataclasses.replace(self.scorer, samples=samples)) for samples in lacking]
        self.seconds += time.monotonic() - start
        self._say_share(run, costs[0])

    def _lacking(self, run: Run, path: Path) -> list[int]:
        """The numbers of samples of the scores that a snapshot should have and has not."""
        step, once = snapshot_step(path), self.config.run.eval_num
        wanted = [once, FULL * once] if step == self.config.run.total_step else [once]

        def is_scored(samples: int) -> bool:
            own = (self.extractor.name, samples, None)

            def wanted(card: Card) -> bool:
                return (card.extractor, card.samples, card.truncation) == own

            return bool(scored_steps(run, wanted, {step: path}))

        return [samples for samples in wanted if not is_scored(samples)]

    def _make_scorer(self, store: Store) -> Scorer:
        cache = Path(self.config.data.prepared)
        reference = open_reference(store_images(store), self.extractor, cache, self.console)
        return Scorer(self.extractor, reference, self.config.run.eval_num)

    def _score(self, run: Run, path: Path, scorer: Scorer) -> float:
        """Scores a snapshot, unless another process did meanwhile; returns the seconds that it took."""
        began = time.monotonic()
        scores = scorer.score_once(run, path, self.console)
        if scores is not None:
            frechet = next(score for score in scores if score.metric == "frechet")
            self.console.say(
                f"step {snapshot_step(path):,}: {frechet.label} {frechet.value:.3f} with {scorer.samples:,} samples "
                f"(half of the real images against the other half, {frechet.floor_samples:,} vs "
                f"{frechet.floor_samples:,}: {frechet.floor:.3f})"
            )
        return time.monotonic() - began

    def _say_share(self, run: Run, cost: float) -> None:
        share = self.seconds / (time.monotonic() - self.began)
        sentence = f"scoring has taken {duration(self.seconds)} so far, {share:.1%} of the time"
        self.console.say(sentence + (self._remedy(run, cost) if share > MOST else ""))

    def _remedy(self, run: Run, cost: float) -> str:
        """The advice after a share of more than `MOST`."""
        trained = run.records_of(TrainRecord)
        every, limit = self.config.run.eval_every, f"more than {MOST:.0%}"
        enough = rare_enough(cost, trained[-1].seconds / trained[-1].step) if trained else 0
        if every is not None and enough > every:
            return f"; that is {limit}: `eval_every` {enough} is infrequent enough"
        return f"; that is {limit} for what is done once: the features of the real images, the last step's samples"


def rare_enough(cost: float, pace: float) -> int:
    """The fewest steps between scorings, rounded up to two digits, with which scoring takes at most `MOST` of the time,
    where a scoring takes ``cost`` seconds and a step ``pace`` seconds."""
    steps = math.ceil(cost * (1 / MOST - 1) / pace)
    unit: int = 10 ** max(0, len(str(steps)) - 2)
    return -(-steps // unit) * unit
