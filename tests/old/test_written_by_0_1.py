"""What version 0.1.0 left on the disk still opens, resumes and reports."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.cli import main
from sagan.run.weights import load_snapshot

MOVED = ("--data", "photos.zip", "--prepared", "prepared")  # the archive was written in another folder


def said(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["plain", "classes"])
def test_a_snapshot_draws_the_images_that_it_drew(old, name):
    expected = sorted(Path("expected", f"samples-{name}").iterdir())
    assert main(["sample", name, "--num", str(len(expected)), "--out", "drawn"]) == 0
    for path in expected:
        one, other = (np.asarray(Image.open(each)).astype(int) for each in (path, Path("drawn", path.name)))
        assert abs(one - other).max() <= 1  # another processor rounds sums in another order


@pytest.mark.parametrize("name", ["plain", "classes"])
def test_a_run_goes_on_to_the_weights_that_it_came_to(old, name):
    assert main(["resume", name, "--total_step", "12", *MOVED]) == 0
    ours, theirs = (
        load_snapshot(path).generator.state_dict()
        for path in (Path(name, "snapshots", "00000012.safetensors"), Path("expected", f"{name}-12.safetensors"))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_runs_and_sweeps_stand_as_they_stood(old, capsys):
    assert said(capsys, "status", "plain", "classes", "sweep") == Path("expected", "status.txt").read_text()
    table = said(capsys, "compare-metrics", "sweep/runs/span0-seed0", "sweep/runs/span1-seed0")
    assert table == Path("expected", "compare.txt").read_text()


def test_a_sweep_is_reported_with_the_same_figures(old):
    assert main(["report", "sweep"]) == 0
    for name in ("scores.csv", "comparison.csv"):
        ours, theirs = (
            list(csv.DictReader(Path(*at, name).read_text().splitlines()))
            for at in (("sweep", "report"), ("expected",))
        )
        for row in theirs:  # the bootstrap is no longer reported
            row.pop("bootstrap_low", None)
            row.pop("bootstrap_high", None)
        assert ours == theirs


def test_a_finished_sweep_has_nothing_left_to_do(old, capsys):
    assert "2 runs, 0 of them not done" in said(capsys, "sweep", "--sweep_dir", "sweep")


def test_a_scored_run_is_not_scored_again(old, capsys):
    words = ["evaluate", "plain", "--extractor", "random-conv", "--num", "24", "--reference"]
    assert "nothing to do" in said(capsys, *words, *map(str, Path("prepared").glob("photos-*")))
