import time

import pytest
import torch

from sagan.bench.timing import ROUNDS, Timing, time_in_turns

CPU = torch.device("cpu")


def test_a_timing_says_middle_least_and_spread():
    timing = Timing((3.0, 1.0, 2.0, 4.0, 2.0))
    assert timing.to_dict() == {"median": 2.0, "least": 1.0, "spread": pytest.approx(1.5)}


def test_ways_take_turns_and_what_is_compared_has_as_many_rounds():
    order = []

    def way(name):
        def run():
            order.append(name)
            time.sleep(0.06)  # long enough to be done once a round

        return run

    rounds = []
    timings = time_in_turns({"a": way("a"), "b": way("b")}, CPU, on_round=lambda *done: rounds.append(done))
    assert order == ["a", "b"] + ["a", "b"] * ROUNDS  # the first of each warms up
    assert rounds == [(number, ROUNDS) for number in range(1, ROUNDS + 1)]
    assert all(len(timing.rounds) == ROUNDS >= 5 for timing in timings.values())
    assert all(timing.least >= 0.06 for timing in timings.values())


def test_what_is_short_is_repeated_and_its_time_is_that_of_one_call():
    calls = []
    timing = time_in_turns({"short": lambda: calls.append(time.sleep(0.001))}, CPU)["short"]
    assert len(calls) > ROUNDS + 2
    assert 0.001 <= timing.least < 0.01


def test_a_ratio_compares_what_was_measured_in_the_same_round():
    assert Timing((1.0, 10.0, 1.0)).ratio(Timing((2.0, 20.0, 3.0))) == 2.0


def test_cpu_time_leaves_out_waiting():
    timing = time_in_turns({"waits": lambda: time.sleep(0.05)}, CPU, rounds=2, cpu_time=True)["waits"]
    assert timing.median < 0.04
