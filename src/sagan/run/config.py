"""The settings of a run: frozen dataclasses of plain values, checked when made, written whole into the run's folder.

Fields that the published program had keep its names (``imsize``, ``g_conv_dim``, ``total_step`` ...). The docstring
under a field is its help text on the command line, where each of its lines begins a new one.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from sagan.system.errors import UserError
from sagan.system.typed import fill, suits, wording

FORMAT = 1

Span = int | Literal["self"]


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise UserError(sentence)


def spans(value: Span | tuple[Span, ...] | None) -> tuple[Span, ...]:
    """One span or several as several; none as no span."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def check_device(name: str) -> None:
    """Raises UserError for a name that is no device's; whether this machine has it is found out when it is used."""
    _require(
        re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is not None,
        f"device must be auto, cpu, cuda, cuda:1 (or another number) or mps, got {name!r}",
    )


def _require_types(settings: Any) -> None:
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        _require(suits(value, hint), f"{name} must be {wording(hint)}, got {value!r}")


def _require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(value > 0, f"{name} must be more than 0, got {value}")


@dataclass(frozen=True)
class DataConfig:
    """What to learn from."""

    data: str | None = None
    """A folder of images, a zip, an LSUN LMDB, a .npy of uint8 images, or 'faces': drawn faces, nothing to download.
    Without --data and --dataset it is 'faces'."""
    dataset: Literal["celeb", "lsun"] | None = None
    """CelebA or LSUN church, looked for under --image_path where their Kaggle downloads unpack."""
    image_path: str = "./data"
    """Where --dataset looks."""
    crop: str = "auto"
    """'square': the largest centre square; 'squash': the whole image, stretched; a number: that many centre pixels.
    'auto': 160 for celeb and squash for lsun, as published, and square for anything else."""
    filter: Literal["bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    """How images are made smaller; all are antialiased."""
    prepared: str = "./prepared"
    """Where decoded images are kept, so that the next run starts at once."""
    strict: bool = False
    """Refuse a data set that holds an unreadable image instead of naming and skipping it."""

    def __post_init__(self) -> None:
        _require_types(self)
        _require(
            self.data is None or self.dataset is None,
            f"give either data or dataset, got data {self.data!r} and dataset {self.dataset!r}",
        )
        number = self.crop.isdecimal() and int(self.crop) > 0
        _require(
            number or self.crop in ("auto", "square", "squash"),
            f"crop must be auto, square, squash or a number of pixels, got {self.crop!r}",
        )


@dataclass(frozen=True)
class ModelConfig:
    """The networks."""

    network: Literal["dcgan", "resnet"] = "dcgan"
    """dcgan: the published program's; resnet: the residual ones of the paper's own code."""
    num_classes: int | Literal["auto"] = 0
    """Classes that images are made of: 0 for none, 'auto' for as many as the images have folders; resnet only."""
    imsize: int = 64
    """Height and width of the images: a power of two, 16 or more."""
    z_dim: int = 128
    """Length of the latent vector z."""
    g_conv_dim: int = 64
    """Channels of the generator's largest map."""
    d_conv_dim: int = 64
    """Channels of the discriminator's largest map."""
    span: Span = 0
    """A pixel may not attend to the (2*span+1) x (2*span+1) square around it; 0 is full attention, the original SAGAN.
    'self' hides only the pixel itself."""
    g_span: Span | tuple[Span, ...] | None = None
    """Another span for the generator, or one for each of its attention layers in turn; by default --span."""
    d_span: Span | tuple[Span, ...] | None = None
    """The same for the discriminator."""
    masking: Literal["after", "before"] = "after"
    """'after': weights in the square are set to 0 after the softmax; 'before': its keys are left out of the softmax."""
    pool: int = 1
    """Keys and values are max-pooled this much before attention; the paper's own code uses 2."""
    g_attention: tuple[int, ...] | None = None
    """Sizes of the generator's maps that attention follows, such as 16 32, or none.
    By default as published, where the network has them: dcgan 16 and 32, resnet 32 or half of a smaller image."""
    d_attention: tuple[int, ...] | None = None
    """Sizes of the discriminator's maps that attention follows, or none.
    By default as published: dcgan 8 and 4, resnet 32 or half of a smaller image."""
    norm_axis: Literal["output", "input"] = "output"
    """Which channels the spectral norm of a transposed convolution takes as rows.
    'input' is what the published program does, and what its checkpoints need."""

    def __post_init__(self) -> None:
        _require_types(self)
        _require_positive(self, "z_dim", "g_conv_dim", "d_conv_dim", "pool")
        _require(
            self.imsize >= 16 and self.imsize & (self.imsize - 1) == 0,
            f"imsize must be a power of two, 16 or more, got {self.imsize}",
        )
        for name in ("span", "g_span", "d_span"):
            for value in spans(getattr(self, name)):
                _require(value == "self" or value >= 0, f"{name} must be 0 or more, got {value} (0 is full attention)")
        _require(
            self.num_classes == "auto" or self.num_classes >= 0,
            f"num_classes must be 0 or more, got {self.num_classes}",
        )
        _require(
            self.num_classes == 0 or self.network == "resnet",
            f"num_classes {self.num_classes} needs --network resnet: the published networks know no classes",
        )


@dataclass(frozen=True)
class GameConfig:
    """The adversarial game."""

    adv_loss: Literal["hinge", "wgan-gp", "non-saturating", "least-squares", "rpgan"] = "hinge"
    """The adversarial loss; rpgan compares each fake with a real image (relativistic pairing)."""
    lambda_gp: float = 10.0
    """Weight of the gradient penalty; wgan-gp only."""
    r1: float | Literal["auto"] = 0.0
    """Weight of R1, the zero-centred gradient penalty at real images; 'auto': 0.0002 * imsize^2 / batch_size."""
    r2: float | Literal["auto"] = 0.0
    """Weight of R2, the same at generated images."""
    penalty_every: int = 1
    """Gradient penalties are taken in every so-manieth discriminator step, and weigh as many times more there.
    Adam with beta2 0.9 forgets in ten steps: with more than 4 here take --beta2 0.99, or they weigh less in all."""
    lecam: float = 0.0
    """Weight of the LeCam penalty, which holds logits near the past ones; for little data, around 0.1 to 0.3."""
    augment: tuple[Literal["color", "translation", "cutout", "flip"], ...] = ()
    """DiffAugment: what is done at random to all images before the discriminator sees them, such as
    color translation cutout, or flip; for little data."""
    flip: bool = False
    """Mirror half of the real images."""
    batch_size: int = 64
    """Real images, and fakes, in a step; on the command line also 'auto': the largest batch that fits."""
    n_critic: int = 1
    """Discriminator steps for each generator step."""
    g_lr: float = 1e-4
    """Learning rate of the generator."""
    d_lr: float = 4e-4
    """Learning rate of the discriminator."""
    beta1: float = 0.0
    """Adam's first beta."""
    beta2: float = 0.9
    """Adam's second beta."""
    lr_decay: float | None = None
    """Both learning rates are multiplied by this after every pass over the images; none by default."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How both learning rates fall over the run, to 0 at its last step."""
    max_grad_norm: float | None = None
    """A gradient longer than this is shortened to it; none by default."""
    ema_halflife: int = 44_000
    """Samples are drawn from an average of the generator's past weights.
    After this many images an old weight counts half. 0 is no averaging."""

    def __post_init__(self) -> None:
        _require_types(self)
        _require_positive(self, "batch_size", "n_critic", "g_lr", "d_lr", "penalty_every")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"{name} must be from 0 to below 1, got {value}")
        for name in ("lambda_gp", "r1", "r2", "lecam"):
            value = getattr(self, name)
            _require(value == "auto" or value >= 0, f"{name} must be 0 or more, got {value}")
        _require(self.ema_halflife >= 0, f"ema_halflife must be 0 or more, got {self.ema_halflife} (0: no averaging)")
        _require(
            self.lr_decay is None or 0 < self.lr_decay <= 1,
            f"lr_decay must be above 0 and at most 1, got {self.lr_decay}",
        )
        _require(len(set(self.augment)) == len(self.augment), f"augment must name each once, got {self.augment}")
        _require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            f"max_grad_norm must be more than 0, got {self.max_grad_norm}",
        )

    @property
    def penalized(self) -> bool:
        """Whether a gradient penalty is asked for."""
        return self.adv_loss == "wgan-gp" or self.r1 != 0 or self.r2 != 0


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, where."""

    run_dir: str | None = None
    """The folder of the run. By default runs/DATA-SIZEpx-spanS, with a number behind it if that is taken."""
    seed: int = 0
    """Decides the weights, the order of the images and every z: the same seed gives the same run."""
    total_step: int = 100_000
    """Generator steps."""
    log_step: int = 10
    """Steps between lines of records.jsonl."""
    sample_step: int = 1000
    """Steps between grids of samples."""
    checkpoint_every: int = 1000
    """Steps between checkpoints, from which the run can be resumed."""
    snapshot_every: int = 10_000
    """Steps between snapshots: the averaged generator, kept for use."""
    sample_count: int = 64
    """Images in a grid, 8 in a row."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16: products in bfloat16; weights, losses and softmax statistics stay float32.
    auto: bf16 on a GPU that has it, else fp32."""
    compile: bool | None = None
    """Fuse the networks' kernels by torch.compile, which takes a minute at the start. By default on a GPU."""
    cuda_graphs: bool | None = None
    """Play each training step as one CUDA graph. By default on a GPU, and only there."""
    resident: bool | None = None
    """Keep all images on the GPU. By default where they take less than half of its free memory."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    tensorboard: bool = False
    """Also write the records for TensorBoard, into RUN/tensorboard."""
    sample_dir: str | None = None
    """Where the grids go instead of RUN/samples."""
    eval_every: int | None = None
    """Steps between scorings: a snapshot is written and scored. By default `sagan evaluate RUN` does it afterwards."""
    eval_num: int = 2000
    """Images drawn for each of these scores; the last step is scored with 5 times as many too."""
    extractor: str | None = None
    """The network whose features scores are made of, as for `sagan evaluate`.
    By default inception where its weights are found, else efficientnet-lite0."""
    guard: Literal["off", "watch", "recover"] = "watch"
    """What is done about collapse. watch: it is said and recorded; recover: the run also goes back to its last healthy
    state and on from there, with other z and images, lower rates (of the discriminator alone where it won) and, where
    there are gradient penalties, stronger ones. A decline that takes many times longer than --checkpoint_every is
    noticed too, but what proved healthy last is part of it: earlier snapshots are then what is left. A loss that is no
    number ends a run that may not go back."""
    guard_every: int = 50
    """Steps between the guard's looks."""
    max_rollbacks: int = 3
    """How often a run goes back before it is stopped."""
    published_checkpoints: bool = False
    """With every snapshot also write {step}_G.pth and {step}_D.pth as the published program did (64x64 nets only)."""

    def __post_init__(self) -> None:
        _require_types(self)
        _require_positive(
            self,
            "total_step",
            "log_step",
            "sample_step",
            "checkpoint_every",
            "snapshot_every",
            "sample_count",
            "eval_num",
            "guard_every",
        )
        _require(self.max_rollbacks >= 0, f"max_rollbacks must be 0 or more, got {self.max_rollbacks}")
        _require(
            self.eval_every is None or self.eval_every > 0, f"eval_every must be more than 0, got {self.eval_every}"
        )
        check_device(self.device)


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    game: GameConfig = field(default_factory=GameConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        model = self.model
        published = (model.network, model.imsize, model.g_attention, model.d_attention) == ("dcgan", 64, None, None)
        _require(
            published or not self.run.published_checkpoints,
            "published_checkpoints needs the published networks: imsize 64, and attention where it was",
        )


_SECTIONS: dict[str, type[Any]] = {"data": DataConfig, "model": ModelConfig, "game": GameConfig, "run": RunConfig}


def to_dict(config: Config) -> dict[str, Any]:
    """The config as JSON-ready nested dictionaries, with its format number."""
    return {"format": FORMAT} | dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`. Unknown settings are errors; a missing one is newer than the file and has its default,
    which is what the version that wrote the file did."""
    if values.get("format") != FORMAT:
        raise UserError(f"this config has format {values.get('format')!r}; this version of sagan reads format {FORMAT}")
    return Config(**{name: _read_section(name, section, values.get(name)) for name, section in _SECTIONS.items()})


def _read_section(name: str, section: type[Any], given: Any) -> Any:
    known = {f.name for f in dataclasses.fields(section)}
    _require(isinstance(given, dict), f"the config has no section {name!r}")
    unknown = sorted(set(given) - known)
    _require(not unknown, f"the config's section {name!r} has unknown settings: {', '.join(unknown)}")
    return section(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configs differ: name to (value in one, value in other)."""
    mine, theirs = settings(one), settings(other)
    return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}


def settings(config: Config) -> dict[str, Any]:
    """All settings by their bare names, as `override` takes them."""
    return {f.name: getattr(section, f.name) for section in _sections(config) for f in dataclasses.fields(section)}


def _sections(config: Config) -> list[Any]:
    return [getattr(config, name) for name in _SECTIONS]


def override(config: Config, changes: dict[str, Any]) -> Config:
    """The config with some settings changed, by their bare names (they are unique over the sections)."""
    return fill(Config, changes, config)


def with_absolute_paths(config: Config) -> Config:
    """The config with paths that still mean the same when the run goes on from another working directory."""
    given = {
        "image_path": config.data.image_path,
        "prepared": config.data.prepared,
        "sample_dir": config.run.sample_dir,
        "data": None if config.data.data == "faces" else config.data.data,
    }
    return override(config, {name: str(Path(path).expanduser().resolve()) for name, path in given.items() if path})
