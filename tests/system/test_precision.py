"""Switches of the process: as they were afterwards, however many threads are inside."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from sagan.system.precision import full_precision, plain_default_dtype

CPU = torch.device("cpu")


def test_the_switches_are_put_back_when_the_last_of_many_threads_leaves():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    start = threading.Barrier(8)
    try:

        def draw(number):
            start.wait()
            found = set()
            for _ in range(50):
                with full_precision(CPU):
                    found.add(matmul.fp32_precision)
            return found

        with ThreadPoolExecutor(8) as threads:
            assert set().union(*threads.map(draw, range(8))) == {"ieee"}
        assert matmul.fp32_precision == "bf16"
    finally:
        matmul.fp32_precision = before


def test_one_thread_that_leaves_does_not_take_it_from_another():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        first, second = full_precision(CPU), full_precision(CPU)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert matmul.fp32_precision == "ieee"
        second.__exit__(None, None, None)
        assert matmul.fp32_precision == "bf16"
    finally:
        matmul.fp32_precision = before


def test_the_default_dtype_is_plain_inside():
    torch.set_default_dtype(torch.float64)
    try:
        with plain_default_dtype, plain_default_dtype:
            assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
