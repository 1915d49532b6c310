"""What a person wants to know after the first steps: how fast it goes, how long it takes, when there is a picture."""

from __future__ import annotations

from collections.abc import Sequence

from sagan.run.config import Config
from sagan.system.sentences import command

EARLY_GRIDS = (1, 10, 100)  # steps with a grid of samples besides those that --sample_step asks for
_NIGHT = 10 * 3600.0
_FEW_STEPS = 5_000  # with fewer than these there is little to see


def describe_outlook(config: Config, step: int, seconds_per_step: float, on_gpu: bool) -> list[str]:
    """Sentences on the pace of a run at a step; a second one where it takes more than a night."""
    settings = config.run
    left = (settings.total_step - step) * seconds_per_step
    grid = _next(step, settings.sample_step, settings.total_step, EARLY_GRIDS)
    snapshot = _next(step, settings.snapshot_every, settings.total_step)
    kept = (snapshot - step) * seconds_per_step
    if settings.snapshot_minutes and kept > 60 * settings.snapshot_minutes:
        kept = 60 * settings.snapshot_minutes
    sentences = [
        f"{about(seconds_per_step)} a step: {settings.total_step:,} steps take {about(left)} more; next grid of "
        f"samples at step {grid:,} in {about((grid - step) * seconds_per_step)}, next snapshot in {about(kept)}"
    ]
    if left > 2 * _NIGHT:
        fitting = int(_NIGHT / seconds_per_step) // 100 * 100
        if fitting >= _FEW_STEPS or on_gpu:
            sentences.append(f"for a result tonight, stop it and give --total_step {max(fitting, 100)}")
        else:
            sentences.append(f"for faces within the hour, stop it and give: {smaller_command(config)}")
    return sentences


def smaller_command(config: Config) -> str:
    """The command that trains on the same images at a size that suits a CPU."""
    data = config.data
    if data.dataset is not None:
        words = ["--dataset", data.dataset, "--image_path", data.image_path]
    else:
        words = ["--data", data.data or "faces"]
    return command("train", *words, "--preset", "auto")


def about(seconds: float) -> str:
    """A time in one or two units: 0.35 s, 9.7 s, 45 s, 12 min, 5 h 20 min, 11 days."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 600) * 10, 60)
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def _next(step: int, every: int, last: int, early: Sequence[int] = ()) -> int:
    """The first step after ``step`` at which something is due."""
    due = min(step - step % every + every, last)
    return min([due, *(each for each in early if step < each <= last)])
