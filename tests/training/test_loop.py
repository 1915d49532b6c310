import dataclasses
import signal
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.training.loop as loop
import sagan.training.trainer as trainer_module
from sagan.core.game.average import AveragedGenerator, measure_batch_norm
from sagan.core.game.step import discriminator_step, generator_step
from sagan.core.losses import LOSSES, gradient_penalty
from sagan.core.sampling import generate
from sagan.data.batches import Batches
from sagan.run.build import build_discriminator, build_generator
from sagan.run.keeping import checkpoint_bytes, snapshot_bytes
from sagan.run.records import LookRecord, StoppedRecord, TrainRecord
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.images import grid
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import latents
from sagan.training.guard import Diverged
from sagan.training.loop import data_order
from sagan.training.trainer import Trainer
from tests.training.conftest import Workshop, make_store

TIMES = ("seconds", "images_per_second")


def timeless(record):
    return record.kind, {name: value for name, value in vars(record).items() if name not in TIMES}


def assert_same_bits(one, other):
    """Two runs hold the same weights, averages, optimiser states, records, samples and snapshots."""
    states = [dict(vars(load_checkpoint(run.checkpoint_file))) for run in (one, other)]
    for name in ("images", "rollback"):
        assert states[0].pop(name) == states[1].pop(name)
    for state in states:
        state.pop("seconds")
        state.pop("config")
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert [timeless(r) for r in one.records()] == [timeless(r) for r in other.records()]
    for pattern, fewest in (("samples/*.png", 4), ("snapshots/*.safetensors", 2)):
        files = [sorted(run.folder.glob(pattern)) for run in (one, other)]
        assert [path.name for path in files[0]] == [path.name for path in files[1]]
        assert len(files[0]) >= fewest
        for mine, theirs in zip(*files, strict=True):
            assert mine.read_bytes() == theirs.read_bytes()


class Killed(BaseException):
    """Stands for a process that is gone: nothing catches it."""


def stop_before_step(monkeypatch, step):
    advance = Trainer.advance

    def dying(self, batches):
        if self.step == step - 1:
            raise Killed
        return advance(self, batches)

    monkeypatch.setattr(Trainer, "advance", dying)


def test_the_same_settings_give_the_same_bits(workshop):
    torch.manual_seed(1)
    one, _ = workshop.train("one")
    torch.manual_seed(2)
    torch.rand(10)
    other, _ = workshop.train("other")
    assert_same_bits(one, other)


def test_another_seed_gives_another_run(workshop):
    one, _ = workshop.train("one")
    other, _ = workshop.train("other", seed=1)
    states = [load_checkpoint(run.checkpoint_file).generator["last.weight"] for run in (one, other)]
    assert not torch.equal(*states)


@pytest.mark.parametrize("step", [1, 2, 4, 5, 8])
@pytest.mark.parametrize(
    "changes", [{}, {"adv_loss": "wgan-gp", "n_critic": 2, "lr_decay": 0.9}], ids=["hinge", "wgan-gp"]
)
def test_a_stopped_run_goes_on_to_the_bits_of_one_that_never_stopped(workshop, straight, monkeypatch, step, changes):
    """Killed before the first checkpoint, between two, right after one, and in the last step."""
    with monkeypatch.context() as patch:
        stop_before_step(patch, step)
        with pytest.raises(Killed):
            workshop.train("stopped", **changes)
    stopped, outcome = workshop.train("stopped", **changes)
    assert outcome.step == 8
    assert_same_bits(straight(**changes), stopped)


def test_a_run_can_be_stopped_again_and_again(workshop, straight, monkeypatch):
    for step in (2, 4, 5, 7):
        with monkeypatch.context() as patch:
            stop_before_step(patch, step)
            with pytest.raises(Killed):
                workshop.train("stopped")
    stopped, _ = workshop.train("stopped")
    assert_same_bits(straight(), stopped)


def test_training_longer_later_is_training_longer_at_once(workshop, straight):
    workshop.train("longer", total_step=6, sample_step=11, snapshot_every=4, log_step=11)
    longer, _ = workshop.train("longer", total_step=11, sample_step=11, snapshot_every=4, log_step=11)
    unstopped = straight(total_step=11, sample_step=11, snapshot_every=4, log_step=11)
    states = [load_checkpoint(run.checkpoint_file) for run in (unstopped, longer)]
    torch.testing.assert_close(states[0].generator, states[1].generator, rtol=0, atol=0)
    torch.testing.assert_close(states[0].average, states[1].average, rtol=0, atol=0)


@pytest.mark.parametrize("number", loop.STOP_SIGNALS)
def test_a_signal_ends_the_step_and_saves_it(workshop, straight, monkeypatch, number):
    advance = Trainer.advance

    def interrupted(self, batches):
        if self.step == 3:
            signal.raise_signal(number)
        return advance(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", interrupted)
        run, outcome = workshop.train("stopped")
    assert (outcome.step, outcome.signal) == (4, number)
    assert load_checkpoint(run.checkpoint_file).step == 4
    workshop.train("stopped")
    assert_same_bits(straight(), run)


def test_a_second_signal_interrupts_at_once(workshop, monkeypatch):
    def impatient(self, batches):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Trainer, "advance", impatient)
    with pytest.raises(KeyboardInterrupt):
        workshop.train()
    assert signal.getsignal(signal.SIGINT) is before


def interrupt_before_step(monkeypatch, step, number=signal.SIGINT):
    advance = Trainer.advance

    def interrupted(self, batches):
        if self.step == step - 1:
            signal.raise_signal(number)
        return advance(self, batches)

    monkeypatch.setattr(Trainer, "advance", interrupted)


def test_a_stop_leaves_a_snapshot_to_use_until_the_next_is_due(workshop, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_before_step(patch, 5)
        run, _ = workshop.train()
    assert run.snapshot() == run.latest_file(5)
    snapshot = load_snapshot(run.snapshot())
    assert (snapshot.step, snapshot.images) == (5, workshop.store.hash)
    run, _ = workshop.train()
    assert run.latest_snapshots() == []
    assert run.snapshot() == run.snapshot_file(8)


@pytest.mark.parametrize("changes", [{}, {"num_classes": 2}, {"network": "resnet"}])
def test_a_checkpoint_holds_the_snapshot_of_its_step(workshop, changes):
    store = dataclasses.replace(workshop.store, labels=np.arange(40) % 2)
    run, config = workshop.run(**changes)
    loop.train(dataclasses.replace(workshop.session(config), store=store), run, loop.Console(quiet=True))
    written, read = load_snapshot(run.snapshot_file(8)), load_snapshot(run.checkpoint_file)
    assert (written.step, written.config, written.images) == (read.step, read.config, read.images)
    torch.testing.assert_close(written.generator.state_dict(), read.generator.state_dict(), rtol=0, atol=0)


def test_snapshots_come_by_time_too_and_replace_each_other(workshop, monkeypatch):
    run, _ = workshop.run(snapshot_minutes=1e-9)
    seen = []
    advance = Trainer.advance

    def watched(self, batches):
        seen.append([path.stem for path in run.latest_snapshots()])
        return advance(self, batches)

    monkeypatch.setattr(Trainer, "advance", watched)
    workshop.train(snapshot_minutes=1e-9)
    latest = [[f"latest-{step:08d}"] for step in range(9)]
    assert seen == [[], latest[1], latest[2], latest[3], [], latest[5], latest[6], latest[7]]


def test_a_first_signal_says_what_happens_and_what_a_second_does(workshop, monkeypatch, capsys):
    run, config = workshop.run()
    with monkeypatch.context() as patch:
        interrupt_before_step(patch, 5)
        loop.train(workshop.session(config), run, loop.Console())
    assert (
        "SIGINT: stopping after this step and saving; press Ctrl-C to stop at once, with the checkpoint of step 3"
        in capsys.readouterr().out
    )


def test_a_first_checkpoint_does_not_wait_for_the_interval(workshop, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHECKPOINT_AFTER", 0.0)
    with monkeypatch.context() as patch:
        interrupt_before_step(patch, 3)
        interrupt_before_step(patch, 3)  # twice: at once
        with pytest.raises(KeyboardInterrupt):
            workshop.train(checkpoint_every=1000)
    run, _ = workshop.run()
    assert load_checkpoint(run.checkpoint_file).step == 1  # the next is due with the next snapshot by time


def test_checkpoints_by_time_are_as_old_as_a_snapshot_may_be(workshop):
    run, outcome = workshop.train(checkpoint_every=1000, snapshot_minutes=1e-9, guard="recover", total_step=3)
    assert load_checkpoint(run.checkpoint_file).step == outcome.step
    assert not run.pending_file.exists()  # which only those that are due become


def test_a_second_signal_is_named_as_it_is_sent(workshop, monkeypatch, capsys):
    run, config = workshop.run()
    interrupt_before_step(monkeypatch, 2, signal.SIGTERM)
    loop.train(workshop.session(config), run, loop.Console())
    assert "SIGTERM: stopping after this step and saving; a second SIGTERM stops it at once" in capsys.readouterr().out


def test_the_pace_is_said_once(workshop, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_OUTLOOK_AFTER", 0.0)
    run, config = workshop.run()
    loop.train(workshop.session(config), run, loop.Console())
    assert capsys.readouterr().out.count(" a step: the ") == 1


def test_records_hold_what_a_person_wants_to_know(workshop):
    run, _ = workshop.train()
    records = run.records_of(TrainRecord)
    assert [record.step for record in records] == [2, 4, 6, 8]
    for record in records:
        assert record.images == record.step * 8
        assert set(record.gamma) == {"G8", "D8", "D4"}
        assert 0 <= record.d_loss_real <= record.d_loss
        assert record.seconds > 0


def test_files_are_where_they_should_be(workshop):
    run, outcome = workshop.train(total_step=6)
    names = sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file())
    assert [name for name in names if not name.startswith("running")] == [
        "checkpoints/last.pt",
        "config.json",
        "records.jsonl",
        "samples/0_fake.png",
        "samples/1_fake.png",
        "samples/4_fake.png",
        "samples/6_fake.png",
        "snapshots/00000004.safetensors",
        "snapshots/00000006.safetensors",
    ]
    assert outcome.last_sample == run.folder / "samples" / "6_fake.png"


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(workshop, monkeypatch):
    advance = Trainer.advance

    def diverging(self, batches):
        measured = advance(self, batches)
        if self.step >= 5:
            measured["d_loss"] = torch.tensor(float("nan"))
        return measured

    monkeypatch.setattr(Trainer, "advance", diverging)
    run, config = workshop.run(checkpoint_every=3, log_step=4, sample_step=100, snapshot_every=100)
    with pytest.raises(Diverged, match=r"d_loss is nan at step 5: .* the last good state, step 3, is in"):
        loop.train(workshop.session(config), run, loop.Console(quiet=True))
    assert load_checkpoint(run.checkpoint_file).step == 3
    assert [(type(record), record.step) for record in run.records()] == [(TrainRecord, 4), (StoppedRecord, 5)]


def test_absurd_rates_are_noticed_before_anything_is_saved(workshop):
    run, config = workshop.run(d_lr=1000, g_lr=1000, checkpoint_every=100, sample_step=100, log_step=100)
    with pytest.raises(Diverged, match=r"at step \d.*nothing was saved yet"):
        loop.train(workshop.session(config), run, loop.Console(quiet=True))
    assert not run.checkpoint_file.exists()


def test_the_last_checkpoint_survives_a_full_disk(workshop, monkeypatch):
    workshop.train(total_step=3)

    def full(state, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            workshop.train(total_step=6)
    run, outcome = workshop.train(total_step=6)
    assert outcome.step == 6
    assert not list(run.folder.rglob("*.partial"))


def test_a_run_stops_with_everything_saved_before_the_disk_is_full(workshop, straight, monkeypatch):
    run, config = workshop.run(total_step=8, checkpoint_every=100, snapshot_every=4)
    enough = checkpoint_bytes(config) + snapshot_bytes(config)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "free_bytes", lambda folder: enough - 1)
        with pytest.raises(OSError, match="the disk of .* is full but for .*: step 4 is saved"):
            workshop.train(total_step=8, checkpoint_every=100, snapshot_every=4)
    assert load_checkpoint(run.checkpoint_file).step == 4
    _, outcome = workshop.train(total_step=8, checkpoint_every=100, snapshot_every=4)
    assert outcome.step == 8
    ours, theirs = (load_checkpoint(each.checkpoint_file).average for each in (run, straight()))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"span": 2}, "span 1 (not 2)"), ({"seed": 5}, "seed 0 (not 5)"), ({"d_lr": 1e-3}, "d_lr 0.0004 (not 0.001)")],
)
def test_a_run_goes_on_with_its_own_settings_only(workshop, changes, named):
    run, _ = workshop.train(total_step=3)
    with pytest.raises(ValueError, match="was trained with") as refusal:
        workshop.train(**changes)
    assert named in str(refusal.value)
    assert load_checkpoint(run.checkpoint_file).step == 3


def test_a_run_goes_on_with_its_own_images_only(workshop):
    workshop.train(total_step=3)
    workshop.store = make_store(workshop.folder, seed=1)
    with pytest.raises(ValueError, match="was trained on other images"):
        workshop.train()


def test_the_critic_steps_as_often_as_asked(workshop, monkeypatch):
    count = {"d": 0, "g": 0}
    for letter, name in (("d", "discriminator_gradient"), ("g", "generator_gradient")):
        step = getattr(trainer_module, name)

        def counted(*args, letter=letter, step=step, **options):
            count[letter] += 1
            return step(*args, **options)

        monkeypatch.setattr(trainer_module, name, counted)
    workshop.train(total_step=3, n_critic=4)
    assert count == {"d": 12, "g": 3}


def test_rates_decay_with_the_passes_over_the_images(workshop):
    run, _ = workshop.train(total_step=8, lr_decay=0.5)  # 5 batches an epoch: steps 6 to 8 are in the second
    state = load_checkpoint(run.checkpoint_file)
    assert state.g_optimizer["param_groups"][0]["lr"] == pytest.approx(0.5e-4)
    assert state.d_optimizer["param_groups"][0]["lr"] == pytest.approx(2e-4)


def test_runs_that_differ_in_span_see_the_same_images_and_latents(workshop, monkeypatch):
    """Comparisons over spans are paired by the seed."""
    seen = {1: [], 2: []}
    step = trainer_module.discriminator_gradient

    def watching(generator, discriminator, real, z, **options):
        seen[span].append((real.clone(), z.clone()))
        return step(generator, discriminator, real, z, **options)

    monkeypatch.setattr(trainer_module, "discriminator_gradient", watching)
    for span in seen:
        workshop.train(f"span{span}", span=span, total_step=4)
    torch.testing.assert_close(seen[1], seen[2], rtol=0, atol=0)


def test_bfloat16_trains_and_resumes_exactly(workshop, straight, monkeypatch):
    with monkeypatch.context() as patch:
        stop_before_step(patch, 5)
        with pytest.raises(Killed):
            workshop.train("stopped", precision="bf16")
    stopped, _ = workshop.train("stopped", precision="bf16")
    assert_same_bits(straight(precision="bf16"), stopped)


def test_an_epoch_is_a_permutation_decided_by_seed_and_number():
    order = data_order(0, 100, 3)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.equal(order, data_order(0, 100, 3))
    assert not torch.equal(order, data_order(0, 100, 4))
    assert not torch.equal(order, data_order(1, 100, 3))


def test_tensorboard_gets_the_records(workshop):
    pytest.importorskip("tensorboard", reason="the extra sagan[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = workshop.train(tensorboard=True)
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert {"d_loss", "g_loss", "gamma/G8"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("d_loss")] == [2, 4, 6, 8]
    assert events.Scalars("d_loss")[0].value == pytest.approx(run.records()[0].d_loss)


@pytest.mark.gpu
def test_a_gpu_run_follows_the_cpu_run(workshop):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    one, _ = workshop.train("cpu")
    other, _ = workshop.train("cuda", device="cuda")
    for mine, theirs in zip(one.records()[:2], other.records()[:2], strict=True):
        assert theirs.d_loss == pytest.approx(mine.d_loss, rel=0.02)


def test_a_run_is_its_steps_written_out(tmp_path):
    """The loop against the game by hand: images, latents, penalty, rates, betas and average are what they say."""
    workshop = Workshop(tmp_path, make_store(tmp_path))  # with batch norm as users get it
    changes = {
        "adv_loss": "wgan-gp", "lambda_gp": 3.0, "n_critic": 2, "g_lr": 2e-4, "d_lr": 5e-4, "beta1": 0.1, "beta2": 0.8,
        "precision": "bf16", "total_step": 4, "seed": 3,
    }  # fmt: skip
    run, _ = workshop.train(**changes)
    _, config = workshop.run(**changes)
    generator, discriminator = build_generator(config.model, 3), build_discriminator(config.model, 3)
    average = AveragedGenerator(generator, config.game.ema_halflife)
    g_adam = torch.optim.Adam(generator.parameters(), 2e-4, (0.1, 0.8), fused=True)
    d_adam = torch.optim.Adam(discriminator.parameters(), 5e-4, (0.1, 0.8), fused=True)
    batches = Batches(workshop.store.images, 8, partial(data_order, 3, workshop.store.count), channels_last=True)
    for step in range(4):
        for critic_step in (2 * step, 2 * step + 1):

            def penalty(real, fake, critic_step=critic_step):
                draw = random_generator(3, "points of the gradient penalty", step=critic_step)
                return 3 * gradient_penalty(discriminator, real, fake, torch.rand(8, generator=draw))

            discriminator_step(
                generator, discriminator, d_adam, batches.batch(critic_step),
                latents(3, "z of a discriminator step", 8, 4, step=critic_step),
                loss=LOSSES["wgan-gp"], penalty=penalty, precision="bf16",
            )  # fmt: skip
        z = latents(3, "z of a generator step", 8, 4, step=step)
        generator_step(generator, discriminator, g_adam, z, loss=LOSSES["wgan-gp"], precision="bf16")
        average.update(generator, average.shares((step + 1) * 8, 8))
    fixed = [(latents(3, "z for batch norm", 64, 4, step=number), None) for number in range(16)]
    measure_batch_norm(average.module, fixed)
    state = load_checkpoint(run.checkpoint_file)
    for name, network in (("generator", generator), ("discriminator", discriminator), ("average", average.module)):
        torch.testing.assert_close(getattr(state, name), dict(network.state_dict()), rtol=0, atol=0)


def test_samples_are_drawn_by_the_snapshots_generator(workshop):
    run, outcome = workshop.train()
    snapshot = load_snapshot(run.snapshot(8))
    z = latents(0, "z of the sample grids", 8, snapshot.config.model.z_dim)
    drawn = np.asarray(Image.open(outcome.last_sample))
    assert snapshot.step == 8
    assert np.array_equal(drawn, grid(generate(snapshot.generator, z)))
    raw = build_generator(snapshot.config.model)
    raw.load_state_dict(load_checkpoint(run.checkpoint_file).generator)
    assert not np.array_equal(drawn, grid(generate(raw.eval(), z)))


@pytest.mark.parametrize("network", ["generator", "average"])
def test_weights_that_are_no_numbers_never_replace_good_ones(workshop, monkeypatch, network):
    """A loss is computed before its step: the step that spoils the weights still has a good one."""
    advance = Trainer.advance

    def spoiling(self, batches):
        measured = advance(self, batches)
        if self.step == 6:
            self.networks()[network].last.weight.data[0, 0, 0, 0] = float("nan")
        return measured

    monkeypatch.setattr(Trainer, "advance", spoiling)
    run, config = workshop.run(log_step=100, sample_step=100, snapshot_every=100)
    with pytest.raises(Diverged, match=f"the {network}'s weights are no longer finite after step 6: .* step 3, is in"):
        loop.train(workshop.session(config), run, loop.Console(quiet=True))
    state = load_checkpoint(run.checkpoint_file)
    assert state.step == 3
    assert all(tensor.isfinite().all() for tensor in getattr(state, network).values())


def test_a_changed_config_is_taken_over_only_when_the_run_goes_on(workshop):
    run, _ = workshop.train(total_step=3)
    with run.locked(), pytest.raises(ValueError, match="being trained by another process"):
        workshop.train(total_step=9)
    assert run.config().run.total_step == 3
    with pytest.raises(ValueError, match="is at step 3 already: total_step must be more, got 2"):
        workshop.train(total_step=2)
    assert run.config().run.total_step == 3
    workshop.train(total_step=5)
    assert run.config().run.total_step == 5


def test_a_last_snapshot_that_was_lost_is_written_again(workshop):
    run, _ = workshop.train()
    before = run.snapshot_file(8).read_bytes()
    run.snapshot_file(8).unlink()
    workshop.train()
    assert run.snapshot_file(8).read_bytes() == before


def test_a_run_is_finished_only_with_its_last_checkpoint(workshop, straight, monkeypatch):
    """A process that dies in between leaves a run that `sagan resume` and a sweep go on with."""
    run, config = workshop.run("cut")
    write_checkpoint = loop.write_checkpoint

    def die_at_the_end(trainer, *others):
        if trainer.step == config.run.total_step:
            raise KeyboardInterrupt
        write_checkpoint(trainer, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", die_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            workshop.train("cut")
    assert not run.is_finished()
    workshop.train("cut")
    assert run.is_finished()
    assert_same_bits(straight(), run)


def test_a_penalty_that_is_taken_seldom_is_in_every_record_since_the_first(workshop, straight):
    settings = {"r1": 0.1, "penalty_every": 4, "log_step": 3, "total_step": 9, "sample_step": 5, "snapshot_every": 5}
    penalties = [record.penalty for record in straight(**settings).records_of(TrainRecord)]
    assert len(penalties) == 3
    assert penalties[0] != penalties[1]  # of steps 1, 5 and 9
    workshop.train("stopped", **settings | {"total_step": 6})
    stopped, _ = workshop.train("stopped", **settings)
    assert stopped.records_of(TrainRecord)[-1].penalty == penalties[-1]


def test_the_guard_looks_at_enough_images_however_small_the_batch(workshop):
    for size, seen in ((1, 16), (8, 64), (24, 72)):
        run, _ = workshop.train(f"batch{size}", batch_size=size, guard_every=4, sample_step=8)
        assert [look.images for look in run.records_of(LookRecord)] == [seen, seen]


def test_a_run_that_nobody_looked_at_has_no_verdict(workshop):
    run, _ = workshop.train(guard="off")
    assert {record.verdict for record in run.records()} == {None}


OUT_OF_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


def test_memory_that_runs_out_between_steps_loses_nothing(workshop, straight, monkeypatch):

    def fail(*arguments):
        raise OUT_OF_MEMORY

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_snapshot", fail)
        with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
            workshop.train("short")
    run, _ = workshop.run("short")
    assert load_checkpoint(run.checkpoint_file).step == 4  # the last that was due is that of step 3
    workshop.train("short")
    assert load_checkpoint(run.checkpoint_file).step == load_checkpoint(straight().checkpoint_file).step


def test_memory_that_runs_out_in_a_step_leaves_the_last_checkpoint(workshop, straight, monkeypatch):
    """One network is updated then, and the other not."""
    step, calls = trainer_module.generator_gradient, []

    def fail(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise OUT_OF_MEMORY
        return step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "generator_gradient", fail)
        with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
            workshop.train("short")
    run, _ = workshop.run("short")
    assert load_checkpoint(run.checkpoint_file).step == 3
    workshop.train("short")
    assert_same_bits(straight(), run)


def test_unfinished_files_of_killed_processes_are_removed(workshop):
    run, _ = workshop.run()
    for folder in ("", "checkpoints", "snapshots"):
        (run.folder / folder).mkdir(exist_ok=True)
        (run.folder / folder / ".file.0123abcd.partial").touch()
    workshop.train()
    assert not list(run.folder.rglob("*.partial"))
