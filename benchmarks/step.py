"""Seconds of a training step at the published size, against the published program's way of doing it.

    python -m benchmarks.step [--threads 2] [--rounds 5] [--batch 64] [--variants plain,fp32,bf16] [--device cuda]
    python -m benchmarks.step --device cuda --rounds 50 --variants plain,eager-fp32,eager-bf16,fp32,bf16

The variants take turns in one process, and a ratio is the median of those within each round. ``plain`` is
`benchmarks.plain`; ``fp32`` and ``bf16`` are what `sagan train` does, including the update of the average (on a GPU
compiled and captured; ``eager-`` is neither). With ``--errors`` it prints how far each one's gradients are from those
of float64 on the same weights, images and latents.
"""

from __future__ import annotations

import argparse
import copy
import resource
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.plain import PlainStep
from sagan.bench.pace import batches_of, noise, warm_up
from sagan.bench.timing import time_in_turns
from sagan.core.game.step import discriminator_step, generator_step
from sagan.core.losses import LOSSES
from sagan.run.config import Config, GameConfig, ModelConfig, RunConfig
from sagan.training.trainer import Trainer


def settings(precision: str, batch: int, span: int, device: torch.device) -> Config:
    switches = {"compile": False, "cuda_graphs": False} if precision.startswith("eager-") else {}
    return Config(
        model=ModelConfig(span=span, masking="before", norm_axis="input"),
        game=GameConfig(batch_size=batch),
        run=RunConfig(precision=precision.removeprefix("eager-"), device=str(device), **switches),
    )


def variant(name: str, batch: int, span: int, device: torch.device) -> Callable[[], object]:
    config = settings("fp32" if name == "plain" else name, batch, span, device)
    batches = batches_of(noise(config), config, device)
    if name == "plain":
        plain = PlainStep(span, str(device))
        open_gates(plain.generator, plain.discriminator)
        return lambda: plain(batches.batch(0), *torch.randn(2, batch, 128, device=device))
    training = Trainer(config, device)
    open_gates(training.generator, training.discriminator)
    warm_up(training, batches)  # kernels are compiled, and the step captured
    return lambda: training.advance(batches)


def open_gates(*networks: nn.Module) -> None:
    """Sets every gamma to 0.5: at its starting value 0 the attention layers get no gradient and could be skipped."""
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                nn.init.constant_(parameter, 0.5)


def compare_speed(names: list[str], rounds: int, batch: int, span: int, device: torch.device) -> None:
    timings = time_in_turns({name: variant(name, batch, span, device) for name in names}, device, rounds)
    print(f"{'variant':10} {'median s':>9} {'min s':>7} {'img/s':>7} {'x ' + names[0]:>9}")
    for name, timing in timings.items():
        ratio = timing.ratio(timings[names[0]])
        print(f"{name:10} {timing.median:9.3f} {timing.least:7.3f} {batch / timing.median:7.1f} {ratio:9.2f}")
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def gradients(training: Trainer, real: Tensor, z: Tensor, precision: str) -> dict[str, Tensor]:
    """The gradients of a step of each network, on a copy, with optimisers that do not move the weights."""
    generator, discriminator = networks = copy.deepcopy((training.generator, training.discriminator))
    g_still, d_still = (torch.optim.SGD(network.parameters(), lr=0.0) for network in networks)
    game = {"loss": LOSSES["hinge"], "precision": precision}
    discriminator_step(generator, discriminator, d_still, real, z, **game)
    found = {"D": gradient_of(discriminator)}
    generator_step(generator, discriminator, g_still, z, **game)
    return found | {"G": gradient_of(generator)}


def gradient_of(network: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten().double() for parameter in network.parameters()])


def compare_errors(names: list[str], batch: int, span: int) -> None:
    config = settings("fp32", batch, span, torch.device("cpu"))
    training = Trainer(config, torch.device("cpu"))
    open_gates(training.generator, training.discriminator)
    real, z = batches_of(noise(config), config, training.device).batch(0), torch.randn(batch, 128)
    measured = {name: gradients(training, real, z, name) for name in names if name != "plain"}
    training.generator.double()
    training.discriminator.double()
    exact = gradients(training, real.double(), z.double(), "fp32")
    for name, found in measured.items():
        errors = {net: ((g - exact[net]).norm() / exact[net].norm()).item() for net, g in found.items()}
        print(f"{name:10} relative error of the gradients against float64: D {errors['D']:.1e}, G {errors['G']:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--span", type=int, default=3)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--variants", default="plain,fp32,bf16")
    parser.add_argument("--errors", action="store_true", help="gradient errors instead of times, at a batch of 16")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.manual_seed(0)
    names = flags.variants.split(",")
    print(f"torch {torch.__version__}, {flags.threads} threads, batch {flags.batch}, span {flags.span}, {flags.device}")
    if flags.errors:
        compare_errors(names, min(16, flags.batch), flags.span)
    else:
        compare_speed(names, flags.rounds, flags.batch, flags.span, flags.device)


if __name__ == "__main__":
    main()
