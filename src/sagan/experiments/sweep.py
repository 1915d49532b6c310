"""A sweep's folder, and carrying out its plan on this machine: several runs at a time, each in its own process.

plan.json       the runs: the base config, the axes, each run's values and the command that repeats it
runs/NAME/      the runs
logs/NAME.log   the output of a run's commands; NAME.failed: why it failed, until it is retried
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sagan.run.config import Config
from sagan.run.folder import Run, absent, is_free, snapshot_step
from sagan.run.keeping import kept_snapshots, written_snapshots
from sagan.run.plan import Plan, PlannedRun, extend, make_plan, read_plan, train_words, write_plan
from sagan.run.presets import PRESETS
from sagan.run.scores import scored_steps
from sagan.run.status import RunStatus, State, Watched
from sagan.system.console import handling_signals
from sagan.system.errors import UserError
from sagan.system.files import (
    exclusive_lock,
    expand,
    is_held,
    open_regular,
    partial_files,
    remove_partial_files,
    write_whole,
)
from sagan.system.sentences import command
from sagan.system.world import alone

Show = Callable[[Sequence[RunStatus]], object]

PROGRAM = (sys.executable, "-P", "-m", "sagan")  # -P: not a sagan.py in the current folder
_PLANNING = "planning.lock"  # held while the plan is written
_LAST = 2**16  # bytes of a log in which its last words are looked for
_INTERVAL = 1.0  # seconds between tables
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_INTERRUPTED = {sign * number + base for number in _SIGNALS for sign, base in ((1, 128), (-1, 0))}


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder and its plan."""

    folder: Path
    plan: Plan

    @classmethod
    def open(cls, folder: Path) -> Sweep:
        """The sweep in a folder. Raises UserError where there is none."""
        folder = expand(folder).resolve()
        if not (folder / "plan.json").is_file():
            what = "has no plan.json, so it is not a sweep" if folder.is_dir() else absent(folder)
            raise UserError(f"{folder} {what}; `sagan sweep` makes one")
        return cls(folder, read_plan(folder / "plan.json"))

    @classmethod
    def begin(cls, folder: Path, plan: Plan) -> Sweep:
        """A new sweep, or an existing one with its plan or an extension of it; writes nothing.

        Raises UserError where the folder contains another sweep, or something else.
        """
        folder = expand(folder).resolve()
        if (folder / "plan.json").is_file():
            return cls(folder, extend(read_plan(folder / "plan.json"), plan, folder))
        unfinished = {*partial_files(folder, "plan.json"), folder / _PLANNING}  # of a process that was killed
        if folder.exists() and (not folder.is_dir() or set(folder.iterdir()) - unfinished):
            raise UserError(f"{folder} is not an empty folder: give another --sweep_dir")
        return cls(folder, plan)

    def write(self) -> None:
        """Makes the folder and writes the plan into it. Raises UserError where another process has meanwhile written a
        plan with runs that this one lacks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "plan.json"
        with exclusive_lock(self.folder / _PLANNING, lambda: None):
            remove_partial_files(self.folder, "plan.json")
            plan = extend(read_plan(path), self.plan, self.folder) if path.is_file() else self.plan
            write_plan(plan, path, self.folder / "runs")

    def run_folder(self, run: PlannedRun) -> Path:
        return self.folder / "runs" / run.name

    def log_file(self, run: PlannedRun) -> Path:
        return self.folder / "logs" / f"{run.name}.log"

    def failure_file(self, run: PlannedRun) -> Path:
        return self.folder / "logs" / f"{run.name}.failed"

    def config(self, run: PlannedRun) -> Config:
        return self.plan.config(run, self.run_folder(run))

    def watch(self, run: PlannedRun, *, scored: bool = True) -> Watched:
        """The run's status, to be asked for repeatedly; ``scored``: whether its snapshots are to be scored."""
        settings = self.config(run).run
        made = written_snapshots(settings)
        scores = 0 if not scored else made if settings.eval_every else kept_snapshots(settings, made)
        return Watched(self.run_folder(run), run.name, settings.total_step, self.failure_file(run), scores)

    def is_scored(self, run: PlannedRun, extractor: str) -> bool:
        """Whether every snapshot of a run has its planned score. ``extractor``: the name on cards."""
        made, samples = Run(self.run_folder(run)), self.config(run).run.eval_num
        own = samples, extractor, None
        scored = scored_steps(made, lambda card: (card.samples, card.extractor, card.truncation) == own)
        return scored >= set(map(snapshot_step, made.snapshots()))

    def commands(self, run: PlannedRun, extractor: str | None) -> list[tuple[State, list[str]]]:
        """The remaining commands of a run: the words after ``sagan`` of each, and the state that the run is in then.

        ``extractor``: the one to score with, by its name on cards; None for no scores.
        """
        folder, config = self.run_folder(run), self.config(run)
        trained = self.watch(run).is_trained()
        left: list[tuple[State, list[str]]] = []
        if not trained:
            begun = (folder / "config.json").is_file()
            if not begun and folder.is_dir() and not is_free(folder):
                raise UserError(
                    f"{folder} has files but no config.json: put that back, or delete the folder to train the run anew"
                )
            left.append(("running", resume_words(config, folder) if begun else train_words(config, run.overrides)))
        if extractor is not None and not (trained and self.is_scored(run, extractor)):
            left.append(("scoring", evaluate_words(config, folder)))
        return left

    def is_left(self, run: PlannedRun, extractor: str | None) -> bool:
        """Whether commands of a run remain. If its files are damaged it is True, and the run fails when it is executed.
        The failure file of a run that is done by now is removed."""
        try:
            left = bool(self.commands(run, extractor))
        except UserError:
            return True
        if not left:
            self.failure_file(run).unlink(missing_ok=True)
        return left


def plan_sweep(
    folder: Path,
    given: Mapping[str, Sequence[Any]],
    left_out: Sequence[Mapping[str, Any]] = (),
    base: Config | None = None,
    command: str = "",
) -> Sweep:
    """The sweep in a folder, extended by the given values, if any; or a new one.

    ``given``, ``left_out`` and ``command``: as for `make_plan`; ``base``: the preset, where one was given. Writes
    nothing. Raises UserError as `make_plan` and `Sweep.begin` do, and where there is no sweep and nothing is given.
    """
    is_begun = (folder / "plan.json").is_file()
    if not given and not left_out and base is None:
        if not is_begun:
            raise UserError(
                f"{folder} contains no sweep to continue: give the values of a new one, such as "
                "--span 0 1 2 --seed 0 1 2"
            )
        return Sweep.open(folder)
    if is_begun and base is None:
        plan = Sweep.open(folder).plan
        return Sweep.begin(folder, make_plan(plan.base, {**plan.axes, **given}, left_out or plan.left_out, command))
    if "image_path" in given and "dataset" not in given:
        raise UserError("--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it")
    return Sweep.begin(folder, make_plan(base or PRESETS["best"], given, left_out, command))


def threads_each(jobs: int) -> int | None:
    """Processor threads for each of ``jobs`` processes that share the cores; None for one process, which chooses."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs) if jobs > 1 else None


def resume_words(config: Config, folder: Path) -> list[str]:
    """The words after ``sagan`` that resume a run with the plan's own places and extractor, whatever its folder says:
    see `sagan.run.trust`."""
    extractor = config.run.extractor or ""
    return ["resume", str(folder), "--prepared", config.data.prepared] + (
        ["--extractor", extractor] if ":" in extractor else []
    )


def evaluate_words(config: Config, folder: Path) -> list[str]:
    """The words after ``sagan`` that score a run as its sweep does."""
    chosen = ["--extractor", config.run.extractor] if config.run.extractor is not None else []
    where = ["--device", config.run.device, "--prepared", config.data.prepared]
    return ["evaluate", str(folder), "--num", str(config.run.eval_num), *chosen, *where]


class Runner:
    """Executes runs of a sweep: the remaining commands of each one after another, as processes.

    ``threads``: processor threads of each process, unless the environment says another number. ``program``: what to
    call instead of this package's command. ``blocked_signals``: signals that must not reach the processes. ``gpus``:
    those of each run.
    """

    def __init__(
        self,
        sweep: Sweep,
        extractor: str | None,
        threads: int | None = None,
        program: Sequence[str] | None = None,
        blocked_signals: Collection[signal.Signals] = (),
        gpus: int = 1,
    ):
        self.sweep, self.extractor, self.program = sweep, extractor, program or PROGRAM
        number = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self.environment = number | alone(os.environ)
        self.blocked_signals = blocked_signals
        self.together = ["--gpus", str(gpus)] if gpus > 1 else []
        self.stopping = False
        self.states: dict[str, State] = {}  # of the runs that are executed now, by name
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.RLock()  # re-entrant: a signal handler may interrupt the thread that starts one

    def execute(self, run: PlannedRun) -> None:
        """Trains a run to its last step and scores it. An error is written into its failure file; a run that another
        process trains is skipped."""
        if self.stopping or is_held(self.sweep.run_folder(run) / "running.lock"):
            return
        failure, log = self.sweep.failure_file(run), self.sweep.log_file(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        failure.unlink(missing_ok=True)
        try:
            for state, words in self.sweep.commands(run, self.extractor):
                self.states[run.name] = state
                start = log.stat().st_size if log.exists() else 0
                status = self._call([*words, *self.together], log)
                if status and (self.stopping or status in _INTERRUPTED):
                    return
                if status or (state == "running" and not self.sweep.watch(run).is_trained()):
                    _write_sentence(failure, _last_words(log, start, status))
                    return
        except (UserError, OSError) as error:  # the other runs go on
            _write_sentence(failure, str(error))
        finally:
            self.states.pop(run.name, None)

    def interrupt(self, number: int) -> None:
        """Sends a signal to the processes, which save and end at the first one; no other process is started."""
        with self._starting:
            self.stopping = True
            for process in self._processes:
                process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Waits until every process has ended, and kills them after ``seconds``. May be called from a signal handler
        that interrupts `execute` (POSIX)."""
        until = time.monotonic() + seconds
        for process in list(self._processes):
            while not self._has_ended(process):
                if time.monotonic() > until:
                    process.kill()
                time.sleep(0.05)

    @staticmethod
    def _has_ended(process: subprocess.Popen[bytes]) -> bool:
        with contextlib.suppress(ChildProcessError):  # its exit status has been read already
            flags = os.WEXITED | os.WNOWAIT | os.WNOHANG  # leaves the exit status for `_call`
            return os.waitid(os.P_PID, process.pid, flags) is not None
        return True

    def _call(self, words: Sequence[str], log: Path) -> int:
        """The exit status of a command, whose output is added to a log; that of SIGINT once the runner is stopping."""
        if log.exists() and not log.is_file():  # a pipe would be waited for
            raise UserError(f"{log} is a folder, a pipe or a device, not a log: remove it")
        with log.open("ab") as file:
            with self._starting:
                if self.stopping:
                    return -signal.SIGINT
                with _blocked(self.blocked_signals):
                    process = subprocess.Popen(
                        [*self.program, *words],
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=self.environment,
                        start_new_session=True,  # so that Ctrl-C reaches only this process, which passes it on once
                    )
                    self._processes.add(process)
            status = process.wait()
        with self._starting:
            self._processes.discard(process)
        return status


@contextlib.contextmanager
def _blocked(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Processes started inside never receive these signals."""
    if not signals:  # Windows has no signal masks
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _write_sentence(path: Path, sentence: str) -> None:
    write_whole(path, lambda file: file.write(f"{sentence}\n".encode(errors="backslashreplace")))


def _last_words(log: Path, start: int, status: int) -> str:
    """Why a command failed: its error in the log from ``start`` on, or the last line there."""
    if status < 0:
        why = ", as the system does when memory runs out" if -status == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-status).name}{why}"
    with open_regular(log) as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - _LAST))
        lines = [line for line in file.read(_LAST).decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    said = (errors or lines or [f"it ended with status {status} and no output"])[-1].strip()
    return said if status else f"it ended without an error and without its last snapshot; its last line: {said}"


def carry_out(runner: Runner, runs: Sequence[PlannedRun], jobs: int, show: Show) -> int | None:
    """Executes runs, ``jobs`` at a time, and shows the state of the whole sweep about once a second.

    A signal is passed on to the runs, which save and end. Returns the first signal, or None where there was none.
    Raises UserError where another process carries out the sweep.
    """
    sweep = runner.sweep
    watched = [sweep.watch(run, scored=runner.extractor is not None) for run in sweep.plan.runs()]
    caught: list[int] = []

    def refuse() -> None:
        raise UserError(
            f"another process carries out the sweep in {sweep.folder}: "
            f"`{command('status', sweep.folder)}` shows its state"
        )

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    with exclusive_lock(sweep.folder / "sweeping.lock", refuse), handling_signals(_SIGNALS, catch):
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(runner.execute, run) for run in runs]
            passed_on = 0
            try:
                while not all(future.done() for future in futures):
                    for number in caught[passed_on:]:
                        runner.interrupt(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
                        passed_on += 1
                    show([each.look(runner.states.get(each.name)) for each in watched])
                    wait(futures, timeout=_INTERVAL)
            except BaseException:
                runner.interrupt(signal.SIGTERM)
                raise
        for future in futures:
            future.result()  # raises this process's own errors, such as a full disk
        return caught[0] if caught else None


def find_watched(place: Path) -> list[Watched]:
    """The runs in a folder: that of a sweep, of a run, or one that contains such folders.

    Raises UserError where there is none.
    """
    if (place / "plan.json").is_file():
        sweep = Sweep.open(place)
        return [sweep.watch(run) for run in sweep.plan.runs()]
    if (place / "config.json").is_file():
        folder = place.resolve()  # a run of a sweep may have failed there
        return [Watched(folder, failure=folder.parents[1] / "logs" / f"{folder.name}.failed")]
    within = sorted(path.parent for name in ("config.json", "plan.json") for path in place.glob(f"*/{name}"))
    if not within:
        what = "contains no run and no sweep" if place.is_dir() else absent(place)
        raise UserError(f"{place} {what}: give the folder of a sweep or of a run, or one that contains such folders")
    found = []
    for folder in within:
        for watched in find_watched(folder):
            if watched.run.folder.name != folder.name:  # it is of a sweep, and another may have a run of that name
                watched.name = f"{folder.name}/{watched.name}"
            found.append(watched)
    return found
