"""A sweep as its page shows it while its runs are under way: curves of its arms, and what the scores allow to say."""

from __future__ import annotations

from typing import Any

from sagan.experiments.findings import compare_arms, findings, table_rows
from sagan.experiments.results import Arm, Group, Results, read_results, shared_groups
from sagan.experiments.statistics import mean, t_interval
from sagan.gallery.library import Found
from sagan.system.errors import UserError
from sagan.system.paths import without_paths
from sagan.system.sentences import visible


def sweep_details(found: Found, metric: str = "frechet") -> dict[str, Any]:
    """The arms and seeds of a sweep with the state of each run, and for each kind of score the curves and findings.

    Raises UserError for a plan that cannot be read.
    """
    results = read_results(found.folder)
    said: list[str] = []
    try:
        groups = shared_groups(results, metric, said.append)
    except UserError as error:  # such as scores that cannot be compared
        groups, said = [], [str(error)]
    runs = [
        {
            "name": f"{found.name}/runs/{run.name}",
            "arm": run.arm.label,
            "seed": run.seed,
            "state": "stopped" if run.state == "cut" else run.state,
            "step": run.step,
            "total": run.config.run.total_step,
            "begun": run.run is not None,
        }
        for run in results.runs
    ]
    return {
        "name": found.name,
        "arms": [arm.label for arm in results.arms],
        "baseline": results.baseline.label,
        "seeds": list(results.seeds),
        "runs": runs,
        "groups": [_group(results, group, metric) for group in groups],
        "said": [without_paths(visible(sentence), [found.folder]) for sentence in said],
    }


def _group(results: Results, group: Group, metric: str) -> dict[str, Any]:
    compared = compare_arms(results, group, metric)
    return {
        "label": group.label,
        "samples": group.card.samples,
        "extractor": group.card.extractor,
        "floor": group.newest.floor,
        "step": compared.step,
        "curves": [_curve(results, group, arm) for arm in results.arms],
        "findings": findings(compared) if len(results.arms) > 1 else [],
        "table": table_rows(compared) if len(results.arms) > 1 else [],
    }


def _curve(results: Results, group: Group, arm: Arm) -> dict[str, Any]:
    """The mean of an arm's seeds at each step, with half of its 95 % interval where two seeds or more are scored."""
    at: dict[int, list[float]] = {}
    for run in results.of(arm):
        for step, value in group.values(run).items():
            at.setdefault(step, []).append(value)
    points = []
    for step, values in sorted(at.items()):
        interval = t_interval(values)
        half = None if interval is None else (interval.high - interval.low) / 2
        points.append({"step": step, "value": mean(values), "half": half, "seeds": len(values)})
    return {"arm": arm.label, "points": points}
