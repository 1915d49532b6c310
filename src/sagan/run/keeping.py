"""What a run takes on the disk, and which of its snapshots are kept."""

from __future__ import annotations

import functools
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import torch

from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, ModelConfig, RunConfig, override
from sagan.run.folder import Run, snapshot_step
from sagan.run.scores import like_groups, read_scores
from sagan.system.files import is_held
from sagan.system.sentences import binary, typed

_ADAM = 2  # numbers that Adam keeps for each parameter
_FEW = 3  # snapshots that are advised to keep
_BYTES = 4  # weights and moments are float32 in every precision


def remove_old_snapshots(run: Run, settings: RunConfig) -> None:
    """Removes the snapshots that ``keep_snapshots`` and ``keep_best`` do not ask for.

    Kept are the newest ``keep_snapshots``, the ``keep_best`` with the lowest Fréchet distance of each group of
    comparable scores, and always the newest, the best of each group, those that training has yet to score, and one that
    is being scored. Without either setting all are kept. The published checkpoints of a step go with its snapshot.
    """
    if settings.keep_snapshots is None and settings.keep_best is None:
        return
    paths = {snapshot_step(path): path for path in run.snapshots()}
    scores = read_scores(run, "frechet")
    kept = set(sorted(paths)[-(settings.keep_snapshots or 1) :])
    for group in like_groups(scores):
        ranked = [score.step for score in sorted(group, key=lambda score: score.value) if score.step in paths]
        kept |= set(ranked[: settings.keep_best or 1])
    if settings.eval_every is not None:
        kept |= {step for step in paths if step % settings.eval_every == 0} - {score.step for score in scores}
    for step in paths.keys() - kept:
        if not is_held(run.folder / "evaluation" / f"{step}.lock"):
            for path in (paths[step], *(run.folder / f"{step}_{network}.pth" for network in "GD")):
                path.unlink(missing_ok=True)


def written_snapshots(settings: RunConfig) -> int:
    """How many snapshots a run writes: every ``snapshot_every`` and ``eval_every`` steps, and at its end."""
    total, every = settings.total_step, settings.snapshot_every
    also = settings.eval_every or every
    at_end = total % every > 0 and total % also > 0
    return total // every + total // also - total // math.lcm(every, also) + at_end


def kept_snapshots(settings: RunConfig, written: int) -> int:
    """The most snapshots that lie in a run's folder at its end, of those written, if all scores are comparable; of each
    further kind of score, such as that of another extractor, ``keep_best`` more, or the best."""
    if settings.keep_snapshots is None and settings.keep_best is None:
        return written
    return min(written, (settings.keep_snapshots or 1) + (settings.keep_best or 1))


# ---- the disk


def snapshot_bytes(config: Config) -> int:
    """Bytes of one snapshot: the averaged generator with its buffers."""
    generator, _ = _measures(config.model)
    return generator.state_bytes


def checkpoint_bytes(config: Config) -> int:
    """Bytes of the checkpoint: both networks, the average, and Adam's moments of every parameter."""
    generator, discriminator = _measures(config.model)
    moments = _ADAM * (generator.parameters + discriminator.parameters) * _BYTES
    return 2 * generator.state_bytes + discriminator.state_bytes + moments


def run_bytes(config: Config) -> int:
    """The most bytes of a run's folder, without sample grids and records: all snapshots that are kept, two checkpoints
    while one is being written, two more where a run may roll back, and the one that it starts from. (Every rollback
    keeps another.)"""
    snapshots = kept_snapshots(config.run, written_snapshots(config.run))
    pair = sum(each.state_bytes for each in _measures(config.model)) if config.run.published_checkpoints else 0
    checkpoints = (4 if config.run.guard == "recover" else 2) + (config.model.start_from is not None)
    return snapshots * (snapshot_bytes(config) + pair) + checkpoints * checkpoint_bytes(config)


def warning_of_little_space(config: Config, folder: Path) -> str:
    """A sentence where the disk of a run's folder has less free space than the run may take; else ""."""
    there = sum(path.stat().st_size for name in ("snapshots", "checkpoints") for path in (folder / name).glob("*.*"))
    needed, free = run_bytes(config) - there, free_bytes(folder)
    if needed <= free:
        return ""
    sentence = f"the run may take {binary(needed)} more, and {binary(free)} are free on its disk"
    few = override(config, {"keep_snapshots": _FEW})
    if run_bytes(few) < run_bytes(config):
        sentence += f": `{typed('--keep_snapshots', _FEW)}` keeps fewer snapshots, {binary(run_bytes(few))} in all"
    return sentence


def free_bytes(folder: Path) -> int:
    """The free bytes on the disk of a folder."""
    return shutil.disk_usage(folder).free


def parameter_counts(config: Config) -> tuple[int, int]:
    """The numbers of parameters of the generator and of the discriminator."""
    generator, discriminator = _measures(config.model)
    return generator.parameters, discriminator.parameters


class _Measures(NamedTuple):
    parameters: int
    state_bytes: int


@functools.lru_cache(maxsize=16)  # a run asks before each snapshot
def _measures(model: ModelConfig) -> tuple[_Measures, _Measures]:
    """Of the generator and of the discriminator: how many parameters, and how many bytes its state dict has."""
    with torch.device("meta"):
        networks = build_generator(model), build_discriminator(model)
    generator, discriminator = (
        _Measures(sum(x.numel() for x in each.parameters()), sum(x.nbytes for x in each.state_dict().values()))
        for each in networks
    )
    return generator, discriminator
