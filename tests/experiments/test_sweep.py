"""Carrying out a plan, with a program in the place of `sagan` that leaves the files of a run and takes no time."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import sagan.experiments.sweep
from sagan.experiments.sweep import Runner, Sweep, carry_out
from sagan.run.config import Config, override, to_dict
from sagan.run.folder import Run
from sagan.run.plan import make_plan
from sagan.run.records import to_line
from tests import records

PROGRAM = """
import json, os, pathlib, signal, sys, time

words = sys.argv[1:]
command = words[0]
folder = pathlib.Path(words[words.index("--run_dir") + 1] if command == "train" else words[1])
sweep, name = folder.parents[1], folder.name


def note(text):
    with (sweep / "called").open("a") as file:
        file.write(f"{text} {name}\\n")


def snapshot(step):
    (folder / "snapshots").mkdir(exist_ok=True)
    (folder / "snapshots" / f"{step:08d}.safetensors").touch()


def stop(number, frame):
    stops.append(number)
    note(signal.Signals(number).name)
    if len(stops) > 1:
        os._exit(130)


stops = []
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
note(command)
trouble = dict(pair.split(":") for pair in os.environ.get("TROUBLE", "").split()).get(f"{command}-{name}")
if trouble == "sentence":
    print("one line\\nwarning: another\\nerror: there is no memory; give less", flush=True)
    sys.exit(2)
if trouble == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if command == "train":
    folder.mkdir(parents=True)
    (folder / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
    (folder / "config.json").write_text(pathlib.Path(__file__).with_name("config.json").read_text())
if command == "evaluate":
    score = json.loads(pathlib.Path(__file__).with_name("score.json").read_text())
    with (folder / "records.jsonl").open("a") as file:
        for path in (folder / "snapshots").iterdir():
            file.write(json.dumps({**score, "step": int(path.stem)}) + "\\n")
    sys.exit(0)
began = time.monotonic()
while trouble == "slow" and not stops and time.monotonic() - began < 60:
    time.sleep(0.02)
if trouble == "nothing":
    sys.exit(0)
if stops:
    time.sleep(float(os.environ.get("SAVING", "0")))
    sys.exit(128 + stops[0])
snapshot(6)
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(override(Config(), {"total_step": 6}))))
    (tmp_path / "score.json").write_bytes(to_line(records.score(0, 1.5, samples=25, extractor="eye")))
    return [sys.executable, "-I", "-S", str(tmp_path / "program.py")]


@pytest.fixture
def sweep(tmp_path):
    given = {"span": [0, 3], "seed": [0, 1], "total_step": [6], "eval_num": [25]}
    made = Sweep.begin(tmp_path / "S", make_plan(Config(), given))
    made.write()
    return made


@pytest.fixture
def play(sweep, program, monkeypatch):
    """Carries the sweep out as far as it goes; gives the states at the end, and the signal that ended it."""

    monkeypatch.setattr(sagan.experiments.sweep, "_INTERVAL", 0.05)

    def carry(jobs=1, extractor="eye", show=lambda statuses: None, threads=None):
        runner = Runner(sweep, extractor, threads, program)
        todo = [run for run in sweep.plan.runs() if sweep.commands(run, extractor)]
        stopped = carry_out(runner, todo, jobs, show)
        return {run.name: sweep.watch(run).look().state for run in sweep.plan.runs()}, stopped

    return carry


def called(sweep):
    path = sweep.folder / "called"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


ALL = ["span0-seed0", "span3-seed0", "span0-seed1", "span3-seed1"]


def test_every_run_is_trained_and_scored_and_then_there_is_nothing_left(sweep, play):
    states, stopped = play()
    assert stopped is None
    assert states == dict.fromkeys(ALL, "done")
    assert called(sweep) == [f"{command} {name}" for name in ALL for command in ("train", "evaluate")]
    play()
    assert called(sweep) == []


def test_without_scores_runs_are_only_trained_and_can_be_scored_later(sweep, play):
    play(extractor=None)
    assert called(sweep) == [f"train {name}" for name in ALL]
    play()
    assert called(sweep) == [f"evaluate {name}" for name in ALL]
    play(extractor="another")  # whose scores these are not
    assert len(called(sweep)) == 4


def test_what_was_cut_is_resumed_and_what_is_done_skipped(sweep, play):
    play()
    called(sweep)
    run = Run(sweep.folder / "runs" / "span3-seed0")
    run.snapshot_file(6).unlink()
    run.records_file.unlink()
    play()
    assert called(sweep) == ["resume span3-seed0", "evaluate span3-seed0"]


def test_a_failed_run_says_why_and_the_others_go_on(sweep, play, monkeypatch):
    monkeypatch.setenv("TROUBLE", "train-span3-seed0:sentence train-span0-seed1:killed evaluate-span3-seed1:sentence")
    states, _ = play()
    assert states == dict(zip(ALL, ["done", "failed", "failed", "failed"], strict=True))
    reasons = {run.name: sweep.watch(run).look().reason for run in sweep.plan.runs()}
    assert reasons["span3-seed0"] == "there is no memory; give less"
    assert "SIGKILL" in reasons["span0-seed1"]
    assert sweep.log_file(sweep.plan.run("span3-seed0")).read_text().startswith("one line\n")
    called(sweep)
    monkeypatch.delenv("TROUBLE")
    states, _ = play()
    assert states == dict.fromkeys(ALL, "done")
    assert called(sweep)[-1] == "evaluate span3-seed1"


def test_a_training_that_leaves_no_last_snapshot_has_failed(sweep, play, monkeypatch):
    monkeypatch.setenv("TROUBLE", "train-span0-seed0:nothing")
    assert play()[0]["span0-seed0"] == "failed"
    assert "without its last snapshot" in sweep.failure_file(sweep.plan.runs()[0]).read_text()
    assert "evaluate span0-seed0" not in called(sweep)


def test_a_run_whose_records_are_damaged_fails_alone(sweep, play):
    play(extractor=None)
    run = sweep.plan.runs()[0]
    Run(sweep.run_folder(run)).records_file.write_text("nonsense\n")
    Runner(sweep, "eye", None, ["false"]).execute(run)
    assert "records.jsonl, line 1, is damaged: " in sweep.failure_file(run).read_text()


def test_a_run_that_lost_its_config_is_told_what_to_do(sweep, play):
    play()
    run = sweep.plan.runs()[0]
    (sweep.run_folder(run) / "config.json").unlink()
    Runner(sweep, "eye", None, ["false"]).execute(run)
    assert "no config.json: put that back, or delete the folder" in sweep.failure_file(run).read_text()


def test_so_many_runs_are_played_at_a_time(sweep, play, monkeypatch):
    """All four wait for a signal; three jobs begin three of them."""
    monkeypatch.setenv("TROUBLE", " ".join(f"train-{name}:slow" for name in ALL))
    most = []

    def show(statuses):
        most.append(sum(status.state == "running" for status in statuses))
        begun = (sweep.folder / "called").read_text().count("train") if (sweep.folder / "called").exists() else 0
        if begun == 3 and len(most) > 2:
            signal.raise_signal(signal.SIGINT)

    states, stopped = play(jobs=3, show=show)
    assert stopped == signal.SIGINT
    assert max(most) == 3
    assert sorted(states.values()) == ["cut"] * 3 + ["waiting"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_each_run_once_and_their_saving_is_waited_for(sweep, play, monkeypatch, number):
    monkeypatch.setenv("TROUBLE", "train-span0-seed0:slow train-span3-seed0:slow")
    monkeypatch.setenv("SAVING", "0.3")  # longer than between two looks
    sent = []

    def show(statuses):
        path = sweep.folder / "called"
        if not sent and path.exists() and path.read_text().count("train") == 2:
            sent.append(number)
            signal.raise_signal(number)

    handler = signal.getsignal(number)
    states, stopped = play(jobs=2, show=show)
    assert stopped == number
    assert states == dict(zip(ALL, ["cut", "cut", "waiting", "waiting"], strict=True))
    assert sorted(line for line in called(sweep) if "SIG" in line) == [
        f"{signal.Signals(number).name} {name}" for name in ALL[:2]
    ]
    assert signal.getsignal(number) is handler
    monkeypatch.delenv("TROUBLE")
    assert play()[0] == dict.fromkeys(ALL, "done")
    assert [line for line in called(sweep) if "resume" in line] == [f"resume {name}" for name in ALL[:2]]


def test_a_second_signal_is_passed_on_too(sweep, play, monkeypatch):
    monkeypatch.setenv("TROUBLE", "train-span0-seed0:slow")
    monkeypatch.setenv("SAVING", "30")
    began = time.monotonic()

    def show(statuses):
        path = sweep.folder / "called"
        said = path.read_text() if path.exists() else ""
        if "train" in said and said.count("SIGINT") < 2:
            signal.raise_signal(signal.SIGINT)

    assert play(show=show)[0]["span0-seed0"] == "cut"
    assert time.monotonic() - began < 25


def test_an_error_here_ends_what_is_played(sweep, play, monkeypatch):
    monkeypatch.setenv("TROUBLE", "train-span0-seed0:slow")

    def show(statuses):
        if (sweep.folder / "called").exists():
            raise KeyError("a bug in the table")

    with pytest.raises(KeyError):
        play(show=show)
    assert called(sweep) == ["train span0-seed0", "SIGTERM span0-seed0"]


def test_a_run_that_another_process_trains_is_left_to_it(sweep, play, program):
    play(extractor=None)
    called(sweep)
    run = sweep.plan.runs()[0]
    made = Run(sweep.run_folder(run))
    made.snapshot_file(6).unlink()
    with made.locked():
        assert play(extractor=None)[0][run.name] == "running"
    assert called(sweep) == []


def test_a_sweep_is_carried_out_by_one_process(sweep, play):
    def show(statuses):
        refused = []

        def second():
            try:
                play()
            except ValueError as error:
                refused.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert "another process carries out the sweep" in refused[0]

    play(show=show)


def test_runs_share_the_cores(sweep, play, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    play(threads=3, extractor=None)
    assert [(sweep.run_folder(run) / "threads").read_text() for run in sweep.plan.runs()] == ["3"] * 4


def test_a_person_s_own_number_of_threads_holds(sweep, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Runner(sweep, None, 3).environment["OMP_NUM_THREADS"] == "7"


# ---- the folder


def test_a_sweep_goes_on_with_more_values(sweep, play):
    play()
    called(sweep)
    more = make_plan(Config(), {"span": [0, 3, 4], "seed": [0, 1], "total_step": [6], "eval_num": [25]})
    longer = Sweep.begin(sweep.folder, more)
    longer.write()
    assert [run.name for run in longer.plan.runs() if longer.commands(run, "eye")] == ["span4-seed0", "span4-seed1"]
    assert Sweep.open(sweep.folder) == longer


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ValueError, match="is not an empty folder: give another --sweep_dir"):
        Sweep.begin(tmp_path, make_plan(Config(), {}))
    with pytest.raises(ValueError, match="has no plan.json, so it is not a sweep"):
        Sweep.open(tmp_path)


def test_planning_writes_nothing(tmp_path):
    Sweep.begin(tmp_path / "S", make_plan(Config(), {}))
    assert list(tmp_path.iterdir()) == []


def test_the_plan_file_holds_each_run_with_its_command(sweep):
    values = json.loads((sweep.folder / "plan.json").read_text())
    assert values["axes"] == {"span": [0, 3], "seed": [0, 1]}
    assert [run["name"] for run in values["runs"]] == ALL
    for run in values["runs"]:
        span, seed = run["overrides"]["span"], run["overrides"]["seed"]
        assert run["name"] == f"span{span}-seed{seed}"
        assert f"--span {span}" in run["command"]
        assert f"--seed {seed}" in run["command"]
        assert f"--run_dir {sweep.folder / 'runs' / run['name']}" in run["command"]


# ---- on a cluster


@pytest.fixture
def cluster(sweep, program, monkeypatch):
    """submitit, whose local jobs play with the program in the place of `sagan`."""
    submitit = pytest.importorskip("submitit", reason="needs the extra sagan[cluster]")
    # a job is another process, which finds the program by its module
    module = (
        "import os, pathlib",
        "import sagan.experiments.sweep as sweep",
        f"pathlib.Path({str(sweep.folder.parent / 'job')!r}).write_text(str(os.getpid()))",
        f"sweep.PROGRAM = {tuple(program)!r}",
        "from sagan.experiments.cluster import ClusterJob",
        "class StandIn(ClusterJob): pass",
    )
    Path(sweep.folder.parent, "stand_in.py").write_text("\n".join(module))
    monkeypatch.syspath_prepend(sweep.folder.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(sweep.folder.parent), *filter(None, sys.path)]))
    monkeypatch.setattr(sagan.experiments.sweep, "PROGRAM", tuple(program))  # which the module sets here too
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    from stand_in import StandIn

    monkeypatch.setattr("sagan.experiments.cluster.ClusterJob", StandIn)
    return submitit


def test_jobs_of_a_cluster_play_their_runs(sweep, cluster, monkeypatch):
    from sagan.experiments.cluster import Cluster, submit

    monkeypatch.setenv("TROUBLE", "train-span3-seed0:sentence")
    runs = sweep.plan.runs()[:2]
    jobs = submit(sweep, runs, "eye", Cluster("local", hours=0.1, gpus_per_run=0), 2)
    assert jobs[0].result() == "done"
    with pytest.raises(cluster.core.utils.FailedJobError, match="there is no memory; give less"):
        jobs[1].result()


def test_a_job_whose_time_is_up_saves_and_goes_on(sweep, cluster, monkeypatch):
    from sagan.experiments.cluster import Cluster, submit

    monkeypatch.setenv("TROUBLE", "train-span0-seed0:slow")
    (job,) = submit(sweep, sweep.plan.runs()[:1], "eye", Cluster("local", hours=0.1, gpus_per_run=0), 1)
    until = time.monotonic() + 60
    while not (sweep.folder / "called").exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(int((sweep.folder.parent / "job").read_text()), signal.SIGUSR2)  # as SLURM does
    assert job.result() == "done"
    assert called(sweep) == [f"{what} span0-seed0" for what in ("train", "SIGTERM", "resume", "evaluate")]


def test_a_cluster_without_its_extra_is_answered_in_a_sentence(sweep, monkeypatch):
    from sagan.experiments.cluster import Cluster, submit

    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"--cluster needs an extra: pip install 'sagan-attention\[cluster\]'"):
        submit(sweep, sweep.plan.runs(), None, Cluster("slurm"), None)


# ---- plans


def test_plans_that_are_written_at_once_do_not_lose_runs(tmp_path):
    folder = tmp_path / "sweep"
    Sweep.begin(folder, make_plan(Config(), {"span": (0, 1)})).write()
    one = Sweep.begin(folder, make_plan(Config(), {"span": (0, 1, 2)}))
    other = Sweep.begin(folder, make_plan(Config(), {"span": (0, 1, 3)}))
    one.write()
    with pytest.raises(ValueError, match="2 is missing now"):
        other.write()
    assert Sweep.open(folder).plan.axes["span"] == (0, 1, 2)


def test_a_sweep_that_was_killed_before_its_plan_had_its_name_is_begun(tmp_path):
    for name in (".plan.json.0123abcd.partial", "planning.lock"):
        (tmp_path / name).touch()
    Sweep.begin(tmp_path, make_plan(Config(), {"span": (0, 1)})).write()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
