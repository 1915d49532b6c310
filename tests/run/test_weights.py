import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors import safe_open
from torch import nn

from sagan.run.weights import load_checkpoint, save_checkpoint, save_snapshot
from tests.training.test_loop import assert_same_bits


def test_a_state_comes_back_whole_and_without_running_code(tmp_path):
    state = {"step": 3, "weights": {"a": torch.randn(4)}, "names": ["x", None], "rate": 0.5}
    save_checkpoint(tmp_path / "deep" / "last.pt", state)
    back = load_checkpoint(tmp_path / "deep" / "last.pt")
    assert torch.equal(back.pop("weights")["a"], state.pop("weights")["a"])
    assert back == {"format": 1, **state}


class Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "evil": Payload()}, "last.pt")
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_file_is_refused_in_a_sentence(tmp_path, share):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match="last.pt is not a whole checkpoint"):
        load_checkpoint(path)


def test_a_file_of_another_kind_is_refused_in_a_sentence(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of this version of sagan"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_snapshot_is_safetensors_with_its_facts(tmp_path):
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    save_snapshot(tmp_path / "a.safetensors", network, {"format": "x", "step": "7"})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "x", "step": "7"}
        assert set(file.keys()) == set(network.state_dict())
        assert torch.equal(file.get_tensor("0.weight"), network[0].weight)


KILLED = """
    import os, signal, sys, torch
    from sagan.run.config import from_dict, override
    from sagan.system.console import Console
    from sagan.data import Store
    from sagan.run.folder import Run
    from sagan.training.loop import Training, train

    folder, store, moment, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

    torch.set_num_threads(1)  # as the test itself: sums are rounded in another order on more

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
        Training.advance = dying(Training.advance, lambda training, batches: training.step == number - 1)
    else:  # the new checkpoint is written, and about to take the old one's name
        os.replace = dying(os.replace, nth_checkpoint)
    run = Run.open(__import__("pathlib").Path(folder))
    train(from_dict(run.config()), run, Store.open(store), Console(quiet=True))
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
