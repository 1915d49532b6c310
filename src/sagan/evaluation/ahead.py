"""Makes the next batch while the last one is in use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

Batch = tuple[int, Tensor]  # the number of its first image, and the images


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made one ahead in a thread: for images that are read and decoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="images") as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def draw_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, made one ahead on a CUDA stream of their own: for images that a generator draws.

    Nothing here waits for the GPU: the next batch is queued before the work on the last one, and both run at once.
    The work on a batch must be queued on the stream that is current when this begins.
    """
    working, drawing = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    drawing.wait_stream(working)  # the generator's weights may still be copied

    def draw() -> tuple[Batch | None, torch.cuda.Event]:
        with torch.cuda.stream(drawing):
            return next(batches, None), drawing.record_event()

    following = draw()
    while (batch := following[0]) is not None:
        drawn, following = following[1], draw()
        working.wait_event(drawn)
        batch[1].record_stream(working)  # its memory is reused only after the work on it
        yield batch
