import dataclasses

import pytest
import torch

from sagan.bench import backends as attention
from sagan.bench.backends import attention_rows, cases, measure_attention
from sagan.bench.settings import BenchSettings

TINY = BenchSettings(torch.device("cpu"), imsize=32, batch_size=2, span=1, quick=True)


@pytest.fixture
def small(monkeypatch):
    """Two small maps, of a megabyte of scores or less."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # which would be measured too, slowly
    some = [dataclasses.replace(case, batch=2) for case in cases(TINY)]
    monkeypatch.setattr(attention, "cases", lambda settings: some)


def test_every_backend_that_can_run_has_a_row_with_time_memory_and_error(small):
    done = []
    result = measure_attention(TINY, lambda *progress: done.append(progress))
    assert [(row["queries"], row["backend"]) for row in result["rows"]] == [
        (queries, backend) for queries in (64, 256) for backend in ("reference", "blocked")
    ]
    assert done == [(1, 2), (2, 2)]
    for row in result["rows"]:
        assert row["forward"]["median"] > 0
        assert row["both"]["median"] > 0
        assert row["memory"] > 0
        assert 0 < row["error"] < 1e-4
    assert len(attention_rows(result)) == 1 + len(result["rows"])


def test_dense_attention_takes_the_memory_of_its_matrix(small):
    rows = measure_attention(TINY, lambda *_: None)["rows"]
    dense = next(row for row in rows if row["backend"] == "reference" and row["queries"] == 256)
    assert dense["memory"] >= 2 * 2 * 256 * 256 * 4  # batch 2: weights, and their gradient
    assert dense["memory"] < 8 * 2 * 256 * 256 * 4


def test_what_cannot_run_is_left_out_with_its_reason(small, monkeypatch):
    broken = dataclasses.replace(attention.BACKENDS["blocked"], reasons_against=lambda *_: ["it needs the moon"])
    monkeypatch.setitem(attention.BACKENDS, "lunar", broken)
    result = measure_attention(TINY, lambda *_: None)
    assert all(row["backend"] != "lunar" for row in result["rows"])
    assert "lunar was not measured on cpu: it needs the moon" in result["notes"]


def rows_of(times, taken):
    """Rows of a sweep: seconds by size and backend, and what `attend` takes by size."""
    return [
        {"sweep": True, "queries": n, "backend": name, "both": {"median": seconds}, "chosen": name == taken[n]}
        for n, by_name in times.items()
        for name, seconds in by_name.items()
    ]


def test_the_sizes_from_which_backends_win_are_said_beside_what_attend_takes():
    times = {
        64: {"reference": 1, "blocked": 3},
        256: {"reference": 1, "blocked": 2},
        1024: {"reference": 4, "blocked": 2},
    }
    notes = attention._judge(rows_of(times, {64: "reference", 256: "blocked", 1024: "blocked"}))
    assert notes[0] == "fastest, forward and backward: reference from N = 64, blocked from N = 1,024"
    assert notes[1] == "attend() takes: reference from N = 64, blocked from N = 256"
    assert "not the fastest at N = 256: blocked takes 2.00 times as long as reference" in notes[2]
    assert len(notes) == 3


def test_a_choice_as_fast_as_the_fastest_is_not_blamed():
    notes = attention._judge(rows_of({64: {"reference": 1.0, "blocked": 1.05}}, {64: "blocked"}))
    assert len(notes) == 2


def test_the_whole_table_has_the_networks_own_layers():
    whole = cases(BenchSettings(torch.device("cpu")))
    own = [(case.pattern.height, case.batch, case.dim, case.value_dim) for case in whole if not case.sweep]
    assert {(16, 64, 16, 128), (32, 64, 8, 64), (8, 64, 32, 256), (4, 64, 64, 512)} <= set(own)
    assert {case.pattern.span for case in whole} == {0, 3}
