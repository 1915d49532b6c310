"""How several processes meet, and what they hear when one of them cannot connect."""

import os
import signal

import pytest
import torch.distributed as dist

from sagan.system import link
from sagan.system.link import Link
from sagan.system.world import joined
from tests import ranks

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked")


@pytest.fixture
def launcher():
    """The environment of processes whose store outlives them, as torchrun's does."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {"MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": "True", "SAGAN_TIMEOUT": 1}
    yield environment
    del store


def quickly():
    """Signs of life follow one another quickly, as these tests wait for one that is missing."""
    link._BEAT, link._STALE = 0.1, 0.5


def noting(rank, note, victim):
    quickly()
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(rank)  # each machine has its own count
    with joined() as world:
        former = world.recall()
        world.remember(note)
        world.gather(None)
        if rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return former, world.gather(rank)


def test_those_that_replace_lost_processes_meet_and_find_their_note(launcher):
    for victim in (1, 0):
        ended = ranks.finish(ranks.start(2, noting, f"of {victim}", victim, environment=launcher))
        assert -signal.SIGKILL in ended.statuses
    assert ranks.run(3, noting, "last", None, environment=launcher) == [("of 0", [0, 1, 2])] * 3


CALLS = {
    "share": lambda world: world.share(lambda: 1, "a"),
    "another share": lambda world: world.share(lambda: 1, "b"),
    "collect": lambda world: world.collect(1),
    "gather": lambda world: world.gather(1),
    "largest": lambda world: world.largest(1, 2),
}


def calling(rank, pair):
    try:
        with joined() as world:
            CALLS[pair[rank]](world)
    except ValueError as error:
        return str(error)
    return "nothing"


@pytest.mark.parametrize("other", ["another share", "collect", "gather", "largest"])
def test_processes_in_unlike_calls_get_one_sentence(other):
    for pair in (("share", other), (other, "share")):
        ended = ranks.finish(ranks.start(2, calling, pair), timeout=30)
        for said in ended.results:
            assert said is None or "rank 1 is at" in said
        assert any(ended.results)


def connecting(rank, end):
    quickly()

    def failing(self):
        os.kill(os.getpid(), signal.SIGKILL if end == "killed" else 0)
        raise OSError(28, "No space left on device", "/full")

    if rank == 1:
        Link.connect = failing
    with joined():
        raise AssertionError("one process is missing")


@pytest.mark.parametrize(
    ("end", "sentence"), [("killed", "rank 1"), ("failed", "rank 1: No space left on device: /full")]
)
def test_a_process_that_cannot_connect_ends_all(launcher, end, sentence):
    ended = ranks.finish(ranks.start(2, connecting, end, environment=launcher), timeout=20)
    assert 0 not in ended.statuses
    assert sentence in ended.said[0]
