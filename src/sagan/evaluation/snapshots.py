"""Scores the snapshots of a run: records with their cards, a picture of the nearest real images, and a curve."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagan.data import prepared_store
from sagan.data.sources.own import SOFTWARE
from sagan.evaluation.curves import draw_curves
from sagan.evaluation.extractors.interface import FeatureExtractor
from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.features import help_with
from sagan.evaluation.image_sets import ImageSet, generated_images, open_images, store_images
from sagan.evaluation.metrics.moments import COVARIANCE_CONVENTION
from sagan.evaluation.reference import Reference, open_reference
from sagan.evaluation.scoring import Score, nearest_real, refuse_few, refuse_other_size, score_images
from sagan.run.card import Card, commit, differences, versions
from sagan.run.config import differences as setting_differences
from sagan.run.config import names_of
from sagan.run.folder import Run
from sagan.run.records import ScoreRecord
from sagan.run.scores import best_score, scored_steps
from sagan.run.trust import images_folder
from sagan.run.weights import Snapshot, load_snapshot, step_of
from sagan.system.callbacks import Say
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import (
    exclusive_lock,
    file_sha256,
    refuse_links_out,
    refuse_unwritable,
    remove_partial_files,
)
from sagan.system.images import captioned, grid, save_png
from sagan.system.world import SINGLE_PROCESS, World


@dataclass(frozen=True)
class Scorer:
    """Scores images of one size in one way: an extractor, a reference, and how many images to draw.

    ``repeats`` draws of ``samples`` images, with seeds ``seed``, ``seed + 1`` ...
    """

    extractor: FeatureExtractor
    reference: Reference
    samples: int
    repeats: int = 1
    seed: int = 0
    truncation: float | None = None
    """Of the latents; see `sagan.core.latents.truncated_normal`."""
    trained_on: str | None = None
    """The hash of the images that snapshots must have been trained on, or None where that does not matter."""
    world: World = SINGLE_PROCESS
    """The processes that score together, of which the leading one writes."""
    said: set[str] = field(default_factory=set, compare=False, repr=False)
    """Sentences that are not repeated for the next snapshot."""

    def card(self, source: str = "averaged generator, eval mode") -> Card:
        """The card of a score made now, by a metric that uses all images."""
        images = self.reference.images
        return Card(
            extractor=self.extractor.name,
            weights_sha256=self.extractor.weights_sha256,
            resize=self.extractor.resize,
            samples=self.samples,
            image_size=images.image_size,
            reference=self.reference.identity,
            reference_count=images.count,
            reference_samples=images.count,
            reference_split="all",
            covariance=COVARIANCE_CONVENTION,
            source=source,
            seed=self.seed,
            repeats=self.repeats,
            versions=versions(),
            commit=commit(),
            is_fid=self.extractor.is_fid,
            dim=self.extractor.dim,
            resized=images.resized,
            truncation=self.truncation,
        )

    def scored_steps(self, run: Run, snapshots: Iterable[Path] | None = None) -> set[int]:
        """The steps of those snapshots (by default all) that are scored already as this scorer would score them: with a
        comparable card, the same seed and as many draws."""
        own = self.card()

        def wanted(card: Card) -> bool:
            return not differences(card, own) and (card.seed, card.repeats) == (own.seed, own.repeats)

        return scored_steps(run, wanted, None if snapshots is None else {step_of(path): path for path in snapshots})

    def score_snapshot(self, run: Run, path: Path, console: Console) -> list[Score]:
        """Scores one snapshot of a run and writes the records, the picture of nearest images and the curve.

        Raises UserError for a snapshot of another run, or trained on other images.
        """
        began = time.monotonic()
        snapshot = open_snapshot(path, run, self.trained_on)
        step, sha256 = snapshot.step, file_sha256(path)
        self.world.compare({"snapshot": sha256})
        name, device = f"{run.folder.name} at step {step:,}", self.extractor.device
        draws = [
            generated_images(
                snapshot.generator,
                self.samples,
                self.seed + repeat,
                device=device,
                name=name,
                truncation=self.truncation,
            )
            for repeat in range(self.repeats)
        ]
        if not self.world.leads:
            for draw in draws:
                help_with(draw, self.extractor, self.world, with_logits=self.extractor.has_logits)
            return []
        warn = functools.partial(self._once, console.warn)
        with console.progress(f"scoring step {step:,}") as progress:
            scores, found = score_images(
                draws,
                self.reference,
                self.extractor,
                progress=progress,
                warn=warn,
                say=console.say,
                world=self.world,
            )
        seconds = round(time.monotonic() - began, 2)
        records = score_records(scores, self.card(), step, snapshot_sha256=sha256, seconds=seconds)
        extractor = re.sub(r"[^\w.-]+", "-", self.extractor.name)
        with _writing(run) as folder:  # the records last: what is missing without them is made again
            if self.truncation is None:
                path = folder / f"{step}_nearest_{extractor}.png"
                picture = captioned(grid(nearest_real(found, self.reference)), "left: drawn; then: real")
                save_png(picture, path, software=SOFTWARE, sync=True)
            left_out = draw_curves(run, folder, records)
            run.append(*records)
        for sentence in left_out:
            self._once(console.say, sentence)
        return scores

    def score_once(self, run: Run, path: Path, console: Console, *, again: bool = False) -> list[Score] | None:
        """`score_snapshot`, or None where the snapshot is scored like this already.

        Of several processes that score a snapshot, one does and the others wait. ``again``: scores it even if it was
        scored before this call.
        """
        step, waited = step_of(path), False

        def wait() -> None:
            nonlocal waited
            waited = True
            console.say(f"another process is scoring step {step:,}: waiting until it is done")

        def is_done() -> bool:
            return (waited or not again) and step in self.scored_steps(run, [path])

        world = self.world
        alone = exclusive_lock(_folder(run) / f"{step}.lock", wait) if world.leads else contextlib.nullcontext()
        with alone:
            if world.share(is_done, "whether it is scored"):
                return None
            if world.leads:
                run.forget_torn_scores()
            return self.score_snapshot(run, path, console)

    def score_set(self, images: ImageSet, console: Console) -> list[Score]:
        """Scores a set of images and writes nothing. Raises UserError for images of another size than the reference's,
        and for too few."""
        with console.progress("scoring images") as progress:
            scores, _ = score_images(
                [images], self.reference, self.extractor, progress=progress, warn=console.warn, say=console.say
            )
        return scores

    def _once(self, say: Say, sentence: str) -> None:
        if sentence not in self.said:
            self.said.add(sentence)
            say(sentence)


def redraw_curves(run: Run) -> None:
    """Draws the curves of a run from its records, where it has scores."""
    with _writing(run) as folder:
        draw_curves(run, folder)


def _folder(run: Run) -> Path:
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def _writing(run: Run) -> Iterator[Path]:
    """The folder of pictures and curves, to which one process at a time writes."""
    folder = _folder(run)
    with exclusive_lock(folder / "writing.lock", lambda: None):
        remove_partial_files(folder)
        yield folder


def run_scorer(
    run: Run,
    snapshot: Path,
    console: Console,
    *,
    samples: int,
    repeats: int,
    seed: int,
    extractor: str | None,
    weights: Path | None,
    device: str,
    reference: Path | None,
    cache: Path,
    cache_named: bool = False,
    size: int | None = None,
    world: World = SINGLE_PROCESS,
) -> Scorer:
    """The scorer of a run's snapshots against the images it was trained on, or against those at ``reference``.

    ``extractor``, ``weights`` and ``device``: as for `load_extractor`. ``cache``: the folder that keeps features of
    real images; ``cache_named``: whether a person named it, see `images_folder`. ``size``: that of the run's images, to
    which those at ``reference`` are brought. Raises UserError, before features of the real images are computed, where
    ``snapshot``, one of those to score, is not of the run or not of its images, where sizes differ, and for too few
    images or draws.
    """
    refuse_few("num", samples)
    refuse_links_out(run.folder)
    refuse_unwritable(run.folder / "evaluation", "the folder of scores")
    refuse_unwritable(cache, "--prepared")
    if repeats < 1:
        raise UserError(f"`repeats` must be 1 or more, got {repeats}")
    network = world.in_turn(lambda: load_extractor(extractor, weights=weights, device=device))
    config = run.config()
    if reference is not None:
        real, trained_on = world.in_turn(lambda: open_images(reference, cache, console, size)), None
    else:
        place = images_folder(config, run.folder, cache if cache_named else None)
        data = replace(config.data, prepared=str(place))
        store = world.in_turn(
            lambda: prepared_store(data, config.model.imsize, console, channels=config.model.channels)
        )
        real, trained_on = store_images(store), store.hash
    open_snapshot(snapshot, run, trained_on)
    refuse_other_size(str(config.model.shape), real)
    images = real.identity.rpartition(":")[2]  # without the name of their folder
    world.compare({"extractor": network.name, "weights": network.weights_sha256, "images": images})
    known = open_reference(real, network, cache, console, world)
    return Scorer(network, known, samples, repeats, seed, trained_on=trained_on, world=world)


def choose_snapshots(run: Run, step: int | None = None, *, last: bool = False, best: bool = False) -> list[Path]:
    """The snapshot of a step, the last, the one with the best Fréchet distance, or all. Raises UserError where there is
    none."""
    newest = run.snapshot()
    if best:
        return [run.snapshot(best_score(run).step)]
    if step is not None:
        return [run.snapshot(step)]
    return [newest] if last else run.snapshots() or [newest]


def open_snapshot(path: Path, run: Run, trained_on: str | None = None) -> Snapshot:
    """A snapshot of a run.

    Raises UserError for one made with other settings than the run's, naming them, and for one that was trained on
    other images than those with the hash ``trained_on`` (imported and older snapshots do not say on which).
    """
    snapshot, computed = load_snapshot(path), names_of("computed")
    unlike = setting_differences(snapshot.config, run.config())
    listed = "; ".join(f"{name} {its} (not {ours})" for name, (its, ours) in unlike.items() if name in computed)
    if listed:
        raise UserError(f"{path} is not of the run in {run.folder}: it was trained with {listed}")
    if trained_on is not None and snapshot.images not in (None, trained_on):
        raise UserError(
            f"{path} was trained on other images than the run's settings lead to now: restore those, or give "
            "the real images to score against as reference"
        )
    return snapshot


def score_records(
    scores: Iterable[Score], card: Card, step: int, *, snapshot_sha256: str, seconds: float
) -> list[ScoreRecord]:
    """One record for each metric of a snapshot, from the card of a score that uses all images: in each record's card
    are the numbers of images that its metric used. ``seconds``: the time that all metrics took together. The Fréchet
    distance, by which a snapshot counts as scored, comes last: a killed process may write only the first ones."""
    return [
        ScoreRecord(
            metric=score.metric,
            label=score.label,
            step=step,
            value=score.value,
            spread=score.spread,
            error=score.error,
            floor=score.floor,
            floor_samples=score.floor_samples,
            seconds=seconds,
            snapshot_sha256=snapshot_sha256,
            card=replace(
                card,
                samples=score.samples,
                reference_samples=score.reference_samples,
                reference_split=_split(score.reference_samples, card.reference_count),
            ),
        )
        for score in sorted(scores, key=lambda score: score.metric == "frechet")
    ]


def _split(used: int, count: int) -> str:
    """For the card: which of the reference's images a metric used."""
    return "all" if used == count else "random part" if used else "none"
