"""Several processes of one world, as ``torchrun`` would start them, forked from one that has imported everything."""

import multiprocessing
import os
import socket
from dataclasses import dataclass

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.ranks", "sagan.training.start", "sagan.system.link", "PIL.PngImagePlugin"])


@dataclass
class Ended:
    """How the processes ended, by rank: exit statuses, and what they returned (None for one that did not)."""

    statuses: list
    results: list


def start(size, work, *args, environment=()):
    """Starts ``work(rank, *args)``, a function of a module, in each process; `finish` waits for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **dict(environment)}
    started = []
    for rank in range(size):
        ours, theirs = _FORKS.Pipe(duplex=False)
        process = _FORKS.Process(target=_work, args=(rank, shared, theirs, work, args))
        process.start()
        theirs.close()
        started.append((process, ours))
    return started


def finish(started, timeout=240):
    """Waits for processes. None is left behind."""
    results = []
    for process, ours in started:
        process.join(timeout)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        try:
            results.append(ours.recv() if ours.poll() else None)
        except EOFError:
            results.append(None)
        assert not late, "a process hangs"
    return Ended([process.exitcode for process, _ in started], results)


def run(size, work, *args, **options):
    """What ``work(rank, *args)`` returns in each of ``size`` processes."""
    ended = finish(start(size, work, *args, **options))
    assert ended.statuses == [0] * size
    return ended.results


def _work(rank, shared, pipe, work, args):
    os.environ.update({name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()})
    pipe.send(work(rank, *args))
