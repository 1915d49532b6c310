"""The published SAGAN_PyTorch program's command line, kept working.

It has the same flags, defaults, folders and file names, without that program's bugs. What it trains is what `sagan
train` trains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sagan.cli.flags import Group, group, read
from sagan.cli.help import show_help
from sagan.core.networks.interface import Generator
from sagan.published.imports import SPAN_0, import_pair, load_published_generator
from sagan.run.config import Config, Span, override, settings
from sagan.run.folder import Run
from sagan.run.records import TrainRecord
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.console import Console, Described, run_safely
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.sentences import as_flag, command, plural
from sagan.system.typed import fill
from sagan.training.start import resume_run, start_run
from sagan.viewing.samples import refuse_finished, write_samples

_COMMAND = "python main.py"


@dataclass(frozen=True)
class AddedFlags:
    """Flags that the published program did not have. They cannot be abbreviated."""

    masking: Literal["after", "before"] | None = None
    """after: as that program's description says; before: as its code does.
    By default after; with one of its checkpoints, before."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is faster."""
    seed: int = 0
    """Decides everything that is random."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    num: int | None = None
    """Images to draw with --train False. By default 1000 batches."""


@dataclass(frozen=True)
class PublishedFlags:
    """The command line of the published SAGAN_PyTorch program, with its flags, defaults, folders and file names.
    What it trains is what `sagan train` trains. Flags may be abbreviated.
    The default folders of that program ended in _3 for every span, so that spans overwrote each other; here they end
    in the span."""

    model: Literal["sagan", "qgan"] = "sagan"
    """Only sagan exists."""
    adv_loss: Literal["wgan-gp", "hinge"] = "wgan-gp"
    """The adversarial loss."""
    imsize: int = 32
    """Height and width of the images, such as 32, 48 or 64."""
    g_num: int | None = None
    """Never had an effect."""
    z_dim: int = 128
    """Length of the latent vector z."""
    g_conv_dim: int = 64
    """Channels of the generator's largest map."""
    d_conv_dim: int = 64
    """Channels of the discriminator's largest map."""
    lambda_gp: float = 10.0
    """Weight of the gradient penalty of wgan-gp."""
    version: str = "sagan_1"
    """The subfolder of each output path."""
    total_step: int = 100_000
    """The last generator step."""
    d_iters: int = 1
    """Discriminator steps for each generator step."""
    batch_size: int = 64
    """Real images, and fakes, in a step."""
    num_workers: int | None = None
    """Not needed: images are decoded once, before training."""
    g_lr: float = 1e-4
    """Learning rate of the generator."""
    d_lr: float = 4e-4
    """Learning rate of the discriminator."""
    lr_decay: float | None = None
    """Multiply both learning rates by this after every epoch; no decay by default."""
    beta1: float = 0.0
    """Adam's first beta."""
    beta2: float = 0.9
    """Adam's second beta."""
    pretrained_model: int | None = None
    """The step to go on from, or to draw images from."""
    train: bool = True
    """False: draw images into ./generated_dataset{step}."""
    parallel: bool = False
    """Without effect: training runs on one device."""
    use_tensorboard: bool = False
    """Also write the losses for TensorBoard."""
    dataset: Literal["celeb", "lsun"] | None = None
    """The images; required for training."""
    image_path: str = "./data"
    """The folder that contains CelebA or LSUN."""
    log_step: int = 10
    """Steps between lines of the log."""
    sample_step: int = 1000
    """Steps between grids of samples."""
    model_save_step: int = 10_000
    """Steps between {step}_G.pth and {step}_D.pth."""
    span: Span | None = None
    """A pixel may not attend to the (2*span+1) x (2*span+1) square around it. By default 0, full attention."""
    model_save_path: str | None = None
    """Folder of the checkpoints. By default ./sparse_models_SPAN."""
    sample_path: str | None = None
    """Folder of the grids of samples. By default ./sparse_samples_SPAN."""
    log_path: str | None = None
    """Folder of the log. By default ./sparse_logs_SPAN."""
    attn_path: str | None = None
    """Nothing is written there."""
    added: AddedFlags = field(default_factory=AddedFlags)

    def models(self) -> Path:
        """The folder of the checkpoints."""
        return self._output(self.model_save_path, "models")

    def samples(self) -> Path:
        """The folder of the grids of samples."""
        return self._output(self.sample_path, "samples")

    def log(self) -> Path:
        """The log file."""
        return self._output(self.log_path, "logs") / "log.txt"

    def _output(self, given: str | None, kind: str) -> Path:
        return Path(given or f"./sparse_{kind}_{self.span or 0}", self.version)


_ADDED = {each.name for each in dataclasses.fields(AddedFlags)}
_PUBLISHED = {each.name for each in dataclasses.fields(PublishedFlags)} - {"added"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``main.py``: trains, or with ``--train False`` writes images. Returns the exit status."""
    console = _PublishedConsole(command=True)
    return run_safely(lambda: _run(list(sys.argv[1:] if arguments is None else arguments), console), console)


# the settings whose flags have other names here
_RENAMED = {
    "n_critic": "d_iters",
    "run_dir": "model_save_path",
    "sample_dir": "sample_path",
    "snapshot_every": "model_save_step",
    "tensorboard": "use_tensorboard",
}


def _run(arguments: list[str], console: Console) -> int:
    if "-h" in arguments or "--help" in arguments:
        show_help(PublishedFlags, _COMMAND)
        return 0
    flags = parse(arguments)
    return _train(flags, console) if flags.train else _sample(flags, console)


def parse(arguments: Sequence[str]) -> PublishedFlags:
    """The flags' values. As in the published program, published flags may be abbreviated, and the last of several
    values of a flag counts. Raises UserError for anything else."""
    words: dict[str, list[str]] = {}
    for each in group(arguments):
        whole = dataclasses.replace(each, flag=_whole_flag(each))
        words[whole.flag] = whole.words
    return fill(PublishedFlags, read(PublishedFlags, [word for each in words.values() for word in each], _COMMAND))


def _whole_flag(given: Group) -> str:
    """The flag that an abbreviation means: the only published one that begins so."""
    name = given.name
    if name in _PUBLISHED | _ADDED or not given.flag.startswith("--"):
        return given.flag
    meant = sorted(each for each in _PUBLISHED if each.startswith(name))
    if len(meant) > 1:
        raise UserError(f"{given.flag} could mean {' or '.join(f'--{each}' for each in meant)}")
    return f"--{meant[0]}" if meant else given.flag


def config_of(flags: PublishedFlags) -> Config:
    """The config that the flags mean: the published networks, with their files where that program put them."""
    given = vars(flags) | vars(flags.added)
    renamed = {
        "span": flags.span or 0,
        "masking": flags.added.masking or "after",
        "norm_axis": "input",
        "n_critic": flags.d_iters,
        "run_dir": str(flags.models()),
        "sample_dir": str(flags.samples()),
        "checkpoint_every": min(1000, flags.model_save_step),
        "snapshot_every": flags.model_save_step,
        "sample_count": flags.batch_size,
        "tensorboard": flags.use_tensorboard,
        "published_checkpoints": flags.imsize == 64,
    }
    same = {name: given[name] for name in settings(Config()) if name in given}
    return override(Config(), same | renamed)


# ---- training


def _train(flags: PublishedFlags, console: Console) -> int:
    if flags.model == "qgan":
        raise UserError("--model qgan was never part of the published program; use --model sagan")
    if flags.dataset is None:
        raise UserError("--dataset must be celeb or lsun; for your own images use sagan train --data FOLDER")
    if flags.added.num is not None:
        raise UserError("--num counts the images that --train False draws; give both, or neither")
    config, step, folder = config_of(flags), flags.pretrained_model, flags.models()
    _explain_idle(flags, console)
    log = PublishedLog(flags.log(), flags.total_step)
    if not (folder / "config.json").exists():
        _keep_published(folder, step)
    if step is None:
        if (folder / "config.json").exists():
            raise UserError(
                f"{folder} already holds a run: `{command('resume', folder)}` goes on with it; for a new one give "
                "another --version or --model_save_path"
            )
        return start_run(config, log)
    return _go_on(folder, step, config, flags, log)


def _keep_published(folder: Path, step: int | None) -> None:
    """Raises UserError where training from a step would overwrite later checkpoints of the published program."""
    steps = sorted(int(p.stem[:-2]) for p in folder.glob("*_G.pth") if p.stem[:-2].isdecimal())
    later = [number for number in steps if number > (-1 if step is None else step)]
    if later:
        raise UserError(
            f"{folder} holds a published checkpoint of step {later[-1]}, which training would overwrite: go on from "
            f"it with --pretrained_model {later[-1]}, or give another --version or --model_save_path"
        )


def _go_on(folder: Path, step: int, config: Config, flags: PublishedFlags, log: PublishedLog) -> int:
    """Goes on from a step of a run, or from a published pair, which becomes a run."""
    changes = settings(config)
    if flags.added.masking is None:
        changes.pop("masking")  # the run's own
    if not (folder / "config.json").exists():
        if not (folder / f"{step}_G.pth").exists():
            raise UserError(f"there is no {step}_G.pth in {folder} to go on from; {_steps_in([folder])}")
        if flags.added.masking is None:
            config = override(config, {"masking": "before"})
        import_pair(folder / f"{step}_G.pth", config, log)
    elif (reached := load_checkpoint(Run.open(folder).checkpoint_file).step) != step:
        raise UserError(
            f"the run in {folder} is at step {reached}, not {step}; go on with --pretrained_model {reached}"
        )
    return resume_run(folder, changes, log)


_IDLE = {
    "parallel": "training runs on one device; --parallel True changes nothing",
    "num_workers": "images are decoded once, before training; no workers are needed",
    "g_num": "had no effect in the published program, and has none here",
    "attn_path": "training draws no attention maps, so nothing is written there",
}


def _explain_idle(flags: PublishedFlags, console: Console) -> None:
    """Says why each flag that was given without effect has none."""
    for name, why in _IDLE.items():
        if getattr(flags, name) != getattr(PublishedFlags, name):  # its default
            console.say(f"--{name}: {why}")
    if flags.imsize != 64:
        console.say("--imsize: a published checkpoint holds 64x64 networks only; snapshots are written instead")


# ---- drawing images


def _sample(flags: PublishedFlags, console: Console) -> int:
    step = flags.pretrained_model
    if step is None:
        raise UserError("--train False draws images from a checkpoint: give its step, --pretrained_model N")
    out = Path(f"generated_dataset{step}")
    refuse_finished(out)
    generator = _trained_generator(flags, step, console)
    count = 1000 * flags.batch_size if flags.added.num is None else flags.added.num
    if flags.added.num is None:
        console.say(f"drawing {plural(count, 'image')}, as the published program does: --num N draws another number")
    with console.progress("drawing images") as progress:
        write_samples(
            generator,
            out,
            count,
            seed=flags.added.seed,
            batch_size=flags.batch_size,
            device=choose_device(flags.added.device),
            name=lambda number: f"{number + 1}_fake.png",
            progress=progress,
        )
    console.say(f"{plural(count, 'image')} in {out}")
    return 0


def _trained_generator(flags: PublishedFlags, step: int, console: Console) -> Generator:
    """The generator of a step: from a snapshot of a run, or from a file of the published program."""
    folders = _folders_to_look_in(flags)
    ours = [path for folder in folders if (path := Run(folder).snapshot_file(step)).exists()]
    theirs = [path for folder in folders if (path := folder / f"{step}_G.pth").exists()]
    found = ours or theirs
    if not found:
        raise UserError(f"there is no checkpoint of step {step} in {_listed(folders)}; {_steps_in(folders)}")
    if len(found) > 1:
        raise UserError(f"there is a checkpoint of step {step} in each of {_listed(folders)}: give --span")
    console.say(f"drawing from {found[0]}")
    if ours:
        return load_snapshot(found[0]).generator
    if not flags.span:
        console.warn(f"{found[0].name} does not tell the span it was trained with; {SPAN_0}")
    return load_published_generator(found[0], flags.span or 0, flags.added.masking or "before")[0]


def _folders_to_look_in(flags: PublishedFlags) -> list[Path]:
    """The folder of the span, or of every span where none is given, as in the published test command."""
    if flags.model_save_path is None and flags.span is None:
        return sorted(Path().glob(f"sparse_models_*/{flags.version}")) or [flags.models()]
    return [flags.models()]


def _steps_in(folders: Sequence[Path]) -> str:
    files = [path for folder in folders for path in (*Run(folder).snapshots(), *folder.glob("*_G.pth"))]
    steps = sorted({int(number) for path in files if (number := path.stem.removesuffix("_G")).isdecimal()})
    return f"there are steps {_listed(steps)}" if steps else "there is none of any step"


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items))


# ---- its log


class _PublishedConsole(Console):
    """Knows the flags of the published program."""

    def spell(self, name: str) -> str:
        """A setting as it is typed here or, if this program has no such flag, for `sagan train`."""
        own = _RENAMED.get(name, name)
        return as_flag(own) if own in _PUBLISHED | _ADDED else f"sagan train {as_flag(name)}"

    def advise(self, sentence: str) -> None:
        """Says nothing: the advice is to give flags that are not of this program."""


class PublishedLog(_PublishedConsole):
    """Prints the published program's log line at every record, and keeps it in a file.

    As there, ``d_out_real`` is the real half of the discriminator's loss.
    """

    def __init__(self, path: Path, total: int):
        super().__init__(command=True)
        self.path, self.total = path, total

    @contextlib.contextmanager
    def training(self, start: int, total: int) -> Iterator[Callable[[int, Described | None], None]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:

            def show(step: int, record: Described | None) -> None:
                if isinstance(record, TrainRecord):
                    line = self.line(record)
                    self.say(line)
                    print(line, file=file, flush=True)

            yield show

    def line(self, record: TrainRecord) -> str:
        """Such as ``Elapsed [0:00:08.497799], G_step [2/6], D_step[2/6], d_out_real: 1.0625,  ave_gamma_l3: 0.2``."""
        step, elapsed = record.step, datetime.timedelta(seconds=record.seconds)
        gammas = [value for layer, value in record.gamma.items() if layer.startswith("G")]
        named = [f"ave_gamma_l{number}: {value:.4f}" for number, value in zip((3, 4), gammas, strict=False)]
        head = f"Elapsed [{elapsed}], G_step [{step}/{self.total}], D_step[{step}/{self.total}]"
        return f"{head}, d_out_real: {record.d_loss_real:.4f},  {', '.join(named)}"
