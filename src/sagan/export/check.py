"""Whether an export computes what its network computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.export.subject import BATCHES, Subject
from sagan.system.errors import UserError
from sagan.system.images import to_uint8
from sagan.system.sentences import plural

_ALLOWED = 2e-4  # of outputs in float32, relative to the largest, from sums in another order
Call = Callable[[Tensor, Tensor | None], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Agreement:
    """How an export agrees with its network: the largest difference of each output, by its name."""

    differences: Mapping[str, float]
    grey: bool
    """Whether that of the images is in grey levels, as they are uint8."""

    @property
    def difference(self) -> float:
        """That of the images, or of the logits."""
        return next(iter(self.differences.values()))

    def __str__(self) -> str:
        first, *others = (f"{difference:.1e} of {name}" for name, difference in self.differences.items())
        return ", ".join([plural(round(self.difference), "grey level") if self.grey else first, *others])


def compare(subject: Subject, expected: Call, export: Call) -> Agreement:
    """Compares what an export gives for `BATCHES` of inputs with what is expected: outputs by name.

    Raises UserError where they differ by more than one grey level (images as uint8) or by rounding (floats).
    """
    x, labels = subject.inputs()
    wanted = expected(x, labels)
    found = _in_batches(export, x, labels)
    if wanted.keys() != found.keys():
        raise UserError(f"the export gives {', '.join(found)} where {', '.join(wanted)} is expected: it is not written")
    for name in wanted:
        if wanted[name].shape != found[name].shape or wanted[name].dtype != found[name].dtype:
            raise UserError(
                f"the export gives {name} of shape {tuple(found[name].shape)} and {found[name].dtype}, expected is "
                f"{tuple(wanted[name].shape)} and {wanted[name].dtype}: it is not written"
            )
    differences = {name: (wanted[name].double() - found[name].double()).abs().max().item() for name in wanted}
    for name, difference in differences.items():
        largest = wanted[name].abs().max().item()
        if wanted[name].dtype == torch.uint8:
            allowed = 1.0
        elif name.startswith("attention"):  # shares, of which each may be small
            allowed = _ALLOWED * largest
        else:
            allowed = _ALLOWED * max(1.0, largest)
        if not difference <= allowed:
            raise UserError(f"the export's {name} differ from the network's by {difference:.3g}: it is not written")
    return Agreement(differences, grey=next(iter(wanted.values())).dtype == torch.uint8)


def _in_batches(export: Call, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """The outputs for all inputs, from batches of every size."""
    parts = []
    for rows in torch.arange(len(x)).split(BATCHES):
        parts.append(export(x[rows], None if labels is None else labels[rows]))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def plain_outputs(subject: Subject) -> Call:
    """The network's own output, as floats."""
    name = "images" if subject.is_generator else "logits"
    return lambda x, labels: {name: subject.call(x, labels)}


def pixels(images: Tensor) -> Tensor:
    """Images (n, channels, h, w) in [-1, 1] as uint8 (n, h, w, channels)."""
    return to_uint8(images).permute(0, 2, 3, 1)
