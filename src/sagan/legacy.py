"""The published SAGAN_PyTorch program's command line and checkpoints, kept working.

Same flags, same defaults, same folders and file names, with its bugs gone: what is trained is what `sagan train` trains.
Its default folders ended in _3 whatever the span, so that two spans overwrote each other; here they end in the span.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sagan.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig, Span, settings
from sagan.console import Console, run_safely
from sagan.models.build import load_snapshot
from sagan.models.dcgan import Discriminator, Generator
from sagan.runs import Run
from sagan.training.checkpoint import load_checkpoint
from sagan.training.imported import SPAN_0, import_pair, load_published_discriminator, load_published_generator
from sagan.training.loop import choose_device
from sagan.training.start import resume_run, start_run
from sagan.viewing.samples import write_samples

Masking = Literal["before", "after"]


def load_generator(path: str | Path, *, span: Span, masking: Masking = "before") -> Generator:
    """The generator of a published ``{step}_G.pth``, in eval mode on the CPU.

    The file does not tell what it was trained with: ``span`` 0 is no mask at all, ``"self"`` what that program's own
    ``--span 0`` did (it masks the pixel itself), 1, 2 ... as there. Its code masks ``"before"`` the softmax. That
    program sampled in training mode; for its very images call ``.train()`` on the result and give batches of 64.
    Raises ValueError for a file of another kind.
    """
    return load_published_generator(Path(path), span, masking)[0]


def load_discriminator(path: str | Path, *, span: Span, masking: Masking = "before") -> Discriminator:
    """The discriminator of a published ``{step}_D.pth``, in eval mode on the CPU; see `load_generator`.

    Where a span leaves a query no key, that program spread its attention evenly over the keys it meant to exclude; here
    such a query attends to nothing. With span 3 that is the whole 4x4 map.
    """
    return load_published_discriminator(Path(path), span, masking)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``main.py``: trains, or with ``--train False`` writes images. Gives the exit status."""
    flags = parser().parse_args(arguments)
    console = Console()
    return run_safely(lambda: _sample(flags, console) if not flags.train else _train(flags, console), console)


def parser() -> argparse.ArgumentParser:
    """The published flags (abbreviations work, unknown flags are refused), and a few of ours."""
    p = argparse.ArgumentParser("main.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=["sagan", "qgan"], default="sagan")
    p.add_argument("--adv_loss", choices=["wgan-gp", "hinge"], default="wgan-gp")
    p.add_argument("--imsize", type=int, default=32, help="a power of two, 16 or more")
    p.add_argument("--g_num", type=int, help="never had a meaning")
    p.add_argument("--z_dim", type=int, default=128)
    p.add_argument("--g_conv_dim", type=int, default=64)
    p.add_argument("--d_conv_dim", type=int, default=64)
    p.add_argument("--lambda_gp", type=float, default=10.0)
    p.add_argument("--version", default="sagan_1", help="name of the sub-folder under each output path")
    p.add_argument("--total_step", type=int, default=100_000)
    p.add_argument("--d_iters", type=int, default=1, help="discriminator steps for each generator step")
    p.add_argument("--batch_size", type=int, default=64)
    p.add_argument("--num_workers", type=int, help="not needed: images are decoded once, before training")
    p.add_argument("--g_lr", type=float, default=1e-4)
    p.add_argument("--d_lr", type=float, default=4e-4)
    p.add_argument("--lr_decay", type=float, help="factor on both learning rates after every pass over the images")
    p.add_argument("--beta1", type=float, default=0.0)
    p.add_argument("--beta2", type=float, default=0.9)
    p.add_argument("--pretrained_model", type=int, help="the step to go on from, or to draw images from")
    p.add_argument("--train", type=_truth, default=True)
    p.add_argument("--parallel", type=_truth, default=False)
    p.add_argument("--dataset", choices=["lsun", "celeb"])
    p.add_argument("--use_tensorboard", type=_truth, default=False)
    p.add_argument("--image_path", default="./data")
    for what in ("log", "model_save", "sample", "attn"):
        folder = {"model_save": "models", "sample": "samples", "log": "logs", "attn": "attn"}[what]
        p.add_argument(f"--{what}_path", help=f"default: ./sparse_{folder}_SPAN")
    p.add_argument("--log_step", type=int, default=10)
    p.add_argument("--sample_step", type=int, default=1000)
    p.add_argument("--model_save_step", type=int, default=10_000)
    p.add_argument(
        "--span", type=int, help="radius of the square a pixel may not attend to; 0, the default, is full attention"
    )
    ours = p.add_argument_group("not in the published program")
    ours.add_argument(
        "--masking", choices=["after", "before"], default="after", help="its README's (after) or its code's"
    )
    ours.add_argument("--seed", type=int, default=0)
    ours.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    ours.add_argument("--device", default="auto")
    ours.add_argument("--num", type=int, help="images to draw with --train False; default 1000 batches")
    return p


def _truth(text: str) -> bool:
    truths = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in truths:
        raise argparse.ArgumentTypeError(f"must be True or False, got {text!r}")
    return truths[text.lower()]


def config_of(flags: argparse.Namespace) -> Config:
    """The config that published flags mean: the published networks, with grids and checkpoints where it put them."""
    folders = {what: _folder(flags, what) for what in ("model_save", "sample")}
    return Config(
        data=DataConfig(dataset=flags.dataset, image_path=flags.image_path),
        model=ModelConfig(
            imsize=flags.imsize,
            z_dim=flags.z_dim,
            g_conv_dim=flags.g_conv_dim,
            d_conv_dim=flags.d_conv_dim,
            span=flags.span or 0,
            masking=flags.masking,
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
            run_dir=str(folders["model_save"]),
            sample_dir=str(folders["sample"]),
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


def _train(flags: argparse.Namespace, console: Console) -> int:
    if flags.model == "qgan":
        raise ValueError("--model qgan was never part of the published program; --model sagan is what there is")
    if flags.dataset is None:
        raise ValueError("--dataset must be celeb or lsun; for images of your own: sagan train --data FOLDER")
    _answer_plainly(flags, console)
    config = config_of(flags)
    folder, step = Path(config.run.run_dir or ""), flags.pretrained_model
    log = PublishedLog(_folder(flags, "log") / "log.txt", config.run.total_step)
    if step is None:
        return start_run(config, log)
    if not (folder / "config.json").exists():
        import_pair(folder / f"{step}_G.pth", folder, config.model.span, flags.masking, config.data, console)
    elif (reached := load_checkpoint(Run.open(folder).checkpoint_file)["step"]) != step:
        raise ValueError(
            f"the run in {folder} is at step {reached}, not {step}; go on with --pretrained_model {reached}"
        )
    return resume_run(folder, settings(config), log)


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


def _sample(flags: argparse.Namespace, console: Console) -> int:
    step = flags.pretrained_model
    if step is None:
        raise ValueError("--train False draws images from a checkpoint: give its step, --pretrained_model N")
    generator, z_dim = _trained_generator(flags, step, console)
    out = Path(f"generated_dataset{step}")
    count = 1000 * flags.batch_size if flags.num is None else flags.num
    with console.progress("drawing images") as progress:
        write_samples(
            generator,
            z_dim,
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


def _trained_generator(flags: argparse.Namespace, step: int, console: Console) -> tuple[Generator, int]:
    """The generator of a step: from the snapshot of our run, or from a file of the published program."""
    folders = [_folder(flags, "model_save")]
    if flags.model_save_path is None and flags.span is None:  # the published test command names no span
        folders = sorted(Path().glob(f"sparse_models_*/{flags.version}")) or folders
    ours = [path for folder in folders if (path := Run(folder).snapshot_file(step)).exists()]
    theirs = [path for folder in folders if (path := folder / f"{step}_G.pth").exists()]
    found = ours or theirs
    if not found:
        raise ValueError(f"there is no checkpoint of step {step} in {', '.join(map(str, folders))}")
    if len(found) > 1:
        raise ValueError(
            f"there are checkpoints of step {step} in several folders, {', '.join(str(p.parent) for p in found)}: give --span"
        )
    console.say(f"drawing from {found[0]}")
    if ours:
        generator, config, _ = load_snapshot(found[0])
        return generator, config.model.z_dim
    if not flags.span:
        console.warn(f"{found[0].name} does not tell the span it was trained with; {SPAN_0}")
    generator = load_generator(found[0], span=flags.span or 0)
    return generator, generator.z_dim


def _folder(flags: argparse.Namespace, what: str) -> Path:
    name = {"log": "logs", "model_save": "models", "sample": "samples", "attn": "attn"}[what]
    given = getattr(flags, f"{what}_path")
    return Path(given or f"./sparse_{name}_{flags.span or 0}") / flags.version


class PublishedLog(Console):
    """Prints the published program's log line at every record, and keeps it in a file.

    ``d_out_real`` is, as there, the real half of the discriminator's loss.
    """

    def __init__(self, path: Path, total: int):
        super().__init__()
        self.path, self.total = path, total

    @contextlib.contextmanager
    def training(self, start: int, total: int) -> Iterator[Callable[[int, Mapping[str, Any] | None], None]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:

            def show(step: int, record: Mapping[str, Any] | None) -> None:
                if record:
                    line = self.line(record)
                    self.say(line)
                    print(line, file=file, flush=True)

            yield show

    def line(self, record: Mapping[str, Any]) -> str:
        """Such as ``Elapsed [0:00:08.497799], G_step [2/6], D_step[2/6], d_out_real: 1.0625,  ave_gamma_l3: -0.0002``."""
        step, elapsed = record["step"], datetime.timedelta(seconds=record["seconds"])
        gammas = [value for layer, value in record["gamma"].items() if layer.startswith("G")]
        named = [f"ave_gamma_l{number}: {value:.4f}" for number, value in zip((3, 4), gammas, strict=False)]
        head = f"Elapsed [{elapsed}], G_step [{step}/{self.total}], D_step[{step}/{self.total}]"
        return f"{head}, d_out_real: {record['d_loss_real']:.4f},  {', '.join(named)}"
