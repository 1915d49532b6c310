"""Mean and covariance of features, accumulated batch by batch: all that a Fréchet distance needs of a set of images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sagan.system.errors import UserError
from sagan.system.finite import FiniteCheck

COVARIANCE_CONVENTION = "unbiased, 1/(n-1)"  # for the card: other programs divide by n

CHUNK = 4096  # rows converted to float64 at a time, so that features given all at once are not copied whole


class Moments:
    """Count, mean and covariance of feature vectors of ``dim`` numbers, summed in float64 where the features are.

    The result does not depend on how the features were split into batches, beyond rounding (about 1e-14 relative): each
    batch is centred on its own mean, and means are joined by Chan, Golub and LeVeque's update (1979), so a large common
    offset costs no digits. Memory is dim x dim numbers, whatever the number of images.

    Features on a GPU are added without waiting for it. NaN and infinite ones are then refused later, when the result is
    read: by `covariance`, `merge` and `to_tensors`.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum over images of (x - mean) (x - mean)^T
        self._finite = finite_check("features")

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of features (n, dim) given all at once."""
        moments = cls(check_features(features).shape[1])
        moments.add(features)
        return moments

    @property
    def dim(self) -> int:
        """The length of a feature vector."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """The covariance (dim, dim), float64, unbiased: divided by count - 1. Needs 2 images."""
        self._finite.verify()
        if self.count < 2:
            raise UserError(f"a covariance needs 2 images or more, got {self.count}: score more images")
        return (self.scatter + self.scatter.T) / (2 * (self.count - 1))  # only rounding made it unsymmetric

    def add(self, features: Tensor) -> None:
        """Adds the features (n, dim) of n more images, any n from 0 on, any device, any floating dtype.

        The sums live on the device of the first features (on the CPU where that device has no float64). Raises
        UserError, and adds nothing, for another dim and, unless they are on a GPU, for NaN or infinite features.
        """
        self._check_dim(check_shape(features).shape[1])
        self._finite.add(features)
        if self.count == 0 and len(features):
            self._move(float64_device(features.device))
        for rows in features.detach().split(CHUNK):
            if len(rows):
                self._add_chunk(to_float64(rows).to(self.mean.device))

    def merge(self, other: Moments) -> None:
        """Adds the images of ``other``, which is not changed. Raises UserError for another dim."""
        self._check_dim(other.dim)
        other._finite.verify()
        if self.count == 0:
            self._move(other.mean.device)
        if other.count:
            device = self.mean.device
            shift = self._join(other.count, other.mean.to(device))
            self.scatter += other.scatter.to(device)
            self.scatter.addr_(shift, shift)

    def to_tensors(self) -> dict[str, Tensor]:
        """The state as tensors on the CPU, from which `from_tensors` makes the same moments to the last bit.

        count: int64, shape (1,). mean: float64 (dim,). scatter: float64 (dim, dim), covariance times (count - 1).
        """
        self._finite.verify()
        mean, scatter = self.mean.cpu().clone(), self.scatter.cpu().clone()
        return {"count": torch.tensor([self.count]), "mean": mean, "scatter": scatter}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Moments:
        """The moments of `to_tensors`, on the CPU. Raises UserError for other tensors."""
        dim = len(tensors["mean"]) if "mean" in tensors and tensors["mean"].ndim == 1 else 0
        wanted = {"count": (1,), "mean": (dim,), "scatter": (dim, dim)}
        wrong = [name for name, shape in wanted.items() if name not in tensors or tuple(tensors[name].shape) != shape]
        if wrong or not dim:
            raise UserError(
                f"statistics are the arrays count, mean and scatter of one dim, and {wrong[0]} is missing or wrong"
            )
        moments = cls(dim)
        moments.count = int(tensors["count"])
        moments.mean, moments.scatter = tensors["mean"].clone(), tensors["scatter"].clone()
        return moments

    def _add_chunk(self, rows: Tensor) -> None:
        mean = rows.mean(0)
        shift = self._join(len(rows), mean)
        rows = torch.cat([rows - mean, shift.unsqueeze(0)])  # the shift as one more row: one product, no dim x dim copy
        self.scatter.addmm_(rows.T, rows)

    def _join(self, count: int, mean: Tensor) -> Tensor:
        """Updates count and mean for ``count`` more images of mean ``mean``; returns the vector whose outer product
        with itself the difference of the means adds to the scatter."""
        total = self.count + count
        delta = mean - self.mean
        shift = delta * math.sqrt(self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total
        return shift

    def _move(self, device: torch.device) -> None:
        self.mean, self.scatter = (zeros.to(device, non_blocking=True) for zeros in (self.mean, self.scatter))

    def _check_dim(self, dim: int) -> None:
        if dim != self.dim:
            raise UserError(different_dims(self.dim, dim))


def check_features(features: Tensor) -> Tensor:
    """The same features; UserError unless they are finite floating point numbers (images, dim)."""
    finite = finite_check("features")
    finite.add(check_shape(features))
    finite.verify()
    return features


def check_shape(features: Tensor, name: str = "features") -> Tensor:
    """The same features; UserError unless they are floating point numbers (images, dim)."""
    if features.ndim != 2 or not features.is_floating_point():
        raise UserError(
            f"{name} must be floating point numbers of shape (images, dim), got {features.dtype} of shape "
            f"{tuple(features.shape)}"
        )
    return features


def finite_check(name: str) -> FiniteCheck:
    """A check that features, or what ``name`` says, are finite."""
    return FiniteCheck(
        f"{{bad}} of {{count}} images have {name} that are NaN or infinite: look at the images (has training "
        "diverged?) and run the extractor in float32"
    )


def check_pair(x: Tensor, y: Tensor, least: int = 2) -> None:
    """UserError unless both are finite features of one dim, on one device, of ``least`` images or more."""
    for features in (x, y):
        check_features(features)
        if len(features) < least:
            raise UserError(f"{least} images or more are needed on each side, got {len(x)} and {len(y)}")
    if x.shape[1] != y.shape[1]:
        raise UserError(different_dims(x.shape[1], y.shape[1]))
    if x.device != y.device:
        raise UserError(f"features on {x.device} and on {y.device} cannot be compared: move them to one device")


def different_dims(one: int, other: int) -> str:
    """The sentence for features of unequal lengths."""
    return f"features of {one} and {other} numbers cannot be compared: both must come from one extractor"


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU for one without float64 (Apple's MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(features: Tensor) -> Tensor:
    """The features, detached, as float64 on their own device, or on the CPU where that device has none."""
    return features.detach().to(float64_device(features.device)).double()
