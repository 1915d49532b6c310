"""Mean and covariance of features, streamed: all that a Fréchet distance needs from a set of images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sagan.system.errors import UserError
from sagan.system.finite import FiniteCheck

COVARIANCE_CONVENTION = "unbiased, 1/(n-1)"  # for the card: other programs divide by n

CHUNK = 4096  # rows in float64 at a time, so that features handed over all at once are not copied whole


class Moments:
    """Count, mean and covariance of feature vectors of ``dim`` numbers, summed in float64 where the features are.

    The result does not depend on how the features were cut into batches, beyond rounding (about 1e-14 relative): every
    batch is centred on its own mean, and means are joined by Chan, Golub and LeVeque's update (1979), so a large common
    offset costs no digits. Memory is dim x dim numbers however many images come.

    Features on a GPU are added without waiting for it. Those that are NaN or infinite are then refused later, by
    whatever asks for the result: `covariance`, `merge` and `to_arrays`.
    """

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise UserError(f"dim must be 1 or more, got {dim} (it is the length of a feature vector)")
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum over images of (x - mean) (x - mean)^T
        self._finite = finite_check("features")

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of features (n, dim) that are there all at once."""
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
        self._expect(check_shape(features).shape[1], "these features have")
        self._finite.add(features)
        if self.count == 0 and len(features):
            self._move(float64_device(features.device))
        for rows in features.detach().split(CHUNK):
            if len(rows):
                self._add_chunk(to_float64(rows).to(self.mean.device))

    def merge(self, other: Moments) -> None:
        """Adds the images of ``other``, which is not changed. Raises UserError for another dim."""
        self._expect(other.dim, "the other moments have")
        other._finite.verify()
        if self.count == 0:
            self._move(other.mean.device)
        if other.count:
            device = self.mean.device
            shift = self._join(other.count, other.mean.to(device))
            self.scatter += other.scatter.to(device)
            self.scatter.addr_(shift, shift)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The state as plain arrays, for npz or safetensors; `from_arrays` gives the same moments to the last bit.

        count: int64, shape (1,). mean: float64 (dim,). scatter: float64 (dim, dim), covariance times (count - 1).
        """
        self._finite.verify()
        return {
            "count": np.array([self.count], np.int64),
            "mean": self.mean.cpu().numpy().copy(),
            "scatter": self.scatter.cpu().numpy().copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Moments:
        """The moments that `to_arrays` wrote, on the CPU. Raises UserError for arrays that cannot be moments."""
        missing = {"count", "mean", "scatter"} - set(arrays)
        if missing:
            raise UserError(f"statistics of features lack {', '.join(sorted(missing))}: compute them again")
        count, mean, scatter = (np.asarray(arrays[name]) for name in ("count", "mean", "scatter"))
        if count.size != 1 or int(count.reshape(())) < 0:
            raise UserError(f"statistics of features hold the count {count!r}, not one number of images")
        if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
            raise UserError(
                f"statistics of features hold a mean of shape {mean.shape} and a scatter of shape {scatter.shape}, "
                "not (dim,) and (dim, dim): compute them again"
            )
        if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise UserError("statistics of features hold NaN or infinite numbers: compute them again")
        moments = cls(len(mean))
        moments.count = int(count.reshape(()))
        moments.mean = torch.from_numpy(np.array(mean, np.float64))
        moments.scatter = torch.from_numpy(np.array(scatter, np.float64))
        return moments

    def _add_chunk(self, rows: Tensor) -> None:
        mean = rows.mean(0)
        shift = self._join(len(rows), mean)
        rows = torch.cat([rows - mean, shift.unsqueeze(0)])  # the join as one row more: one product, no dim x dim copy
        self.scatter.addmm_(rows.T, rows)

    def _join(self, count: int, mean: Tensor) -> Tensor:
        """Takes ``count`` images of mean ``mean`` into count and mean; returns the vector whose outer product with
        itself the distance between the two means adds to the scatter."""
        total = self.count + count
        delta = mean - self.mean
        shift = delta * math.sqrt(self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total
        return shift

    def _move(self, device: torch.device) -> None:
        self.mean, self.scatter = (zeros.to(device, non_blocking=True) for zeros in (self.mean, self.scatter))

    def _expect(self, dim: int, who: str) -> None:
        if dim != self.dim:
            raise UserError(
                f"these moments are of features of {self.dim} numbers, {who} {dim}: both must come from one extractor"
            )


def check_features(features: Tensor, name: str = "features") -> Tensor:
    """The same features, when they are (images, dim) finite floating point numbers; UserError when not."""
    finite = finite_check(name)
    finite.add(check_shape(features, name))
    finite.verify()
    return features


def check_shape(features: Tensor, name: str = "features") -> Tensor:
    """The same features, when they are (images, dim) floating point numbers; UserError when not."""
    if features.ndim != 2 or not features.is_floating_point():
        raise UserError(
            f"{name} must be floating point numbers of shape (images, dim), got {features.dtype} of shape "
            f"{tuple(features.shape)}"
        )
    return features


def finite_check(name: str) -> FiniteCheck:
    """A check that features (or what ``name`` says) are finite."""
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
        raise UserError(
            f"features of {x.shape[1]} and {y.shape[1]} numbers cannot be compared: both must come from one extractor"
        )
    if x.device != y.device:
        raise UserError(f"features on {x.device} and on {y.device} cannot be compared: move them to one device")


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU for one without float64 (Apple's MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(features: Tensor) -> Tensor:
    """The features, detached, as float64 on their own device, or on the CPU where that device has none."""
    return features.detach().to(float64_device(features.device)).double()
