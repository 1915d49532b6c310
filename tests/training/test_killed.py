"""What a process that is killed leaves behind."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.training.test_loop import assert_same_bits

KILLED = """
    import os, signal, sys, torch, sagan.core.game.average
    from pathlib import Path
    from sagan.data import Store
    from sagan.run.folder import Run
    from sagan.system.console import Console
    from sagan.training.loop import Session, Trainer, train

    folder, store, moment, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

    torch.set_num_threads(1)  # as the test itself: sums are rounded in another order on more

    sagan.core.game.average._BATCHES = 1  # as the fixture few_z does

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(function, is_the_moment):
        def replaced(*args, **options):
            if is_the_moment(*args):
                die()
            return function(*args, **options)
        return replaced

    seen = []
    def nth_checkpoint(source, target):
        seen.extend([target] if str(target).endswith("last.pt") else [])
        return len(seen) == number and str(target).endswith("last.pt")

    def half(state, file):
        file.write(b"half of a checkpoint")
        file.flush()
        die()

    if moment == "half":
        torch.save = half
    elif moment == "step":
        Trainer.advance = dying(Trainer.advance, lambda training, batches: training.step == number - 1)
    else:  # the new checkpoint is written, and about to take the old one's name
        os.replace = dying(os.replace, nth_checkpoint)
    run = Run.open(Path(folder))
    session = Session(run.config(), torch.device("cpu"), Store.open(store))
    train(session, run, Console(quiet=True))
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL to send")
def test_a_killed_process_loses_nothing(workshop):
    """SIGKILL between two steps, in the middle of writing a checkpoint, and before the written one takes its name."""
    straight, _ = workshop.train("straight")
    for moment, number in (("step", 5), ("half", 0), ("checkpoint", 1)):
        killed, _ = workshop.run("killed")
        command = [sys.executable, "-c", textwrap.dedent(KILLED), killed.folder, workshop.store.folder, moment, number]
        ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    killed, outcome = workshop.train("killed")
    assert outcome.step == 8
    assert_same_bits(straight, killed)
