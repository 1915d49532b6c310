"""The settings of a run: frozen dataclasses of plain values, checked when made, written whole into the run's folder.

Fields that the published program had keep its names (``imsize``, ``g_conv_dim``, ``total_step`` ...). The docstring
under a field is its help text on the command line, where each of its lines begins a new one. What a setting may do (may
it change when a run is resumed, must it be equal for two runs to be paired, when is it idle) is said at the field, by
`setting`; what resumes, sweeps, scores and reports need to know of it follows from there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from sagan.core.shapes import ImageShape
from sagan.system.errors import UserError
from sagan.system.typed import check_format, fill, from_plain, shorten, suits, wording

FORMAT = 1

T = TypeVar("T")

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


_LARGEST = {  # what a setting of a size may be; other whole numbers may be a billion
    "imsize": 8192, "z_dim": 65_536, "g_conv_dim": 16_384, "d_conv_dim": 16_384, "num_classes": 1_000_000,
    "batch_size": 10_000_000, "pool": 8192, "span": 8192, "g_span": 8192, "d_span": 8192, "sample_count": 100_000,
}  # fmt: skip


def _require_types(settings: Any) -> None:
    """Raises UserError for a value of another type, and for one that is not finite or far beyond any use."""
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        _require(suits(value, hint), f"{name} must be {wording(hint)}, got {shorten(value)}")
        largest = _LARGEST.get(name, 10**9)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, (int, float)) and not isinstance(each, bool):
                _require(each == each, f"{name} must be a number, got nan")
                _require(abs(each) <= largest, f"{name} must be at most {largest:,}, got {shorten(each)}")


def _require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(value > 0, f"{name} must be more than 0, got {value}")


Effect = Literal["computed", "kept", "free", "place"]


@dataclass(frozen=True)
class Role:
    """What a setting may do.

    effect: "computed": it decides what is computed. A run keeps it to its end, and it is compared where something is
        said to belong to a run: its snapshots, its place in a sweep. "kept": it decides no weight, but stays as it is
        for the whole run. "free": how long, how often, how fast; it may change when the run is resumed. "place": where
        things are on this machine; it may also differ when a sweep goes on.
    pairs: whether two runs of one seed that differ in it share their first weights, z and order of images.
    idle: why it has no effect in a config, or "" where it has one.
    """

    effect: Effect
    pairs: bool
    idle: Callable[[Config], str]


def setting(
    default: T, effect: Effect, *, pairs: bool | None = None, idle: Callable[[Config], str] = lambda config: ""
) -> T:
    """A field with a default and a `Role`. By default runs that differ in it can be paired unless it is computed."""
    role = Role(effect, effect != "computed" if pairs is None else pairs, idle)
    made: T = field(default=default, metadata={"role": role})
    return made


def roles() -> dict[str, Role]:
    """The role of every setting, by its bare name."""
    return {each.name: each.metadata["role"] for section in _SECTIONS.values() for each in dataclasses.fields(section)}


def names_of(*effects: Effect) -> frozenset[str]:
    """The settings with one of these effects."""
    return frozenset(name for name, role in roles().items() if role.effect in effects)


def idle_settings(config: Config) -> dict[str, str]:
    """The settings that have no effect in a config, and why."""
    return {name: why for name, role in roles().items() if (why := role.idle(config))}


def _no_scoring(config: Config) -> str:
    return "" if config.run.eval_every is not None else "nothing is scored during training without --eval_every"


def _hides_nothing(config: Config) -> str:
    model = config.model
    own = [model.span if each is None else each for each in (model.g_span, model.d_span)]
    hidden = any(span != 0 for each in own for span in spans(each))
    return "" if hidden else "at span 0 nothing is excluded"


def _spans_given_for_both(config: Config) -> str:
    given = None not in (config.model.g_span, config.model.d_span)
    return "both networks have their own, --g_span and --d_span" if given else ""


def _no_penalty(config: Config) -> str:
    return "" if config.game.penalized else "no gradient penalty is asked for"


def _not_wgan_gp(config: Config) -> str:
    loss = config.game.adv_loss
    return "" if loss == "wgan-gp" else f"the {loss} loss has no such penalty"


def _no_transposed_convolution(config: Config) -> str:
    return "the residual networks have no transposed convolution" if config.model.network == "resnet" else ""


def _no_rollback(config: Config) -> str:
    guard = config.run.guard
    return "" if guard == "recover" else f"with --guard {guard} a run does not go back"


def _no_guard(config: Config) -> str:
    return "the guard is off" if config.run.guard == "off" else ""


def _no_dataset(config: Config) -> str:
    return "" if config.data.dataset is not None else "it says where a --dataset is"


@dataclass(frozen=True)
class DataConfig:
    """What to learn from."""

    data: str | None = setting(None, "free", pairs=False)
    """A folder of images, a zip, an LSUN LMDB, a .npy of uint8 images, or 'faces': drawn faces, nothing to download.
    Without --data and --dataset it is 'faces'."""
    dataset: Literal["celeb", "lsun"] | None = setting(None, "free", pairs=False)
    """CelebA or LSUN church, looked for under --image_path where their Kaggle downloads unpack."""
    image_path: str = setting("./data", "place", pairs=False, idle=_no_dataset)
    """Where --dataset looks."""
    crop: str = setting("auto", "computed")
    """'square': the largest centre square; 'squash': the whole image, stretched; a number: that many centre pixels.
    'auto': 160 for celeb and squash for lsun, as published, and square for anything else."""
    filter: Literal["bilinear", "bicubic", "lanczos", "box"] = setting("bilinear", "computed")
    """How images are resized; all filters are antialiased."""
    prepared: str = setting("./prepared", "place")
    """Folder for decoded images, so that the next run starts at once."""
    strict: bool = setting(False, "free")
    """Refuse a data set that has an unreadable image, instead of naming and skipping it."""

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

    network: Literal["dcgan", "resnet"] = setting("dcgan", "computed")
    """dcgan: the published program's; resnet: the residual ones of the paper's own code."""
    num_classes: int | Literal["auto"] = setting(0, "computed")
    """Number of classes: 0 for an unconditional model, 'auto' for one class for each folder of images."""
    imsize: int = setting(64, "computed")
    """Height and width of the images: a power of two, 16 or more."""
    z_dim: int = setting(128, "computed")
    """Length of the latent vector z."""
    g_conv_dim: int = setting(64, "computed")
    """Channels of the generator's largest map."""
    d_conv_dim: int = setting(64, "computed")
    """Channels of the discriminator's largest map."""
    span: Span = setting(0, "computed", pairs=True, idle=_spans_given_for_both)
    """A pixel may not attend to the (2*span+1) x (2*span+1) square around it; 0 is full attention, the original SAGAN.
    'self' hides only the pixel itself."""
    g_span: Span | tuple[Span, ...] | None = setting(None, "computed", pairs=True)
    """Another span for the generator, or one for each of its attention layers in turn; by default --span."""
    d_span: Span | tuple[Span, ...] | None = setting(None, "computed", pairs=True)
    """The same for the discriminator."""
    masking: Literal["after", "before"] = setting("after", "computed", pairs=True, idle=_hides_nothing)
    """'after': weights in the square are set to 0 after the softmax; 'before': its keys are left out of the softmax."""
    pool: int = setting(1, "computed", pairs=True)
    """Keys and values are max-pooled this much before attention; the paper's own code uses 2."""
    g_attention: tuple[int, ...] | None = setting(None, "computed")
    """Sizes of the generator's maps that attention follows, such as 16 32, or none.
    By default as published, where the network has them: dcgan 16 and 32, resnet 32 or half of a smaller image."""
    d_attention: tuple[int, ...] | None = setting(None, "computed")
    """Sizes of the discriminator's maps that attention follows, or none.
    By default as published: dcgan 8 and 4, resnet 32 or half of a smaller image."""
    norm_axis: Literal["output", "input"] = setting("output", "computed", idle=_no_transposed_convolution)
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

    @property
    def shape(self) -> ImageShape:
        """Of the images."""
        return ImageShape.square(self.imsize)


@dataclass(frozen=True)
class GameConfig:
    """The adversarial game."""

    adv_loss: Literal["hinge", "wgan-gp", "non-saturating", "least-squares", "rpgan"] = setting(
        "hinge", "computed", pairs=True
    )
    """The adversarial loss; rpgan compares each fake with a real image (relativistic pairing)."""
    lambda_gp: float = setting(10.0, "computed", pairs=True, idle=_not_wgan_gp)
    """Weight of the gradient penalty; wgan-gp only."""
    r1: float | Literal["auto"] = setting(0.0, "computed", pairs=True)
    """Weight of R1, the zero-centred gradient penalty at real images; 'auto': 0.0002 * imsize^2 / batch_size."""
    r2: float | Literal["auto"] = setting(0.0, "computed", pairs=True)
    """Weight of R2, the same at generated images."""
    penalty_every: int = setting(1, "computed", pairs=True, idle=_no_penalty)
    """Take gradient penalties only in every Nth discriminator step, with N times their weight.
    Adam with beta2 0.9 forgets in about ten steps: with N above 4 use --beta2 0.99, or the penalty is weaker."""
    lecam: float = setting(0.0, "computed", pairs=True)
    """Weight of the LeCam penalty, which keeps logits near past ones; for little data, around 0.1 to 0.3."""
    augment: tuple[Literal["color", "translation", "cutout", "flip"], ...] = setting((), "computed", pairs=True)
    """DiffAugment: random changes to all images before the discriminator sees them, such as
    color translation cutout, or flip; for little data."""
    flip: bool = setting(False, "computed", pairs=True)
    """Mirror half of the real images."""
    batch_size: int = setting(64, "computed")
    """Real images, and fakes, in a step; on the command line also 'auto': the largest batch that fits."""
    n_critic: int = setting(1, "computed")
    """Discriminator steps for each generator step."""
    g_lr: float = setting(1e-4, "computed", pairs=True)
    """Learning rate of the generator."""
    d_lr: float = setting(4e-4, "computed", pairs=True)
    """Learning rate of the discriminator."""
    beta1: float = setting(0.0, "computed", pairs=True)
    """Adam's first beta."""
    beta2: float = setting(0.9, "computed", pairs=True)
    """Adam's second beta."""
    lr_decay: float | None = setting(None, "computed", pairs=True)
    """Multiply both learning rates by this after every epoch; no decay by default."""
    lr_schedule: Literal["constant", "linear", "cosine"] = setting("constant", "computed", pairs=True)
    """How both learning rates fall over the run; linear and cosine reach 0 at its last step."""
    max_grad_norm: float | None = setting(None, "computed", pairs=True)
    """Limit the norm of each gradient to this; no limit by default."""
    ema_halflife: int = setting(44_000, "computed", pairs=True)
    """Half-life, in images, of the exponential moving average (EMA) of the generator's weights, which samples are drawn
    from. 0: no EMA."""

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

    run_dir: str | None = setting(None, "place")
    """The folder of the run. By default runs/DATA-SIZEpx-spanS, with a number behind it if that is taken."""
    seed: int = setting(0, "computed")
    """Decides the weights, the order of the images and every z: the same seed gives the same run."""
    total_step: int = setting(100_000, "free")
    """Generator steps."""
    log_step: int = setting(10, "free")
    """Steps between lines of records.jsonl."""
    sample_step: int = setting(1000, "free")
    """Steps between grids of samples."""
    checkpoint_every: int = setting(1000, "free")
    """Steps between checkpoints, from which the run can be resumed."""
    snapshot_every: int = setting(10_000, "free")
    """Steps between snapshots: the averaged generator, kept for use."""
    sample_count: int = setting(64, "kept")
    """Images in a grid, 8 in a row."""
    precision: Literal["auto", "fp32", "bf16"] = setting("fp32", "computed", pairs=True)
    """bf16: products in bfloat16; weights, losses and softmax statistics stay float32.
    auto: bf16 on a GPU that has it, else fp32."""
    compile: bool | None = setting(None, "free")
    """Fuse the networks' kernels by torch.compile, which takes a minute at the start. By default on a GPU."""
    cuda_graphs: bool | None = setting(None, "free")
    """Play each training step as one CUDA graph. By default on a GPU, and only there."""
    resident: bool | None = setting(None, "free")
    """Keep all images on the GPU. By default where they take less than half of its free memory."""
    device: str = setting("auto", "place")
    """auto, cpu, cuda, cuda:1 or mps."""
    tensorboard: bool = setting(False, "free")
    """Also write the records for TensorBoard, into RUN/tensorboard."""
    sample_dir: str | None = setting(None, "place")
    """Where the grids go instead of RUN/samples."""
    eval_every: int | None = setting(None, "free")
    """Steps between scorings: a snapshot is written and scored. By default `sagan evaluate RUN` does it afterwards."""
    eval_num: int = setting(2000, "free", idle=_no_scoring)
    """Images drawn for each of these scores; the last step is scored with 5 times as many too."""
    extractor: str | None = setting(None, "free", idle=_no_scoring)
    """The network whose features scores are made of, as for `sagan evaluate`.
    By default inception where its weights are found, else efficientnet-lite0."""
    guard: Literal["off", "watch", "recover"] = setting("watch", "free")
    """What to do about collapse.
    off: nothing. watch: report and record it.
    recover: also roll back to the last healthy checkpoint and go on with other z and images, lower learning rates and,
    if there are gradient penalties, stronger ones.
    A non-finite loss always ends a run that cannot roll back."""
    guard_every: int = setting(50, "kept", idle=_no_guard)
    """Steps between the guard's checks."""
    max_rollbacks: int = setting(3, "free", idle=_no_rollback)
    """The most rollbacks before a run is stopped."""
    published_checkpoints: bool = setting(False, "free")
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
        own = model.network, model.imsize, model.num_classes, model.g_attention, model.d_attention
        _require(
            own == ("dcgan", 64, 0, None, None) or not self.run.published_checkpoints,
            "published_checkpoints needs the published networks: imsize 64, no classes, and attention where it was",
        )


_SECTIONS: dict[str, type[Any]] = {"data": DataConfig, "model": ModelConfig, "game": GameConfig, "run": RunConfig}


def to_dict(config: Config) -> dict[str, Any]:
    """The config as JSON-ready nested dictionaries, with its format number."""
    return {"format": FORMAT} | dataclasses.asdict(config)


def from_dict(values: object, where: str = "this config") -> Config:
    """The inverse of `to_dict`; ``where`` names the file in errors. A setting that is missing is newer than the file,
    and has its default, which is what the version that wrote the file did.

    Raises UserError for anything that `to_dict` did not make, and for a config of a newer version.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} is damaged: it holds no settings, but {shorten(values)}")
    check_format(values.get("format"), FORMAT, where)
    missing = [name for name in _SECTIONS if name not in values]
    if missing:
        raise UserError(f"{where} is damaged: the section {missing[0]} is missing")
    return from_plain(Config, {name: value for name, value in values.items() if name != "format"}, where)


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
