"""A sweep's runs as jobs of a cluster, through submitit (an extra)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagan.experiments.sweep import Runner, Sweep
from sagan.run.plan import PlannedRun
from sagan.run.status import STATES
from sagan.system.errors import UserError

_MOST_TIMEOUTS = 1000  # how often a job may run out of time and be submitted again
_SAVING = {"slurm": 60.0, "local": 20.0}  # seconds to save; submitit is signalled 90 and 30 seconds before the end


@dataclass(frozen=True)
class Cluster:
    """Where and how jobs run. ``kind``: slurm, or local for processes on this machine."""

    kind: str
    partition: str | None = None
    hours: float = 24
    gpus_per_run: int = 1


class ClusterJob:
    """A run as a job. When its time is up, its process saves and ends, and the job is submitted again.

    ``saving``: seconds for the process to save. ``gpus``: those of the job, which the run uses all.
    """

    def __init__(self, folder: Path, name: str, extractor: str | None, saving: float = 20.0, gpus: int = 1):
        self.folder, self.name, self.extractor, self.saving, self.gpus = folder, name, extractor, saving, gpus
        self._runner: Runner | None = None

    def __call__(self) -> str:
        """Returns the run's final state, done. Raises RuntimeError with the reason for any other."""
        sweep = Sweep.open(self.folder)
        run = sweep.plan.run(self.name)
        # the signal that the time is up reaches every process of a job; only this one acts on it
        blocked = [signal.SIGUSR1, signal.SIGUSR2]
        self._runner = Runner(sweep, self.extractor, blocked_signals=blocked, gpus=self.gpus)
        self._runner.execute(run)
        status = sweep.watch(run).look()
        if status.state != "done":
            raise RuntimeError(f"{self.name} {STATES[status.state]}" + (f": {status.reason}" if status.reason else ""))
        return status.state

    def checkpoint(self) -> Any:
        """The job to submit again, which submitit asks for in its signal handler when the time is up."""
        import submitit

        if self._runner is not None:
            self._runner.interrupt(signal.SIGTERM)
            self._runner.wait(self.saving)
        again = type(self)(self.folder, self.name, self.extractor, self.saving, self.gpus)
        return submitit.helpers.DelayedSubmission(again)


def submit(
    sweep: Sweep, runs: Sequence[PlannedRun], extractor: str | None, cluster: Cluster, at_once: int | None
) -> list[Any]:
    """Submits runs as jobs, of which at most ``at_once`` run at a time, if given; returns submitit's jobs.

    Raises UserError where submitit is not installed or slurm is not available.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UserError("--cluster needs an extra: pip install 'sagan-attention[cluster]'") from error
    timeouts = {f"{cluster.kind}_max_num_timeout": _MOST_TIMEOUTS}
    try:
        executor = submitit.AutoExecutor(folder=sweep.folder / "cluster", cluster=cluster.kind, **timeouts)
    except RuntimeError as error:
        raise UserError(f"--cluster {cluster.kind} cannot be used here: {error}") from error
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
        saving, gpus = _SAVING[cluster.kind], cluster.gpus_per_run
        return [executor.submit(ClusterJob(sweep.folder, run.name, extractor, saving, gpus)) for run in runs]
