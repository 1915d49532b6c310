"""The plan of a sweep: which runs, from the values of its axes, and the file in which it is kept."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
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
from sagan.system.typed import check_format, from_plain, read_json, shorten

FORMAT = 1
MOST_RUNS = 10_000
ALWAYS = ("span", "seed")  # axes of every sweep, were it with one value: a run's name says them

OF_THE_SWEEP = ("run_dir", "sample_dir")  # settings that the sweep decides

_PATHS = ("data", "image_path", "prepared")


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep: its folder's name, and its value on each axis."""

    name: str
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Which runs a sweep is made of: every combination of the axes' values but those that are left out.

    Runs of one seed are paired by design: weights, z and the order of the images follow from the seed alone, so they
    are the same whatever the other axes say.
    """

    base: Config
    axes: dict[str, tuple[Any, ...]]
    left_out: tuple[dict[str, Any], ...] = ()
    """Conditions, each of values on some axes; a combination that meets one of them whole is no run."""
    command: str = ""
    """What was typed to make it."""

    def runs(self) -> list[PlannedRun]:
        """The runs, those of one seed together: a sweep that is cut short then has whole pairs to compare."""
        order = sorted(self.axes, key=lambda axis: axis != "seed")
        points = [dict(zip(order, values, strict=True)) for values in itertools.product(*map(self.axes.get, order))]  # type: ignore[arg-type]
        kept = [point for point in points if not any(_meets(point, condition) for condition in self.left_out)]
        return [_named({axis: point[axis] for axis in self.axes}) for point in kept]

    def run(self, name: str) -> PlannedRun:
        return next(run for run in self.runs() if run.name == name)

    def config(self, run: PlannedRun, folder: Path) -> Config:
        """The whole config of a run that lies in ``folder``."""
        return override(self.base, {**run.overrides, "run_dir": str(folder)})


def make_plan(
    base: Config,
    given: Mapping[str, Sequence[Any]],
    left_out: Sequence[Mapping[str, Any]] = (),
    command: str = "",
) -> Plan:
    """A plan from a config and, by the names of settings, the values they shall have: one changes the config for all
    runs, several are an axis. Span and seed are always axes, and the seed the last one.

    Raises UserError for a value that no run can have, for one that is there twice, for settings that the sweep decides
    and for a condition that leaves out what is not there, or everything.
    """
    for name in OF_THE_SWEEP:
        if name in given:
            raise UserError(f"--{name} is for one run: those of a sweep lie in its folder, --sweep_dir")
    axes = {name: tuple(values) for name, values in given.items() if len(values) > 1 or name in ALWAYS}
    base = override(base, {name: values[0] for name, values in given.items() if name not in axes})
    for name in ALWAYS:
        axes.setdefault(name, (settings(base)[name],))
    axes["seed"] = axes.pop("seed")
    base = with_absolute_paths(base)
    for name, values in axes.items():
        # a value that no run can have is found out here; paths still mean the same elsewhere
        made = [settings(with_absolute_paths(override(base, {name: value})))[name] for value in values]
        axes[name] = tuple(made)
        for value in made:
            if made.count(value) > 1:
                raise UserError(f"--{name} has {value} twice")
    plan = Plan(base, axes, tuple(map(dict, left_out)), command)
    _check(plan)
    return plan


def extend(old: Plan, new: Plan, folder: Path) -> Plan:
    """The plan of a sweep that goes on: the new one, if it holds every run of the old one.

    Raises UserError, saying on which axis or in which setting they differ, where it does not.
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
    """The words after ``sagan`` that repeat a run wherever they are typed: the preset that is nearest, the settings in
    which the run differs from it, and those ``named`` in any case, but for what is idle."""
    unlike = {name: differences(preset, config) for name, preset in PRESETS.items()}
    nearest = min(unlike, key=lambda name: len(unlike[name]))
    words = ["train", "--preset", nearest]
    idle = idle_settings(config)
    for name, value in settings(config).items():
        if name in named or (name in unlike[nearest] and name not in idle):
            words += [f"--{name}", *spell(value)]
    return words


def describe_plan(plan: Plan) -> str:
    """How many runs there are, and the values of each axis, in a line."""
    axes = ", ".join(f"{name} {' | '.join(' '.join(spell(v)) for v in values)}" for name, values in plan.axes.items())
    count = len(plan.runs())
    left_out = " (some combinations are left out)" if plan.left_out else ""
    return f"{count} run{'s' * (count != 1)}: {axes}{left_out}"


def spell(value: Any) -> list[str]:
    """The words that mean a value on the command line."""
    if value is None or value == ():
        return ["none"]
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


# ---- names


def _named(overrides: dict[str, Any]) -> PlannedRun:
    return PlannedRun("-".join(f"{axis}{_label(axis, value)}" for axis, value in overrides.items()), overrides)


def _label(axis: str, value: Any) -> str:
    """A value in a folder's name: behind its axis at once if it is a number, else after a line."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    text = Path(value).stem if axis in _PATHS and value else "+".join(spell(value))
    return ("" if isinstance(value, tuple) and text[:1].isdigit() else "_") + re.sub(r"[^\w.+-]+", "_", text)


# ---- checks


def _meets(point: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    return all(point[axis] == value for axis, value in condition.items())


def _check_count(axes: Mapping[str, Sequence[Any]]) -> None:
    count = math.prod(map(len, axes.values()))
    if count > MOST_RUNS:
        raise UserError(f"a sweep may have {MOST_RUNS:,} combinations of values at most, these make {count:,}")


def _check(plan: Plan) -> None:
    _check_count(plan.axes)
    for condition in plan.left_out:
        for axis, value in condition.items():
            if axis not in plan.axes:
                raise UserError(f"--leave_out {axis}={_listed([value])}: {axis} is no axis, but {_and(plan.axes)} are")
            if value not in plan.axes[axis]:
                raise UserError(f"--leave_out {axis}={_listed([value])}: --{axis} has only {_listed(plan.axes[axis])}")
    runs = plan.runs()
    if not runs:
        raise UserError("--leave_out leaves out every run")
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two values of an axis would both name a run {name}: rename what one of them means")
    for run in runs:  # a combination of values may be no config
        plan.config(run, Path(run.name))


def _listed(values: Sequence[Any]) -> str:
    return " and ".join([" ".join(spell(value)) for value in values])


def _and(names: Mapping[str, Any]) -> str:
    return " and ".join(names)


# ---- the file


def to_json(plan: Plan, folder: Path) -> dict[str, Any]:
    """The plan as JSON-ready values, with the command that repeats each run alone; ``folder``: where the runs lie."""

    def repeat(run: PlannedRun) -> str:
        return shlex.join(["sagan", *train_words(plan.config(run, folder / run.name), run.overrides)])

    runs = [{"name": run.name, "overrides": run.overrides, "command": repeat(run)} for run in plan.runs()]
    return {
        "format": FORMAT,
        "command": plan.command,
        "base": to_dict(plan.base),
        "axes": plan.axes,
        "left_out": plan.left_out,
        "runs": runs,
    }


@dataclass(frozen=True)
class _File:
    """A plan as it is kept. ``runs`` follows from the rest: it is written for whoever reads the file."""

    base: Mapping[str, object]
    axes: Mapping[str, tuple[object, ...]]
    left_out: tuple[Mapping[str, object], ...]
    command: str
    runs: tuple[Mapping[str, object], ...]


def from_json(values: object, where: str) -> Plan:
    """The inverse of `to_json`; ``where`` names the file in errors. Raises UserError for anything else."""
    if not isinstance(values, dict):
        raise UserError(f"{where} is damaged: it holds no plan, but {shorten(values)}")
    check_format(values.get("format"), FORMAT, where)
    file = from_plain(_File, {name: value for name, value in values.items() if name != "format"}, where)
    left_out = tuple({axis: _untupled(value) for axis, value in each.items()} for each in file.left_out)
    axes = {name: tuple(map(_untupled, each)) for name, each in file.axes.items()}
    plan = Plan(from_dict(file.base, f"{where}, base,"), axes, left_out, file.command)
    try:
        _check_axes(plan)
        _check(plan)
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error
    return plan


def _check_axes(plan: Plan) -> None:
    """Raises UserError for axes that no sweep has, and for values that no run can have."""
    known = settings(plan.base)
    _check_count(plan.axes)
    for name in ALWAYS:
        if name not in plan.axes:
            raise UserError(f"the axis {name} is missing")
    for name, values in plan.axes.items():
        if name not in known or name in OF_THE_SWEEP:
            raise UserError(f"{name[:40]} is not a setting that a sweep can vary")
        if not values:
            raise UserError(f"--{name} has no values")
        for value in values:
            override(plan.base, {name: value})
            if values.count(value) > 1:
                raise UserError(f"--{name} has {shorten(value)} twice")


def _untupled(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(map(_untupled, value)) if isinstance(value, list) else value


def write_plan(plan: Plan, path: Path, folder: Path) -> None:
    text = json.dumps(to_json(plan, folder), indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises UserError, naming it, where it is damaged."""
    return from_json(read_json(path), str(path))
