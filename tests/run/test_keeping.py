"""Which snapshots of a run are kept."""

import dataclasses

import pytest

from sagan.bench.cost import describe_disk
from sagan.run.config import Config, override
from sagan.run.folder import Run, snapshot_step
from sagan.run.keeping import (
    kept_snapshots,
    remove_old_snapshots,
    run_bytes,
    snapshot_bytes,
    warning_of_little_space,
    written_snapshots,
)
from sagan.run.scores import best_score
from sagan.system.files import exclusive_lock
from tests import records

CONFIG = override(Config(), {"imsize": 16, "g_conv_dim": 8, "d_conv_dim": 8, "total_step": 60, "snapshot_every": 10})


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    for step in range(10, 70, 10):
        run.snapshot_file(step).parent.mkdir(exist_ok=True)
        run.snapshot_file(step).touch()
    return run


def kept(run, **settings):
    remove_old_snapshots(run, override(CONFIG, settings).run)
    return [snapshot_step(path) for path in run.snapshots()]


def test_all_are_kept_unless_fewer_are_asked_for(run):
    assert kept(run) == [10, 20, 30, 40, 50, 60]


def test_the_newest_are_kept(run):
    assert kept(run, keep_snapshots=2) == [50, 60]


def test_the_best_is_always_kept(run):
    run.append(*(records.score(step, value) for step, value in ((10, 9.0), (20, 3.0), (30, 5.0))))
    assert kept(run, keep_snapshots=1) == [20, 60]


def test_the_best_ones_are_kept_with_the_newest_and_those_that_wait_for_a_score(run):
    run.append(*(records.score(step, value) for step, value in ((10, 9.0), (20, 3.0), (30, 5.0), (40, 7.0))))
    assert kept(run, keep_best=2, eval_every=10) == [20, 30, 50, 60]
    run.append(records.score(50, 4.0), records.score(60, 8.0))
    assert kept(run, keep_best=2, eval_every=10) == [20, 50, 60]


def test_snapshots_between_those_that_are_scored_are_not_waited_for(run):
    run.append(records.score(20, 3.0), records.score(40, 4.0))
    assert kept(run, keep_best=1, eval_every=20) == [20, 60]


def test_the_best_of_every_kind_of_score_is_kept(run):
    run.append(*(records.score(step, value) for step, value in ((10, 9.0), (20, 3.0), (30, 5.0))))
    other = records.score(30, 1.0)
    run.append(dataclasses.replace(other, card=dataclasses.replace(other.card, extractor="another")))
    assert kept(run, keep_snapshots=1) == [20, 30, 60]
    assert best_score(run).step == 20


def test_the_published_checkpoints_go_with_their_snapshot(run):
    for step in (50, 60):
        for network in "GD":
            (run.folder / f"{step}_{network}.pth").touch()
    kept(run, keep_snapshots=1)
    assert sorted(path.name for path in run.folder.glob("*.pth")) == ["60_D.pth", "60_G.pth"]


def test_one_that_is_being_scored_stays_until_then(run):
    (run.folder / "evaluation").mkdir()
    with exclusive_lock(run.folder / "evaluation" / "20.lock", lambda: None):
        assert kept(run, keep_snapshots=1) == [20, 60]
    assert kept(run, keep_snapshots=1) == [60]


def test_the_disk_is_counted_with_those_that_are_kept():
    assert kept_snapshots(CONFIG.run, 6) == 6
    fewer = override(CONFIG, {"keep_snapshots": 2})
    assert kept_snapshots(fewer.run, 6) == 3
    assert run_bytes(CONFIG) - run_bytes(fewer) == 3 * snapshot_bytes(CONFIG)


@pytest.mark.parametrize(("total", "every", "eval_every"), [(60, 10, None), (61, 10, None), (60, 10, 4), (7, 9, 8)])
def test_snapshots_that_are_scored_in_training_are_counted(total, every, eval_every):
    settings = override(CONFIG, {"total_step": total, "snapshot_every": every, "eval_every": eval_every}).run
    steps = {step for step in range(1, total + 1) if step % every == 0 or step % (eval_every or every) == 0} | {total}
    assert written_snapshots(settings) == len(steps)


def test_a_disk_too_small_is_told(tmp_path, monkeypatch):
    assert warning_of_little_space(CONFIG, tmp_path) == ""
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    assert "--keep_snapshots 3" in warning_of_little_space(CONFIG, tmp_path).replace("`", "")
    fewer = override(CONFIG, {"keep_snapshots": 1})
    assert "free on its disk" in warning_of_little_space(fewer, tmp_path)
    assert "--keep_snapshots" not in warning_of_little_space(fewer, tmp_path)


def test_the_disk_line_says_how_many_are_kept():
    assert "are kept" not in describe_disk(CONFIG)
    assert "(of 6 at most 3 are kept, more with several kinds" in describe_disk(override(CONFIG, {"keep_snapshots": 2}))
