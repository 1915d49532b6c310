"""The command ``sagan``: prepare, train, resume, sample, import."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from sagan.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig, Span
from sagan.console import USAGE_ERROR, Console, run_safely
from sagan.presets import PRESETS

T = TypeVar("T")


@dataclass(frozen=True)
class PrepareFlags:
    """Decode, crop and resize a set of images once, so that training starts at once. `sagan train` does this by itself."""

    source: Annotated[str | None, tyro.conf.Positional] = None
    """A folder of images, a zip, an LSUN LMDB, a .npy of uint8 images, or 'faces'; or give --dataset."""
    imsize: int = 64
    """Height and width to make: a power of two, 16 or more."""
    options: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class ResumeFlags:
    """Go on with a run from its last checkpoint, to the very bits it would have reached without the stop."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    total_step: int | None = None
    """Train to this step instead of the one first planned."""
    log_step: int | None = None
    """Steps between records."""
    sample_step: int | None = None
    """Steps between grids of samples."""
    checkpoint_every: int | None = None
    """Steps between checkpoints."""
    snapshot_every: int | None = None
    """Steps between snapshots."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1 or mps."""
    tensorboard: bool | None = None
    """Also write the records for TensorBoard."""
    data: str | None = None
    """Where the images are now, if they have moved (they must be the same images)."""
    span: Span | None = None
    """For checking only: refused unless it is the run's own, as are the two below."""
    imsize: int | None = None
    """See --span."""
    seed: int | None = None
    """See --span."""


@dataclass(frozen=True)
class SampleFlags:
    """Draw images from a trained generator: numbered PNGs, each decided by the seed and its number alone."""

    run: Annotated[Path, tyro.conf.Positional]
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


@dataclass(frozen=True)
class ImportFlags:
    """Bring a checkpoint of the published program, {step}_G.pth, into a run of ours, to sample from or to train on."""

    generator: Annotated[Path, tyro.conf.Positional]
    """The file {step}_G.pth; its {step}_D.pth must lie beside it for training to go on."""
    run_dir: Path
    """The folder to make."""
    span: Span
    """What it was trained with (the file does not tell): 0 for no mask, as the published 'span 0' curve on CelebA;
    'self' for that program's own --span 0, which masks the pixel itself; 1, 2 ... as there."""
    masking: Literal["before", "after"] = "before"
    """What that program's code does is 'before'."""
    options: DataConfig = field(default_factory=DataConfig)


def train(arguments: Sequence[str], console: Console) -> int:
    """Train a GAN on your images (or on drawn faces)."""
    preset, rest = _take_preset(arguments)
    description = (
        "Train a generator. The flags below change the preset that --preset NAME starts from "
        f"({', '.join(PRESETS)}; without it, the defaults shown).\n\n"
        "  sagan train --preset quick\n  sagan train --data my_photos --imsize 64 --span 3\n"
        "  sagan train --dataset celeb --image_path data --span 3 --total_step 100000"
    )
    config = _parse("train", Config, rest, default=PRESETS[preset] if preset else Config(), description=description)
    from sagan.training.start import start_run

    return start_run(config, console)


def resume(arguments: Sequence[str], console: Console) -> int:
    """Go on with a run that was stopped; needs only its folder."""
    flags = _parse("resume", ResumeFlags, arguments)
    changes = {name: value for name, value in dataclasses.asdict(flags).items() if name != "run" and value is not None}
    if "data" in changes and changes["data"] != "faces":
        changes |= {"data": str(Path(changes["data"]).expanduser().resolve()), "dataset": None}
    from sagan.training.start import resume_run

    return resume_run(flags.run, changes, console)


def prepare(arguments: Sequence[str], console: Console) -> int:
    """Decode and resize a data set once, ahead of training."""
    flags = _parse("prepare", PrepareFlags, arguments)
    ModelConfig(imsize=flags.imsize)  # the sizes that networks can be trained at
    options = flags.options
    if flags.source is not None:
        if options.data is not None:
            raise ValueError(f"give the source once: {flags.source!r} or --data {options.data!r}")
        options = dataclasses.replace(options, data=flags.source)
    from sagan.training.start import prepared_store

    store = prepared_store(options, flags.imsize, console)
    console.say(f"prepared in {store.folder}")
    return 0


def sample(arguments: Sequence[str], console: Console) -> int:
    """Write images drawn from a trained generator."""
    flags = _parse("sample", SampleFlags, arguments)
    from sagan.models.build import load_snapshot
    from sagan.runs import Run
    from sagan.training.loop import choose_device
    from sagan.viewing.samples import write_samples

    path = flags.run if flags.run.is_file() else Run.open(flags.run).snapshot(flags.step)
    generator, config, facts = load_snapshot(path)
    with console.progress("drawing images") as progress:
        write_samples(
            generator,
            config.model.z_dim,
            flags.out,
            flags.num,
            seed=flags.seed,
            batch_size=flags.batch_size,
            device=choose_device(flags.device),
            progress=progress,
        )
    console.say(f"{flags.num:,} images of step {facts['step']:,} ({path}), seed {flags.seed}, in {flags.out}")
    return 0


def import_published(arguments: Sequence[str], console: Console) -> int:
    """Bring in a checkpoint of the published SAGAN_PyTorch program."""
    flags = _parse("import", ImportFlags, arguments)
    from sagan.training.imported import import_pair

    import_pair(flags.generator, flags.run_dir, flags.span, flags.masking, flags.options, console)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str], Console], int]] = {
    "train": train,
    "resume": resume,
    "sample": sample,
    "prepare": prepare,
    "import": import_published,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status: 0, 2 for what a person can mend, 128 + signal when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        console.say(_overview())
        return 0
    name, *rest = arguments
    if name in ("--version", "version"):
        from importlib.metadata import version

        console.say(version("sagan"))
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}."
        console.error(f"there is no command {name!r}; {hint} `sagan --help` says more")
        return USAGE_ERROR
    return run_safely(lambda: COMMANDS[name](rest, console), console)


def _overview() -> str:
    lines = [
        "Self-attention GANs with sparse attention: train, measure, compare, look.",
        "",
        "usage: sagan COMMAND ...",
        "",
    ]
    lines += [f"  {name:9} {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "A first run, on drawn faces: sagan train --preset quick", "More: sagan COMMAND --help"]
    )


def _parse(command: str, kind: type[T], arguments: Sequence[str], **options: Any) -> T:
    return tyro.cli(
        kind,
        prog=f"sagan {command}",
        args=spell_flags(arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
        use_underscores=True,
        **options,
    )


_BOOLEANS = {
    f.name
    for section in (DataConfig, ModelConfig, GameConfig, RunConfig)
    for f in dataclasses.fields(section)
    if f.type == "bool"
}
_TRUTH = {"true": "True", "yes": "True", "on": "True", "false": "False", "no": "False", "off": "False"}


def spell_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments with yes/no settings spelt the one way the parser reads: ``--strict`` and ``--strict=yes`` become
    ``--strict True``; true and false are taken in any case."""
    spelt: list[str] = []
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not (flag.startswith("--") and flag[2:].replace("-", "_") in _BOOLEANS):
            spelt.append(flag + equals + value)
            continue
        if not equals:
            value = rest.pop(0) if rest and rest[0].lower() in {*_TRUTH, "none"} else "True"
        spelt += [flag, _TRUTH.get(value.lower(), value)]
    return spelt


def _take_preset(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The preset that ``--preset NAME`` or ``--preset=NAME`` asks for, and the other arguments."""
    rest, preset = [], None
    given = iter(arguments)
    for argument in given:
        flag, _, value = argument.partition("=")
        if flag != "--preset":
            rest.append(argument)
            continue
        preset = value or next(given, "")
        if preset not in PRESETS:
            near = difflib.get_close_matches(preset, PRESETS, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}. {hint}".strip())
    return preset, rest
