"""The count before a run, against hand counts and against the step itself."""

import pytest
import torch
from safetensors.torch import save

from sagan.bench.cost import amount, count_cost, count_memory, describe_cost
from sagan.bench.memory import peak_memory
from sagan.bench.pace import batches_of, noise
from sagan.bench.step import tensors_of
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, GameConfig, ModelConfig, RunConfig, override
from sagan.run.keeping import checkpoint_bytes, run_bytes, snapshot_bytes
from sagan.run.weights import save_checkpoint
from sagan.system.sentences import binary
from sagan.training.trainer import Trainer

CPU = torch.device("cpu")

TINY = Config(
    model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8, g_attention=(8,), d_attention=(4,)),
    game=GameConfig(batch_size=2),
    run=RunConfig(total_step=8, snapshot_every=4, device="cpu"),
)

# one pass over one image, two for a multiply and add; kernels are 4x4
G_CONVOLUTIONS = 2 * 16 * (4 * 16 * 1**2 + 16 * 8 * 4**2 + 8 * 3 * 8**2)  # inputs x outputs x input pixels
D_CONVOLUTIONS = 2 * 16 * (3 * 8 * 8**2 + 8 * 16 * 4**2 + 16 * 1 * 1**2)  # inputs x outputs x output pixels
G_PROJECTIONS = 2 * 64 * 8 * (1 + 1 + 8)  # of 8 channels to queries, keys and values
D_PROJECTIONS = 2 * 16 * 16 * (2 + 2 + 16)
G_ATTENTION = 2 * 64 * 64 * (1 + 8)
D_ATTENTION = 2 * 16 * 16 * (2 + 16)


def by_hand(batch):
    """A step: G for the fakes; D on real and fake images, forwards and backwards; then G and D forwards and backwards,
    with no gradient for D's weights, and none for z. The first layer's input needs no gradient in either network."""
    generator = G_CONVOLUTIONS + G_PROJECTIONS + G_ATTENTION
    discriminator = D_CONVOLUTIONS + D_PROJECTIONS + D_ATTENTION
    first_of_g, first_of_d = 2 * 16 * 4 * 16, 2 * 16 * 3 * 8 * 8**2
    d_step = generator + 2 * (3 * discriminator - first_of_d)
    weights_of_d = D_CONVOLUTIONS + D_PROJECTIONS  # a product each
    g_step = 3 * generator - first_of_g + 3 * discriminator - weights_of_d
    return batch * (d_step + g_step)


@pytest.fixture(scope="module")
def tiny_cost():
    return count_cost(TINY)


def test_the_operations_of_a_tiny_step_are_those_counted_by_hand(tiny_cost):
    assert tiny_cost.operations == by_hand(batch=2)
    attention = 2 * ((1 + 3) * G_ATTENTION + (6 + 3) * D_ATTENTION)
    assert tiny_cost.attention_operations == attention


def test_the_published_step_is_the_one_measured():
    cost = count_cost(Config())
    assert cost.operations / 1e9 == pytest.approx(220.2, abs=0.1)


def test_excluding_the_square_saves_no_operation_and_pooling_divides_those_of_attention(tiny_cost):
    span, pooled = (count_cost(override(TINY, changes)) for changes in ({"span": 2}, {"pool": 2}))
    assert span.operations == tiny_cost.operations
    assert tiny_cost.attention_operations == 4 * pooled.attention_operations


@pytest.mark.parametrize(
    "changes",
    [
        {"span": 1, "precision": "bf16"},
        {"n_critic": 2, "adv_loss": "wgan-gp"},
        {"network": "resnet", "num_classes": 3},
        {"r1": 1.0, "lecam": 0.1, "augment": ("translation", "cutout"), "flip": True},
        {"imsize": 32, "r1": 0.1, "penalty_every": 4, "d_attention": (16,)},  # a map that is attended to in tiles
    ],
)
def test_the_memory_counted_is_what_the_step_takes(changes):
    config = override(TINY, {"batch_size": 8, **changes})
    training = Trainer(config, CPU)
    batches = batches_of(noise(config), config, CPU)
    training.advance(batches)
    taken = peak_memory(lambda: training.advance(batches, step=0), CPU, tensors_of(training))  # has the penalties
    assert count_memory(config) == pytest.approx(taken, rel=0.1)


def test_counting_does_not_take_the_memory_it_counts():
    assert count_memory(override(TINY, {"batch_size": 1_000_000})) > 2**36


def test_parameters_and_files_are_as_large_as_said(tiny_cost, tmp_path):
    assert tiny_cost.memory == count_memory(TINY)
    for count, build in (
        (tiny_cost.generator_parameters, build_generator),
        (tiny_cost.discriminator_parameters, build_discriminator),
    ):
        assert count == sum(parameter.numel() for parameter in build(TINY.model).parameters())
    config = override(TINY, {"imsize": 32, "g_conv_dim": 32, "d_conv_dim": 32})
    training = Trainer(config, CPU)
    training.advance(batches_of(noise(config), config, CPU))
    save_checkpoint(tmp_path / "last.pt", training.state())
    assert checkpoint_bytes(config) == pytest.approx((tmp_path / "last.pt").stat().st_size, rel=0.05)
    assert snapshot_bytes(config) == pytest.approx(len(save(training.average.module.state_dict())), rel=0.05)
    assert run_bytes(config) == 2 * snapshot_bytes(config) + 2 * checkpoint_bytes(config)


def test_a_larger_batch_costs_in_proportion(tiny_cost):
    large = count_cost(override(TINY, {"batch_size": 6}))
    assert large.operations == 3 * tiny_cost.operations
    assert large.activations > 2 * tiny_cost.activations
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(large, name) == getattr(tiny_cost, name)


def test_the_lines_for_a_person_name_what_is_asked():
    text = "\n".join(describe_cost(TINY))
    for word in ("parameters", "FLOP", "Adam", "8x8", "of the keys", "snapshot", "checkpoint"):
        assert word in text


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (amount(220_177_891_328, "FLOP"), "220 GFLOP"),
        (amount(999, "B/s"), "999 B/s"),
        (amount(999_900, "FLOP"), "1 MFLOP"),
        (binary(3 * 2**20), "3 MiB"),
        (binary(5 * 2**30), "5.00 GiB"),
    ],
)
def test_numbers_are_said_with_their_prefix(said, meant):
    assert said == meant


def test_operations_are_an_average_where_some_steps_have_a_penalty():
    """A step with a penalty and three without, against every step with one and none."""
    none, every, lazy = (
        count_cost(override(TINY, changes)) for changes in ({}, {"r1": 0.1}, {"r1": 0.1, "penalty_every": 4})
    )
    assert lazy.operations == pytest.approx((every.operations + 3 * none.operations) / 4, abs=1)
    assert none.fewest_bytes < lazy.fewest_bytes < every.fewest_bytes
    assert lazy.memory == every.memory
