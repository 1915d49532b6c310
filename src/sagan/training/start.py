"""Starting a run and going on with one: folder, images and a word on what is about to happen, then the loop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sagan.data import Source, Store, choose_source
from sagan.run.build import check_networks, describe_attention
from sagan.run.config import Config, override, with_absolute_paths
from sagan.run.folder import Run, check_free, make_free_folder
from sagan.system.console import Console
from sagan.system.devices import emulates_bfloat16
from sagan.system.errors import UserError
from sagan.training.loop import OnSnapshot, Outcome, train
from sagan.training.saving import refuse_other_settings
from sagan.training.session import Session, count_classes, open_store, settle, usable_device


def start_run(
    config: Config, console: Console, on_snapshot: OnSnapshot | None = None, store: Store | None = None
) -> int:
    """`train_new`, with a word on how it ended. Gives the exit status of the command."""
    return _report(train_new(config, console, on_snapshot, store), console)


def resume_run(folder: Path, changes: dict[str, Any], console: Console, on_snapshot: OnSnapshot | None = None) -> int:
    """`train_on`, with a word on how it ended. Gives the exit status of the command."""
    return _report(train_on(folder, changes, console, on_snapshot), console)


def train_new(
    config: Config, console: Console, on_snapshot: OnSnapshot | None = None, store: Store | None = None
) -> Outcome:
    """Makes the run's folder, prepares the images and trains to the end.

    ``store``: the images, where they are prepared already. Errors as `training.loop.train`, and UserError for a folder
    that is taken. Where a run cannot begin, nothing of it is left, and the corrected command can be given again.
    """
    attention = describe_attention(config.model)
    check_networks(config.model)
    device = usable_device(config.run)
    config = with_absolute_paths(settle(config, device))
    _check_sample_folder(config)
    with _new_folder(config) as folder:
        store = open_store(config, console) if store is None else store
        classes = count_classes(config.model, store)
        session = Session(override(config, {"run_dir": str(folder), "num_classes": classes}), device, store)
        run = Run.create(folder, session.config)
    console.say(f"run folder: {folder}")
    _say_all(attention, console)
    return _train(session, run, console, on_snapshot)


def train_on(folder: Path, changes: dict[str, Any], console: Console, on_snapshot: OnSnapshot | None = None) -> Outcome:
    """Goes on with the run in a folder, with changes to how long and how often (never to what is computed)."""
    run = Run.open(folder)
    trained = run.config()
    if changes.get("data") and trained.data.dataset:
        raise UserError(f"the run's images are the data set {trained.data.dataset}: --image_path says where it is now")
    config = with_absolute_paths(override(trained, changes))
    refuse_other_settings(trained, config, folder)
    device = usable_device(config.run)
    session = Session(config, device, open_store(config, console, _source_of_run(config)))
    if not run.checkpoint_file.exists():
        console.say("no checkpoint was written yet: training starts from the first step")
    console.say(f"run folder: {folder}")
    _say_all(describe_attention(config.model), console)
    return _train(session, run, console, on_snapshot)


def _source_of_run(config: Config) -> Source:
    try:
        return choose_source(config.data, config.model.imsize)
    except UserError as error:
        where = "--image_path" if config.data.dataset else "--data"
        error.add_note(f"if the run's images have moved, {where} says where they are now")
        raise


def _train(session: Session, run: Run, console: Console, on_snapshot: OnSnapshot | None) -> Outcome:
    settings = session.config.run
    if settings.precision == "bf16" and emulates_bfloat16(session.device):
        console.warn(
            "this processor has no bfloat16 products, so bf16 is many times slower here: leave --precision out"
        )
    try:
        return train(session, run, console, on_snapshot)
    except KeyboardInterrupt as interruption:
        interruption.add_note(f"`sagan resume {run.folder}` {_from_where(run)}")
        raise
    except OSError as error:
        error.add_note(f"once that is mended, `sagan resume {run.folder}` {_from_where(run)}")
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{settings.device} has too little memory for this run: give a smaller --batch_size, --imsize or "
            "--g_conv_dim and --d_conv_dim"
        ) from error


def _from_where(run: Run) -> str:
    if run.checkpoint_file.exists():
        return "goes on from the last checkpoint"
    return "starts from the first step: no checkpoint was written yet"


def _report(outcome: Outcome, console: Console) -> int:
    """Says how a run ended and what to do next; gives the exit status."""
    run, total = outcome.run, outcome.total
    if outcome.signal is not None:
        name = signal.Signals(outcome.signal).name
        console.say(
            f"stopped by {name} at step {outcome.step:,} of {total:,}, all saved; go on with: sagan resume {run.folder}"
        )
        return 128 + outcome.signal
    if outcome.last_sample is None:
        console.say(
            f"nothing to do: the run is at step {outcome.step:,} already; --total_step N trains it on to step N"
        )
        return 0
    console.say(f"trained to step {outcome.step:,}; more images: sagan sample {run.folder} --num 1000 --out DIR")
    console.say(f"samples: {outcome.last_sample}")
    return 0


def _say_all(lines: list[str], console: Console) -> None:
    for line in lines:
        console.say(line)


def _check_sample_folder(config: Config) -> None:
    folder = config.run.sample_dir
    if folder is not None and any(Path(folder).glob("*_fake.png")):
        raise UserError(f"{folder} already holds samples of another run: move them away, or name another folder")


@contextlib.contextmanager
def _new_folder(config: Config) -> Iterator[Path]:
    """The folder of a new run, made first of all, so that one that cannot be made is found out at once. On an error,
    what was made of it is removed again."""
    folder = Path(config.run.run_dir or Path("runs", _run_name(config)))
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
    except BaseException:
        with contextlib.suppress(OSError):  # something came to lie in it
            for place in missing:
                place.rmdir()
        raise


def _run_name(config: Config) -> str:
    """What the run is, as a folder's name."""
    data, model = config.data, config.model
    return "-".join([data.dataset or Path(data.data or "faces").stem, f"{model.imsize}px", f"span{model.span}"])
