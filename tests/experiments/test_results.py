import pytest

from sagan.experiments.results import comparison_step, events, missing, read_results, shared_groups
from sagan.run.config import override
from sagan.run.folder import Run
from tests import records
from tests.experiments.made import begun, full_sweep, made_sweep, scored, with_samples


def result(results, name):
    return next(run for run in results.runs if run.name == name)


def test_arms_are_every_axis_but_the_seed(tmp_path):
    left_out = [{"span": 0, "masking": "before"}]
    made_sweep(tmp_path / "sweep", span=(3, 0), seed=(0, 1), masking=("after", "before"), left_out=left_out)
    results = read_results(tmp_path / "sweep")
    assert [arm.label for arm in results.arms] == [
        "span 3, masking after",
        "span 3, masking before",
        "span 0, masking after",
    ]
    assert results.baseline.label == "span 0, masking after"
    assert [[run.seed for run in results.of(arm)] for arm in results.arms] == [[0, 1]] * 3


def test_without_span_0_the_first_arm_is_the_baseline(tmp_path):
    made_sweep(tmp_path / "sweep", g_lr=(1e-3, 1e-4), seed=(0,), span=(2,))
    assert read_results(tmp_path / "sweep").baseline.label == "g_lr 0.001"


def test_what_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no plan.json"):
        read_results(tmp_path)
    made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0,))
    (tmp_path / "sweep" / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan.json"):
        read_results(tmp_path / "sweep")


def test_a_run_that_is_not_the_planned_one_is_refused(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0,))
    planned = sweep.plan.run("span1-seed0")
    Run.create(sweep.run_folder(planned), override(sweep.config(planned), {"span": 2, "total_step": 9}))
    with pytest.raises(ValueError, match=r"trained with span 2 \(not 1\)"):
        read_results(tmp_path / "sweep")


def test_seconds_are_those_of_the_step_scored(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0,), seed=(0,))
    begun(sweep, "span0-seed0", last=200)
    (run,) = read_results(tmp_path / "sweep").runs
    assert run.seconds_at(150) == 15.0
    assert run.seconds_at(125) == pytest.approx(12.5)
    assert run.seconds_at(25) == pytest.approx(2.5), "before the first record the clock began at 0"
    assert run.seconds_at(300) is None


def test_scores_of_unlike_cards_are_no_group(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0,))
    scored(begun(sweep, "span0-seed0"), {100: 9.0, 200: 8.0})
    scored(begun(sweep, "span1-seed0"), {100: 9.0}, extractor="another")
    with pytest.raises(ValueError, match="span0-seed0 and span1-seed0 cannot .* in extractor: random-conv and another"):
        shared_groups(read_results(tmp_path / "sweep"), "frechet")


def test_groups_that_every_scored_run_shares_come_by_size_and_others_are_said(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0, 1))
    for name in ("span0-seed0", "span1-seed0"):
        scored(scored(begun(sweep, name), {400: 7.0}, samples=500), {100: 9.0, 400: 8.0})
    scored(Run(sweep.run_folder(sweep.plan.run("span1-seed0"))), {100: 1.0}, resize="other")
    said = []
    groups = shared_groups(read_results(tmp_path / "sweep"), "frechet", said.append)
    assert [(group.card.samples, group.steps()) for group in groups] == [(100, [100, 400]), (500, [400])]
    assert said == ["left out, as not every scored run has such: 1 score (resize other, not none)"]


def test_a_metric_that_nobody_scored_is_refused_and_no_scores_at_all_are_not(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0,))
    assert shared_groups(read_results(tmp_path / "sweep"), "frechet") == []
    scored(begun(sweep, "span0-seed0"), {100: 1.0})
    with pytest.raises(ValueError, match=r"no run .* has a score 'kernel' \(there are: frechet\)"):
        shared_groups(read_results(tmp_path / "sweep"), "kernel")


def test_a_finished_sweep_is_compared_at_its_last_step_whoever_is_missing_there(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0, 1))
    for name in ("span0-seed0", "span0-seed1", "span1-seed0"):
        scored(begun(sweep, name), {100: 9.0, 400: 8.0})
    scored(begun(sweep, "span1-seed1", last=150), {100: 9.0})
    read = read_results(tmp_path / "sweep")
    assert comparison_step(read, shared_groups(read, "frechet")[0]) == 100, "span1-seed1 may still come to step 400"
    failure = sweep.failure_file(sweep.plan.run("span1-seed1"))
    failure.parent.mkdir(exist_ok=True)
    failure.write_text("it diverged")
    read = read_results(tmp_path / "sweep")
    assert comparison_step(read, shared_groups(read, "frechet")[0]) == 400
    assert "span1-seed1 failed at step 150 of 400: it diverged" in missing(read, [])


def test_what_is_missing_is_said(tmp_path):
    full_sweep(tmp_path / "sweep", {0: 0.0, 1: 1.0}, seeds=(0,))
    read = read_results(tmp_path / "sweep")
    groups = shared_groups(read, "frechet")
    assert missing(read, groups) == []
    other = made_sweep(tmp_path / "other", span=(0, 1), seed=(0,))
    run = begun(other, "span0-seed0", last=200)
    snapshot = run.snapshot_file(200)
    snapshot.parent.mkdir()
    snapshot.touch()
    said = missing(read_results(other.folder), [])
    assert said == [
        "span0-seed0 is at step 200 of 400 (cut)",
        "span0-seed0 has snapshots without such a score: of step 200",
        "span1-seed0 has not begun",
    ]


def test_events_are_stretches_of_one_verdict_and_rollbacks(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0,), seed=(0,))
    run = begun(sweep, "span0-seed0")
    verdicts = ["healthy", "D winning", "D winning", "healthy", "D winning", "diverged"]
    for number, verdict in enumerate(verdicts, 1):
        run.append(records.look(50 * number, verdict=verdict, reason=f"reason {number}"))
    run.append(records.rollback(200, 310, reason="why", remedy={"g_lr": 0.5, "d_lr": 1.0}))
    found = events(read_results(tmp_path / "sweep").runs[0])
    assert [(each.first, each.last, each.verdict, each.reason) for each in found] == [
        (100, 150, "D winning", "reason 3"),
        (250, 250, "D winning", "reason 5"),
        (300, 300, "diverged", "reason 6"),
        (310, 310, "diverged", "why"),
    ]
    assert found[-1].action == "back to step 200, on with other z and images, g_lr x 0.5"


def test_grids_are_looked_for_where_the_run_puts_them(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0,), seed=(0,))
    path = with_samples(begun(sweep, "span0-seed0"), 400)
    assert read_results(tmp_path / "sweep").runs[0].samples == path.parent
