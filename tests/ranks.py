"""Several processes of one world, as ``torchrun`` would start them, forked from one that has imported everything."""

import multiprocessing
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is loaded there, as in a command
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "tests.ranks",
        "pytest",
        "sagan.training.start",
        "sagan.evaluation.snapshots",
        "sagan.system.link",
        "matplotlib.backends.backend_agg",
        "PIL.PngImagePlugin",
        "torch._dynamo",
    ]
)


@dataclass
class Ended:
    """How the processes ended, by rank: exit statuses, what they returned (None for one that did not) and printed to
    the standard error."""

    statuses: list
    results: list
    said: list


def start(size, work, *args, environment=()):
    """Starts ``work(rank, *args)``, a function of a module, in each process; `finish` waits for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **dict(environment)}
    started = []
    for rank in range(size):
        ours, theirs = _FORKS.Pipe(duplex=False)
        said = Path(tempfile.mkstemp()[1])
        process = _FORKS.Process(target=_work, args=(rank, shared, theirs, said, work, args))
        process.start()
        theirs.close()
        started.append((process, ours, said))
    return started


def finish(started, timeout=240):
    """Waits for processes. None is left behind."""
    results, printed = [], []
    for process, ours, said in started:
        process.join(timeout)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        try:
            results.append(ours.recv() if ours.poll() else None)
        except EOFError:
            results.append(None)
        printed.append(said.read_text())
        said.unlink()
        assert not late, "a process hangs"
    return Ended([process.exitcode for process, *_ in started], results, printed)


def run(size, work, *args, **options):
    """What ``work(rank, *args)`` returns in each of ``size`` processes."""
    ended = finish(start(size, work, *args, **options))
    assert ended.statuses == [0] * size, ended.said
    return ended.results


def _work(rank, shared, pipe, said, work, args):
    os.dup2(os.open(said, os.O_WRONLY), 2)
    os.environ.update({name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()})
    pipe.send(work(rank, *args))
