"""Which of several processes this one is, and the order in which they add."""

import pytest
import torch

from sagan.system.world import World, announced, joined, leads, tree_sum


@pytest.fixture
def announce(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(name, str(value)) for name, value in values.items()]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_parts_put_together_are_the_whole(size):
    assert [number for rank in range(size) for number in World(rank, size).part(6)] == list(range(6))


def test_what_cannot_be_is_refused():
    for rank, size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"got rank {rank} of {size}"):
            World(rank, size)
    with pytest.raises(ValueError, match="4 processes cannot divide 6 shards evenly"):
        World(0, 4).part(6)


@pytest.mark.parametrize("count", range(1, 14))
def test_the_tree_adds_all_of_them(count):
    terms = list(torch.randn(count, 5, dtype=torch.float64))
    torch.testing.assert_close(tree_sum(terms), torch.stack(terms).sum(0))


@pytest.mark.parametrize("count", [2, 4, 6, 12, 16, 24])
def test_aligned_blocks_of_a_power_of_two_can_be_added_beforehand(count):
    terms = list(torch.randn(count, 100) * 10 ** torch.randn(count, 1))
    for size in (2, 4, 8):
        if count % size == 0:
            blocks = [tree_sum(terms[start : start + size]) for start in range(0, count, size)]
            assert torch.equal(tree_sum(blocks), tree_sum(terms))


def test_one_process_hears_itself():
    world = World()
    assert world.leads
    assert (world.share(lambda: 3), world.gather("a"), world.largest(2, 1)) == (3, ["a"], [2, 1])
    assert (world.in_turn(lambda: 4), world.recall()) == (4, "")


def test_a_process_is_alone_unless_torchrun_says_otherwise(announce):
    assert announced() == (0, 1)
    assert leads()
    with joined() as world:
        assert world.size == 1
    announce(WORLD_SIZE=2, RANK=1, MASTER_ADDR="localhost", MASTER_PORT=1)
    assert announced() == (1, 2)
    assert not leads()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number, got 'two'"),
        ({"WORLD_SIZE": 2}, "WORLD_SIZE is 2 but RANK is not set"),
        ({"WORLD_SIZE": 2, "RANK": 0}, "WORLD_SIZE is 2 but MASTER_ADDR is not set"),
        ({"WORLD_SIZE": 2, "RANK": 2, "MASTER_ADDR": "x", "MASTER_PORT": 1}, "less than WORLD_SIZE, got 2 of 2"),
    ],
)
def test_an_incomplete_announcement_is_refused(announce, values, sentence):
    announce(**values)
    with pytest.raises(ValueError, match=sentence), joined():
        pass
