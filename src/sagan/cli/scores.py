"""The commands that score: evaluate, compare-metrics, and what scores a run while it is trained."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from sagan.cli.flags import asks_help, read, show_help
from sagan.run.config import Config, check_device
from sagan.run.records import TrainRecord
from sagan.system.console import Console, duration
from sagan.system.errors import UserError
from sagan.system.typed import fill, to_plain

if TYPE_CHECKING:
    from sagan.data import Store
    from sagan.evaluation.extractors.table import FeatureExtractor
    from sagan.evaluation.image_sets import ImageSet
    from sagan.evaluation.snapshots import Scorer
    from sagan.run.folder import Run
    from sagan.training.loop import OnSnapshot

FULL = 5  # times the images of a score during training, for the score of the last step
MOST = 0.05  # of the time of a training that scoring should take


@dataclass(frozen=True)
class EvaluateFlags:
    """Score a run's snapshots, or any images, against real ones: Fréchet distance, KID, precision, recall and company.
    Each score of a snapshot goes into the run's records with a card that says how it was made."""

    target: Annotated[Path, Positional]
    """A run's folder, or images: a folder, a zip, a prepared store, an LMDB or a .npy."""
    reference: Path | None = None
    """The real images; by default those the run was trained on."""
    extractor: str | None = None
    """inception, inception-clean, efficientnet-lite0, torchscript:FILE, timm:NAME or random-conv.
    By default inception, the only one whose score is called FID, where its weights are, else efficientnet-lite0."""
    weights: Path | None = None
    """The extractor's weights file."""
    num: int = 10_000
    """Images drawn from a snapshot for one score."""
    repeats: int = 1
    """Draws of that many images; several give a mean and a spread."""
    seed: int = 0
    """Of the first draw; the next draws have the next seeds."""
    step: int | None = None
    """Score the snapshot of this step, also if it has been scored. By default all that have not been."""
    last: bool = False
    """Score the newest snapshot only."""
    best: bool = False
    """Score the snapshot with the best Fréchet distance once more: the best among most like scores."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    prepared: str = "./prepared"
    """Where features of reference images are kept, so that the next score starts at once."""


@dataclass(frozen=True)
class CompareFlags:
    """Put the scores of two runs side by side; refused, with the reason, where their cards differ."""

    run: Annotated[Path, Positional]
    """A run's folder."""
    other: Annotated[Path, Positional]
    """Another's."""
    metric: str = "frechet"
    """frechet, frechet_infinity, kernel, inception_score, precision, recall, density, coverage or nearest_distance."""


def evaluate(arguments: Sequence[str], console: Console) -> int:
    """Score a run's snapshots, or any images, against real ones."""
    if asks_help(arguments):
        show_help(EvaluateFlags, "sagan evaluate")
        return 0
    given = read(EvaluateFlags, arguments, "sagan evaluate")
    flags = fill(EvaluateFlags, given)
    check_device(flags.device)
    if (flags.target / "config.json").is_file():
        return _evaluate_run(flags, console)
    for name in ("step", "last", "best", "num", "repeats", "seed"):
        if name in given:
            raise UserError(f"--{name} is for the snapshots of a run, and {flags.target} is no run's folder")
    return _evaluate_images(flags, console)


def _evaluate_run(flags: EvaluateFlags, console: Console) -> int:
    from sagan.data import prepared_store
    from sagan.evaluation.image_sets import open_images, store_images
    from sagan.evaluation.scoring import refuse_other_size
    from sagan.evaluation.snapshots import open_snapshot, score_table
    from sagan.run.folder import Run

    refuse_few("num", flags.num)
    if flags.repeats < 1:
        raise UserError(f"repeats must be 1 or more, got {flags.repeats}")
    run = Run.open(flags.target)
    config = run.config()
    snapshots = _chosen_snapshots(flags, run)
    extractor = _extractor(flags)
    if flags.reference is not None:
        real, trained_on = open_images(flags.reference), None
    else:
        store = prepared_store(config.data, config.model.imsize, console)
        real, trained_on = store_images(store), store.hash
    open_snapshot(snapshots[-1], run, trained_on)  # what is wrong is said now, not after a pass over the real images
    size = config.model.imsize
    refuse_other_size(f"{size}x{size}", real)
    scorer = dataclasses.replace(_scorer(flags, extractor, real, console), trained_on=trained_on)
    if flags.step is None and not flags.last and not flags.best:
        done = scorer.scored_steps(run)
        snapshots = [path for path in snapshots if int(path.stem) not in done]
    if not snapshots:
        console.say(f"nothing to do: every snapshot of {run.folder} has such a score; --step N scores one again")
        return 0
    for path in snapshots:
        scores = scorer.score_snapshot(run, path, console)
        console.say(f"step {int(path.stem):,}, {flags.num:,} samples against {real.count:,} real images")
        console.table(score_table(scores))
    console.say(f"curve: {run.folder / 'evaluation' / 'frechet.png'}")
    return 0


def _chosen_snapshots(flags: EvaluateFlags, run: Run) -> list[Path]:
    """The snapshot that a flag chooses, or all. Raises UserError where there is none."""
    from sagan.run.scores import best_score

    if sum([flags.step is not None, flags.last, flags.best]) > 1:
        raise UserError("give one of --step, --last and --best")
    newest = run.snapshot()
    if flags.best:
        return [run.snapshot(best_score(run).step)]
    if flags.step is not None:
        return [run.snapshot(flags.step)]
    return [newest] if flags.last else run.snapshots()


def _evaluate_images(flags: EvaluateFlags, console: Console) -> int:
    from sagan.evaluation.image_sets import open_images
    from sagan.evaluation.scoring import refuse_unfit, score_images
    from sagan.evaluation.snapshots import score_table

    if flags.target.suffix == ".safetensors":
        raise UserError(f"{flags.target} is a snapshot: name the folder of its run, and --step to choose it there")
    if not flags.target.exists():
        raise UserError(f"{flags.target} does not exist: give a run's folder, or images")
    if flags.reference is None:
        raise UserError(f"{flags.target} is no run's folder: to score images, name the real ones with --reference")
    images, real = open_images(flags.target), open_images(flags.reference)
    refuse_unfit(images, real)
    scorer = _scorer(flags, _extractor(flags), real, console)
    with console.progress("scoring images") as progress:
        scores, _ = score_images(
            [images], scorer.reference, scorer.extractor, progress=progress, warn=console.warn, say=console.say
        )
    console.say(f"{images.count:,} images against {real.count:,} real ones")
    console.table(score_table(scores))
    card = scorer.card("images", images.count)
    console.say("card: " + ", ".join(f"{name} {value}" for name, value in to_plain(card).items() if name != "versions"))
    return 0


def _extractor(flags: EvaluateFlags) -> FeatureExtractor:
    from sagan.evaluation.extractors.table import load_extractor
    from sagan.system.devices import choose_device

    return load_extractor(flags.extractor, weights=flags.weights, device=choose_device(flags.device))


def _scorer(flags: EvaluateFlags, extractor: FeatureExtractor, real: ImageSet, console: Console) -> Scorer:
    from sagan.evaluation.reference import reference_statistics
    from sagan.evaluation.snapshots import Scorer

    with console.progress("features of real images") as progress:
        cache = Path(flags.prepared).expanduser()
        reference = reference_statistics(real, extractor, cache, progress, console.warn, console.say)
    if sentence := reference.small_sample():
        console.warn(sentence)
    return Scorer(extractor, reference, flags.num, flags.repeats, flags.seed)


def compare_metrics(arguments: Sequence[str], console: Console) -> int:
    """Put two runs' scores side by side, if they may be compared."""
    if asks_help(arguments):
        show_help(CompareFlags, "sagan compare-metrics")
        return 0
    flags = fill(CompareFlags, read(CompareFlags, arguments, "sagan compare-metrics"))
    from sagan.evaluation.snapshots import comparison_table
    from sagan.run.folder import Run

    console.table(comparison_table(Run.open(flags.run), Run.open(flags.other), flags.metric))
    return 0


def score_while_training(config: Config, console: Console) -> OnSnapshot | None:
    """What the loop calls with a snapshot every ``eval_every`` steps, or None where that is not wanted."""
    return _Scoring(config, console) if config.run.eval_every is not None else None


class _Scoring:
    """Scores snapshots while a run is trained: `eval_num` images each, and `FULL` times as many at the last step."""

    def __init__(self, config: Config, console: Console):
        settings = config.run
        refuse_few("eval_num", settings.eval_num)
        self.flags = EvaluateFlags(
            Path(),
            extractor=settings.extractor,
            num=settings.eval_num,
            device=settings.device,
            prepared=config.data.prepared,
        )
        self.extractor = _extractor(self.flags)  # now, for what it lacks must not end a run half way
        self.settings, self.console = settings, console
        self.scorer: Scorer | None = None
        self.began = time.monotonic()
        self.seconds = 0.0

    def __call__(self, run: Run, store: Store, path: Path) -> None:
        from sagan.evaluation.image_sets import store_images

        start = time.monotonic()
        self.scorer = self.scorer or _scorer(self.flags, self.extractor, store_images(store), self.console)
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
            return f"; that is {limit}: --eval_every {enough} would be seldom enough"
        return f"; that is {limit} for what is done once: the features of the real images, the last step's samples"


def rare_enough(cost: float, pace: float) -> int:
    """Steps between scorings that take ``cost`` seconds each, where a step takes ``pace`` seconds, so that no more than
    `MOST` of the time goes into them; rounded up to two digits."""
    steps = math.ceil(cost * (1 / MOST - 1) / pace)
    unit: int = 10 ** max(0, len(str(steps)) - 2)
    return -(-steps // unit) * unit


def refuse_few(name: str, count: int) -> None:
    """Raises UserError where a setting asks for fewer images than can be scored."""
    from sagan.evaluation.reference import FEWEST

    if count < FEWEST:
        raise UserError(f"{name} must be {FEWEST} or more, got {count}: fewer images cannot be scored")
