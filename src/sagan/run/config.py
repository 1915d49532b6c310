"""The settings of a run: frozen dataclasses of plain values, checked when they are made and saved with the run.

Fields that the published program had keep its names (``imsize``, ``g_conv_dim``, ``total_step`` ...). The docstring
under a field is its help text on the command line, with the same line breaks. `setting` declares, at the field, what
values are allowed, whether a resumed run may change it, whether paired runs may differ in it, and when it has no
effect. Resuming, sweeps, scores and reports all follow these declarations.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

from sagan.core.shapes import ImageShape
from sagan.system.errors import UserError
from sagan.system.files import expand
from sagan.system.sentences import plural
from sagan.system.typed import (
    LARGEST,
    check_format,
    fill,
    from_plain,
    make_plain,
    near_choice,
    shorten,
    suits,
    type_hints,
    wording,
)

FORMAT = 1
MOST_IMAGES = 10**9  # that are drawn at once, by any command

T = TypeVar("T")

Span = int | Literal["self"]
AnyChannels = int | Literal["auto"]
ValueRange = Literal["auto", "full"] | tuple[int, ...]


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise UserError(sentence)


def spans(value: Span | tuple[Span, ...] | None) -> tuple[Span, ...]:
    """One span or several as a tuple; empty for None."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def check_device(name: str) -> None:
    """Raises UserError unless this is the name of a device; whether the machine has one is checked when it is used."""
    _require(
        re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is not None,
        f"`device` must be auto, cpu, cuda, cuda:1 (or another number) or mps, got {name!r}",
    )


Effect = Literal["computed", "kept", "free", "place"]


@dataclass(frozen=True)
class Role:
    """How a setting may be used.

    effect: "computed": it affects what is computed. It is fixed for the whole run, and compared wherever something must
        belong to the same run: its snapshots, its place in a sweep. "kept": it does not affect the weights, but is
        fixed for the whole run. "free": how long, how often, how fast; it may change when the run is resumed. "place":
        where things are on this machine; it may also differ when a sweep is continued.
    pairs: whether two runs of one seed that differ in it share their first weights, z and order of images.
    idle: returns why it has no effect in a config, or "" if it has one.
    must_be, most: the numbers allowed. By default any that a file can hold: no bound that protects nothing.
    zero: what 0 means, for the sentence about a negative number.
    """

    effect: Effect
    pairs: bool
    idle: Callable[[Config], str]
    must_be: Literal["any", "0 or more", "more than 0"]
    most: float
    zero: str


def setting(
    default: T,
    effect: Effect,
    *,
    pairs: bool | None = None,
    idle: Callable[[Config], str] = lambda config: "",
    must_be: Literal["any", "0 or more", "more than 0"] = "any",
    most: float = LARGEST,
    zero: str = "",
) -> T:
    """A field with a default and a `Role`. By default runs that differ in it are pairs unless it is computed."""
    role = Role(effect, effect != "computed" if pairs is None else pairs, idle, must_be, most, zero)
    made: T = field(default=default, metadata={"role": role})
    return made


def _check_fields(section: Any) -> None:
    """Converts the values to plain ones. Raises UserError for a value of another type and for a number out of range."""
    make_plain(section)
    hints = type_hints(type(section))  # type: ignore[arg-type]
    for each in dataclasses.fields(section):
        value, hint = getattr(section, each.name), hints[each.name]
        if value is each.default:  # most values; a plan checks thousands of configs
            continue
        if not suits(value, hint):
            raise UserError(f"`{each.name}` must be {wording(hint)}, got {shorten(value)}{near_choice(value, hint)}")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                _check_number(each.name, number, each.metadata["role"])


def _check_number(name: str, number: float, role: Role) -> None:
    if number != number:
        must_be = "a number"
    elif not {"any": True, "0 or more": number >= 0, "more than 0": number > 0}[role.must_be]:
        must_be = role.must_be
    elif number > role.most:
        must_be = f"at most {role.most:,}"
    elif number < -role.most:
        must_be = f"at least {-role.most:,}"
    else:
        return
    meaning = f" ({role.zero})" if role.zero and number < 0 else ""
    raise UserError(f"`{name}` must be {must_be}, got {shorten(number)}{meaning}")


@functools.cache
def roles() -> Mapping[str, Role]:
    """The role of every setting, by name."""
    return {each.name: each.metadata["role"] for section in _SECTIONS.values() for each in dataclasses.fields(section)}


def names_of(*effects: Effect) -> frozenset[str]:
    """The names of the settings with one of these effects."""
    return frozenset(name for name, role in roles().items() if role.effect in effects)


def resumable() -> frozenset[str]:
    """The names of the settings that may change when a run is resumed. Where it is, which data set it has and what it
    started from stay."""
    return names_of("free", "place") - {"run_dir", "dataset", "start_from"}


def idle_settings(config: Config) -> dict[str, str]:
    """The settings that have no effect in a config, and why."""
    return {name: why for name, role in roles().items() if (why := role.idle(config))}


def _when(condition: Callable[[Config], bool], reason: str) -> Callable[[Config], str]:
    """The ``idle`` of a setting that has no effect when ``condition`` is true."""
    return lambda config: reason if condition(config) else ""


def _all_spans_are_0(config: Config) -> bool:
    model = config.model
    own = [model.span if each is None else each for each in (model.g_span, model.d_span)]
    return all(span == 0 for each in own for span in spans(each))


_FULL = "0 is full attention"
_NO_PATH = re.compile(r"(pretrained|hf):.*|.*, step \d+, sha256 \w{64}", re.DOTALL)  # the last is what files once kept
_HEAVIEST = 10**9  # weight of a penalty, or norm of a gradient: far below what float32 holds
_FASTEST = 1000  # learning rate: one step of Adam moves every weight by about as much

_no_dataset = _when(lambda c: c.data.dataset is None, "it says where a --dataset is")
_nothing_hidden = _when(_all_spans_are_0, "at span 0 nothing is excluded")
_two_spans_given = _when(
    lambda c: None not in (c.model.g_span, c.model.d_span), "both networks have their own, --g_span and --d_span"
)
_no_start = _when(lambda c: c.model.start_from is None, "it is about what --start_from names")
_no_transposed = _when(lambda c: c.model.network == "resnet", "the residual networks have no transposed convolution")
_no_own_penalty = _when(lambda c: not c.game.own_penalty, "only the wgan-gp loss has this penalty")
_no_penalty = _when(lambda c: not c.game.penalized, "there is no gradient penalty")
_no_scoring = _when(lambda c: c.run.eval_every is None, "nothing is scored during training without --eval_every")
_no_guard = _when(lambda c: c.run.guard == "off", "the guard is off")
_no_rollback = _when(lambda c: c.run.guard != "recover", "a run goes back only with --guard recover")


@dataclass(frozen=True)
class DataConfig:
    """The images to train on."""

    data: str | None = setting(None, "free", pairs=False)
    """A folder of images or of shards; a zip, tar, parquet, LMDB, .npy or .npz; hf:OWNER/NAME, a data set on the hub;
    or 'faces': drawn faces, nothing to download. Without --data and --dataset it is 'faces'."""
    dataset: Literal["celeb", "lsun"] | None = setting(None, "free", pairs=False)
    """CelebA or LSUN church, found under --image_path where their Kaggle downloads unpack."""
    image_path: str = setting("./data", "place", pairs=False, idle=_no_dataset)
    """Where --dataset is looked for."""
    crop: str = setting("auto", "computed")
    """'fill': the largest centre part of the size's aspect, 'square' for square sizes; 'squash': the whole image,
    stretched; 'pad': the whole image on black (transparent where images are), 'pad:white' or 'pad:#aabbcc' on a colour;
    a number: the centre part whose shorter side has that many pixels.
    'auto': 160 for celeb and squash for lsun, as published, and fill for anything else."""
    filter: Literal["bilinear", "bicubic", "lanczos", "box"] = setting("bilinear", "computed")
    """How images are resized; all filters are antialiased."""
    range: ValueRange = setting("full", "computed")
    """What is black and white in 16-bit images: 'full', 0 and 65535; two values such as 0 4095; 'auto': the smallest
    and the largest value of all images, if these have 14 bits or less."""
    prepared: str = setting("./prepared", "place")
    """The folder where decoded images are kept for later runs."""
    split: Literal["auto", "train", "valid", "val", "validation", "test", "all"] = setting("auto", "free", pairs=False)
    """Which part of a data set with folders or files for train, valid and test: one, or 'all' together.
    'auto': train, where there is one."""
    max_pixels: int = setting(178_956_970, "free", must_be="more than 0", most=10**12)
    """An image of more pixels is skipped: decoding it takes more memory than it is worth."""
    strict: bool = setting(False, "free")
    """Refuse a data set with an unreadable image, instead of reporting and skipping the image."""

    def __post_init__(self) -> None:
        _check_fields(self)
        _require(
            self.data is None or self.dataset is None,
            f"give either `data` or `dataset`, got data {self.data!r} and dataset {self.dataset!r}",
        )
        _require(
            re.fullmatch(r"auto|square|fill|squash|pad(:.*)?|[1-9][0-9]{0,5}", self.crop) is not None,
            f"`crop` must be auto, square, fill, squash, pad, pad:COLOUR or a number of pixels, got {self.crop!r}",
        )
        if self.crop.startswith("pad:"):
            object.__setattr__(self, "crop", f"pad:{_colour(self.crop.removeprefix('pad:'))}")
        values = (0, 65535) if isinstance(self.range, str) else self.range
        _require(
            len(values) == 2 and 0 <= values[0] < values[1] <= 65535,
            f"`range` must be auto, full or two values from 0 to 65535, the smaller one first, got {self.range}",
        )

    @property
    def values(self) -> tuple[int, int] | Literal["auto"] | None:
        """``range`` as two values, or None for the full one."""
        if isinstance(self.range, str):
            return "auto" if self.range == "auto" else None
        return self.range[0], self.range[1]


def _colour(name: str) -> str:
    """A colour by its name or hexadecimal digits as #rrggbb. Raises UserError for anything else."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UserError(f"`crop` pad:COLOUR needs a colour such as white or #aabbcc, got {shorten(name)}") from None
    return f"#{red:02x}{green:02x}{blue:02x}"


@dataclass(frozen=True)
class ModelConfig:
    """The networks."""

    network: Literal["dcgan", "resnet"] = setting("dcgan", "computed")
    """dcgan: the published program's; resnet: the residual networks of the paper's own code."""
    num_classes: int | Literal["auto"] = setting(0, "computed", must_be="0 or more", most=1_000_000)
    """Number of classes: 0 for an unconditional model, 'auto' for one class per folder of images."""
    imsize: int | str = setting(64, "computed", most=8192)
    """Size of the images: 64, or 64x96 for height x width. The networks double a first map of 4 to 7 pixels, so 16, 48,
    64, 80, 96, 128 and others are possible; the sentence about one that is not names the nearest that are."""
    channels: AnyChannels = setting(3, "computed")
    """Channels of the images: 1 for grey, 3, or 4 with transparency; 'auto' is 1 if all images are grey, 4 if a pixel
    of one is transparent, else 3."""
    z_dim: int = setting(128, "computed", must_be="more than 0", most=65_536)
    """Length of the latent vector z."""
    g_conv_dim: int = setting(64, "computed", must_be="more than 0", most=16_384)
    """Channels of the generator's largest map."""
    d_conv_dim: int = setting(64, "computed", must_be="more than 0", most=16_384)
    """Channels of the discriminator's largest map."""
    span: Span = setting(0, "computed", pairs=True, idle=_two_spans_given, must_be="0 or more", most=8192, zero=_FULL)
    """A pixel may not attend to the (2*span+1) x (2*span+1) square around it; 0 is full attention, the original SAGAN.
    'self' hides only the pixel itself."""
    g_span: Span | tuple[Span, ...] | None = setting(
        None, "computed", pairs=True, must_be="0 or more", most=8192, zero=_FULL
    )
    """The span of the generator, or one for each of its attention layers in order; by default --span."""
    d_span: Span | tuple[Span, ...] | None = setting(
        None, "computed", pairs=True, must_be="0 or more", most=8192, zero=_FULL
    )
    """The same for the discriminator."""
    masking: Literal["after", "before"] = setting("after", "computed", pairs=True, idle=_nothing_hidden)
    """'after': weights in the square are set to 0 after the softmax; 'before': its keys are left out of the softmax."""
    pool: int = setting(1, "computed", pairs=True, must_be="more than 0", most=8192)
    """Keys and values are max-pooled this much before attention; the paper's own code uses 2."""
    g_attention: tuple[int, ...] | None = setting(None, "computed")
    """Sizes of the generator's maps that attention follows, such as 16 32, or none.
    By default as published, where the network has them: dcgan 16 and 32, resnet 32 or half of a smaller image."""
    d_attention: tuple[int, ...] | None = setting(None, "computed")
    """Sizes of the discriminator's maps that attention follows, or none.
    By default as published: dcgan 8 and 4, resnet 32 or half of a smaller image."""
    norm_axis: Literal["output", "input"] = setting("output", "computed", idle=_no_transposed)
    """Which channels the spectral norm of a transposed convolution takes as rows.
    'input' is what the published program does, and what its checkpoints need."""
    start_from: str | None = setting(None, "place")
    """Start from trained networks: a run's folder, a snapshot, an exported folder, pretrained:NAME or hf:OWNER/NAME.
    They may differ in size, span and classes: what both have is taken, and the rest is new. All settings of the
    networks are those of the source, unless given. A run's last checkpoint also holds a discriminator."""
    start_sha256: str | None = setting(None, "computed", idle=_no_start)
    """The hash of the file that --start_from names: recorded and, where it is given, checked."""
    freeze_d: int = setting(0, "computed", must_be="0 or more", most=100)
    """Leave this many blocks of the discriminator, from the image on, as --start_from has them; for little data."""

    def __post_init__(self) -> None:
        _check_fields(self)
        _require(
            self.start_sha256 is None or re.fullmatch("[0-9a-f]{64}", self.start_sha256) is not None,
            f"`start_sha256` must be 64 hexadecimal digits, got {shorten(self.start_sha256)}",
        )
        _require(
            not self.freeze_d or self.start_from is not None,
            f"`freeze_d` {self.freeze_d} needs `start_from`: the blocks of a new discriminator have to be trained",
        )
        _require(self.channels in (1, 3, 4, "auto"), f"`channels` must be 1, 3, 4 or auto, got {self.channels}")
        shape = ImageShape.of(self.imsize)
        assert shape.doublings, "a shape that does not fit is refused"
        object.__setattr__(self, "imsize", shape.size)  # 64x64 is 64

    @property
    def shape(self) -> ImageShape:
        """Of the images; while it is not known how many channels they have, of such with three."""
        return ImageShape.of(self.imsize, 3 if self.channels == "auto" else self.channels)


@dataclass(frozen=True)
class GameConfig:
    """The adversarial game."""

    adv_loss: Literal["hinge", "wgan-gp", "non-saturating", "least-squares", "rpgan"] = setting(
        "hinge", "computed", pairs=True
    )
    """The adversarial loss; rpgan compares each fake with a real image (relativistic pairing)."""
    lambda_gp: float = setting(10.0, "computed", pairs=True, idle=_no_own_penalty, must_be="0 or more", most=_HEAVIEST)
    """Weight of the gradient penalty; wgan-gp only."""
    r1: float | Literal["auto"] = setting(0.0, "computed", pairs=True, must_be="0 or more", most=_HEAVIEST)
    """Weight of R1, the zero-centred gradient penalty at real images; 'auto': 0.0002 * imsize^2 / batch_size."""
    r2: float | Literal["auto"] = setting(0.0, "computed", pairs=True, must_be="0 or more", most=_HEAVIEST)
    """Weight of R2, the same penalty at generated images."""
    penalty_every: int = setting(1, "computed", pairs=True, idle=_no_penalty, must_be="more than 0")
    """Apply gradient penalties only in every Nth discriminator step, with N times their weight.
    Adam with beta2 0.9 forgets in about ten steps: with N above 4 use --beta2 0.99, or the penalty is weaker."""
    lecam: float = setting(0.0, "computed", pairs=True, must_be="0 or more", most=_HEAVIEST)
    """Weight of the LeCam penalty, which keeps logits near past ones; for little data, around 0.1 to 0.3."""
    augment: tuple[Literal["color", "translation", "cutout", "flip"], ...] = setting((), "computed", pairs=True)
    """DiffAugment: random changes to all images before the discriminator sees them, such as
    color translation cutout, or flip; for little data."""
    flip: bool = setting(False, "computed", pairs=True)
    """Mirror half of the real images."""
    batch_size: int = setting(64, "computed", must_be="more than 0", most=10_000_000)
    """Real images, and fakes, in each step; on the command line also 'auto': the largest batch that fits."""
    shards: int = setting(1, "computed", pairs=True, must_be="more than 0", most=10_000)
    """Parts of the batch, each with its own batch norm statistics, for one or several processes: the results depend on
    the shards, not on the processes. By default one for each process."""
    n_critic: int = setting(1, "computed", must_be="more than 0", most=10**9)
    """Discriminator steps per generator step."""
    g_lr: float = setting(1e-4, "computed", pairs=True, must_be="more than 0", most=_FASTEST)
    """Learning rate of the generator."""
    d_lr: float = setting(4e-4, "computed", pairs=True, must_be="more than 0", most=_FASTEST)
    """Learning rate of the discriminator."""
    beta1: float = setting(0.0, "computed", pairs=True)
    """Adam's first beta."""
    beta2: float = setting(0.9, "computed", pairs=True)
    """Adam's second beta."""
    lr_decay: float | None = setting(None, "computed", pairs=True, must_be="more than 0", most=1)
    """Multiply both learning rates by this after every epoch; no decay by default."""
    lr_schedule: Literal["constant", "linear", "cosine"] = setting("constant", "computed", pairs=True)
    """How both learning rates fall over the run; linear and cosine reach 0 at its last step."""
    max_grad_norm: float | None = setting(None, "computed", pairs=True, must_be="more than 0", most=_HEAVIEST)
    """Clip the norm of each network's gradient to this; no limit by default."""
    ema_halflife: int = setting(44_000, "computed", pairs=True, must_be="0 or more", zero="0: no averaging")
    """Half-life, in images, of the exponential moving average (EMA) of the generator's weights, from which samples are
    drawn. 0: no EMA."""

    def __post_init__(self) -> None:
        _check_fields(self)
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"`{name}` must be from 0 to below 1, got {value}")
        _require(len(set(self.augment)) == len(self.augment), f"`augment` must name each once, got {self.augment}")
        _require(
            self.batch_size % self.shards == 0,
            f"`batch_size` must be a multiple of shards, got {self.batch_size} for {plural(self.shards, 'shard')}",
        )

    @property
    def own_penalty(self) -> bool:
        """Whether the loss brings a gradient penalty, which ``lambda_gp`` weighs."""
        return self.adv_loss == "wgan-gp"

    @property
    def penalized(self) -> bool:
        """Whether a gradient penalty is asked for."""
        return self.own_penalty or self.r1 != 0 or self.r2 != 0


@dataclass(frozen=True)
class RunConfig:
    """The length, the intervals and the places of a run."""

    run_dir: str | None = setting(None, "place")
    """The folder of the run. By default runs/DATA-SIZEpx-spanS, with a number appended if that exists."""
    seed: int = setting(0, "computed")
    """Decides the weights, the order of the images and every z: the same seed gives the same run."""
    total_step: int = setting(100_000, "free", must_be="more than 0")
    """Generator steps."""
    log_step: int = setting(10, "free", must_be="more than 0")
    """Steps between lines of records.jsonl."""
    sample_step: int = setting(1000, "free", must_be="more than 0")
    """Steps between grids of samples."""
    checkpoint_every: int = setting(1000, "free", must_be="more than 0")
    """Steps between checkpoints, from which the run can be resumed. Others follow after two minutes and, as snapshots
    do, every --snapshot_minutes."""
    snapshot_every: int = setting(10_000, "free", must_be="more than 0")
    """Steps between snapshots of the averaged generator. All are kept, unless --keep_snapshots is given."""
    keep_snapshots: int | None = setting(None, "free", must_be="more than 0")
    """Keep only that many of the newest snapshots. The best one, once there are scores, is always kept, and one that is
    yet to be scored."""
    keep_best: int | None = setting(None, "free", idle=_no_scoring, must_be="more than 0")
    """Keep only that many snapshots with the lowest Fréchet distance, and the newest; with --eval_every."""
    snapshot_minutes: float = setting(30, "free", must_be="0 or more", most=10**9)
    """Minutes after which a snapshot between those is written, which replaces the one before. 0: only at stops."""
    sample_count: int = setting(64, "kept", must_be="more than 0", most=100_000)
    """Images in a grid, 8 in a row."""
    precision: Literal["auto", "fp32", "bf16"] = setting("fp32", "computed", pairs=True)
    """bf16: products in bfloat16; weights, losses and softmax statistics stay float32.
    auto: bf16 on a GPU that supports it, else fp32."""
    compile: bool | None = setting(None, "free")
    """Compile the networks with torch.compile, which takes a minute at the start. By default on a GPU."""
    cuda_graphs: bool | None = setting(None, "free")
    """Run each training step as one CUDA graph. By default on a GPU, and only there."""
    resident: bool | None = setting(None, "free")
    """Keep all images on the GPU. By default when they take less than half of its free memory."""
    device: str = setting("auto", "place")
    """auto, cpu, cuda, cuda:1 or mps."""
    tensorboard: bool = setting(False, "free")
    """Also write the records for TensorBoard, into RUN/tensorboard."""
    sample_dir: str | None = setting(None, "place")
    """The folder for grids of samples, instead of RUN/samples."""
    eval_every: int | None = setting(None, "free", must_be="more than 0")
    """Steps between scores: a snapshot is written and scored. By default `sagan evaluate RUN` does so afterwards."""
    eval_num: int = setting(2000, "free", idle=_no_scoring, must_be="more than 0", most=MOST_IMAGES)
    """Images drawn for each of these scores; the last step is also scored with 5 times as many."""
    extractor: str | None = setting(None, "free", idle=_no_scoring)
    """The network whose features are compared, as for `sagan evaluate`; torchscript:FILE runs the code in the file.
    By default inception if its weights are found, else efficientnet-lite0."""
    guard: Literal["off", "watch", "recover"] = setting("watch", "free")
    """What to do about collapse.
    off: nothing. watch: report and record it.
    recover: also roll back to the last healthy checkpoint and continue with other z and images, lower learning rates
    and, if there are gradient penalties, stronger ones.
    A non-finite loss always ends a run that cannot roll back."""
    guard_every: int = setting(50, "kept", idle=_no_guard, must_be="more than 0")
    """Steps between the guard's checks."""
    max_rollbacks: int = setting(3, "free", idle=_no_rollback, must_be="0 or more")
    """Rollbacks allowed before a run is stopped."""
    published_checkpoints: bool = setting(False, "free")
    """With every snapshot also write {step}_G.pth and {step}_D.pth as the published program did (64x64 nets only)."""

    def __post_init__(self) -> None:
        _check_fields(self)
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
        own = model.network, model.imsize, model.channels, model.num_classes, model.g_attention, model.d_attention
        _require(
            own == ("dcgan", 64, 3, 0, None, None) or not self.run.published_checkpoints,
            "`published_checkpoints` needs the published networks: imsize 64, three channels, no classes, and "
            "attention by default",
        )


_SECTIONS: dict[str, type[Any]] = {"data": DataConfig, "model": ModelConfig, "game": GameConfig, "run": RunConfig}
_MOVED = {"freeze_d": "game", "start_from": "run"}  # settings of the model, by the section that files may have them in


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dictionaries for JSON, with its format number."""
    return {"format": FORMAT} | dataclasses.asdict(config)


def from_dict(values: object, where: str = "this config") -> Config:
    """The inverse of `to_dict`; ``where`` names the file in errors. A setting that is missing is newer than the file
    and takes its default, which is how the version that wrote the file behaved.

    Raises UserError for values that `to_dict` did not make, and for a config of a newer version.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} is damaged: it holds no settings, but {shorten(values)}")
    check_format(values.get("format"), FORMAT, where)
    missing = [name for name in _SECTIONS if name not in values]
    if missing and not values.keys() - _SECTIONS.keys() - {"format"}:  # others are of a newer version
        raise UserError(f"{where} is damaged: the section {missing[0]} is missing")
    values = _in_their_sections(values)
    _refuse_unknown_choices(values, where)
    return from_plain(Config, {name: value for name, value in values.items() if name != "format"}, where)


def _in_their_sections(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file with those that were moved where this version has them."""
    found = dict(values)
    for name, section in _MOVED.items():
        model, former = found.get("model"), found.get(section)
        if isinstance(model, dict) and isinstance(former, dict) and name in former and name not in model:
            found["model"] = model | {name: former[name]}
            found[section] = {other: value for other, value in former.items() if other != name}
    return found


def _refuse_unknown_choices(values: Mapping[str, object], where: str) -> None:
    """Raises UserError for a choice that this version does not have, since a newer one may have it."""
    for section, kind in _SECTIONS.items():
        given = values.get(section)
        for name, hint in type_hints(kind).items():  # type: ignore[arg-type]
            value = given.get(name) if isinstance(given, dict) else None
            if get_origin(hint) is Literal and isinstance(value, str) and not suits(value, hint):
                raise UserError(
                    f"{where}, {section}, was written by a newer sagan, or is damaged: {name} must be "
                    f"{wording(hint)}, got {shorten(value)}"
                )


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configs differ, by name: (value in ``one``, value in ``other``)."""
    mine, theirs = settings(one), settings(other)
    return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}


def settings(config: Config) -> dict[str, Any]:
    """All settings by name, as `override` takes them."""
    return {name: value for section in _SECTIONS for name, value in vars(getattr(config, section)).items()}


def override(config: Config, changes: dict[str, Any]) -> Config:
    """The config with some settings changed, by name (names are unique over the sections).

    Raises UserError for a name that is no setting, and for values that no config has.
    """
    return fill(Config, changes, config)


def without_places(config: Config) -> Config:
    """The config without what belongs to this machine, for files that are handed on: of the images' path only the last
    name is left, of other paths none. A run's own ``config.json`` keeps them."""
    data, run = config.data, config.run
    kind, colon, file = (run.extractor or "").partition(":")
    changes = {
        "data": data.data if _NO_PATH.fullmatch(data.data or "") else Path(data.data or "").name or None,
        "image_path": DataConfig.image_path,
        "prepared": DataConfig.prepared,
        "run_dir": None if run.run_dir is None else Path(run.run_dir).name or None,
        "sample_dir": None,
        "start_from": _without_folder(config.model.start_from),
        "extractor": f"{kind}:{Path(file).name}" if colon and kind == "torchscript" else run.extractor,
    }
    return override(config, changes)


def _without_folder(start: str | None) -> str | None:
    """Of a place with trained networks: its last name or, within a run, the names from that of the run's folder on."""
    if start is None or _NO_PATH.fullmatch(start):
        return start
    path = Path(start)
    count = 3 if path.parent.name in ("snapshots", "checkpoints") else 1
    return "/".join(path.parts[-count:]).lstrip("/") or None


def with_absolute_paths(config: Config) -> Config:
    """The config with absolute paths, so that the run can be resumed from another working directory."""
    given = {
        "image_path": config.data.image_path,
        "prepared": config.data.prepared,
        "sample_dir": config.run.sample_dir,
        "data": None if config.data.data == "faces" else config.data.data,
        "start_from": config.model.start_from,
    }
    paths = {name: path for name, path in given.items() if path and not _NO_PATH.fullmatch(path)}
    return override(config, {name: str(expand(path).resolve()) for name, path in paths.items()})
