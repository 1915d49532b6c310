import copy
from functools import partial

import pytest
import torch

import sagan.training.trainer as trainer_module
from sagan.core.losses import default_r1_weight, zero_centred_penalty
from sagan.core.shapes import ImageShape
from sagan.data.batches import Batches
from sagan.run.config import override
from sagan.training.guard import Diverged, Verdict
from sagan.training.loop import data_order
from sagan.training.recovery import REMEDIES, roll_back
from sagan.training.trainer import SCHEDULES, Trainer
from tests import records
from tests.training.conftest import TINY

CPU = torch.device("cpu")


def make(workshop, **changes):
    config = override(TINY, changes)
    order = partial(data_order, config.run.seed, workshop.store.count)
    batches = Batches(workshop.store.images, config.game.batch_size, order, channels_last=True)
    return Trainer(config, CPU), batches


def weights(training):
    return copy.deepcopy({name: net.state_dict() for name, net in training.networks().items()})


def test_compiled_networks_train_as_plain_ones_do(workshop, monkeypatch):
    """Traced whole, without a break, and to the same bits where the compiler only traces."""
    plain, batches = make(workshop)
    straight = [plain.advance(batches) for _ in range(3)]
    backend = partial(torch.nn.Module.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(trainer_module.nn.Module, "compile", lambda self, dynamic: backend(self, dynamic=dynamic))
    compiled, batches = make(workshop, compile=True)
    assert compiled.compiled
    found = [compiled.advance(batches) for _ in range(3)]
    torch.testing.assert_close(found, straight, rtol=1e-5, atol=1e-6)
    assert list(compiled.generator.state_dict()) == list(plain.generator.state_dict())


def test_lazy_penalties_come_every_so_often_and_weigh_as_many_times(workshop, monkeypatch):
    taken = []

    def watched(judge, images):
        taken.append(len(images))
        return zero_centred_penalty(judge, images)

    monkeypatch.setattr(trainer_module, "zero_centred_penalty", watched)
    every, batches = make(workshop, r1=2.0)
    lazy, _ = make(workshop, r1=2.0, penalty_every=4)
    first = [training.advance(batches)["penalty"].item() for training in (every, lazy)]
    assert first[1] == pytest.approx(4 * first[0])
    taken.clear()
    for _ in range(7):
        measured = lazy.advance(batches)
    assert len(taken) == 1  # at step 4 of 1 to 7
    assert "penalty" not in measured


@pytest.mark.parametrize(("changes", "expected"), [({"r1": 1.5}, 1), ({"r2": 1.5}, 1), ({"r1": 1.5, "r2": 1.5}, 2)])
def test_r1_is_of_real_images_and_r2_of_fakes(workshop, monkeypatch, changes, expected):
    seen = []
    monkeypatch.setattr(
        trainer_module, "zero_centred_penalty", lambda judge, images: seen.append(images) or images.new_ones(())
    )
    training, batches = make(workshop, **changes)
    real = batches.batch(0)
    measured = training.advance(batches)
    assert measured["penalty"].item() == 1.5 * expected
    assert len(seen) == expected
    assert torch.equal(seen[0], real) == ("r1" in changes)


def test_the_automatic_weight_of_r1_is_the_rule_s(workshop):
    by_rule, batches = make(workshop, r1="auto")
    by_hand, _ = make(workshop, r1=default_r1_weight(ImageShape.square(16), 8))
    assert by_rule.advance(batches)["penalty"] == by_hand.advance(batches)["penalty"]


def test_augmented_images_are_what_the_discriminator_sees(workshop, monkeypatch):
    calls = []

    def watched(images, policies, uniforms):
        calls.append((len(images), policies, uniforms))
        return images + 1

    monkeypatch.setattr(trainer_module, "augment", watched)
    training, batches = make(workshop, augment=("color", "cutout"))
    plain, _ = make(workshop)
    assert training.advance(batches)["d_real"] != plain.advance(batches)["d_real"]
    (both, policies, first), (fakes, _, second) = calls
    assert (both, fakes) == (16, 8)
    assert policies == ("color", "cutout")
    assert not torch.equal(first[:8], second)
    training.advance(batches)
    assert not torch.equal(calls[2][2], first)


def test_penalties_are_of_augmented_images(workshop, monkeypatch):
    seen = []
    monkeypatch.setattr(trainer_module, "augment", lambda images, policies, uniforms: images + 5)
    monkeypatch.setattr(
        trainer_module, "zero_centred_penalty", lambda judge, images: seen.append(images) or images.new_ones(())
    )
    training, batches = make(workshop, augment=("color",), r1=1.0, r2=1.0)
    training.advance(batches)
    assert torch.equal(seen[0], batches.batch(0) + 5)
    assert seen[1].min() >= 4  # fakes are from -1 to 1


def test_half_of_the_real_images_are_mirrored(workshop):
    training, batches = make(workshop, flip=True)
    mirrored = 0
    for number in range(20):
        real, turn = batches.batch(number), training._discriminator_turn(batches, number, *training.parts)
        for image, plain in zip(turn["real"], real, strict=True):
            assert torch.equal(image, plain) or torch.equal(image, plain.flip(2))
            mirrored += not torch.equal(image, plain)
    assert 55 <= mirrored <= 105  # of 160


def test_lecam_is_part_of_the_loss_and_its_memory_of_the_state(workshop):
    training, batches = make(workshop, lecam=0.3)
    measured = [training.advance(batches) for _ in range(3)]
    assert measured[2]["lecam"] > 0
    other, _ = make(workshop, lecam=0.3)
    other.load(copy.deepcopy(training.state()))
    assert torch.equal(other.anchors, training.anchors)
    torch.testing.assert_close(other.advance(batches), training.advance(batches), rtol=0, atol=0)


def test_long_gradients_are_shortened(workshop):
    free, batches = make(workshop)
    held, _ = make(workshop, max_grad_norm=0.01)
    norms = [training.advance(batches)["d_grad_norm"].item() for training in (free, held)]
    assert norms[0] == norms[1] > 0.01  # what is measured is the length before
    grads = [p.grad for p in held.discriminator.parameters()]
    assert torch.nn.utils.get_total_norm(grads).item() == pytest.approx(0.01, rel=1e-3)


def test_schedules_fall_from_the_rate_to_nothing(workshop):
    for name, shares in (("constant", (1, 1, 1)), ("linear", (1, 0.5, 0)), ("cosine", (1, 0.5, 0))):
        assert [SCHEDULES[name](done) for done in (0.0, 0.5, 1.0)] == pytest.approx(shares)
    training, batches = make(workshop, lr_schedule="linear", total_step=4)
    rates = []
    for _ in range(4):
        training.advance(batches)
        rates.append(training.g_optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 0.75e-4, 0.5e-4, 0.25e-4])


def test_a_rollback_goes_back_and_on_with_other_randomness_and_lower_rates(workshop):
    training, batches = make(workshop, r1=0.1)
    training.advance(batches)
    healthy, good = copy.deepcopy(training.state()), weights(training)
    first = training.advance(batches)
    roll_back(training, healthy, Diverged(Verdict("diverged", "a reason", True), 2))
    assert training.rollback == records.rollback(1, 2, reason="a reason", remedy=REMEDIES["diverged"])
    torch.testing.assert_close(weights(training), good, rtol=0, atol=0)
    assert (training.step, training.attempt) == (1, 1)
    second = training.advance(batches)
    assert second["g_loss"] != first["g_loss"]
    assert training.g_optimizer.param_groups[0]["lr"] == 0.5e-4
    roll_back(training, None, Diverged(Verdict("D winning", "", True), 2))
    assert (training.step, training.attempt) == (0, 2)
    assert training.caution == {"g_lr": 0.5, "d_lr": 0.25, "penalties": 2.0}
    other, _ = make(workshop, r1=0.1)
    other.load(copy.deepcopy(training.state()))
    torch.testing.assert_close(other.advance(batches), training.advance(batches), rtol=0, atol=0)


def test_a_stronger_penalty_weighs_more_in_the_loss(workshop, monkeypatch):
    monkeypatch.setattr(trainer_module, "zero_centred_penalty", lambda judge, images: images.new_ones(()))
    training, batches = make(workshop, r1=0.25)
    assert training.advance(batches)["penalty"].item() == 0.25
    roll_back(training, None, Diverged(Verdict("D winning", "", True), 1))
    assert training.advance(batches)["penalty"].item() == 0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"r1": 1.0, "penalty_every": 3, "n_critic": 2, "lr_schedule": "linear"},
        {"adv_loss": "rpgan", "r1": 0.1, "penalty_every": 4},  # the preset best
    ],
)
def test_captured_and_compiled_steps_are_the_eager_ones(workshop, changes):
    config = override(TINY, changes | {"total_step": 40, "device": "cuda"})
    order = partial(data_order, 0, workshop.store.count)
    batches = Batches(workshop.store.images, 8, order, "cuda", channels_last=True)
    losses = {}
    for name, switches in (
        ("eager", {"compile": False, "cuda_graphs": False}),
        ("captured", {"compile": False, "cuda_graphs": True}),
        ("fast", {"compile": True, "cuda_graphs": True}),
    ):
        training = Trainer(override(config, switches), torch.device("cuda"))
        losses[name] = torch.stack([training.advance(batches)["d_loss"] for _ in range(40)]).cpu()
    torch.testing.assert_close(losses["captured"], losses["eager"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(losses["fast"], losses["eager"], rtol=1e-2, atol=1e-2)
