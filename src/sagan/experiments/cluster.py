"""A sweep's runs as jobs of a cluster, through submitit (an extra)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagan.experiments.sweep import Player, Sweep
from sagan.run.plan import PlannedRun
from sagan.run.status import STATES
from sagan.system.errors import UserError

_OFTEN = 1000  # times that a job's time may be up, and it goes on
_PATIENCE = {"slurm": 60.0, "local": 20.0}  # seconds; submitit is told 90 and 30 seconds before the end


@dataclass(frozen=True)
class Cluster:
    """Where and how jobs run: ``kind`` is slurm, or local for submitit's own processes on this machine."""

    kind: str
    partition: str | None = None
    hours: float = 24
    gpus_per_run: int = 1


class ClusterJob:
    """One run as a job. When its time is up, what it is at saves and ends, and the job is queued again to go on."""

    def __init__(self, folder: Path, name: str, extractor: str | None, patience: float = 20.0):
        self.folder, self.name, self.extractor = folder, name, extractor
        self.patience = patience  # seconds for what it is at to save
        self._player: Player | None = None

    def __call__(self) -> str:
        """Gives how the run stands afterwards, done. Raises RuntimeError with the reason where it is not."""
        sweep = Sweep.open(self.folder)
        run = sweep.plan.run(self.name)
        # the signal that the time is up reaches every process of a job; this one passes on that it is time to save
        self._player = Player(sweep, self.extractor, deaf_to=[signal.SIGUSR1, signal.SIGUSR2])
        self._player.play(run)
        status = sweep.watch(run).look()
        if status.state != "done":
            raise RuntimeError(f"{self.name} {STATES[status.state]}" + (f": {status.reason}" if status.reason else ""))
        return status.state

    def checkpoint(self) -> Any:
        """What submitit queues when the time is up, in the handler of its signal: the same again."""
        import submitit

        if self._player is not None:
            self._player.interrupt(signal.SIGTERM)
            self._player.wait(self.patience)
        return submitit.helpers.DelayedSubmission(type(self)(self.folder, self.name, self.extractor, self.patience))


def submit(
    sweep: Sweep, runs: Sequence[PlannedRun], extractor: str | None, cluster: Cluster, at_once: int | None
) -> list[Any]:
    """Hands runs to the cluster, no more than ``at_once`` at a time where that is not None; gives submitit's jobs.

    Raises UserError where submitit is not installed, or slurm not there.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UserError("--cluster needs an extra: pip install 'sagan[cluster]'") from error
    often = {f"{cluster.kind}_max_num_timeout": _OFTEN}
    try:
        executor = submitit.AutoExecutor(folder=sweep.folder / "cluster", cluster=cluster.kind, **often)
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
        patience = _PATIENCE[cluster.kind]
        return [executor.submit(ClusterJob(sweep.folder, run.name, extractor, patience)) for run in runs]
