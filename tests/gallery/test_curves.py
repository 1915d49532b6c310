"""Curves have every peak of what they leave out."""

import itertools

import numpy as np
import pytest

from sagan.gallery import curves
from sagan.gallery.curves import Curves
from sagan.run.folder import Run
from sagan.run.records import to_line
from tests import records


def write(tmp_path, *lines):
    run = Run(tmp_path)
    run.append(*lines)
    return run.records_file


def test_columns_are_those_of_the_records(tmp_path):
    path = write(
        tmp_path, records.train(2, penalty=None), records.train(4, d_loss=9.0), records.score(4, 30.5), records.look(4)
    )
    found = Curves(path).read()
    assert found["train"]["step"] == [2, 4]
    assert found["train"]["d_loss"] == [1.5, 9.0]
    assert found["train"]["gamma G16"] == [0.125, 0.125]
    assert "penalty" not in found["train"]
    (score,) = found["scores"]
    assert score["points"] == [{"step": 4, "value": 30.5, "spread": None, "images": 32, "seconds": 0.4}]
    assert (score["floor"], score["samples"]) == (4.0, 100)
    assert found["marks"] == []


def test_points_of_many_records_are_their_means_with_the_extremes(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST_POINTS", 100)
    monkeypatch.setattr(curves, "_MOST_KEPT", 512)
    monkeypatch.setattr(curves, "_AT_ONCE", 7)
    values = np.random.default_rng(0).normal(size=3000)
    values[[700, 2100]] = 50, -50
    penalties = [None if step % 3 else step for step in range(3000)]
    lines = [
        records.train(step + 1, d_loss=values[step].item(), penalty=penalties[step], g_loss=1.0) for step in range(3000)
    ]
    found = Curves(write(tmp_path, *lines)).read()
    train, low, high, each = (found[name] for name in ("train", "low", "high", "each"))
    assert 50 <= len(train["step"]) <= 100
    assert train["step"] == [*range(each, 3000, each), 3000]
    ends = [0, *train["step"]]
    for i, (start, stop) in enumerate(itertools.pairwise(ends)):
        part, seldom = values[start:stop], [each for each in penalties[start:stop] if each is not None]
        assert train["d_loss"][i] == pytest.approx(part.mean())
        assert (low["d_loss"][i], high["d_loss"][i]) == (part.min(), part.max())
        assert train["penalty"][i] == pytest.approx(sum(seldom) / len(seldom))
    assert set(train["g_loss"]) == {1}


def test_scores_of_unlike_cards_are_curves_of_their_own_and_the_newest_counts(tmp_path):
    path = write(
        tmp_path,
        records.score(2, 40.0),
        records.score(2, 41.0),
        records.score(2, 10.0, samples=50),
        records.score(2, 12.0, truncation=0.5),
        records.score(2, 0.1, "kernel", label="KID"),
    )
    found = {(each["label"], each["samples"]): each["points"][0]["value"] for each in Curves(path).read()["scores"]}
    assert found == {("FID", 100): 41.0, ("FID", 50): 10.0, ("FID, truncation 0.5", 100): 12.0, ("KID", 100): 0.1}


def test_what_the_guard_did_is_marked(tmp_path):
    path = write(
        tmp_path, records.look(5, verdict="D winning", reason="it has won"), records.rollback(4, 9), records.stopped(9)
    )
    assert [(mark["kind"], mark["step"]) for mark in Curves(path).read()["marks"]] == [
        ("guard", 5),
        ("rollback", 9),
        ("stopped", 9),
    ]


def test_no_records_and_damaged_ones_are_no_error(tmp_path):
    assert Curves(tmp_path / "records.jsonl").read()["train"] == {"step": [], "images": [], "seconds": []}
    path = write(tmp_path, records.train(2))
    with path.open("ab") as file:
        file.write(b"{\n\xff\n" + b'{"kind": "train"}\n')
    found = Curves(path).read()
    assert found["train"]["step"] == [2]
    assert found["damaged"] == 3


def test_curves_follow_the_records(tmp_path):
    path = write(tmp_path, records.train(2), records.look(2, verdict="D winning"))
    found = Curves(path)
    assert found.read()["train"]["step"] == [2]
    write(tmp_path, records.train(4), records.look(4, verdict="D winning"), records.look(6), records.score(4, 3.0))
    later = found.read()
    assert later == Curves(path).read()
    assert later["train"]["step"] == [2, 4]
    assert [mark["step"] for mark in later["marks"]] == [2]  # where the verdict begins
    path.unlink()
    write(tmp_path, records.train(2, d_loss=7.0))
    assert found.read()["train"]["d_loss"] == [7.0]


def test_of_many_new_records_a_sample_comes_first_and_then_every_peak_and_mark(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "_MOST_KEPT", 3000)
    line = to_line(records.train(1_000_000)).decode()  # all of one length, written quickly
    lines = [line.replace("1000000", f"{step}") for step in range(1_000_000, 1_020_000)]
    lines[7003] = lines[7003].replace('"d_loss": 1.5', '"d_loss": 50.0')
    path = tmp_path / "records.jsonl"
    path.write_text("".join([*lines, to_line(records.look(1_009_001, verdict="D winning")).decode()]))
    found = Curves(path)
    sample, whole = found.read(whole=False), found.read()
    assert (sample["whole"], whole["whole"]) == (False, True)
    assert found.read(whole=False) == whole  # nothing is new
    assert 700 < len(sample["train"]["step"]) <= 1200
    assert (max(whole["high"]["d_loss"]), whole["each"]) == (50, 24)
    assert whole["train"]["step"][whole["high"]["d_loss"].index(50)] == 1_007_007
    assert [mark["step"] for mark in whole["marks"]] == [1_009_001]
    assert len(found._gathered.points["step"]) < 4096


def test_what_is_no_number_is_damage_and_infinity_is_a_gap(tmp_path):
    line = to_line(records.train(2)).decode()
    wrong = [line.replace('"d_loss": 1.5', f'"d_loss": {value}') for value in ('"1.5"', "true", "[1]", "1.5]}, {")]
    wrong += [line.replace('"step": 2', '"step": null'), line.replace('"gamma": {', '"gamma": 1, "beta": {')]
    path = tmp_path / "records.jsonl"
    path.write_text("".join([line, *wrong, line.replace('"d_loss": 1.5', '"d_loss": Infinity')]))
    found = Curves(path).read()
    assert found["damaged"] == len(wrong)
    assert found["train"]["d_loss"] == [1.5, None]
    assert found["train"]["step"] == [2, 2]
