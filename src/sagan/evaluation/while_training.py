"""Scoring a run's snapshots while it is trained."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.image_sets import store_images
from sagan.evaluation.reference import FEWEST
from sagan.evaluation.snapshots import Scorer, make_scorer
from sagan.run.config import Config
from sagan.run.folder import Run
from sagan.run.records import TrainRecord
from sagan.run.store import Store
from sagan.system.console import Console, duration
from sagan.system.devices import choose_device
from sagan.system.errors import UserError

FULL = 5  # times the images of a score during training, for the score of the last step
MOST = 0.05  # of the time of a training that scoring should take


def scoring(config: Config, console: Console) -> WhileTraining | None:
    """What the loop calls with a snapshot every ``eval_every`` steps, or None where that is not wanted."""
    return WhileTraining(config, console) if config.run.eval_every is not None else None


class WhileTraining:
    """Scores snapshots while a run is trained: `eval_num` images each, and `FULL` times as many at the last step."""

    def __init__(self, config: Config, console: Console):
        settings = config.run
        refuse_few("eval_num", settings.eval_num)
        # now, for what it lacks must not end a run half way
        self.extractor = load_extractor(settings.extractor, device=choose_device(settings.device))
        self.cache = Path(config.data.prepared).expanduser()
        self.settings, self.console = settings, console
        self.scorer: Scorer | None = None
        self.began = time.monotonic()
        self.seconds = 0.0

    def __call__(self, run: Run, store: Store, path: Path) -> None:
        start = time.monotonic()
        self.scorer = self.scorer or make_scorer(
            self.extractor, store_images(store), self.cache, self.console, samples=self.settings.eval_num
        )
        once = time.monotonic()
        self._score(run, path, self.scorer)
        cost = time.monotonic() - once
        if int(path.stem) == self.settings.total_step:
            self._score(run, path, dataclasses.replace(self.scorer, samples=FULL * self.scorer.samples))
        self.seconds += time.monotonic() - start
        self._say_share(run, cost)

    def _score(self, run: Run, path: Path, scorer: Scorer) -> None:
        step = int(path.stem)
        if step in scorer.scored_steps(run, [path]):
            return
        scores = scorer.score_snapshot(run, path, self.console)
        frechet = next(score for score in scores if score.metric == "frechet")
        self.console.say(
            f"step {step:,}: {frechet.label} {frechet.value:.3f} with {scorer.samples:,} samples "
            f"(half of the real images against the other half, {frechet.floor_samples:,} vs "
            f"{frechet.floor_samples:,}: {frechet.floor:.3f})"
        )

    def _say_share(self, run: Run, cost: float) -> None:
        share = self.seconds / (time.monotonic() - self.began)
        sentence = f"scoring has taken {duration(self.seconds)} so far, {share:.1%} of the time"
        self.console.say(sentence + (self._remedy(run, cost) if share > MOST else ""))

    def _remedy(self, run: Run, cost: float) -> str:
        """What follows a share of more than `MOST`."""
        trained = run.records_of(TrainRecord)
        every, limit = self.settings.eval_every, f"more than {MOST:.0%}"
        enough = rare_enough(cost, trained[-1].seconds / trained[-1].step) if trained else 0
        if every is not None and enough > every:
            return f"; that is {limit}: --eval_every {enough} is infrequent enough"
        return f"; that is {limit} for what is done once: the features of the real images, the last step's samples"


def rare_enough(cost: float, pace: float) -> int:
    """Steps between scorings that take ``cost`` seconds each, where a step takes ``pace`` seconds, so that no more than
    `MOST` of the time goes into them; rounded up to two digits."""
    steps = math.ceil(cost * (1 / MOST - 1) / pace)
    unit: int = 10 ** max(0, len(str(steps)) - 2)
    return -(-steps // unit) * unit


def refuse_few(name: str, count: int) -> None:
    """Raises UserError where a setting asks for fewer images than can be scored."""
    if count < FEWEST:
        raise UserError(f"{name} must be {FEWEST} or more, got {count}: fewer images cannot be scored")
