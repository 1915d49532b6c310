"""The next batch is made while the last one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

Batch = tuple[int, Tensor]  # the number of its first image, and the images


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, one ahead, made in a thread: for images that are read and decoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="images") as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def draw_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, one ahead, made on a GPU on a stream of their own: for images that are drawn.

    Nothing here waits for the GPU: it is told to draw a batch before it is told to work on the one before, and does
    both at once. What works on a batch must do so on the stream that is current when this begins.
    """
    working, drawing = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    drawing.wait_stream(working)  # the generator's weights may be on their way

    def draw() -> tuple[Batch | None, torch.cuda.Event]:
        with torch.cuda.stream(drawing):
            return next(batches, None), drawing.record_event()

    following = draw()
    while (batch := following[0]) is not None:
        drawn, following = following[1], draw()
        working.wait_event(drawn)
        batch[1].record_stream(working)  # its memory is free for other draws only when the work on it is done
        yield batch
