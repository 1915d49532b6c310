"""What a person wants to know after the first steps: how fast it goes, how long it takes, when there is a picture."""

from __future__ import annotations

from collections.abc import Sequence

from sagan.run.config import Config
from sagan.run.plan import spell
from sagan.system.sentences import command, plural

EARLY_GRIDS = (1, 10, 100)  # steps with a grid of samples besides those that --sample_step asks for
_NIGHT = 10 * 3600.0
_KEPT = ("crop", "filter", "strict", "num_classes", "span", "masking")  # of a command, in a smaller one
_FEW_STEPS = 5_000  # with fewer than these there is little to see


def describe_outlook(config: Config, step: int, seconds_per_step: float, on_gpu: bool, new: bool = True) -> list[str]:
    """Sentences on the pace of a run at a step; a second one, with advice, where a ``new`` run takes more than a night.
    None at the last step."""
    settings = config.run
    if step >= settings.total_step:
        return []
    left = (settings.total_step - step) * seconds_per_step
    grid = _next(step, settings.sample_step, settings.total_step, EARLY_GRIDS)
    snapshot = _next(step, settings.snapshot_every, settings.total_step)
    kept = (snapshot - step) * seconds_per_step
    if settings.snapshot_minutes and kept > 60 * settings.snapshot_minutes:
        kept = 60 * settings.snapshot_minutes
    to_go, until = plural(settings.total_step - step, "step"), about((grid - step) * seconds_per_step)
    sentences = [
        f"{about(seconds_per_step)} a step: the {to_go} left take {about(left)}; next grid of samples at step {grid:,} "
        f"in {until}, next snapshot in {about(kept)}"
    ]
    if new and left > 2 * _NIGHT:
        fitting = int(_NIGHT / seconds_per_step) // 100 * 100
        fixed = config.game.lr_schedule != "constant"  # such a run ends where it was meant to
        if not fixed and (fitting >= _FEW_STEPS or on_gpu):
            shorter = command("resume", settings.run_dir or "RUN", "--total_step", max(fitting, 100))
            sentences.append(f"for a result tonight, stop it and give: {shorter}")
        else:
            sentences.append(f"for faces within the hour, stop it and give: {smaller_command(config)}")
    return sentences


def smaller_command(config: Config) -> str:
    """The command that trains on the same images, read the same way and with the same span, at a size that suits a
    CPU."""
    data, usual = config.data, Config()
    if data.dataset is not None:
        words = ["--dataset", data.dataset, "--image_path", data.image_path]
    else:
        words = ["--data", data.data or "faces"]
    for asked, default in ((data, usual.data), (config.model, usual.model)):
        for name in _KEPT:
            value = vars(asked).get(name)
            if value != vars(default).get(name):
                words += [f"--{name}", *spell(value)]
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
