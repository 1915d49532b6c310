"""A run that goes wrong and goes back."""

import json

import pytest
import torch

from sagan.console import Console
from sagan.training.checkpoint import load_checkpoint
from sagan.training.guard import Diverged, Verdict
from sagan.training.loop import train
from sagan.training.state import Training
from tests.training.test_loop import Killed, assert_same_bits, stop_before_step

RECOVER = {"guard": "recover", "guard_every": 1, "total_step": 12, "checkpoint_every": 2, "sample_step": 12}


def spoil(monkeypatch, when):
    """The discriminator's loss is no number at the steps and attempts for which ``when(step, attempt)`` holds."""
    advance = Training.advance

    def spoiling(self, batches):
        measured = advance(self, batches)
        if when(self.step, self.attempt):
            measured["d_loss"] = torch.tensor(float("nan"))
        return measured

    monkeypatch.setattr(Training, "advance", spoiling)


@pytest.fixture(autouse=True)
def every_look_is_healthy(monkeypatch):
    """Networks this small never get into the game: what the guard makes of looks is tested elsewhere."""
    monkeypatch.setattr("sagan.training.guard.judge", lambda looks: Verdict("healthy"))


def rollbacks(run):
    return [record for record in run.records() if record["kind"] == "rollback"]


def test_a_run_goes_back_to_its_last_healthy_state_and_on_to_the_end(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 7 and attempt == 0)
    run, outcome = workshop.train(**RECOVER)
    assert outcome.step == 12
    (record,) = rollbacks(run)
    # step 6 was saved but has not been looked at since: step 4 is the last that proved healthy
    assert (record["step"], record["from_step"], record["attempt"]) == (4, 7, 1)
    assert record["reason"] == "d_loss is nan at step 7"
    assert record["remedy"] == {"g_lr": 0.5, "d_lr": 0.5, "penalties": 1.0}
    state = load_checkpoint(run.checkpoint_file)
    assert (state["attempt"], state["caution"]["g_lr"]) == (1, 0.5)
    assert state["g_optimizer"]["param_groups"][0]["lr"] == 0.5e-4
    steps = [r["step"] for r in run.records() if r["kind"] == "train"]
    assert steps == sorted(set(steps)) == [2, 4, 6, 8, 10, 12]


def test_nothing_of_what_was_taken_back_is_lost_or_mixed_in(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 7 and attempt == 0)
    run, _ = workshop.train(**RECOVER | {"snapshot_every": 6})
    aside = run.folder / "attempt-0"
    lines = [json.loads(line) for line in (aside / "records.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {5, 6}
    assert [path.name for path in aside.glob("*.safetensors")] == ["00000006.safetensors"]
    assert [path.name for path in run.snapshots()] == ["00000006.safetensors", "00000012.safetensors"]
    assert (aside / "00000006.safetensors").read_bytes() != run.snapshot_file(6).read_bytes()


def test_a_run_without_a_healthy_state_starts_anew(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 1 and attempt == 0)
    run, outcome = workshop.train(**RECOVER)
    assert outcome.step == 12
    assert [(record["step"], record["from_step"]) for record in rollbacks(run)] == [(0, 1)]


def test_a_run_that_keeps_going_wrong_is_stopped_with_a_sentence(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 7)
    run, config = workshop.run(**RECOVER | {"max_rollbacks": 2})
    with pytest.raises(
        Diverged, match=r"d_loss is nan at step 7: .*stopped after 2 rollbacks; the last good state"
    ) as end:
        train(config, run, workshop.store, Console(quiet=True))
    assert str(end.value) == end.value.verdict.reason
    assert [record["attempt"] for record in rollbacks(run)] == [1, 2]
    assert load_checkpoint(run.checkpoint_file)["step"] < 7


@pytest.mark.parametrize("guard", ["off", "watch"])
def test_a_run_that_may_not_go_back_does_not(workshop, monkeypatch, guard):
    spoil(monkeypatch, lambda step, attempt: step == 7)
    run, config = workshop.run(**RECOVER | {"guard": guard})
    with pytest.raises(Diverged, match="the last good state, step 6, is in"):
        train(config, run, workshop.store, Console(quiet=True))
    assert not rollbacks(run)
    assert not run.healthy_file.exists()


def test_collapse_is_a_reason_to_go_back_too(workshop, monkeypatch):
    def collapsed_at_nine(looks):
        bad = bool(looks) and looks[-1]["step"] == 9 and not rolled
        return Verdict("diversity falling", "all alike", collapsed=True) if bad else Verdict("healthy")

    rolled = []
    roll_back = Training.roll_back
    monkeypatch.setattr("sagan.training.guard.judge", collapsed_at_nine)
    monkeypatch.setattr(Training, "roll_back", lambda *args: rolled.append(1) or roll_back(*args))
    run, outcome = workshop.train(**RECOVER)
    (record,) = rollbacks(run)
    assert (record["verdict"], record["reason"], record["step"]) == ("diversity falling", "all alike", 6)
    assert outcome.step == 12


@pytest.mark.parametrize("killed_before", [6, 9, 11])
def test_a_run_with_a_rollback_resumes_to_the_same_bits(workshop, monkeypatch, killed_before):
    spoil(monkeypatch, lambda step, attempt: step == 7 and attempt == 0)
    changes = RECOVER | {"snapshot_every": 6, "sample_step": 6}
    straight, _ = workshop.train("straight", **changes)
    with monkeypatch.context() as patch:
        stop_before_step(patch, killed_before)
        with pytest.raises(Killed):
            workshop.train("stopped", **changes)
    stopped, _ = workshop.train("stopped", **changes)
    assert_same_bits(straight, stopped)


def test_watching_changes_no_bit(workshop):
    watched, _ = workshop.train("watched", guard="watch", guard_every=1)
    alone, _ = workshop.train("alone", guard="off")
    states = [load_checkpoint(run.checkpoint_file) for run in (watched, alone)]
    for name in ("generator", "discriminator", "average", "g_optimizer"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)
    assert len([record for record in watched.records() if record["kind"] == "guard"]) == 8
