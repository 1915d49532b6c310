"""Seconds of a training step at the published size, against the published program's way of doing it.

    python -m benchmarks.step [--threads 2] [--rounds 5] [--batch 64] [--variants plain,fp32,bf16] [--device cuda]
    python -m benchmarks.step --device cuda --rounds 50 --variants plain,eager-fp32,eager-bf16,fp32,bf16

Variants run in turn, round by round, in one process; a ratio is taken within a round and its median shown, so that a
change in the machine's load does not favour one of them. ``plain`` is `benchmarks.plain`; ``fp32`` and ``bf16`` are
what `sagan train` does, with the average's update (on a GPU compiled and captured; ``eager-`` is neither). With
``--errors`` it prints how far each one's gradients are from those of float64 on the same weights, images and latents.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.plain import PlainStep
from sagan.core.game.step import discriminator_step, generator_step
from sagan.core.losses import LOSSES
from sagan.run.config import Config, GameConfig, ModelConfig, RunConfig
from sagan.training.trainer import Trainer


class Images:
    """Stands in for the batches of a store: uniform noise, the same every time."""

    batches_per_epoch = 1_000_000

    def __init__(self, batch: int, device: str):
        self.images = torch.rand(batch, 3, 64, 64, device=device) * 2 - 1

    def batch(self, index: int) -> Tensor:
        return self.images


def settings(precision: str, batch: int, span: int, device: str) -> Config:
    switches = {"compile": False, "cuda_graphs": False} if precision.startswith("eager-") else {}
    return Config(
        model=ModelConfig(span=span, masking="before", norm_axis="input"),
        game=GameConfig(batch_size=batch),
        run=RunConfig(precision=precision.removeprefix("eager-"), device=device, **switches),
    )


def variant(name: str, batch: int, span: int, device: str) -> Callable[[], object]:
    images = Images(batch, device)
    if name == "plain":
        plain = PlainStep(span, device)
        open_gates(plain.generator, plain.discriminator)
        return lambda: plain(images.images, *torch.randn(2, batch, 128, device=device))
    training = Trainer(settings(name, batch, span, device), torch.device(device))
    open_gates(training.generator, training.discriminator)
    return lambda: training.advance(images)


def open_gates(*networks: nn.Module) -> None:
    """Sets every gamma to 0.5: at its starting value 0 the attention layers get no gradient and could be skipped."""
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                nn.init.constant_(parameter, 0.5)


def timed(step: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare_speed(names: list[str], rounds: int, batch: int, span: int, device: str) -> None:
    steps = {name: variant(name, batch, span, device) for name in names}
    for step in steps.values():
        for _ in range(1 if device == "cpu" else 6):  # kernels are compiled, and the step captured
            timed(step, device)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(timed(step, device))
    print(f"{'variant':10} {'median s':>9} {'min s':>7} {'img/s':>7} {'x ' + names[0]:>9}")
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(seconds[names[0]], seconds[name], strict=True))
        median = statistics.median(seconds[name])
        print(f"{name:10} {median:9.3f} {min(seconds[name]):7.3f} {batch / median:7.1f} {ratio:9.2f}")
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def gradients(training: Trainer, real: Tensor, z: Tensor, precision: str) -> dict[str, Tensor]:
    """The gradients one D step and one G step see, on a copy, with optimisers that do not move the weights."""
    networks = copy.deepcopy((training.generator, training.discriminator))
    frozen = [torch.optim.SGD(network.parameters(), lr=0.0) for network in networks]
    generator, discriminator = networks
    found = {}
    discriminator_step(generator, discriminator, frozen[1], real, z, loss=LOSSES["hinge"], precision=precision)
    found["D"] = torch.cat([p.grad.flatten().double() for p in discriminator.parameters()])
    generator_step(generator, discriminator, frozen[0], z, loss=LOSSES["hinge"], precision=precision)
    found["G"] = torch.cat([p.grad.flatten().double() for p in generator.parameters()])
    return found


def compare_errors(names: list[str], batch: int, span: int) -> None:
    training = Trainer(settings("fp32", batch, span, "cpu"), torch.device("cpu"))
    open_gates(training.generator, training.discriminator)
    real, z = Images(batch, "cpu").images, torch.randn(batch, 128)
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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", default="plain,fp32,bf16")
    parser.add_argument("--errors", action="store_true", help="gradient errors instead of times, at a batch of 16")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.manual_seed(0)
    names = flags.variants.split(",")
    print(f"torch {torch.__version__}, {flags.threads} threads, batch {flags.batch}, span {flags.span}, {flags.device}")
    if flags.errors:
        compare_errors(names, 16, flags.span)
    else:
        compare_speed(names, flags.rounds, flags.batch, flags.span, flags.device)


if __name__ == "__main__":
    main()
