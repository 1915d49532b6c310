"""How runs stand, told from files that are written here as a run writes them."""

import os
import threading
from dataclasses import replace

import pytest

from sagan.experiments.sweep import find_watched
from sagan.run.config import Config, override
from sagan.run.folder import Run
from sagan.run.status import RunStatus, Watched, describe_progress, status_table
from sagan.system.files import is_held
from tests import records
from tests.experiments.made import BASE, begun, made_sweep


def make_run(folder, total=100):
    return Run.create(folder, override(Config(), {"total_step": total}))


def finish(run, number):
    run.snapshot_file(number).parent.mkdir(exist_ok=True)
    run.snapshot_file(number).touch()


def test_a_run_goes_through_its_states(tmp_path):
    failure = tmp_path / "why"
    watched = Watched(tmp_path / "run", total=100, failure=failure)
    assert (watched.look().state, watched.look().total) == ("waiting", 100)
    run = make_run(tmp_path / "run")
    assert watched.look().state == "cut"
    with run.locked():
        assert watched.look().state == "running"
        failure.write_text("no memory\n")
        assert watched.look().state == "running"
    assert (watched.look().state, watched.look().reason) == ("failed", "no memory")
    failure.unlink()
    finish(run, 50)
    assert watched.look().state == "cut"
    assert not watched.is_trained()
    finish(run, 100)
    assert watched.look().state == "done"
    assert watched.is_trained()
    assert watched.look("scoring").state == "scoring"


def test_a_run_that_failed_before_it_had_a_folder_has_failed(tmp_path):
    (tmp_path / "why").write_text("x\n")
    assert Watched(tmp_path / "run", failure=tmp_path / "why").look().state == "failed"
    (tmp_path / "why").write_bytes(b"\xff\xe9")
    assert Watched(tmp_path / "run", failure=tmp_path / "why").look().state == "failed"


def test_the_run_s_own_last_step_counts(tmp_path):
    """`sagan resume --total_step` moves it."""
    run = make_run(tmp_path / "run", total=200)
    finish(run, 100)
    status = Watched(run.folder, total=100).look()
    assert (status.state, status.total) == ("cut", 200)


def test_a_lock_file_that_a_killed_process_left_is_held_by_none(tmp_path):
    path = tmp_path / "running.lock"
    assert not is_held(path)
    path.touch()
    assert not is_held(path)
    assert path.exists()
    with Run(tmp_path).locked():
        assert is_held(path)
        assert is_held(path)  # checking a lock does not release it


@pytest.mark.skipif(os.name != "posix", reason="on Windows those who look exclude each other for a moment")
def test_looking_keeps_nobody_from_beginning(tmp_path):
    path, enough = tmp_path / "running.lock", threading.Event()

    def look():
        while not enough.is_set():
            is_held(path)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            path.touch()
            with Run(tmp_path).locked():  # is not refused
                pass
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_the_records_say_how_far_how_good_and_how_long(tmp_path):
    run = make_run(tmp_path / "run")
    run.append(records.train(10, seconds=5.0), records.score(10, 30.0), records.score(10, 0.5, "kernel"))
    run.append(records.train(20, seconds=7.0, verdict="D winning"), records.rollback(20, 30))
    run.append(records.score(20, 25.5), records.score(20, 0.5, "kernel"), records.score(20, 99.0, truncation=0.5))
    status = Watched(run.folder).look()
    assert (status.step, status.total, status.verdict, status.rollbacks) == (20, 100, "D winning", 1)
    assert status.score == records.score(20, 25.5)  # not that of truncated latents, which came later
    assert status.seconds_per_step == pytest.approx(0.2)  # of the last records, not from the start
    assert status.seconds_left == pytest.approx(16.0)
    run.append(records.look(20, verdict="diverged"))
    assert Watched(run.folder).look().verdict == "diverged"


def test_looking_again_sees_what_looking_anew_sees(tmp_path):
    run = make_run(tmp_path / "run")
    watched = Watched(run.folder)
    for number in range(1, 40):
        run.append(records.train(number, seconds=number**1.5))
        if number % 7 == 0:
            run.append(records.score(number, 50.0 - number))
        assert watched.look() == Watched(run.folder).look()
    with run.records_file.open("ab") as file:
        file.write(b'{"kind": "train", "st')  # half a line
    assert watched.look() == Watched(run.folder).look()
    run.append(records.train(40, seconds=300.0))
    assert watched.look() == Watched(run.folder).look()
    run.rewind_records(12)
    run.append(records.rollback(12, 40))
    assert watched.look() == Watched(run.folder).look()
    assert (watched.look().step, watched.look().rollbacks) == (12, 1)


def test_looking_again_reads_only_what_is_new(tmp_path):
    run = make_run(tmp_path / "run")
    run.append(records.train(1))
    watched = Watched(run.folder)
    watched.look()
    os.pwrite(descriptor := os.open(run.records_file, os.O_WRONLY), b"X", 0)  # the part that has been read
    os.close(descriptor)
    run.append(records.train(2))
    assert (watched.look().step, watched.look().reason) == (2, "")


def test_a_damaged_record_is_named_and_the_others_count(tmp_path):
    run = make_run(tmp_path / "run")
    run.append(records.train(8))
    with run.records_file.open("a") as file:
        file.write('nonsense\n[]\n{"kind": "train"}\n')
    run.append(records.train(9))
    status = Watched(run.folder).look()
    assert status.step == 9
    assert "records.jsonl, line 2, is damaged: " in status.reason


# ---- words


def test_the_table_shows_a_row_for_each_run():
    one = RunStatus("a", "running", 1500, 3000, records.score(1000, 12.3456), "healthy", 2, 2.0)
    other = RunStatus("b", "waiting", 0, 3000)
    assert status_table([one, other]) == [
        ["run", "state", "step", "FID", "verdict", "rollbacks", "left"],
        ["a", "running", "1,500/3,000", "12.346 at 1,000", "healthy", "2", "0:50:00"],
        ["b", "waiting", "0/3,000", "", "", "", ""],
    ]


def test_unlike_scores_are_each_named():
    runs = [RunStatus(name, "done", 1, 1, records.score(1, 2.0, label=name)) for name in ("FID", "FLD")]
    rows = status_table(runs)
    assert [row[3] for row in rows] == ["score", "2.000 FID at 1", "2.000 FLD at 1"]


def test_what_is_left_of_all_is_shared_by_those_at_a_time():
    running = RunStatus("a", "running", 50, 100, seconds_per_step=2.0)
    runs = [RunStatus("c", "done", 100, 100), running, *[RunStatus("b", "waiting", 0, 100)] * 3]
    assert describe_progress(runs, 1) == "3 waiting, 1 running, 1 done; about 0:11:40 left"  # 100 + 3 * 200 seconds
    assert describe_progress(runs, 2).endswith("0:05:50 left")
    assert describe_progress(runs, 100).endswith("0:03:20 left")  # a run is not taken apart
    assert describe_progress(runs[2:], 2) == "3 waiting"  # nothing has a pace
    assert describe_progress([]) == "no runs"


def test_runs_that_nobody_trains_take_no_time():
    running = RunStatus("a", "running", 50, 100, seconds_per_step=2.0, planned=False)
    stopped = RunStatus("b", "cut", 0, 100_000, seconds_per_step=9.0, planned=False)
    assert describe_progress([running, stopped]) == "1 running, 1 stopped; about 0:01:40 left"


def test_the_time_left_counts_scoring():
    scored = RunStatus("a", "running", 50, 100, seconds_per_step=2.0, unscored=1, seconds_per_score=60.0)
    new = RunStatus("b", "waiting", 0, 100, unscored=2)
    assert scored.seconds_left == 160
    assert describe_progress([scored, new], 1).endswith("about 0:08:00 left")  # 160 + 200 + 120 seconds
    scoring = RunStatus("a", "scoring", 100, 100, seconds_per_step=2.0, unscored=1, seconds_per_score=60.0)
    assert describe_progress([scoring]).endswith("about 0:01:00 left")
    assert status_table([scoring])[1][-1] == "0:01:00"
    unknown = RunStatus("a", "running", 50, 100, seconds_per_step=2.0, unscored=1)
    assert describe_progress([unknown]).endswith("0:01:40 left, besides scoring, of which the pace is not known yet")


def test_a_sweeps_runs_know_how_many_scores_are_left(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", override(BASE, {"snapshot_every": 150}), span=(0,), seed=(0,))
    (planned,) = sweep.plan.runs()
    assert sweep.watch(planned).look().unscored == 3  # at 150, 300 and 400
    assert sweep.watch(planned, scored=False).look().unscored == 0
    run = begun(sweep, planned.name)
    run.append(*(replace(records.score(150, 3.0, metric), seconds=8.0) for metric in ("frechet", "kernel")))
    status = sweep.watch(planned).look()
    assert (status.unscored, status.seconds_per_score) == (2, 8.0)


# ---- what is meant


def test_a_folder_of_runs_stands_for_each_of_them(tmp_path):
    for name in ("b", "a"):
        make_run(tmp_path / "runs" / name)
    assert [each.name for each in find_watched(tmp_path / "runs")] == ["a", "b"]
    assert [each.name for each in find_watched(tmp_path / "runs" / "a")] == ["a"]
    made_sweep(tmp_path / "runs" / "sweep", span=(0, 1), seed=(0,))
    assert [each.name for each in find_watched(tmp_path / "runs")] == [
        *("a", "b", "sweep/span0-seed0", "sweep/span1-seed0")
    ]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="contains no run and no sweep"):
        find_watched(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        find_watched(tmp_path / "none")
