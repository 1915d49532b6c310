import pytest
import torch

from sagan.training.world import World


def test_one_process_leads_and_takes_everything():
    assert World().leads
    assert World().part(6) == slice(0, 6)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_parts_put_together_are_the_whole(size):
    whole = torch.arange(6)
    parts = [whole[World(rank, size).part(6)] for rank in range(size)]
    assert torch.equal(torch.cat(parts), whole)
    assert [World(rank, size).leads for rank in range(size)] == [True] + [False] * (size - 1)


def test_what_cannot_be_is_refused():
    for rank, size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"got rank {rank} of {size}"):
            World(rank, size)
    with pytest.raises(ValueError, match="must be a multiple of the number of processes, got 6 for 4"):
        World(0, 4).part(6)
