"""`sagan evaluate`: scores of a run's snapshots, or of any images; `sagan compare-metrics`: two runs' scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse, read
from sagan.cli.together import compare_flags
from sagan.run.config import MOST_IMAGES, check_device
from sagan.run.folder import owner
from sagan.run.store import LARGEST_SIZE
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_unwritable
from sagan.system.launch import run_on_gpus
from sagan.system.sentences import plural
from sagan.system.typed import fill, refuse_beyond, to_plain
from sagan.system.world import World, joined

if TYPE_CHECKING:
    from sagan.evaluation.snapshots import Scorer
    from sagan.run.folder import Run


@dataclass(frozen=True)
class EvaluateFlags:
    """Score a run's snapshots, or any images, against real ones: Fréchet distance, KID, precision, recall and others.
    Each score of a snapshot is added to the run's records, with a card that says how it was computed."""

    target: Annotated[Path, Positional]
    """A run's folder, or images: a folder, a zip, tar, parquet, LMDB, .npy or .npz, or a prepared store."""
    reference: Path | None = None
    """The real images. By default those that the run was trained on."""
    extractor: str | None = None
    """inception, inception-clean, efficientnet-lite0, torchscript:FILE, timm:NAME or random-conv.
    A TorchScript file runs the code in it, with all your rights: name only one that you trust.
    By default inception, the only one whose score is called FID, if its weights are found, else efficientnet-lite0."""
    weights: Path | None = None
    """The extractor's weights file."""
    num: int = 10_000
    """Images drawn from a snapshot for a score."""
    repeats: int = 1
    """How often to draw them; several draws give a mean and a spread."""
    seed: int = 0
    """The seed of the first draw; each further draw has the next seed."""
    step: int | None = None
    """Score the snapshot of this step, even if it has been scored. By default all snapshots without a score."""
    last: bool = False
    """Score only the newest snapshot."""
    best: bool = False
    """Score again the snapshot with the best Fréchet distance, among the largest group of comparable scores."""
    truncation: tuple[float, ...] = ()
    """Largest magnitudes of the entries of latents, such as 0.5 0.7 1: scores the newest snapshot, or that of --step or
    --best, with each, and draws the Fréchet distance and the recall over them."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    gpus: int = 1
    """For the snapshots of a run: the number of GPUs of this machine that share the work, one process each."""
    imsize: int | None = None
    """Bring images of other sizes to this height and width: those scored and the real ones, or for a run, whose size it
    must be, the real ones given by --reference. The card says so."""
    prepared: str = "./prepared"
    """Folder for the features of reference images, so that the next score starts at once.
    A run that keeps its images in another place outside of its folder, without any there yet, needs it given."""

    def __post_init__(self) -> None:
        refuse_beyond("num", self.num, MOST_IMAGES)
        refuse_beyond("repeats", self.repeats, MOST_IMAGES)
        refuse_beyond("seed", self.seed)


def evaluate(words: Sequence[str], console: Console) -> int:
    """Score a run's snapshots, or any images, against real ones."""
    with joined() as world:
        return _evaluate(words, console, world)


def _evaluate(words: Sequence[str], console: Console, world: World) -> int:
    given = read(EvaluateFlags, words, "sagan evaluate")
    flags = fill(EvaluateFlags, given)
    compare_flags(world, "evaluate", vars(flags))
    check_device(flags.device)
    if flags.imsize is not None and not 1 <= flags.imsize <= LARGEST_SIZE:
        raise UserError(f"`imsize` must be from 1 to {LARGEST_SIZE:,}, got {flags.imsize}")
    is_run = (flags.target / "config.json").is_file()
    world.compare({"target": "a run" if is_run else "images"})
    if is_run:
        if flags.gpus != 1 and world.size == 1:
            return run_on_gpus(flags.gpus, flags.device, ["evaluate", *words])
        return _evaluate_run(flags, "prepared" in given, console, world)
    run = owner(flags.target)
    its_run = "" if run is None else f", which is {run}"
    _refuse_no_images(flags.target, its_run)
    for name in ("gpus", "step", "last", "best", "num", "repeats", "seed", "truncation"):
        if name in given:
            where = "the folder of a run" if run is None else f"the folder of its run{its_run}"
            raise UserError(f"--{name} is for the snapshots of a run, and {flags.target} is not {where}")
    return _evaluate_images(flags, console) if world.leads else 0


def _evaluate_run(flags: EvaluateFlags, named: bool, console: Console, world: World) -> int:
    """``named``: whether --prepared is given."""
    from sagan.core.latents import check_truncation
    from sagan.evaluation.snapshots import choose_snapshots, redraw_curves, run_scorer
    from sagan.evaluation.tables import score_table
    from sagan.run.folder import Run, snapshot_step
    from sagan.run.weights import step_of

    if sum([flags.step is not None, flags.last, flags.best]) > 1:
        raise UserError("give one of --step, --last and --best")
    run = Run.open(flags.target)
    if flags.imsize is not None and (flags.reference is None or flags.imsize != run.config().model.imsize):
        raise UserError(
            f"--imsize brings the images of --reference to the size of the run's, which is {run.config().model.imsize}"
        )

    def choose() -> list[Path]:
        chosen = choose_snapshots(run, flags.step, last=flags.last, best=flags.best)
        return [path.relative_to(run.folder) for path in chosen]

    snapshots = [
        run.folder / each for each in world.share(choose, "the snapshots")
    ]  # there may be another one in a moment
    if flags.truncation:
        for value in flags.truncation:
            check_truncation(value)
        snapshots = snapshots[-1:]
    scorer = run_scorer(
        run,
        snapshots[-1],
        console,
        samples=flags.num,
        repeats=flags.repeats,
        seed=flags.seed,
        extractor=flags.extractor,
        weights=flags.weights,
        device=flags.device,
        reference=flags.reference,
        cache=Path(flags.prepared),
        cache_named=named,
        size=flags.imsize,
        world=world,
    )
    if flags.truncation:
        return _evaluate_truncated(run, snapshots[0], scorer, flags.truncation, console)
    again = flags.step is not None or flags.last or flags.best
    if not again:
        done = world.share(lambda: scorer.scored_steps(run, snapshots), "the scored steps")
        snapshots = [path for path in snapshots if step_of(path) not in done]
    if not snapshots:
        if world.leads:
            redraw_curves(run)
        console.say(f"nothing to do: every snapshot of {run.folder} has such a score; --step N scores it again")
        return 0
    real = scorer.reference.images.count
    for path in snapshots:
        if not world.share(path.is_file):
            console.say(f"step {snapshot_step(path):,} is gone: the run keeps fewer snapshots")
            continue
        scores = scorer.score_once(run, path, console, again=again)
        if not world.leads:
            continue
        if scores is None:
            console.say(f"step {step_of(path):,} was scored by another process meanwhile")
            continue
        console.say(f"step {step_of(path):,}, {plural(flags.num, 'sample')} against {plural(real, 'real image')}")
        console.table(score_table(scores))
    console.say(f"curve: {run.folder / 'evaluation' / 'frechet.png'}")
    return 0


def _evaluate_truncated(run: Run, path: Path, scorer: Scorer, values: Sequence[float], console: Console) -> int:
    """Scores a snapshot with each truncation that it has no score with, and draws what they come to."""
    from sagan.evaluation.curves import draw_truncation
    from sagan.evaluation.tables import score_table
    from sagan.run.weights import step_of

    for truncation in sorted(set(values)):
        scores = replace(scorer, truncation=truncation).score_once(run, path, console)
        if scores and scorer.world.leads:
            console.say(f"step {step_of(path):,}, truncation {truncation:g}, {plural(scorer.samples, 'sample')}")
            console.table(score_table(scores))
    if scorer.world.leads:
        drawn = draw_truncation(run, run.folder / "evaluation", step_of(path), scorer.card())
        console.say(f"Fréchet distance and recall by truncation: {drawn}")
    return 0


def _refuse_no_images(target: Path, its_run: str) -> None:
    """Raises UserError where a target that is not the folder of a run is no images either."""
    if not target.exists():
        raise UserError(f"{target} does not exist: give a run's folder, or images")
    kind = {".safetensors": "a snapshot", ".pt": "a checkpoint", ".pth": "a checkpoint"}.get(target.suffix)
    if kind is not None:
        raise UserError(f"{target} is {kind}: give the folder of its run{its_run}, and --step to choose it there")


def _evaluate_images(flags: EvaluateFlags, console: Console) -> int:
    from sagan.evaluation.extractors.table import load_extractor
    from sagan.evaluation.image_sets import open_images
    from sagan.evaluation.reference import open_reference
    from sagan.evaluation.scoring import refuse_unfit
    from sagan.evaluation.snapshots import Scorer
    from sagan.evaluation.tables import score_table

    if flags.reference is None:
        raise UserError(
            f"{flags.target} is not the folder of a run: to score images, give the real ones with --reference"
        )
    cache = Path(flags.prepared)
    refuse_unwritable(cache, "--prepared")
    images, real = (open_images(each, cache, console, flags.imsize) for each in (flags.target, flags.reference))
    refuse_unfit(images, real)
    extractor = load_extractor(flags.extractor, weights=flags.weights, device=flags.device)
    scorer = Scorer(extractor, open_reference(real, extractor, cache, console), images.count)
    scores = scorer.score_set(images, console)
    console.say(f"{plural(images.count, 'image')} against {plural(real.count, 'real one')}")
    console.table(score_table(scores))
    card = to_plain(replace(scorer.card("images"), resized=images.resized or real.resized))
    console.say("card: " + ", ".join(f"{name} {value}" for name, value in card.items() if name != "versions"))
    return 0


# ---- sagan compare-metrics


@dataclass(frozen=True)
class CompareFlags:
    """Show the scores of two runs side by side, where their cards are alike. Names the other scores, and refuses, with
    the reason, where no cards are alike."""

    run: Annotated[Path, Positional]
    """A run's folder."""
    other: Annotated[Path, Positional]
    """The other run's folder."""
    metric: str = "frechet"
    """frechet, frechet_infinity, kernel, inception_score, precision, recall, density, coverage or nearest_distance."""


def compare_metrics(words: Sequence[str], console: Console) -> int:
    """Show two runs' scores side by side, if they are comparable."""
    flags = parse(CompareFlags, words, "sagan compare-metrics")
    from sagan.evaluation.tables import compare
    from sagan.run.folder import Run

    found = compare(Run.open(flags.run), Run.open(flags.other), flags.metric)
    for title, table in found.tables.items():
        if title:
            console.say(title)
        console.table(table)
    for sentence in found.left_out:
        console.say(sentence)
    return 0
