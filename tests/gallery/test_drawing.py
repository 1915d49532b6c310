"""Drawing in one thread: batches across askers, least used models go, and nothing for who is gone."""

import asyncio
import os
import threading

import pytest
import torch

from sagan.gallery import drawing
from sagan.gallery.drawing import Ask, Painter
from sagan.system.errors import UserError
from tests.gallery.made import finished, make_run

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "a", steps=(1, 2, 3, 4))


@pytest.fixture
def painter():
    painter = Painter(CPU)
    yield painter
    painter.close()


async def until_waiting(painter, count):
    """Waits until so many pictures wait to be drawn."""
    for _ in range(1000):
        if len(painter._jobs) == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(painter._jobs)} pictures wait")


class Gate:
    """Holds the drawing thread until it is opened, and notes the size of each batch."""

    def __init__(self, monkeypatch):
        self.opened, self.reached, self.batches = threading.Event(), threading.Event(), []
        real = drawing.generator_attention

        def held(generator, step, z, labels):
            self.batches.append(len(z))
            self.reached.set()
            assert self.opened.wait(60)
            return real(generator, step, z, labels)

        monkeypatch.setattr(drawing, "generator_attention", held)


def test_what_waits_is_drawn_together_and_once(run, painter, monkeypatch):
    gate, path = Gate(monkeypatch), run.snapshot_file(4)

    async def ask():
        first = asyncio.ensure_future(painter.draw(path, Ask(seed=9)))
        await asyncio.to_thread(gate.reached.wait, 60)
        others = [asyncio.ensure_future(painter.draw(path, Ask(seed=seed))) for seed in range(5)]
        await until_waiting(painter, 5)
        gate.opened.set()
        await asyncio.gather(first, *others)
        await painter.draw(path, Ask(seed=3))

    finished(ask())
    assert gate.batches == [1, 5], "and what was drawn before is not drawn again"


def test_nothing_is_drawn_for_who_is_gone(run, painter, monkeypatch):
    gate, path = Gate(monkeypatch), run.snapshot_file(4)

    async def ask():
        first = asyncio.ensure_future(painter.draw(path, Ask(seed=9)))
        await asyncio.to_thread(gate.reached.wait, 60)
        gone = asyncio.ensure_future(painter.draw(path, Ask(seed=1, count=8)))
        stays = asyncio.ensure_future(painter.draw(path, Ask(seed=2)))
        await until_waiting(painter, 9)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.opened.set()
        await asyncio.gather(first, stays)

    finished(ask())
    assert gate.batches == [1, 1]


def test_the_models_used_least_go(run, painter, monkeypatch):
    monkeypatch.setattr(drawing, "_MODELS", 2)
    files = [run.snapshot_file(step) for step in (1, 2, 3)]
    first = painter.model(files[0])
    painter.model(files[1])
    assert painter.model(files[0]) is first
    painter.model(files[2])
    assert [path for path, *_ in painter._models] == [files[0], files[2]]


def test_a_snapshot_written_anew_is_drawn_anew(run, painter, tmp_path):
    path, other = run.snapshot_file(1), make_run(tmp_path / "b", seed=7, steps=(1,)).snapshot_file(1)
    before, wanted = finished(painter.draw(path, Ask())), finished(painter.draw(other, Ask()))
    assert not torch.equal(before[0].picture, wanted[0].picture)
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(1, 1))
    assert torch.equal(finished(painter.draw(path, Ask()))[0].picture, wanted[0].picture)


def test_an_error_is_the_askers_and_the_next_one_is_drawn(run, painter):
    async def ask():
        run.snapshot_file(3).write_bytes(b"torn")
        with pytest.raises(UserError, match="00000003.safetensors"):
            await painter.draw(run.snapshot_file(3), Ask())
        assert len(await painter.draw(run.snapshot_file(4), Ask())) == 1

    finished(ask())


def test_too_many_may_not_wait(run, painter, monkeypatch):
    monkeypatch.setattr(drawing, "_WAITING", 3)
    with pytest.raises(UserError, match="too many pictures are waiting"):
        finished(painter.draw(run.snapshot_file(4), Ask(count=4)))
