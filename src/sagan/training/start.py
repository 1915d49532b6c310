"""Starting a run and resuming one: what is decided once before its first step, its folder, and what it prints."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sagan.core.shapes import refuse_other_than_rgb
from sagan.data import Source, Store, choose_source, prepared_store
from sagan.data.batches import check_count
from sagan.data.sources.names import short_name
from sagan.run.build import describe_attention
from sagan.run.card import versions
from sagan.run.checkpoints import chosen_checkpoint, find_run, go_on_from, refuse_lost
from sagan.run.classes import list_classes
from sagan.run.config import (
    Config,
    DataConfig,
    GameConfig,
    ModelConfig,
    RunConfig,
    names_of,
    override,
    settings,
    with_absolute_paths,
)
from sagan.run.folder import Run, check_free, make_free_folder
from sagan.run.keeping import warning_of_little_space
from sagan.run.trust import TO_BE_NAMED, resumed_config
from sagan.run.weights import save_checkpoint
from sagan.system.console import Console
from sagan.system.devices import emulates_bfloat16
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.files import expand
from sagan.system.sentences import command, plural, typed
from sagan.system.world import SINGLE_PROCESS, Lost, World, nothing
from sagan.training.checks import check_new_run, check_run, check_shards
from sagan.training.checks import usable_device as usable_device
from sagan.training.loop import OnSnapshot, Outcome, Session, follow, train
from sagan.training.saving import refuse_other_settings
from sagan.training.start_from import first_state, open_start, refuse_unfit

_NOTHING_KEPT = "no step was finished, so nothing is kept; the same command starts again"
FEW_IMAGES = 5000  # of which the discriminator soon knows every one (arXiv 2006.10738 trains on as few as 100)


class TooLittleMemory(UserError):
    """The run's device has too little memory for it."""


def start_run(
    config: Config,
    console: Console,
    on_snapshot: OnSnapshot | None = None,
    store: Store | None = None,
    world: World = SINGLE_PROCESS,
) -> int:
    """`train_new`, and prints how it ended. Returns the exit status of the command."""
    return report_end(train_new(config, console, on_snapshot, store, world), console)


def resume_run(
    folder: Path,
    changes: dict[str, Any],
    console: Console,
    on_snapshot: OnSnapshot | None = None,
    world: World = SINGLE_PROCESS,
) -> int:
    """`train_on`, and prints how it ended. Returns the exit status of the command."""
    return report_end(train_on(folder, changes, console, on_snapshot, world), console)


def train_new(
    config: Config,
    console: Console,
    on_snapshot: OnSnapshot | None = None,
    store: Store | None = None,
    world: World = SINGLE_PROCESS,
) -> Outcome:
    """Makes the run's folder, prepares the images and trains to the end.

    ``store``: the images, if they are already prepared. Raises what `training.loop.train` does, and UserError for a
    folder that is in use. A run that cannot start leaves nothing behind, so the corrected command can be given again.
    Processes that ``torchrun`` starts in place of failed ones go on with the run of those.
    """
    if former := world.recall():
        named = {name: value for name, value in settings(config).items() if name in TO_BE_NAMED}
        return train_on(Path(former), named, console, on_snapshot, world)
    if config.game.shards == 1 and world.size > 1:
        config = override(config, {"shards": world.size})
    _check_alike(world, settings(config))
    check_shards(config, world.size)
    if not world.leads:
        return _follow(world, config.run, with_absolute_paths(config).data)
    attention = describe_attention(config.model)
    device = check_new_run(config)
    config, start = with_absolute_paths(settle(config, device)), None
    if config.model.start_from is not None:
        start = open_start(config.model.start_from, config.model.start_sha256)
        refuse_unfit(start, config.model)
        config = override(config, {"start_sha256": start.sha256})
    with _new_folder(config) as folder:
        store = _open_store(config, console, folder) if store is None else store
        if config.run.eval_every is not None:
            refuse_other_than_rgb(store.shape, "`eval_every`")
        session = Session(override(config, {"run_dir": str(folder), **_of_images(config, store)}), device, store)
        state, taken = (None, []) if start is None else first_state(start, session.config, store, device)
        run = Run.create(folder, session.config)
        if state is not None:
            run.start_file.parent.mkdir()
            save_checkpoint(run.start_file, state)
        world.remember(str(folder.resolve()))
        for unfinished in _unfinished(folder, config):
            again = command("resume", unfinished)
            console.say(f"{unfinished} is not finished: `{again}` continues it; this is a new run beside it")
        console.say(f"run folder: {folder}")
        if warning := warning_of_little_space(session.config, folder):
            console.warn(warning)
        if hint := advice_for_few(session.config.game, store.count):
            console.advise(hint)
        for line in [*attention, *taken]:
            console.say(line)
        try:
            outcome = _train(session, run, console, on_snapshot, world, keep=False)
        except TooLittleMemory:
            run.discard_unbegun()
            raise
        if outcome.signal is not None and outcome.step == 0:
            run.discard_unbegun()
        return outcome


def train_on(
    place: Path,
    changes: dict[str, Any],
    console: Console,
    on_snapshot: OnSnapshot | None = None,
    world: World = SINGLE_PROCESS,
) -> Outcome:
    """Resumes the run in a folder, or from one of its checkpoint files; ``changes`` are to its length and intervals,
    never to what is computed, or name again what `sagan.run.trust` asks for.

    Raises what `training.loop.train` does, and UserError for changes that a run cannot have.
    """
    _check_alike(world, changes)
    run, checkpoint = find_run(place)
    folder, trained = run.folder, run.config()
    check_shards(trained, world.size)
    if not world.leads:
        config = with_absolute_paths(override(trained, changes))
        return _follow(world, config.run, config.data)
    if changes.get("data") and trained.data.dataset:
        raise UserError(f"the run's images are the data set {trained.data.dataset}: `image_path` says where it is now")
    _refuse_moving(run, trained, changes)
    config = with_absolute_paths(resumed_config(run, changes))
    refuse_other_settings(trained, config, folder)
    state = chosen_checkpoint(run, checkpoint)
    if state is not None:  # before images are prepared for settings that the run does not have
        refuse_other_settings(state.config, config, folder)
    attention = describe_attention(config.model)
    device = check_run(config, folder)
    session = Session(config, device, _open_store(config, console, folder, _source_of_run(config)))
    if checkpoint is not None:
        go_on_from(run, checkpoint)
    if not run.checkpoint_file.exists():
        _count_classes(config.model, session.store)
        refuse_lost(run)
        console.say("no checkpoint was written yet: training starts from step 0")
    console.say(f"run folder: {folder}")
    if warning := warning_of_little_space(config, folder):
        console.warn(warning)
    for line in attention:
        console.say(line)
    return _train(session, run, console, on_snapshot, world)


def _refuse_moving(run: Run, trained: Config, changes: dict[str, Any]) -> None:
    """Raises UserError where a resumed run would be said to be in another folder, or of another data set."""
    place = changes.get("run_dir", run.folder)
    if place is None or expand(place).resolve() != run.folder.resolve():
        raise UserError(f"`run_dir` cannot be {place} for the run in {run.folder}: to move a run, move its folder")
    dataset = changes.get("dataset", trained.data.dataset)
    if dataset != trained.data.dataset:
        had = f"the data set {trained.data.dataset}" if trained.data.dataset else "not a data set"
        raise UserError(f"`dataset` cannot be {dataset}: the images of the run in {run.folder} are {had}")


# ---- what is decided once


def settle(config: Config, device: torch.device) -> Config:
    """The config with what depends on the device decided, as a run keeps it: its precision."""
    if config.run.precision != "auto":
        return config
    native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return override(config, {"precision": "bf16" if native else "fp32"})


def advice_for_few(game: GameConfig, count: int) -> str:
    """A sentence where a run has few images and lacks what helps then; else ""."""
    lacking = [] if game.augment else ["--augment", "color", "translation", "cutout"]
    lacking += [] if game.flip or "flip" in game.augment else ["--flip"]
    if count >= FEW_IMAGES or not lacking:
        return ""
    return f"few images ({count:,}): `{typed(*lacking)}` keeps the discriminator from learning them by heart"


def _open_store(config: Config, console: Console, folder: Path, source: Source | None = None) -> Store:
    source = choose_source(config.data, config.model.imsize, config.model.channels) if source is None else source
    check_count(len(source), config.game.batch_size)  # before hours of decoding, and again without unreadable ones
    outputs = folder, config.run.sample_dir
    store = prepared_store(config.data, config.model.imsize, console, source, outputs, config.model.channels)
    check_count(store.count, config.game.batch_size)
    return store


def _of_images(config: Config, store: Store) -> dict[str, Any]:
    """The settings that the images decide: the number of classes, the channels, and the range of 16-bit values."""
    changes: dict[str, Any] = {"num_classes": _count_classes(config.model, store), "channels": store.shape.channels}
    if config.data.range == "auto":
        changes["range"] = store.meta.range or "full"
    return changes


def _count_classes(model: ModelConfig, store: Store) -> int:
    """The number of classes the networks learn. Raises UserError if the images have another number."""
    if model.num_classes == 0:
        return 0
    try:
        store.needed_labels()
    except UserError as error:
        if model.num_classes == "auto":
            error.add_note("`num_classes` 0 learns without them")
        raise
    found = len(store.classes)
    if model.num_classes not in ("auto", found):
        raise UserError(
            f"`num_classes` is {model.num_classes}, but the images have {plural(found, 'class')}: "
            f"{list_classes(store.classes)}; a new run with `num_classes` auto learns those"
        )
    return found


def _source_of_run(config: Config) -> Source:
    try:
        return choose_source(config.data, config.model.imsize, config.model.channels)
    except UserError as error:
        where = "image_path" if config.data.dataset else "data"
        error.add_note(f"if the run's images have moved, give `{where}` FOLDER, where they are now")
        raise


# ---- the run


def _train(
    session: Session, run: Run, console: Console, on_snapshot: OnSnapshot | None, world: World, *, keep: bool = True
) -> Outcome:
    """Trains, and says how to go on when it ends before its end. ``keep``: also a run that no step was taken of."""
    if session.config.run.precision == "bf16" and emulates_bfloat16(session.device):
        console.warn("this processor has no bfloat16 products, so bf16 is many times slower here: omit `precision`")
    again = command("resume", run.folder)
    world.advise(f"`{again}` continues from the last checkpoint, if there is one")
    try:
        with _saying_what_memory_lacks(session.device, run):
            outcome = train(session, run, console, on_snapshot, world)
            return world.share(lambda: outcome, "the end")
    except (KeyboardInterrupt, Lost) as interruption:
        gone = isinstance(interruption, KeyboardInterrupt) and not keep and run.discard_unbegun()
        interruption.add_note(_NOTHING_KEPT if gone else f"`{again}` {_from_where(run)}")
        raise
    except OSError as error:
        error.add_note(f"once that is fixed, `{again}` {_from_where(run)}")
        raise


def _follow(world: World, places: RunConfig, data: DataConfig) -> Outcome:
    """What a process does that does not lead: the same steps, on the images that it finds at its own ``places``."""

    def open_store(config: Config) -> Store:
        here = dataclasses.replace(
            config, data=dataclasses.replace(data, crop=config.data.crop, range=config.data.range)
        )
        return _open_store(here, Console(quiet=True), Path(config.run.run_dir or "runs"))

    device = usable_device(places)
    with _saying_what_memory_lacks(device):
        follow(world, device, open_store)
    outcome: Outcome = world.share(nothing, "the end")
    return outcome


def _check_alike(world: World, given: dict[str, Any]) -> None:
    """Raises UserError, in every process, where they run other versions or were given other settings than the first."""
    world.compare(
        versions() | {name: value for name, value in given.items() if name not in names_of("place") | {"data"}}
    )


@contextlib.contextmanager
def _saying_what_memory_lacks(device: torch.device, run: Run | None = None) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        where = "this machine" if device.type == "cpu" else str(device)
        sentence = (
            f"{where} has too little memory for this run: give a smaller `batch_size`, `imsize` or "
            "`g_conv_dim` and `d_conv_dim`"
        )
        if run is not None and run.checkpoint_file.exists():
            sentence += f"; or close other programs: `{command('resume', run.folder)}` {_from_where(run)}"
        raise TooLittleMemory(sentence) from error


def _from_where(run: Run) -> str:
    if run.checkpoint_file.exists():
        return "continues from the last checkpoint"
    return "starts from step 0: no checkpoint was written yet"


def report_end(outcome: Outcome, console: Console) -> int:
    """Says how a run ended and what to do next; returns the exit status."""
    run, total = outcome.run, outcome.total
    if outcome.signal is not None and outcome.step < total:
        name = signal.Signals(outcome.signal).name
        saved = f"all saved; continue with `{command('resume', run.folder)}`" if run.folder.exists() else _NOTHING_KEPT
        console.say(f"stopped by {name} at step {outcome.step:,} of {total:,}, {saved}")
        return 128 + outcome.signal
    if outcome.last_sample is None:
        done = "the scores that were missing are made" if outcome.caught_up else "nothing to do"
        more = command("resume", run.folder, "--total_step", "N")
        console.say(f"{done}: the run is at step {outcome.step:,} already; `{more}` continues it to step N")
        return 0
    more = command("sample", run.folder, "--num", 1000, "--out", "DIR")
    console.say(f"trained to step {outcome.step:,}; more images: {more}")
    console.say(f"samples: {outcome.last_sample}")
    return 0


def _unfinished(folder: Path, config: Config) -> list[Path]:
    """The runs under the same default name, beside that in ``folder``, that have not reached their last step."""
    if config.run.run_dir is not None:
        return []
    name = _run_name(config)
    beside = [Path("runs", name), *Path("runs").glob(f"{glob.escape(name)}-[0-9]*")]
    runs = [Run(path) for path in beside if path != folder and (path / "config.json").is_file()]
    return [run.folder for run in runs if not run.is_finished()]


@contextlib.contextmanager
def _new_folder(config: Config) -> Iterator[Path]:
    """Makes the folder of a new run, before anything else, so that a bad place is found out at once. In the end it is
    removed again, if it is empty."""
    folder = expand(config.run.run_dir or Path("runs", _run_name(config)))
    missing = [place for place in folder.parents if not place.exists()]
    try:
        if config.run.run_dir is None:
            folder = make_free_folder(folder)
            missing.insert(0, folder)
        else:
            check_free(folder)
            missing = missing if folder.exists() else [folder, *missing]
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        error.add_note("the run's folder cannot be made there")
        raise
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            for place in missing:
                place.rmdir()


def _run_name(config: Config) -> str:
    """The default name of a run's folder, by its data, image size and span."""
    data, model = config.data, config.model
    name = data.dataset or ("faces" if data.data in (None, "faces") else short_name(Path(data.data)))
    return "-".join([name, f"{model.imsize}px", f"span{model.span}"])
