"""A sweep's runs as jobs of a cluster, through submitit (an extra)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagan.experiments.plan import PlannedRun
from sagan.experiments.sweep import Player, Sweep


@dataclass(frozen=True)
class Cluster:
    """Where and how jobs run: ``kind`` is slurm, or local for submitit's own processes on this machine."""

    kind: str
    partition: str | None = None
    hours: float = 24
    gpus_per_run: int = 1


@dataclass(frozen=True)
class ClusterJob:
    """One run as a job. When its time is up it is queued again, and goes on from where it was saved."""

    folder: Path
    name: str
    extractor: str | None

    def __call__(self) -> str:
        """Gives how the run stands afterwards. Raises RuntimeError with the reason where it failed."""
        sweep = Sweep.open(self.folder)
        run = sweep.plan.run(self.name)
        Player(sweep, self.extractor).play(run)
        status = sweep.watch(run).look()
        if status.state == "failed":
            raise RuntimeError(f"{self.name} failed: {status.reason}")
        return status.state

    def checkpoint(self) -> Any:
        """What submitit queues when the time is up: the same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(
    sweep: Sweep, runs: Sequence[PlannedRun], extractor: str | None, cluster: Cluster, at_once: int | None
) -> list[Any]:
    """Hands runs to the cluster, no more than ``at_once`` at a time where that is not None; gives submitit's jobs.

    Raises ValueError where submitit is not installed, or slurm not there.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise ValueError("--cluster needs an extra: pip install 'sagan[cluster]'") from error
    try:
        executor = submitit.AutoExecutor(folder=sweep.folder / "cluster", cluster=cluster.kind)
    except RuntimeError as error:
        raise ValueError(f"--cluster {cluster.kind} cannot be used here: {error}") from error
    settings: dict[str, Any] = {
        "name": sweep.folder.name,
        "timeout_min": max(1, round(cluster.hours * 60)),
        "gpus_per_node": cluster.gpus_per_run,
        "tasks_per_node": 1,
        "nodes": 1,
    }
    if cluster.partition is not None:
        settings["slurm_partition"] = cluster.partition
    if at_once is not None:
        settings["slurm_array_parallelism"] = at_once
    executor.update_parameters(**settings)
    with executor.batch():  # one job array
        return [executor.submit(ClusterJob(sweep.folder, run.name, extractor)) for run in runs]
