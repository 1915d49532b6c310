"""Starting a run and going on with one: folder, images and a word on what is about to happen, then the loop."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from sagan.config import Config, DataConfig, from_dict, override, to_dict
from sagan.console import Console
from sagan.data import Recipe, Source, Store, find_dataset, open_or_prepare, open_source
from sagan.data.faces import FacesSource
from sagan.models.build import describe_attention
from sagan.runs import Run, free_folder
from sagan.training.loop import Outcome, refuse_other_settings, train

FACES = 10_000

_PUBLISHED_CROPS = {"celeb": "160", "lsun": "squash"}


def start_run(config: Config, console: Console) -> int:
    """Makes the run's folder, prepares the images and trains to the end. Gives the exit status of the command.

    Errors as `training.loop.train`, and ValueError for a folder that is taken.
    """
    config = _with_folder(_with_absolute_paths(config))
    folder = Path(config.run.run_dir or "")
    if (folder / "config.json").exists():
        trained = from_dict(Run.open(folder).config())
        refuse_other_settings(trained, config, folder)
    return _train(config, Run.create(folder, to_dict(config)), console)


def resume_run(folder: Path, changes: dict[str, Any], console: Console) -> int:
    """Goes on with the run in a folder, with changes to how long and how often (never to what is computed)."""
    run = Run.open(folder)
    trained = from_dict(run.config())
    config = _with_absolute_paths(override(trained, changes))
    refuse_other_settings(trained, config, folder)
    if config != trained:
        run.write_config(to_dict(config))
    return _train(config, run, console)


def _train(config: Config, run: Run, console: Console) -> int:
    console.say(f"run {run.folder}")
    store = prepared_store(config.data, config.model.imsize, console)
    for line in describe_attention(config.model):
        console.say(line)
    return _report(run, train(config, run, store, console), config.run.total_step, console)


def _report(run: Run, outcome: Outcome, total: int, console: Console) -> int:
    """Says how a run ended and what to do next; gives the exit status."""
    if outcome.signal is not None:
        name = signal.Signals(outcome.signal).name
        console.say(
            f"stopped by {name} at step {outcome.step:,} of {total:,}, all saved; go on with: sagan resume {run.folder}"
        )
        return 128 + outcome.signal
    if outcome.last_sample is None:
        console.say(
            f"the run already is at step {outcome.step:,} of {total:,}; to train on: sagan resume {run.folder} --total_step N"
        )
        return 0
    console.say(f"trained {outcome.step:,} steps; more images: sagan sample {run.folder} --num 1000 --out DIR")
    console.say(f"samples: {outcome.last_sample}")
    return 0


def prepared_store(data: DataConfig, size: int, console: Console) -> Store:
    """The images of a data set, decoded now or earlier, at one size. Says what they are and what was left out."""
    source = choose_source(data, size)
    crop = _PUBLISHED_CROPS.get(data.dataset or "", "square") if data.crop == "auto" else data.crop
    recipe = Recipe(size, crop, data.filter)
    with console.progress("preparing images") as progress:
        store = open_or_prepare(
            source, recipe, Path(data.prepared), strict=data.strict, progress=progress, report=console.warn
        )
    console.say(store.describe())
    return store


def choose_source(data: DataConfig, size: int) -> Source:
    """The images that the settings mean: a data set's place, a path, or the drawn faces."""
    if data.dataset is not None:
        return open_source(find_dataset(data.dataset, Path(data.image_path)))
    if data.data in (None, "faces"):
        return FacesSource(FACES, size)
    return open_source(Path(str(data.data)))


def _with_absolute_paths(config: Config) -> Config:
    """Paths that still mean the same when the run goes on from another working directory."""
    given = {
        "image_path": config.data.image_path,
        "prepared": config.data.prepared,
        "sample_dir": config.run.sample_dir,
    }
    if config.data.data != "faces":
        given["data"] = config.data.data
    return override(config, {name: str(Path(path).expanduser().resolve()) for name, path in given.items() if path})


def _with_folder(config: Config) -> Config:
    """A folder under runs/ named by what the run is, where none was given."""
    if config.run.run_dir is not None:
        return config
    data, model = config.data, config.model
    parts = [data.dataset or Path(data.data or "faces").stem, f"{model.imsize}px", f"span{model.span}"]
    return override(config, {"run_dir": str(free_folder(Path("runs") / "-".join(parts)))})
