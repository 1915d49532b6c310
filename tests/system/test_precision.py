"""Switches of the process: as they were afterwards, however many threads are inside."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from sagan.system.precision import full_precision

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


def test_what_is_set_inside_stays():
    matmul, cudnn = torch.backends.mkldnn.matmul, torch.backends.cudnn
    before = matmul.fp32_precision, cudnn.benchmark
    try:
        matmul.fp32_precision, cudnn.benchmark = "bf16", False
        with full_precision(CPU):
            matmul.fp32_precision, cudnn.benchmark = "tf32", True
        assert (matmul.fp32_precision, cudnn.benchmark) == ("tf32", True)
    finally:
        matmul.fp32_precision, cudnn.benchmark = before
