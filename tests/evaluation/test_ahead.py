import threading

import pytest
import torch

from sagan.evaluation.ahead import draw_ahead, read_ahead


def numbered(count, made):
    for number in range(count):
        made.append(number)
        yield number, torch.full((2,), number)


def test_the_same_batches_come_in_the_same_order():
    assert [(number, values.tolist()) for number, values in read_ahead(numbered(5, []))] == [
        (number, [number, number]) for number in range(5)
    ]
    assert list(read_ahead(numbered(0, []))) == []


def test_the_next_batch_is_read_while_one_is_worked_on_and_no_more():
    made, read = [], threading.Event()

    def batches():
        for batch in numbered(9, made):
            if batch[0] == 1:
                read.set()
            yield batch

    ahead = read_ahead(batches())
    next(ahead)
    assert read.wait(10)
    assert made == [0, 1]
    ahead.close()
    assert made == [0, 1]


def test_an_error_of_the_reader_is_raised_where_the_batches_are_used():
    def batches():
        yield 0, torch.zeros(1)
        raise ValueError("the disk is gone")

    found = []
    with pytest.raises(ValueError, match="the disk is gone"):
        found.extend(read_ahead(batches()))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.gpu
def test_what_is_drawn_on_a_gpu_is_whole_when_it_is_used():
    def batches():
        for number in range(20):
            drawn = torch.ones(512, 512, device="cuda")
            for _ in range(20):
                drawn = drawn @ drawn / 512
            yield number, drawn * number

    sums = [values.sum() for _, values in draw_ahead(batches(), torch.device("cuda"))]
    assert [value.item() for value in sums] == [512 * 512 * number for number in range(20)]
