"""The commands that score: evaluate, compare-metrics, and what scores a run while it is trained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from sagan.config import Config, check_device
from sagan.console import Console, duration
from sagan.flags import asks_help, fill, read, show_help

if TYPE_CHECKING:
    from sagan.data import Store
    from sagan.evaluation.evaluate import ImageSet
    from sagan.evaluation.evaluate.snapshots import Scorer
    from sagan.runs import Run
    from sagan.training.loop import OnSnapshot

FULL = 5  # times the images of a score during training, for the score of the last step


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
    flags = fill(EvaluateFlags, read(EvaluateFlags, arguments, "sagan evaluate"))
    check_device(flags.device)
    if flags.num < 1 or flags.repeats < 1:
        raise ValueError(f"num and repeats must be 1 or more, got {flags.num} and {flags.repeats}")
    if (flags.target / "config.json").is_file():
        return _evaluate_run(flags, console)
    return _evaluate_images(flags, console)


def _evaluate_run(flags: EvaluateFlags, console: Console) -> int:
    from sagan.evaluation.evaluate import open_images, store_images
    from sagan.evaluation.evaluate.snapshots import score_table
    from sagan.runs import Run
    from sagan.training.start import prepared_store, run_config

    run = Run.open(flags.target)
    config = run_config(run)
    real = (
        open_images(flags.reference)
        if flags.reference is not None
        else store_images(prepared_store(config.data, config.model.imsize, console))
    )
    scorer = _scorer(flags, real, console)
    snapshots = _snapshots_to_score(flags, run, scorer, console)
    if not snapshots:
        console.say(f"nothing to do: every snapshot of {run.folder} has such a score; --step N scores one again")
    for path in snapshots:
        scores = scorer.score_snapshot(run, path, console)
        console.say(f"step {int(path.stem):,}, {flags.num:,} samples against {real.count:,} real images")
        console.table(score_table(scores))
    if snapshots:
        console.say(f"curve: {run.folder / 'evaluation' / 'frechet.png'}")
    return 0


def _evaluate_images(flags: EvaluateFlags, console: Console) -> int:
    from sagan.evaluation.evaluate import open_images, score_images
    from sagan.evaluation.evaluate.snapshots import score_table

    for name in ("step", "last", "best"):
        if getattr(flags, name):
            raise ValueError(f"--{name} chooses among the snapshots of a run, and {flags.target} is no run's folder")
    if not flags.target.exists():
        raise ValueError(f"{flags.target} does not exist: give a run's folder, or images")
    if flags.reference is None:
        raise ValueError(f"{flags.target} is no run's folder: to score images, name the real ones with --reference")
    images = open_images(flags.target)
    scorer = _scorer(flags, open_images(flags.reference), console)
    with console.progress("scoring images") as progress:
        scores, _ = score_images(
            [images], scorer.reference, scorer.extractor, progress=progress, warn=console.warn, say=console.say
        )
    console.say(f"{images.count:,} images against {scorer.reference.images.count:,} real ones")
    console.table(score_table(scores))
    card = scorer.card("images", images.count)
    console.say("card: " + ", ".join(f"{name} {value}" for name, value in card.to_dict().items() if name != "versions"))
    return 0


def _scorer(flags: EvaluateFlags, real: ImageSet, console: Console) -> Scorer:
    from sagan.evaluation.evaluate import reference_statistics
    from sagan.evaluation.evaluate.snapshots import Scorer
    from sagan.evaluation.features import load_extractor
    from sagan.training.loop import choose_device

    device = choose_device(flags.device)
    extractor = load_extractor(flags.extractor, weights=flags.weights, device=device)
    with console.progress("features of real images") as progress:
        cache = Path(flags.prepared).expanduser()
        reference = reference_statistics(real, extractor, cache, progress, console.warn)
    if sentence := reference.small_sample():
        console.warn(sentence)
    return Scorer(extractor, reference, flags.num, flags.repeats, flags.seed, str(device))


def _snapshots_to_score(flags: EvaluateFlags, run: Run, scorer: Scorer, console: Console) -> list[Path]:
    from sagan.evaluation.evaluate.snapshots import best_step, scored_steps

    if sum([flags.step is not None, flags.last, flags.best]) > 1:
        raise ValueError("give one of --step, --last and --best")
    if flags.best:
        return [run.snapshot(best_step(run))]
    if flags.step is not None or flags.last:
        return [run.snapshot(flags.step)]
    run.snapshot()  # refuses a run that has none
    done = scored_steps(run, scorer.card(), warn=lambda sentence: scorer.once(console.warn, sentence))
    return [path for path in run.snapshots() if int(path.stem) not in done]


def compare_metrics(arguments: Sequence[str], console: Console) -> int:
    """Put two runs' scores side by side, if they may be compared."""
    if asks_help(arguments):
        show_help(CompareFlags, "sagan compare-metrics")
        return 0
    flags = fill(CompareFlags, read(CompareFlags, arguments, "sagan compare-metrics"))
    from sagan.evaluation.evaluate.snapshots import comparison_table
    from sagan.runs import Run

    console.table(comparison_table(Run.open(flags.run), Run.open(flags.other), flags.metric))
    return 0


def score_while_training(config: Config, console: Console) -> OnSnapshot | None:
    """What the loop calls with a snapshot every ``eval_every`` steps, or None where that is not wanted."""
    return _Scoring(config, console) if config.run.eval_every is not None else None


class _Scoring:
    """Scores snapshots while a run is trained: `eval_num` images each, and `FULL` times as many at the last step."""

    def __init__(self, config: Config, console: Console):
        self.config, self.console = config, console
        self.scorer: Scorer | None = None
        self.began = time.monotonic()
        self.seconds = 0.0

    def __call__(self, run: Run, store: Store, path: Path) -> None:
        from sagan.evaluation.evaluate import store_images
        from sagan.evaluation.evaluate.snapshots import scored_steps

        start = time.monotonic()
        settings, step = self.config.run, int(path.stem)
        if self.scorer is None:
            flags = EvaluateFlags(
                run.folder,
                extractor=settings.extractor,
                num=settings.eval_num,
                device=settings.device,
                prepared=self.config.data.prepared,
            )
            self.scorer = _scorer(flags, store_images(store), self.console)
        scorers = [self.scorer]
        if step == settings.total_step:
            scorers.append(dataclasses.replace(self.scorer, samples=FULL * self.scorer.samples))
        for scorer in scorers:
            if step not in scored_steps(run, scorer.card(), [path]):
                self._score(run, path, scorer)
        self.seconds += time.monotonic() - start
        share = self.seconds / (time.monotonic() - self.began)
        self.console.say(f"scoring has taken {duration(self.seconds)} so far, {share:.0%} of the time")

    def _score(self, run: Run, path: Path, scorer: Scorer) -> None:
        scores = scorer.score_snapshot(run, path, self.console)
        frechet = next(score for score in scores if score.metric == "frechet")
        self.console.say(
            f"step {int(path.stem):,}: {frechet.label} {frechet.value:.3f} with {scorer.samples:,} samples "
            f"(half of the real images against the other half, {frechet.floor_samples:,} vs "
            f"{frechet.floor_samples:,}: {frechet.floor:.3f})"
        )
