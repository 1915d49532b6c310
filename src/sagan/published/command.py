"""The published SAGAN_PyTorch program's command line and checkpoints, kept working.

The same flags, defaults, folders and file names, with its bugs gone: what is trained is what `sagan train` trains.
Its default folders ended in _3 whatever the span, so that two spans overwrote each other; here they end in the span.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sagan.cli.flags import Group, convert, did_you_mean, group
from sagan.core.attention import Masking
from sagan.core.networks.interface import Discriminator, Generator
from sagan.published.imports import SPAN_0, import_pair, load_published_discriminator, load_published_generator
from sagan.run.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig, Span, override, settings
from sagan.run.folder import Run
from sagan.run.records import TrainRecord
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.console import Console, Described, run_safely
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.training.start import resume_run, start_run
from sagan.viewing.samples import write_samples

_FOLDERS = {"model_save": "models", "sample": "samples", "log": "logs", "attn": "attn"}


# ---- its checkpoints


def load_generator(path: str | Path, *, span: Span, masking: Masking = "before") -> Generator:
    """The generator of a published ``{step}_G.pth``, in eval mode on the CPU.

    The file does not tell what it was trained with: ``span`` 0 is no mask at all, ``"self"`` what that program's own
    ``--span 0`` did (it masks the pixel itself), 1, 2 ... as there. Its code masks ``"before"`` the softmax. That
    program sampled in training mode; for its very images call ``.train()`` on the result and give batches of 64.
    Raises UserError for a file of another kind.
    """
    return load_published_generator(Path(path), span, masking)[0]


def load_discriminator(path: str | Path, *, span: Span, masking: Masking = "before") -> Discriminator:
    """The discriminator of a published ``{step}_D.pth``, in eval mode on the CPU; see `load_generator`.

    Where a span leaves a query no key, that program spread its attention evenly over the keys it meant to exclude; here
    such a query attends to nothing. With span 3 that is the whole 4x4 map.
    """
    return load_published_discriminator(Path(path), span, masking)


# ---- its command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``main.py``: trains, or with ``--train False`` writes images. Gives the exit status."""
    console = Console()
    return run_safely(lambda: _run(list(sys.argv[1:] if arguments is None else arguments), console), console)


def _run(arguments: list[str], console: Console) -> int:
    if "-h" in arguments or "--help" in arguments:
        parser().print_help()
        return 0
    flags = parse(arguments)
    return _train(flags, console) if flags.train else _sample(flags, console)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The published flags' values. Published flags may be abbreviated, as there; unknown ones are UserErrors."""
    reader = parser()
    ours = {action.dest for action in reader._actions} - _PUBLISHED
    words: list[str] = []
    for each in group(arguments):
        if each.flag.startswith("--"):
            each = dataclasses.replace(each, flag=_whole_flag(each, _PUBLISHED, ours))
        words += each.words
    return reader.parse_args(words)


def parser() -> argparse.ArgumentParser:
    """The parser of the published flags, and of a few of ours; its errors are UserErrors of one sentence."""
    p = _Parser("main.py", allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", choices=["sagan", "qgan"], default="sagan", help="there is only sagan (sagan)")
    p.add_argument("--adv_loss", choices=["wgan-gp", "hinge"], default="wgan-gp", help="the adversarial loss (wgan-gp)")
    for name, kind, default, text in _VALUES:
        shown = text if default is None else f"{text} ({default})"
        p.add_argument(f"--{name}", type=_reader(kind), default=default, help=shown, metavar=_METAVARS[kind])
    p.add_argument("--dataset", choices=["lsun", "celeb"], help="the images, which must be given to train")
    for what, folder in _FOLDERS.items():
        p.add_argument(f"--{what}_path", metavar="DIR", help=f"{_KEPT[what]} (./sparse_{folder}_SPAN)")
    ours = p.add_argument_group("not in the published program")
    ours.add_argument(
        "--masking", choices=["after", "before"], help="as its description says: after, or as its code does: before"
    )
    ours.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 is faster (fp32)")
    ours.add_argument("--seed", type=_reader(int), default=0, metavar="N", help="decides everything that is random (0)")
    ours.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    ours.add_argument("--num", type=_reader(int), metavar="N", help="images to draw with --train False (1000 batches)")
    return p


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))


def _reader(hint: Any) -> Callable[[str], Any]:
    """A type for argparse: reads as `sagan` does, with its sentences."""

    def read(text: str) -> Any:
        try:
            return convert([text], hint)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "NAME", bool: "BOOL", Span: "N"}
_VALUES: list[tuple[str, Any, Any, str]] = [
    ("imsize", int, 32, "height and width of the images: a power of two, 16 or more"),
    ("g_num", int, None, "never had a meaning"),
    ("z_dim", int, 128, "length of the latent vector z"),
    ("g_conv_dim", int, 64, "channels of the generator's largest map"),
    ("d_conv_dim", int, 64, "channels of the discriminator's largest map"),
    ("lambda_gp", float, 10.0, "weight of the gradient penalty of wgan-gp"),
    ("version", str, "sagan_1", "the sub-folder under each output path"),
    ("total_step", int, 100_000, "the last generator step"),
    ("d_iters", int, 1, "discriminator steps for each generator step"),
    ("batch_size", int, 64, "real images, and fakes, in a step"),
    ("num_workers", int, None, "not needed: images are decoded once, before training"),
    ("g_lr", float, 1e-4, "learning rate of the generator"),
    ("d_lr", float, 4e-4, "learning rate of the discriminator"),
    ("lr_decay", float, None, "factor on both learning rates after every pass over the images (none)"),
    ("beta1", float, 0.0, "Adam's first beta"),
    ("beta2", float, 0.9, "Adam's second beta"),
    ("pretrained_model", int, None, "the step to go on from, or to draw images from"),
    ("train", bool, True, "False: draw images into ./generated_dataset{step}"),
    ("parallel", bool, False, "training runs on one device"),
    ("use_tensorboard", bool, False, "also write the losses for TensorBoard"),
    ("image_path", str, "./data", "the folder that holds CelebA or LSUN"),
    ("log_step", int, 10, "steps between lines of the log"),
    ("sample_step", int, 1000, "steps between grids of samples"),
    ("model_save_step", int, 10_000, "steps between {step}_G.pth and {step}_D.pth"),
    ("span", Span, None, "radius of the square a pixel may not attend to, 0 is full attention (0)"),
]
_KEPT = {
    "model_save": "checkpoints",
    "sample": "grids of samples",
    "log": "the log",
    "attn": "nothing is written there",
}
_PUBLISHED = {name for name, *_ in _VALUES} | {f"{what}_path" for what in _FOLDERS} | {"model", "adv_loss", "dataset"}


def _whole_flag(given: Group, published: set[str], ours: set[str]) -> str:
    """The flag that is meant: any beginning that only one published flag has is enough. Ours cannot be abbreviated, so
    that they make no published abbreviation ambiguous."""
    name = given.name
    meant = [name] if name in published | ours else sorted(p for p in published if p.startswith(name))
    if not meant:
        near = did_you_mean(name, sorted(published | ours))
        raise UserError(f"there is no flag {given.flag}{near or '.'} `python main.py --help` shows them all")
    if len(meant) > 1:
        raise UserError(f"{given.flag} could mean {' or '.join(f'--{m}' for m in meant)}")
    return f"--{meant[0]}"


def config_of(flags: argparse.Namespace) -> Config:
    """The config that published flags mean: the published networks, with grids and checkpoints where it put them."""
    folders = {what: str(_folder(flags, what)) for what in ("model_save", "sample")}
    return Config(
        data=DataConfig(dataset=flags.dataset, image_path=flags.image_path),
        model=ModelConfig(
            imsize=flags.imsize,
            z_dim=flags.z_dim,
            g_conv_dim=flags.g_conv_dim,
            d_conv_dim=flags.d_conv_dim,
            span=flags.span or 0,
            masking=flags.masking or "after",
            norm_axis="input",
        ),
        game=GameConfig(
            adv_loss=flags.adv_loss,
            lambda_gp=flags.lambda_gp,
            batch_size=flags.batch_size,
            n_critic=flags.d_iters,
            g_lr=flags.g_lr,
            d_lr=flags.d_lr,
            beta1=flags.beta1,
            beta2=flags.beta2,
            lr_decay=flags.lr_decay,
        ),
        run=RunConfig(
            run_dir=folders["model_save"],
            sample_dir=folders["sample"],
            seed=flags.seed,
            total_step=flags.total_step,
            log_step=flags.log_step,
            sample_step=flags.sample_step,
            checkpoint_every=min(1000, flags.model_save_step),
            snapshot_every=flags.model_save_step,
            sample_count=flags.batch_size,
            precision=flags.precision,
            device=flags.device,
            tensorboard=flags.use_tensorboard,
            published_checkpoints=flags.imsize == 64,
        ),
    )


# ---- training


def _train(flags: argparse.Namespace, console: Console) -> int:
    if flags.model == "qgan":
        raise UserError("--model qgan was never part of the published program; --model sagan is what there is")
    if flags.dataset is None:
        raise UserError("--dataset must be celeb or lsun; for images of your own: sagan train --data FOLDER")
    if flags.num is not None:
        raise UserError("--num counts the images that --train False draws; give both, or neither")
    config, step = config_of(flags), flags.pretrained_model
    _answer_plainly(flags, console)
    log = PublishedLog(_folder(flags, "log") / "log.txt", flags.total_step)
    folder = Path(config.run.run_dir or "")
    if not (folder / "config.json").exists():
        _keep_published(folder, step)
    if step is None:
        if (folder / "config.json").exists():
            raise UserError(
                f"{folder} already holds a run: `sagan resume {folder}` goes on with it; for a new one give another "
                "--version or --model_save_path"
            )
        return start_run(config, log)
    return _go_on(folder, step, config, flags, log)


def _keep_published(folder: Path, step: int | None) -> None:
    """Raises UserError where training on from a step would write over later checkpoints of the published program."""
    steps = sorted(int(p.stem[:-2]) for p in folder.glob("*_G.pth") if p.stem[:-2].isdecimal())
    later = [number for number in steps if number > (-1 if step is None else step)]
    if later:
        raise UserError(
            f"{folder} holds a published checkpoint of step {later[-1]}, which training would write over: go on from "
            f"it with --pretrained_model {later[-1]}, or give another --version or --model_save_path"
        )


def _go_on(folder: Path, step: int, config: Config, flags: argparse.Namespace, log: PublishedLog) -> int:
    """Trains on from a step: of our run, or of a published pair, which becomes one."""
    changes = settings(config)
    if flags.masking is None:
        changes.pop("masking")  # the run's own
    if not (folder / "config.json").exists():
        if not (folder / f"{step}_G.pth").exists():
            raise UserError(f"there is no {step}_G.pth in {folder} to go on from; {_steps_in([folder])}")
        if flags.masking is None:
            config = override(config, {"masking": "before"})
        import_pair(folder / f"{step}_G.pth", config, log)
    elif (reached := load_checkpoint(Run.open(folder).checkpoint_file).step) != step:
        raise UserError(
            f"the run in {folder} is at step {reached}, not {step}; go on with --pretrained_model {reached}"
        )
    return resume_run(folder, changes, log)


def _answer_plainly(flags: argparse.Namespace, console: Console) -> None:
    """Says of every flag that was given and has nothing to do why that is."""
    if flags.parallel:
        console.say("--parallel: training runs on one device; --parallel True changes nothing")
    if flags.num_workers is not None:
        console.say("--num_workers: images are decoded once, before training; there are no loader workers to count")
    if flags.g_num is not None:
        console.say("--g_num: had no meaning in the published program, and has none here")
    if flags.attn_path is not None:
        console.say("--attn_path: training draws no attention maps, so nothing is written there")
    if flags.imsize != 64:
        console.say("--imsize: only its 64x64 networks fit a published checkpoint; snapshots are written instead")


# ---- drawing images


def _sample(flags: argparse.Namespace, console: Console) -> int:
    step = flags.pretrained_model
    if step is None:
        raise UserError("--train False draws images from a checkpoint: give its step, --pretrained_model N")
    generator = _trained_generator(flags, step, console)
    out = Path(f"generated_dataset{step}")
    count = 1000 * flags.batch_size if flags.num is None else flags.num
    with console.progress("drawing images") as progress:
        write_samples(
            generator,
            out,
            count,
            seed=flags.seed,
            batch_size=flags.batch_size,
            device=choose_device(flags.device),
            name=lambda number: f"{number + 1}_fake.png",
            progress=progress,
        )
    console.say(f"{count:,} images in {out}")
    return 0


def _trained_generator(flags: argparse.Namespace, step: int, console: Console) -> Generator:
    """The generator of a step: from the snapshot of our run, or from a file of the published program."""
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
    return load_generator(found[0], span=flags.span or 0, masking=flags.masking or "before")


def _folders_to_look_in(flags: argparse.Namespace) -> list[Path]:
    """The folder of the span; of every span where none is named, as in the published test command."""
    if flags.model_save_path is None and flags.span is None:
        return sorted(Path().glob(f"sparse_models_*/{flags.version}")) or [_folder(flags, "model_save")]
    return [_folder(flags, "model_save")]


def _steps_in(folders: Sequence[Path]) -> str:
    files = [path for folder in folders for path in (*Run(folder).snapshots(), *folder.glob("*_G.pth"))]
    steps = sorted({int(number) for path in files if (number := path.stem.removesuffix("_G")).isdecimal()})
    return f"there are steps {_listed(steps)}" if steps else "there is none of any step"


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items))


def _folder(flags: argparse.Namespace, what: str) -> Path:
    given: str | None = getattr(flags, f"{what}_path")
    return Path(given or f"./sparse_{_FOLDERS[what]}_{flags.span or 0}", flags.version)


# ---- its log


class PublishedLog(Console):
    """Prints the published program's log line at every record, and keeps it in a file.

    ``d_out_real`` is, as there, the real half of the discriminator's loss.
    """

    def __init__(self, path: Path, total: int):
        super().__init__()
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
