"""What moving along directions of the latents does to an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sagan.core.networks.interface import Generator
from sagan.core.sampling import generate, numbered_latents
from sagan.system.callbacks import Progress
from sagan.system.files import write_whole


def direction_images(
    generator: Generator,
    directions: Tensor,
    reach: float,
    columns: int,
    seed: int,
    label: int | None,
    device: torch.device,
    progress: Progress = lambda done, total: None,
) -> Tensor:
    """Images uint8 (len(directions) * columns, *shape): a row for each direction (n, z_dim), from ``-reach`` to
    ``reach`` along it, evenly, around image 0 of a seed."""
    z, labels = numbered_latents(generator, seed, range(1), label)
    amounts = torch.linspace(-reach, reach, columns)
    generator, classes = generator.to(device), None if labels is None else labels.expand(columns).to(device)
    rows = []
    for number, direction in enumerate(directions, 1):
        rows.append(generate(generator, (z + amounts[:, None] * direction).to(device), classes).cpu())
        progress(number, len(directions))
    return torch.cat(rows)


def write_directions(path: Path, directions: Tensor, strengths: Tensor) -> None:
    """Writes a CSV: a row for each direction, with its singular value and its entries."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["direction", "singular_value", *(f"z{number}" for number in range(directions.shape[1]))])
    for number, (row, strength) in enumerate(zip(directions.tolist(), strengths.tolist(), strict=True)):
        writer.writerow([number, repr(strength), *map(repr, row)])
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def write_latents(path: Path, names: Sequence[str], z: Tensor) -> None:
    """Writes a CSV: a row for each picture, with its name and the entries of its latent (n, z_dim)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", *(f"z{number}" for number in range(z.shape[1]))])
    writer.writerows([name, *map(repr, row)] for name, row in zip(names, z.tolist(), strict=True))
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
