"""The command ``sagan``: a table of commands, and those that train, sample, prepare and import."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from sagan.cli.attention import attention
from sagan.cli.bench import bench
from sagan.cli.flags import asks_help, flags_of, optional_flags, read, show_help
from sagan.cli.report import report
from sagan.cli.scores import compare_metrics, evaluate, score_while_training
from sagan.cli.sweep import status, sweep
from sagan.run.config import (
    Config,
    DataConfig,
    GameConfig,
    ModelConfig,
    RunConfig,
    Span,
    check_device,
    idle_settings,
    names_of,
    override,
)
from sagan.run.presets import PRESETS, check_preset
from sagan.system.console import Console, run_safely
from sagan.system.errors import UserError
from sagan.system.typed import fill


@dataclass(frozen=True)
class PrepareFlags:
    """Decode, crop and resize a set of images once, so that training starts at once.
    `sagan train` does this by itself."""

    source: Annotated[str | None, Positional] = None
    """A folder of images, a zip, an LSUN LMDB, a .npy of uint8 images, or 'faces'; or give --dataset."""
    imsize: int = 64
    """Height and width to make: a power of two, 16 or more."""
    data: DataConfig = field(default_factory=DataConfig)


def resume_flags() -> type[Any]:
    """What `sagan resume` takes: what may change, and a few settings for checking only: a run keeps its own."""
    chosen = names_of("free", "place") - {"run_dir", "dataset"} | {"span", "imsize", "seed"}
    sections = (RunConfig, DataConfig, ModelConfig)
    return optional_flags(
        "ResumeFlags", sections, chosen, {"run": Annotated[Path, Positional, arg(help="The run's folder.")]}
    )


@dataclass(frozen=True)
class SampleFlags:
    """Draw images from a trained generator: numbered PNGs, each decided by the seed and its number alone."""

    run: Annotated[Path, Positional]
    """A run's folder (its newest snapshot is used) or one snapshot file."""
    out: Path
    """A new or empty folder for the images."""
    num: int = 64
    """How many."""
    seed: int = 0
    """Another seed gives other images."""
    batch_size: int = 64
    """Images drawn at once; changes nothing but speed."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    step: int | None = None
    """Use the run's snapshot of this step."""
    label: int | None = None
    """Only images of this class, counted from 0; by default the classes in turn."""


@dataclass(frozen=True)
class ImportFlags:
    """Bring a checkpoint of the published program, {step}_G.pth, into a run of ours, to sample from or to train on."""

    generator: Annotated[Path, Positional]
    """The file {step}_G.pth; for training to go on, its {step}_D.pth must lie beside it and the images be named."""
    run_dir: Path
    """The folder to make."""
    span: Span
    """What it was trained with, as the file does not tell.
    0: no mask at all, as the published 'span 0' curve on CelebA.
    'self': that program's own --span 0, which masks the pixel itself. 1, 2 ...: as there."""
    masking: Literal["before", "after"] = "before"
    """What that program's code does is 'before'."""
    data: DataConfig = field(default_factory=DataConfig)
    game: GameConfig = field(default_factory=GameConfig)


_PUBLISHED_NAMES = {
    "d_iters": "here it is --n_critic",
    "model_save_step": "here it is --snapshot_every",
    "use_tensorboard": "here it is --tensorboard",
    "model_save_path": "here it is --run_dir",
    "version": "here it is --run_dir",
    "log_path": "records are written into the run's folder, --run_dir",
    "sample_path": "here it is --sample_dir",
    "pretrained_model": "`sagan resume RUN` goes on with a run, and `sagan import` brings in a published checkpoint",
    "train": "`sagan sample RUN --out DIR` draws images",
    "num_workers": "images are decoded once, before training, and no workers are needed",
    "parallel": "training runs on one device",
    "model": "the model is sagan",
}

_OWN_SETTINGS = dict.fromkeys(flags_of(Config), "a run goes on with its own settings")

_RESUME_HELP = "Go on with a run from its last checkpoint, to the very bits it would have reached without the stop."

_TRAIN_HELP = """Train a generator.
--preset NAME starts from named settings ({presets}; by default best), which the flags below change.
  sagan train --preset quick
  sagan train --data my_photos --imsize 64 --span 3
  sagan train --dataset celeb --image_path data --span 3 --total_step 100000"""


@dataclass(frozen=True)
class TrainFlags:
    config: Config = field(default_factory=Config)
    dry_run: bool = False
    """Train nothing: say what the run would cost, and how long it would take by a few steps on noise."""


def train(arguments: Sequence[str], console: Console) -> int:
    """Train a GAN on your images (or on drawn faces)."""
    preset, rest = _take_preset(arguments)
    base = PRESETS[preset or "best"]
    if asks_help(rest):
        show_help(TrainFlags, "sagan train", _TRAIN_HELP.format(presets=", ".join(PRESETS)), TrainFlags(base))
        return 0
    from sagan.data import choose_source, prepared_store
    from sagan.system.devices import choose_device
    from sagan.training.session import settle
    from sagan.training.start import start_run

    largest, rest = _take_largest_batch(rest)
    values = read(TrainFlags, rest, "sagan train", _PUBLISHED_NAMES)
    _check_use(values)
    dry_run = values.pop("dry_run", False)
    config = fill(Config, values, base)
    for sentence in _without_effect(values, config) + _at_odds(values, config):
        console.warn(sentence)
    if config.model.num_classes == "auto" and (largest or dry_run):
        raise UserError(
            "--num_classes must be a number here: how many the images have is found out when they are opened"
        )
    store = None
    if largest or dry_run:
        config = settle(config, choose_device(config.run.device))
    if largest:
        store = None if dry_run else prepared_store(config.data, config.model.imsize, console)
        config = _with_largest_batch(config, 1024 if store is None else store.count, console)
    if dry_run:
        choose_source(config.data, config.model.imsize)  # which says what is wrong with it
        return _say_cost(config, console)
    return start_run(config, console, score_while_training(config, console), store)


def _at_odds(values: dict[str, Any], config: Config) -> list[str]:
    """A sentence for what was asked for and goes badly with what the preset adds to it."""
    game, said = config.game, []
    if game.adv_loss == "wgan-gp" and (game.r1 != 0 or game.r2 != 0) and not {"r1", "r2"} & set(values):
        said.append("wgan-gp has a gradient penalty of its own, and the preset adds another: --r1 0 for the loss alone")
    if game.adv_loss == "wgan-gp" and game.penalty_every > 1 and "penalty_every" not in values:
        every = f"one step in {game.penalty_every}"
        said.append(
            f"the preset takes wgan-gp's gradient penalty in {every}: --penalty_every 1 for every step, as usual"
        )
    return said


def _without_effect(values: dict[str, Any], config: Config) -> list[str]:
    """A sentence for each flag that was given and changes nothing."""
    return [f"--{name} changes nothing: {why}" for name, why in idle_settings(config).items() if name in values]


def _with_largest_batch(config: Config, limit: int, console: Console) -> Config:
    from sagan.bench.pace import largest_batch
    from sagan.system.devices import choose_device

    size = largest_batch(config, choose_device(config.run.device), min(limit, 1024))
    console.say(f"the largest batch that fits is {size}")
    return override(config, {"batch_size": size})


def _say_cost(config: Config, console: Console) -> int:
    from sagan.bench.cost import describe_cost
    from sagan.bench.pace import measured_pace
    from sagan.system.devices import choose_device

    device = choose_device(config.run.device)
    for line in describe_cost(config, device):
        console.say(line)
    console.say(measured_pace(config, device).describe())
    return 0


def resume(arguments: Sequence[str], console: Console) -> int:
    """Go on with a run that was stopped; needs only its folder."""
    if asks_help(arguments):
        show_help(resume_flags(), "sagan resume", _RESUME_HELP)
        return 0
    changes = read(resume_flags(), arguments, "sagan resume", _OWN_SETTINGS)
    folder = changes.pop("run")
    from sagan.run.folder import Run
    from sagan.training.start import resume_run

    changes = {name: value for name, value in changes.items() if value is not None}
    config = override(Run.open(folder).config(), changes)
    for sentence in _without_effect(changes, config):
        console.warn(sentence)
    return resume_run(folder, changes, console, score_while_training(config, console))


def prepare(arguments: Sequence[str], console: Console) -> int:
    """Decode and resize a data set once, ahead of training."""
    if asks_help(arguments):
        show_help(PrepareFlags, "sagan prepare")
        return 0
    values = read(PrepareFlags, arguments, "sagan prepare")
    _check_use(values)
    flags = fill(PrepareFlags, values)
    ModelConfig(imsize=flags.imsize)  # the sizes that networks can be trained at
    data = flags.data
    if flags.source is not None:
        if data.data is not None:
            raise UserError(f"give the source once: {flags.source!r} or --data {data.data!r}")
        data = dataclasses.replace(data, data=flags.source)
    from sagan.data import prepared_store

    store = prepared_store(data, flags.imsize, console)
    console.say(f"prepared in {store.folder}")
    return 0


def sample(arguments: Sequence[str], console: Console) -> int:
    """Write images drawn from a trained generator."""
    if asks_help(arguments):
        show_help(SampleFlags, "sagan sample")
        return 0
    flags = fill(SampleFlags, read(SampleFlags, arguments, "sagan sample"))
    check_device(flags.device)
    from sagan.run.folder import find_snapshot
    from sagan.run.weights import load_snapshot
    from sagan.system.devices import choose_device
    from sagan.viewing.samples import write_samples

    path = find_snapshot(flags.run, flags.step)
    snapshot = load_snapshot(path)
    with console.progress("drawing images") as progress:
        write_samples(
            snapshot.generator,
            flags.out,
            flags.num,
            seed=flags.seed,
            batch_size=flags.batch_size,
            device=choose_device(flags.device),
            label=flags.label,
            progress=progress,
        )
    images = "1 image" if flags.num == 1 else f"{flags.num:,} images"
    console.say(f"{images} in {flags.out}, of step {snapshot.step:,} ({path}), seed {flags.seed}")
    return 0


def import_published(arguments: Sequence[str], console: Console) -> int:
    """Bring in a checkpoint of the published SAGAN_PyTorch program."""
    if asks_help(arguments):
        show_help(ImportFlags, "sagan import")
        return 0
    values = read(ImportFlags, arguments, "sagan import")
    _check_use(values)
    flags = fill(ImportFlags, values)
    model, run = ModelConfig(span=flags.span, masking=flags.masking), RunConfig(run_dir=str(flags.run_dir))
    from sagan.published.imports import import_pair

    import_pair(flags.generator, Config(flags.data, model, flags.game, run), console)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str], Console], int]] = {
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "compare-metrics": compare_metrics,
    "sweep": sweep,
    "status": status,
    "report": report,
    "attention": attention,
    "bench": bench,
    "sample": sample,
    "prepare": prepare,
    "import": import_published,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status: 0, 2 for what a person can mend, 128 + signal when interrupted."""
    console = Console()
    return run_safely(lambda: _run(list(sys.argv[1:] if arguments is None else arguments), console), console)


def _run(arguments: list[str], console: Console) -> int:
    name, *rest = arguments or ["help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        console.say(_overview())
        return 0
    if name in ("--version", "version"):
        from importlib.metadata import version

        console.say(version("sagan"))
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}."
        raise UserError(f"there is no command {name!r}: {hint} `sagan --help` says more")
    return COMMANDS[name](rest, console)


def _overview() -> str:
    lines = [f"  {name:15} {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    return "\n".join(
        [
            "Self-attention GANs with sparse attention.",
            "",
            "usage: sagan COMMAND ...",
            "",
            *lines,
            "",
            "A first run, on drawn faces: sagan train --preset quick",
            "More: sagan COMMAND --help",
        ]
    )


def _check_use(values: dict[str, Any]) -> None:
    """Raises UserError for a setting that would be without effect, and something else trained on than was meant."""
    if "image_path" in values and values.get("dataset") is None:
        raise UserError(
            "--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it, "
            f"or, for images of your own, --data {values['image_path']}"
        )


def _take_preset(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The preset that ``--preset NAME`` or ``--preset=NAME`` asks for, and the other arguments."""
    rest, preset = list(arguments), None
    while place := _find_flag(rest, "preset"):
        start, preset, stop = place
        del rest[start:stop]
        check_preset(preset)
    return preset, rest


def _take_largest_batch(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether ``--batch_size auto`` is asked for, and the arguments without it."""
    rest = list(arguments)
    place = _find_flag(rest, "batch_size")
    if place is None or place[1] != "auto":
        return False, rest
    del rest[place[0] : place[2]]
    return True, rest


def _find_flag(arguments: Sequence[str], name: str) -> tuple[int, str, int] | None:
    """Where a flag with one value begins among the arguments, the value, and one past where it ends."""
    for start, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.replace("-", "_") == f"__{name}":
            after = "" if equals else next(iter(arguments[start + 1 :]), "")
            return start, value or after, start + (1 if equals else 2)
    return None
