"""What is exported: a trained network, folded, and the inputs by which an export is compared with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sagan.core.networks.folding import folded
from sagan.core.networks.interface import Discriminator, Generator
from sagan.core.sampling import classes_in_turn
from sagan.core.shapes import ImageShape, refuse_other_than_rgb
from sagan.run.build import Network
from sagan.run.config import Config
from sagan.run.folder import Run
from sagan.run.places import find_snapshot
from sagan.run.weights import load_discriminator, load_snapshot
from sagan.system.errors import UserError
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import latents, normal

COMPARED = 16
"""Inputs by which an export is compared with its network."""
BATCHES = (1, 2, 5, 7, 1)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network in eval mode on the CPU, with its spectral and batch norms folded into its weights."""

    network: Generator | Discriminator
    """What is exported."""
    config: Config
    step: int
    path: Path
    """The snapshot or checkpoint that it comes from."""
    images: str | None = None
    """The hash of its training images, if known."""
    classes: tuple[str, ...] = ()
    trained: Generator | Discriminator | None = None
    """What exports are compared with: the network before it was folded; None for ``network`` itself."""
    rounding: float | None = None
    """How much half precision changes the outputs at most; None where the weights are not rounded to it."""

    @property
    def reference(self) -> Generator | Discriminator:
        """The network that exports are compared with."""
        return self.network if self.trained is None else self.trained

    @property
    def is_generator(self) -> bool:
        return isinstance(self.network, Generator)

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    @property
    def shape(self) -> ImageShape:
        return self.network.shape

    def inputs(self, count: int = COMPARED) -> tuple[Tensor, Tensor | None]:
        """Latents (count, z_dim), or images (count, *shape) for a discriminator; and classes in turn, if it has any."""
        if isinstance(self.network, Generator):
            x = latents(0, "compare exports", count, self.network.z_dim)
        else:
            x = normal((count, *self.shape.chw), random_generator(0, "compare exports")).tanh()
        return x, classes_in_turn(range(count), self.num_classes)

    def call(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """The output of `reference`, (n, *shape) in [-1, 1] or logits (n,). Raises UserError where it is not finite."""
        with torch.inference_mode():
            out: Tensor = self.reference(x, labels)
        if not out.isfinite().all():
            raise UserError(f"{self.path} gives NaN or infinite numbers: its weights are those of a run that diverged")
        return out


def open_subject(
    place: Path, step: int | None = None, network: Network = "generator", *, half: bool = False
) -> Subject:
    """The network of a place that `find_snapshot` takes; a discriminator only of a run with a checkpoint.

    Exports are compared with it as it was trained; with ``half``, which rounds its weights to half precision, with the
    rounded one. Raises UserError where there is none, and where its weights are too large for half precision.
    """
    if network == "generator":
        path = find_snapshot(place, step)
        snapshot = load_snapshot(path)
        trained, about = snapshot.generator, (snapshot.config, snapshot.step, path, snapshot.images, snapshot.classes)
        subject = Subject(folded(trained), *about, trained=trained)
    else:
        run = Run.open(place)
        if not run.checkpoint_file.is_file():
            raise UserError(f"{place} has no discriminator: only a checkpoint, checkpoints/last.pt, holds one")
        discriminator, found = load_discriminator(run)
        if step not in (None, found):
            raise UserError(f"{place} has no discriminator of step {step}, only of its checkpoint, step {found}")
        subject = Subject(folded(discriminator), run.config(), found, run.checkpoint_file, trained=discriminator)
    if subject.shape.channels == 4:
        refuse_other_than_rgb(subject.shape, "an export")
    return _rounded(subject) if half else subject


def _rounded(subject: Subject) -> Subject:
    """The subject with its weights in half precision, which exports are then compared with."""
    inputs = subject.inputs()
    wanted = subject.call(*inputs)
    round_to_half(subject.network, subject.path)
    subject = replace(subject, trained=None)
    return replace(subject, rounding=(subject.call(*inputs) - wanted).abs().max().item())


@torch.no_grad()
def round_to_half(network: nn.Module, path: Path) -> None:
    """Rounds the weights of a network to half precision. Raises UserError, naming ``path``, for numbers beyond it."""
    for name, weight in network.state_dict().items():
        if weight.is_floating_point():
            rounded = weight.half().float()
            if not rounded.isfinite().all():
                raise UserError(f"{path} cannot be exported in half precision: {name} holds numbers beyond 65,504")
            weight.copy_(rounded)
