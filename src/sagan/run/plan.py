"""The plan of a sweep: its runs, which follow from the values of its axes, and the file that keeps it."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagan.run.config import (
    Config,
    differences,
    from_dict,
    idle_settings,
    names_of,
    override,
    settings,
    to_dict,
    with_absolute_paths,
)
from sagan.run.presets import PRESETS
from sagan.system.errors import UserError
from sagan.system.files import write_whole
from sagan.system.sentences import command, plural
from sagan.system.typed import check_format, foreign, from_plain, plain, read_json, shorten

FORMAT = 1
MOST_RUNS = 10_000
_LARGEST = 2**24  # bytes of a plan
ALWAYS = ("span", "seed")  # axes of every sweep, even with one value, so that they are in the names of its runs
OF_THE_SWEEP = ("run_dir", "sample_dir")  # settings that the sweep decides
PATHS = ("data", "image_path", "prepared", "start_from")


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep: its folder's name, and its value on each axis."""

    name: str
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep: every combination of the axes' values, except those that are left out.

    Runs of one seed are paired by design: weights, z and the order of the images depend only on the seed, so they are
    the same for all values of the other axes.
    """

    base: Config
    axes: dict[str, tuple[Any, ...]]
    left_out: tuple[dict[str, Any], ...] = ()
    """Conditions, each with values for some axes; a combination that has all the values of one is left out."""
    command: str = ""
    """The command that made the plan."""

    def runs(self) -> list[PlannedRun]:
        """The runs, those of one seed together, so that a sweep that is cut short has complete pairs to compare."""
        order = sorted(self.axes, key=lambda axis: axis != "seed")
        points = [dict(zip(order, each, strict=True)) for each in itertools.product(*(self.axes[a] for a in order))]
        kept = [point for point in points if not any(c.items() <= point.items() for c in self.left_out)]
        return [_named({axis: point[axis] for axis in self.axes}) for point in kept]

    def run(self, name: str) -> PlannedRun:
        """The run of this name."""
        return next(run for run in self.runs() if run.name == name)

    def config(self, run: PlannedRun, folder: Path) -> Config:
        """The config of a run in ``folder``."""
        return override(self.base, {**run.overrides, "run_dir": str(folder)})


def make_plan(
    base: Config,
    given: Mapping[str, Sequence[Any]],
    left_out: Sequence[Mapping[str, Any]] = (),
    command: str = "",
) -> Plan:
    """A plan from a config and, by the names of settings, the values they take: one value changes the config of all
    runs, several are an axis. Span and seed are always axes, and the seed is the last one.

    Raises UserError for a value that no run can have, for one that is given twice, for settings that the sweep decides
    and for a condition that leaves out nothing, or everything.
    """
    for name in OF_THE_SWEEP:
        if name in given:
            raise UserError(f"--{name} is for one run: the runs of a sweep are in its folder, --sweep_dir")
    axes = {name: plain(tuple(values)) for name, values in given.items() if len(values) > 1 or name in ALWAYS}
    base = override(base, {name: values[0] for name, values in given.items() if name not in axes})
    for name in ALWAYS:
        axes.setdefault(name, (settings(base)[name],))
    axes["seed"] = axes.pop("seed")
    base = with_absolute_paths(base)
    for name in axes.keys() & PATHS:
        axes[name] = tuple(settings(with_absolute_paths(override(base, {name: value})))[name] for value in axes[name])
    plan = Plan(base, axes, tuple(map(dict, left_out)), command)
    _check(plan)
    return plan


def extend(old: Plan, new: Plan, folder: Path) -> Plan:
    """The plan of a sweep that is continued: the new one, if it has every run of the old one.

    Raises UserError, naming the axis or setting in which they differ, if it has not.
    """
    here = f"{folder} holds another sweep"
    remedy = "give another --sweep_dir, or only this one to go on as planned"
    if set(old.axes) != set(new.axes):
        raise UserError(f"{here}, with the axes {', '.join(old.axes)} and not {', '.join(new.axes)}: {remedy}")
    may_differ = names_of("place") | set(new.axes)
    unlike = {name: each for name, each in differences(old.base, new.base).items() if name not in may_differ}
    if unlike:
        listed = ", ".join(f"{name} {mine} (not {its})" for name, (mine, its) in unlike.items())
        raise UserError(f"{here}, with {listed}: {remedy}")
    for name, values in old.axes.items():
        lost = [value for value in values if value not in new.axes[name]]
        if lost:
            raise UserError(
                f"{here}: its --{name} has {_listed(values)}, and {_listed(lost)} "
                f"{'is' if len(lost) == 1 else 'are'} missing now; values may be added, not taken away: {remedy}"
            )
    names = {run.name for run in new.runs()}
    gone = [run.name for run in old.runs() if run.name not in names]
    if gone:
        raise UserError(f"{here}: --leave_out would take away its {gone[0]}: {remedy}")
    return new


def train_words(config: Config, named: Container[str] = ()) -> list[str]:
    """The words after ``sagan`` that repeat a run, in any working directory: the nearest preset, the settings in which
    the run differs from it unless they have no effect, and the settings ``named``."""
    nearest, unlike = nearest_preset(config)
    words = ["train", "--preset", nearest]
    idle = idle_settings(config)
    own = vars(config.model) if config.model.start_from is not None else {}  # else they would be the source's
    for name, value in settings(config).items():
        differs = name in unlike or (name in own and value is not None)
        if name in named or (differs and name not in idle):
            words += [f"--{name}", *spell(value)]
    return words


def nearest_preset(config: Config) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """The preset from which a config differs in the fewest settings, and these: (the preset's value, its own)."""
    unlike = {name: differences(preset, config) for name, preset in PRESETS.items()}
    nearest = min(unlike, key=lambda name: len(unlike[name]))
    return nearest, unlike[nearest]


def describe_plan(plan: Plan) -> str:
    """One line: the number of runs, and the values of each axis."""
    axes = ", ".join(f"{name} {' | '.join(' '.join(spell(v)) for v in values)}" for name, values in plan.axes.items())
    count = len(plan.runs())
    left_out = " (some combinations are left out)" if plan.left_out else ""
    return f"{plural(count, 'run')}: {axes}{left_out}"


def spell(value: Any) -> list[str]:
    """The words of a value on the command line."""
    if value is None or value == ():
        return ["none"]
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


# ---- names


def _named(overrides: dict[str, Any]) -> PlannedRun:
    return PlannedRun("-".join(f"{axis}{_label(axis, value)}" for axis, value in overrides.items()), overrides)


def _label(axis: str, value: Any) -> str:
    """A value in the name of a folder, after its axis: a number as it is, anything else after an underscore."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    text = Path(value).stem if axis in PATHS and value else "+".join(spell(value))
    return ("" if isinstance(value, tuple) and text[:1].isdigit() else "_") + re.sub(r"[^\w.+-]+", "_", text)


# ---- checks


def _check(plan: Plan) -> None:
    """Raises UserError for axes that no sweep has, values that no run can have, and conditions without an effect."""
    if plan.base.run.sample_dir is not None:
        raise UserError(f"`sample_dir` is for one run, got {plan.base.run.sample_dir}: each run of a sweep has its own")
    count = math.prod(map(len, plan.axes.values()))
    if count > MOST_RUNS:
        raise UserError(f"a sweep may have at most {MOST_RUNS:,} combinations of values, these are {count:,}")
    for name, values in plan.axes.items():
        _check_axis(plan, name, values)
    for condition in plan.left_out:
        for axis, value in condition.items():
            given = f"--leave_out {foreign(axis)}={_listed([value])}"
            if axis not in plan.axes:
                raise UserError(f"{given}: {foreign(axis)} is not an axis; the axes are {' and '.join(plan.axes)}")
            if value not in plan.axes[axis]:
                raise UserError(f"{given}: --{axis} has only {_listed(plan.axes[axis])}")
    runs = plan.runs()
    if not runs:
        raise UserError("--leave_out leaves out every run")
    names = Counter(run.name for run in runs)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise UserError(f"two values of an axis would both name a run {name}: rename what one of them refers to")
    for run in runs:  # values that are allowed one by one may not go together
        plan.config(run, Path(run.name))


def _check_axis(plan: Plan, name: str, values: Sequence[Any]) -> None:
    if name not in settings(plan.base) or name in OF_THE_SWEEP:
        raise UserError(f"{foreign(name)} is not a setting that a sweep can vary")
    if not values:
        raise UserError(f"--{name} has no values")
    for value in values:
        override(plan.base, {name: value})
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise UserError(f"--{name} has {shorten(value)} twice")


def _listed(values: Sequence[Any]) -> str:
    return " and ".join(" ".join(spell(value)) for value in values)


# ---- the file


@dataclass(frozen=True)
class _File:
    """The content of the file. ``runs`` follows from the rest: it is there for people who read the file."""

    base: Mapping[str, object]
    axes: Mapping[str, tuple[object, ...]]
    left_out: tuple[Mapping[str, object], ...]
    command: str
    runs: tuple[Mapping[str, object], ...]


def write_plan(plan: Plan, path: Path, folder: Path) -> None:
    """Writes a plan as JSON, with the command that repeats each run; ``folder`` is where the runs are."""

    def repeated(run: PlannedRun) -> str:
        return command(*train_words(plan.config(run, folder / run.name), run.overrides))

    runs = [{"name": run.name, "overrides": run.overrides, "command": repeated(run)} for run in plan.runs()]
    values = {
        "format": FORMAT,
        "command": plan.command,
        "base": to_dict(plan.base),
        "axes": plan.axes,
        "left_out": plan.left_out,
        "runs": runs,
    }
    text = json.dumps(values, indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises UserError, naming the file, if it is damaged."""
    values, where = read_json(path, _LARGEST), str(path)
    if not isinstance(values, dict):
        raise UserError(f"{where} is damaged: it holds no plan, but {shorten(values)}")
    check_format(values.pop("format", None), FORMAT, where)
    file = from_plain(_File, values, where)
    left_out = tuple({axis: _with_tuples(value) for axis, value in each.items()} for each in file.left_out)
    axes = {name: tuple(map(_with_tuples, each)) for name, each in file.axes.items()}
    plan = Plan(from_dict(file.base, f"{where}, base,"), axes, left_out, file.command)
    try:
        for name in ALWAYS:
            if name not in axes:
                raise UserError(f"the axis {name} is missing")
        _check(plan)
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error
    return plan


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
