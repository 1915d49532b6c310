"""Curves have every peak of what they leave out."""

import numpy as np

from sagan.gallery import curves
from sagan.gallery.curves import read_curves
from sagan.run.folder import Run
from tests import records


def write(tmp_path, *lines):
    run = Run(tmp_path)
    run.append(*lines)
    return run.records_file


def test_columns_are_those_of_the_records(tmp_path):
    path = write(
        tmp_path, records.train(2, penalty=None), records.train(4, d_loss=9.0), records.score(4, 30.5), records.look(4)
    )
    found = read_curves(path)
    assert found["train"]["step"] == [2, 4]
    assert found["train"]["d_loss"] == [1.5, 9.0]
    assert found["train"]["gamma G16"] == [0.125, 0.125]
    assert "penalty" not in found["train"]
    (score,) = found["scores"]
    assert score["points"] == [{"step": 4, "value": 30.5, "spread": None, "images": 32, "seconds": 0.4}]
    assert (score["floor"], score["samples"]) == (4.0, 100)
    assert found["marks"] == []


def test_many_records_keep_their_peaks(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST_ROWS", 100)
    values = np.random.default_rng(0).normal(size=3000)
    values[[700, 2100]] = 50, -50
    path = write(tmp_path, *(records.train(step, d_loss=value) for step, value in enumerate(values.tolist(), 1)))
    train = read_curves(path)["train"]
    assert len(train["step"]) <= 3 * 100
    assert {1, 701, 2101, 3000} <= set(train["step"])
    assert all(train["d_loss"][i] == values[step - 1] for i, step in enumerate(train["step"]))


def test_scores_of_unlike_cards_are_curves_of_their_own_and_the_newest_counts(tmp_path):
    path = write(
        tmp_path,
        records.score(2, 40.0),
        records.score(2, 41.0),
        records.score(2, 10.0, samples=50),
        records.score(2, 12.0, truncation=0.5),
        records.score(2, 0.1, "kernel", label="KID"),
    )
    found = {(each["label"], each["samples"]): each["points"][0]["value"] for each in read_curves(path)["scores"]}
    assert found == {("FID", 100): 41.0, ("FID", 50): 10.0, ("FID, truncation 0.5", 100): 12.0, ("KID", 100): 0.1}


def test_what_the_guard_did_is_marked(tmp_path):
    path = write(
        tmp_path, records.look(5, verdict="D winning", reason="it has won"), records.rollback(4, 9), records.stopped(9)
    )
    assert [(mark["kind"], mark["step"]) for mark in read_curves(path)["marks"]] == [
        ("guard", 5),
        ("rollback", 9),
        ("stopped", 9),
    ]


def test_no_records_and_damaged_ones_are_no_error(tmp_path):
    assert read_curves(tmp_path / "records.jsonl")["train"] == {"step": [], "images": [], "seconds": []}
    path = write(tmp_path, records.train(2))
    with path.open("ab") as file:
        file.write(b"{\n\xff\n" + b'{"kind": "train"}\n')
    found = read_curves(path)
    assert found["train"]["step"] == [2]
    assert found["damaged"] == 3
