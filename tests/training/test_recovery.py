"""A run that goes wrong and goes back."""

import signal

import pytest
import torch

import sagan.training.recovery as recovery
from sagan.run.config import override
from sagan.run.folder import Run
from sagan.run.records import LookRecord, RecordReader, RollbackRecord, StoppedRecord, TrainRecord
from sagan.run.status import Watched
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.console import Console
from sagan.training.guard import Diverged, Verdict, examine, judge
from sagan.training.loop import train
from sagan.training.recovery import REMEDIES, describe_remedy
from sagan.training.trainer import Trainer
from tests import records
from tests.longer import some_of
from tests.training.test_loop import Killed, assert_same_bits, stop_before_step

RECOVER = {"guard": "recover", "guard_every": 1, "total_step": 12, "checkpoint_every": 3, "sample_step": 12}


def spoil(monkeypatch, when):
    """The discriminator's loss is no number at the steps and attempts for which ``when(step, attempt)`` holds."""
    advance = Trainer.advance

    def spoiling(self, batches):
        measured = advance(self, batches)
        if when(self.step, self.attempt):
            measured["d_loss"] = torch.tensor(float("nan"))
        return measured

    monkeypatch.setattr(Trainer, "advance", spoiling)


@pytest.fixture(autouse=True)
def every_look_is_healthy(monkeypatch):
    """Networks this small never get into the game: what the guard sees and makes of it is tested elsewhere. They are
    examined once, as looking at every step takes most of a test's time."""
    seen = []

    def examine_once(*networks, paired=False):
        seen[:] = seen or [examine(*networks, paired=paired)]
        return seen[0]

    monkeypatch.setattr("sagan.training.trainer.examine", examine_once)
    monkeypatch.setattr("sagan.training.guard.judge", lambda looks, critic=False: Verdict("healthy"))


def rollbacks(run):
    return run.records_of(RollbackRecord)


def test_a_run_goes_back_to_its_last_healthy_state_and_on_to_the_end(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 8 and attempt == 0)
    run, outcome = workshop.train(**RECOVER)
    assert outcome.step == 12
    (record,) = rollbacks(run)
    # step 6 was saved but has not been looked at often enough since: step 3 is the last that proved healthy
    assert (record.step, record.from_step, record.attempt) == (3, 8, 1)
    assert record.reason == "d_loss is nan at step 8"
    assert record.remedy == {"g_lr": 0.5, "d_lr": 0.5}
    state = load_checkpoint(run.checkpoint_file)
    assert (state.attempt, state.caution["g_lr"]) == (1, 0.5)
    assert state.g_optimizer["param_groups"][0]["lr"] == 0.5e-4
    steps = [record.step for record in run.records_of(TrainRecord)]
    assert steps == sorted(set(steps)) == [2, 4, 6, 8, 10, 12]


def test_nothing_of_what_was_taken_back_is_lost_or_mixed_in(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 8 and attempt == 0)
    run, _ = workshop.train(**RECOVER | {"snapshot_every": 6})
    aside = run.folder / "attempt-0"
    assert {record.step for record in RecordReader(aside / "records.jsonl").read()} == {4, 5, 6, 7}
    assert [path.name for path in aside.glob("*.safetensors")] == ["00000006.safetensors"]
    assert [path.name for path in run.snapshots()] == ["00000006.safetensors", "00000012.safetensors"]
    assert (aside / "00000006.safetensors").read_bytes() != run.snapshot_file(6).read_bytes()


def test_without_a_healthy_state_it_goes_back_to_the_last_checkpoint(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 5 and attempt == 0)
    run, _ = workshop.train(**RECOVER)
    assert [(record.step, record.from_step) for record in rollbacks(run)] == [(3, 5)]


def test_a_checkpoint_that_has_proved_healthy_since_is_the_one_to_go_back_to(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 7 and attempt == 0)
    run, _ = workshop.train(**RECOVER | {"checkpoint_every": 3})
    assert rollbacks(run)[0].step == 3
    spoil(monkeypatch, lambda step, attempt: step == 10 and attempt == 0)
    run, _ = workshop.train("other", **RECOVER | {"checkpoint_every": 6})
    assert rollbacks(run)[0].step == 6


def test_a_run_without_any_checkpoint_starts_anew(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 1 and attempt == 0)
    run, outcome = workshop.train(**RECOVER)
    assert outcome.step == 12
    assert [(record.step, record.from_step) for record in rollbacks(run)] == [(0, 1)]


def test_a_run_that_was_only_watched_until_now_goes_back_to_where_it_stood(workshop, monkeypatch):
    watched = RECOVER | {"guard": "watch", "total_step": 20}
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        workshop.train(**watched)
    spoil(monkeypatch, lambda step, attempt: step == 8 and attempt == 0)
    run, outcome = workshop.train(**watched | {"guard": "recover"})
    assert outcome.step == 20
    assert [(record.step, record.from_step) for record in rollbacks(run)] == [(7, 8)]


def test_one_that_was_watched_into_a_collapse_does_not_start_anew(workshop, monkeypatch):
    judged(monkeypatch, lambda step: COLLAPSE if step >= 6 else None)
    watched = RECOVER | {"guard": "watch", "total_step": 20, "snapshot_every": 3}
    with monkeypatch.context() as patch:
        interrupt_at(patch, 8)
        workshop.train(**watched)
    run, config = workshop.run(**watched | {"guard": "recover"})
    for every in (3, 3, 10):  # also when it is tried again, or with seldomer checkpoints
        with pytest.raises(Diverged, match=r"all alike: .* step 9; the last state, of which it is not known") as end:
            train(workshop.session(override(config, {"checkpoint_every": every})), run, Console(quiet=True))
        assert f"the newest snapshot from before it went wrong is {run.snapshot_file(3)}" in str(end.value)
        assert rollbacks(run) == []
        assert load_checkpoint(run.checkpoint_file).step == 8


def test_a_run_that_keeps_going_wrong_is_stopped_with_a_sentence(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 7)
    run, config = workshop.run(**RECOVER | {"max_rollbacks": 2, "snapshot_every": 100})
    with pytest.raises(
        Diverged, match=r"d_loss is nan at step 7: .*stopped after 2 rollbacks at step 7; the last good state"
    ) as end:
        train(workshop.session(config), run, Console(quiet=True))
    assert str(end.value) == end.value.verdict.reason
    assert [record.attempt for record in rollbacks(run)] == [1, 2]
    assert load_checkpoint(run.checkpoint_file).step < 7
    (snapshot,) = run.snapshots()  # none was due before, so there would be nothing to draw from
    assert f"its generator, to use, is {snapshot}" in str(end.value)
    kept, healthy = load_snapshot(snapshot), load_checkpoint(run.healthy_file)
    assert kept.step == healthy.step == 3
    assert torch.equal(kept.generator.last.weight, healthy.average["last.weight"])


def test_a_run_that_is_given_up_names_its_best_snapshot(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 7)
    run, config = workshop.run(**RECOVER | {"max_rollbacks": 0, "snapshot_every": 2, "checkpoint_every": 6})
    run.append(records.score(2, 50.0), records.score(4, 30.0), records.score(6, 40.0))
    run.append(records.score(2, 9.0, samples=10), records.score(6, 41.0))
    with pytest.raises(Diverged, match=rf"the best snapshot \(FID 30\) is {run.snapshot_file(4)}"):
        train(workshop.session(config), run, Console(quiet=True))


def judged(monkeypatch, verdict):
    """The guard's verdict on a look, in the first attempt, is what ``verdict`` says of its step; else healthy."""
    rolled = []
    roll_back = recovery.roll_back
    healthy = Verdict("healthy")
    monkeypatch.setattr(recovery, "roll_back", lambda *args: rolled.append(1) or roll_back(*args))
    monkeypatch.setattr(
        "sagan.training.guard.judge",
        lambda looks, critic=False: healthy if rolled else verdict(looks[-1].step) or healthy,
    )


COLLAPSE = Verdict("diversity falling", "all alike", collapsed=True)


def test_a_discriminator_that_wins_and_is_no_collapse_does_not_make_states_old(workshop, monkeypatch):
    judged(monkeypatch, lambda step: Verdict("D winning", "it wins") if step > 4 else None)
    spoil(monkeypatch, lambda step, attempt: step == 23 and attempt == 0)
    run, _ = workshop.train(**RECOVER | {"total_step": 24})
    assert rollbacks(run)[0].step == 18


def test_it_does_not_go_back_into_the_collapse(workshop, monkeypatch):
    """However close checkpoints are: every step has one here, and a collapse needs three looks to be told."""
    judged(monkeypatch, lambda step: COLLAPSE if step == 9 else None)  # looks 7, 8 and 9 were bad
    run, _ = workshop.train(**RECOVER | {"checkpoint_every": 1})
    assert 0 < rollbacks(run)[0].step < 7
    judged(monkeypatch, lambda step: COLLAPSE if step == 3 else None)
    run, _ = workshop.train("early", **RECOVER | {"checkpoint_every": 1})
    assert rollbacks(run)[0].step == 0  # the checkpoint of step 1 was made as its look was taken: it may be bad


def interrupt_at(monkeypatch, step):
    """A person presses Ctrl-C in a step."""
    advance = Trainer.advance

    def interrupted(self, batches):
        measured = advance(self, batches)
        if self.step == step:
            signal.raise_signal(signal.SIGINT)
        return measured

    monkeypatch.setattr(Trainer, "advance", interrupted)


@pytest.mark.parametrize("stop", some_of(range(1, 12), 1, 3, 6, 7, 11))
def test_where_a_run_was_stopped_makes_no_difference_to_where_it_goes_back(workshop, straight, monkeypatch, stop):
    changes = RECOVER | {"total_step": 14, "log_step": 1, "sample_step": 14, "snapshot_every": 7}
    spoil(monkeypatch, lambda step, attempt: step == 12 and attempt == 0)
    unstopped = straight("spoiled at 12", **changes)
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        _, outcome = workshop.train("stopped", **changes)
        assert outcome.signal == signal.SIGINT
    stopped, _ = workshop.train("stopped", **changes)
    assert [record.step for record in rollbacks(unstopped)] == [6]
    assert rollbacks(stopped) == rollbacks(unstopped)


@pytest.mark.parametrize("stop", some_of([4, 7, 8, 9, 10], 4, 8, 10))
def test_neither_does_it_where_the_run_collapses(workshop, straight, monkeypatch, stop):
    changes = RECOVER | {"total_step": 14, "sample_step": 14, "snapshot_every": 14}

    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        workshop.train("stopped", **changes)
    with monkeypatch.context() as patch:
        judged(patch, lambda step: COLLAPSE if step == 12 else None)  # begun at 10
        stopped, _ = workshop.train("stopped", **changes)
    with monkeypatch.context() as patch:
        judged(patch, lambda step: COLLAPSE if step == 12 else None)
        unstopped = straight("collapsed at 12", **changes)
    assert [record.step for record in rollbacks(unstopped)] == [6]
    assert [record.step for record in rollbacks(stopped)] == [6]


def test_scoring_makes_no_difference_to_where_a_run_goes_back(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 12 and attempt == 0)
    run, config = workshop.run(**RECOVER | {"total_step": 14, "eval_every": 2})
    train(workshop.session(config), run, Console(quiet=True), on_snapshot=lambda *_: None)
    assert [record.step for record in rollbacks(run)] == [6]


def test_everything_of_an_attempt_is_set_aside(workshop, monkeypatch, tmp_path):
    spoil(monkeypatch, lambda step, attempt: step == 8 and attempt == 0)
    run, _ = workshop.train(**RECOVER | {"sample_step": 4, "sample_dir": str(tmp_path / "grids")})
    aside = run.folder / "attempt-0"
    assert load_checkpoint(aside / "last.pt").step == 6
    assert (aside / "4_fake.png").exists()
    grids = {int(path.stem.removesuffix("_fake")) for path in (tmp_path / "grids").glob("*.png")}
    assert grids == {0, 1, 4, 8, 10, 12}


def test_a_remedy_names_penalties_only_where_there_are_any(workshop, monkeypatch):
    judged(monkeypatch, lambda step: COLLAPSE if step == 9 else None)
    run, _ = workshop.train(**RECOVER)
    assert rollbacks(run)[0].remedy == {"g_lr": 0.5, "d_lr": 0.5}
    judged(monkeypatch, lambda step: COLLAPSE if step == 9 else None)
    run, _ = workshop.train("penalized", **RECOVER | {"r1": 0.1})
    assert rollbacks(run)[0].remedy == {"g_lr": 0.5, "d_lr": 0.5, "penalties": 2.0}


def test_a_run_that_is_given_up_is_recorded_and_may_be_resumed(workshop, monkeypatch):
    judged(monkeypatch, lambda step: COLLAPSE if step == 9 else None)
    run, config = workshop.run(**RECOVER | {"max_rollbacks": 0})
    with pytest.raises(
        Diverged,
        match="all alike: the samples have lost their diversity, .* and was stopped at step 9; ",
    ):
        train(workshop.session(config), run, Console(quiet=True))
    assert run.records_of(StoppedRecord) == [records.stopped(9, verdict="diversity falling", reason="all alike")]
    look = Watched(run.folder).look()
    assert (look.state, look.reason) == ("failed", "all alike")
    monkeypatch.setattr("sagan.training.guard.judge", lambda looks, critic=False: Verdict("healthy"))
    workshop.train(**RECOVER)
    look = Watched(run.folder).look()
    assert (look.state, look.reason) == ("done", "")


@pytest.mark.parametrize("guard", ["off", "watch"])
def test_a_run_that_may_not_go_back_does_not(workshop, monkeypatch, guard):
    spoil(monkeypatch, lambda step, attempt: step == 7)
    run, config = workshop.run(**RECOVER | {"guard": guard})
    with pytest.raises(Diverged, match="the last good state, step 6, is in"):
        train(workshop.session(config), run, Console(quiet=True))
    assert not rollbacks(run)
    assert not run.healthy_file.exists()


def test_collapse_is_a_reason_to_go_back_too(workshop, monkeypatch):
    def collapsed_at_nine(looks, critic=False):
        bad = bool(looks) and looks[-1].step == 9 and not rolled
        return Verdict("diversity falling", "all alike", collapsed=True) if bad else Verdict("healthy")

    rolled = []
    roll_back = recovery.roll_back
    monkeypatch.setattr("sagan.training.guard.judge", collapsed_at_nine)
    monkeypatch.setattr(recovery, "roll_back", lambda *args: rolled.append(1) or roll_back(*args))
    run, outcome = workshop.train(**RECOVER)
    (record,) = rollbacks(run)
    assert (record.verdict, record.reason, record.step) == ("diversity falling", "all alike", 3)
    assert outcome.step == 12


@pytest.mark.parametrize("moment", ["set_aside", "append"])
def test_a_rollback_that_is_killed_half_way_is_finished_by_the_resumed_run(workshop, straight, monkeypatch, moment):
    spoil(monkeypatch, lambda step, attempt: step == 8 and attempt == 0)
    changes = RECOVER | {"snapshot_every": 6, "sample_step": 6}
    unstopped = straight("spoiled at 8", **changes)
    act = getattr(Run, moment)

    def dying(self, *arguments):
        if moment == "set_aside" or isinstance(arguments[0], RollbackRecord):
            raise Killed
        return act(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, moment, dying)
        with pytest.raises(Killed):
            workshop.train("stopped", **changes)
    stopped, _ = workshop.train("stopped", **changes)
    assert_same_bits(unstopped, stopped)
    assert [sorted(path.name for path in (run.folder / "attempt-0").iterdir()) for run in (unstopped, stopped)] == [
        ["00000006.safetensors", "6_fake.png", "last.pt", "records.jsonl"]
    ] * 2


def test_a_signal_and_a_loss_that_is_no_number_together(workshop, monkeypatch):
    """The last look at the losses, after the last step, goes back as any other."""
    advance = Trainer.advance

    def both(self, batches):
        measured = advance(self, batches)
        if self.step == 7 and self.attempt == 0:
            measured["d_loss"] = torch.tensor(float("nan"))
            signal.raise_signal(signal.SIGINT)
        return measured

    monkeypatch.setattr(Trainer, "advance", both)
    run, outcome = workshop.train(**RECOVER | {"guard_every": 100, "log_step": 100})
    assert outcome.signal == signal.SIGINT
    assert [record.step for record in rollbacks(run)] == [6]
    run, config = workshop.run("watched", guard="watch", guard_every=100, log_step=100, total_step=12)
    with pytest.raises(Diverged, match=r"d_loss is nan at step 7: .* the last good state, step 6, is in"):
        train(workshop.session(config), run, Console(quiet=True))


@pytest.mark.parametrize("killed_before", [6, 9, 11])
def test_a_run_with_a_rollback_resumes_to_the_same_bits(workshop, straight, monkeypatch, killed_before):
    spoil(monkeypatch, lambda step, attempt: step == 8 and attempt == 0)
    changes = RECOVER | {"snapshot_every": 6, "sample_step": 6}
    unstopped = straight("spoiled at 8", **changes)
    with monkeypatch.context() as patch:
        stop_before_step(patch, killed_before)
        with pytest.raises(Killed):
            workshop.train("stopped", **changes)
    stopped, _ = workshop.train("stopped", **changes)
    assert_same_bits(unstopped, stopped)


def test_watching_changes_no_bit(workshop):
    watched, _ = workshop.train("watched", guard="watch", guard_every=1)
    alone, _ = workshop.train("alone", guard="off")
    states = [load_checkpoint(run.checkpoint_file) for run in (watched, alone)]
    for name in ("generator", "discriminator", "average", "g_optimizer"):
        torch.testing.assert_close(getattr(states[0], name), getattr(states[1], name), rtol=0, atol=0)
    assert len(watched.records_of(LookRecord)) == 8


def test_a_guard_that_seldom_looks_does_not_make_states_old(workshop, monkeypatch):
    spoil(monkeypatch, lambda step, attempt: step == 23 and attempt == 0)
    run, _ = workshop.train(**RECOVER | {"total_step": 24, "guard_every": 100})
    assert rollbacks(run)[0].step == 21


def test_a_generator_that_comes_to_ignore_its_z_is_noticed_and_taken_back(workshop, monkeypatch):
    """From the networks to the new state, with the guard's own judgement."""
    monkeypatch.setattr("sagan.training.trainer.examine", examine)
    monkeypatch.setattr("sagan.training.guard.judge", judge)
    advance = Trainer.advance

    def forgetful(self, batches):
        if self.step == 7 and self.attempt == 0:
            forward = self.generator.forward
            self.generator.forward = lambda z, labels=None: forward(z if self.attempt else torch.zeros_like(z))
        return advance(self, batches)

    monkeypatch.setattr(Trainer, "advance", forgetful)
    run, outcome = workshop.train(**RECOVER)
    assert outcome.step == 12
    (record,) = rollbacks(run)
    assert record.reason == "the generator makes one image, whatever its z"
    assert (record.step, record.from_step) == (3, 10)  # looks 8, 9 and 10 were bad, and 6 was not yet proved
    assert all(look.pixel_spread > 0.01 for look in run.records_of(LookRecord))


def test_a_remedy_in_words():
    assert describe_remedy(REMEDIES["D winning"]) == "other z and images, d_lr x 0.5, penalties x 2"
    assert describe_remedy({"g_lr": 1.0}) == "other z and images"
