"""The state of a run between two steps, and how it takes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sagan.core.attention import describe_choice
from sagan.core.game.augment import augment, draw
from sagan.core.game.average import AveragedGenerator, batch_norm_latents, measure_batch_norm
from sagan.core.game.shards import AddUp, mean_gradient
from sagan.core.game.step import Augment, Gradient, Penalty, discriminator_gradient, generator_gradient, update
from sagan.core.losses import LOSSES, default_r1_weight, move_anchors, zero_centred_penalty
from sagan.core.networks.interface import Discriminator, Generator
from sagan.data.batches import Batches
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, GameConfig
from sagan.run.records import FACTORS, LookRecord, RollbackRecord
from sagan.run.weights import Checkpoint
from sagan.system.compiling import compile_into_own_cache
from sagan.system.devices import send
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import integers, normal, uniform
from sagan.system.world import SINGLE_PROCESS, World
from sagan.training.graph import CapturedStep, Kind, Play, Turn
from sagan.training.guard import Seen, examine

_LOOK_IMAGES = 64  # the fewest images in a look of the guard
_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes: for the bits of a number
_MAX_LOOK_BATCHES = 16  # but no more batches than this, so that a look at small ones does not take too long

SCHEDULES: dict[str, Callable[[float], float]] = {  # the fraction of the run that is done -> the factor of both rates
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def purpose(name: str, attempt: int) -> str:
    """The purpose for which random numbers are drawn: a different one after each rollback."""
    return f"{name}, attempt {attempt}" if attempt else name


def kind_of_step(game: GameConfig, step: int) -> Kind:
    """Whether each discriminator step of a generator step includes a gradient penalty."""
    numbers = range(step * game.n_critic, (step + 1) * game.n_critic)
    return tuple(game.penalized and number % game.penalty_every == 0 for number in numbers)


def steps_by_kind(game: GameConfig) -> dict[Kind, list[int]]:
    """The generator steps of one period, after which their kinds repeat, by kind."""
    period = math.lcm(game.penalty_every, game.n_critic) // game.n_critic if game.penalized else 1
    steps: dict[Kind, list[int]] = {}
    for step in range(period):
        steps.setdefault(kind_of_step(game, step), []).append(step)
    return steps


Networks = tuple[Generator, Discriminator, AveragedGenerator]


def build_networks(config: Config, device: torch.device) -> Networks:
    """What a new run starts with: a generator, a discriminator, and the average of the generator."""
    generator = build_generator(config.model, config.run.seed).to(device)
    discriminator = build_discriminator(config.model, config.run.seed).to(device)
    return generator, discriminator, AveragedGenerator(generator, config.game.ema_halflife)


class Trainer:
    """Networks, optimisers, EMA, and the step they have reached.

    A step has two halves. Its inputs (images, latents, every random number) are drawn on the CPU and sent to the
    device, for each update of a network as one `Turn` for each shard of the batch that this process computes; then they
    are computed there, without the CPU reading a value back, so that on a GPU they can be captured in CUDA graphs and
    replayed. The graphs are cut where gradients go to the other processes.

    ``networks``: on the device; new ones by default.
    """

    def __init__(
        self, config: Config, device: torch.device, world: World = SINGLE_PROCESS, networks: Networks | None = None
    ) -> None:
        self.config, self.device, self.world = config, device, world
        size = config.game.batch_size // config.game.shards
        self.parts = [slice(shard * size, (shard + 1) * size) for shard in world.part(config.game.shards)]
        game, run = config.game, config.run
        self.loss = LOSSES[game.adv_loss]
        self.generator, self.discriminator, self.average = networks or build_networks(config, device)
        self.anchors = (
            torch.zeros(2, dtype=torch.float32, device=device) if game.lecam else None
        )  # of the LeCam penalty
        self.g_optimizer = _adam(self.generator, game.g_lr, game, device)
        self.d_optimizer = _adam(self.discriminator, game.d_lr, game, device)
        self.step = 0
        self.is_whole = True  # not in the middle of a step, in which one network is updated and the other not
        self.seconds = 0.0  # spent on training, in all the processes that have worked on the run
        self.attempt = 0  # the number of rollbacks
        self.caution = dict.fromkeys(FACTORS, 1.0)  # the product of the remedies so far
        self.rollback: RollbackRecord | None = None  # the last one
        self.penalty: Tensor | None = None  # the latest, as not every step has one
        self._measured_step = -1
        self._norms = torch.zeros(()), torch.zeros(())  # of both gradients in the last step, for the guard
        self.compiled = device.type == "cuda" if run.compile is None else run.compile
        if self.compiled:
            compile_into_own_cache()
            self.generator.compile(dynamic=False)
            self.discriminator.compile(dynamic=False)
        self._play = self._player()

    def state(self, images: str | None = None, classes: tuple[str, ...] = ()) -> Checkpoint:
        """Everything that the next step depends on, and nothing else: randomness and data order follow from the step.
        ``images`` identifies the images, if known; ``classes`` are the names of their classes by number."""
        return Checkpoint(
            step=self.step,
            seconds=self.seconds,
            config=self.config,
            generator=self.generator.state_dict(),
            discriminator=self.discriminator.state_dict(),
            average=self.average.module.state_dict(),
            anchors=self.anchors,
            attempt=self.attempt,
            caution=self.caution,
            rollback=self.rollback,
            penalty=None if self.penalty is None else self.penalty.item(),
            g_optimizer=self.g_optimizer.state_dict(),
            d_optimizer=self.d_optimizer.state_dict(),
            images=images,
            classes=classes,
        )

    def load(self, state: Checkpoint) -> None:
        """Restores a state of the same config."""
        self.is_whole = True
        self.step, self.seconds = state.step, state.seconds
        self.attempt, self.caution, self.rollback = state.attempt, dict(state.caution), state.rollback
        self.penalty = None if state.penalty is None else torch.tensor(state.penalty, device=self.device)
        self._measured_step = -1
        self.generator.load_state_dict(state.generator)
        self.discriminator.load_state_dict(state.discriminator)
        self.average.module.load_state_dict(state.average)
        if self.anchors is not None and state.anchors is not None:
            self.anchors.copy_(state.anchors)
        for optimizer, saved in ((self.g_optimizer, state.g_optimizer), (self.d_optimizer, state.d_optimizer)):
            groups = optimizer.state_dict()["param_groups"]  # rates and flags are those of this device and config
            optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})

    def forget_captures(self) -> None:
        """Discards captured steps, in which the weights of the penalties are constants."""
        self._play = self._player()

    def advance(self, batches: Batches, step: int | None = None) -> dict[str, Tensor]:
        """Takes one generator step, after its discriminator steps. Returns detached scalars, left on the device.

        ``step``: takes the step of this number instead of the next one, to measure what a step of its kind costs.
        """
        game = self.config.game
        self.step = self.step if step is None else step
        self._set_rates(self.step * game.n_critic // batches.batches_per_epoch)
        numbers = range(self.step * game.n_critic, (self.step + 1) * game.n_critic)
        turns = [[self._discriminator_turn(batches, number, part) for part in self.parts] for number in numbers]
        turns.append([self._generator_turn(*each) for each in zip(turns[-1], self.parts, strict=True)])
        kind = kind_of_step(game, self.step)
        self.generator.train()
        self.discriminator.train()
        self.is_whole = False
        measured = self._play(kind, turns)
        self._norms = measured["g_grad_norm"], measured["d_grad_norm"]
        self.penalty = measured.get("penalty", self.penalty)
        self.step += 1
        self.is_whole = True
        return measured

    def play(self, kind: Kind, turns: list[list[Turn]], add_up: AddUp | None) -> dict[str, Tensor]:
        """Computes a discriminator step for each update but the last, a generator step for the last, and the EMA.

        ``kind`` says for each discriminator step whether it includes a gradient penalty; ``add_up`` adds gradients over
        the processes, if there are several.
        """
        game = self.config.game
        *critic_updates, last = turns
        networks = self.generator, self.discriminator
        shared: dict[str, Any] = {"loss": self.loss, "precision": self.config.run.precision}
        measured: dict[str, Tensor] = {}

        def take(network: nn.Module, optimizer: torch.optim.Adam, gradients: list[Gradient], norm: str) -> None:
            of_all = partial(mean_gradient, network, self.generator, gradients, game.shards, add_up)
            measured.update(update(network, optimizer, of_all, norm, game.max_grad_norm))

        for penalized, critic_turns in zip(kind, critic_updates, strict=True):
            gradients: list[Gradient] = [
                partial(
                    discriminator_gradient,
                    *networks,
                    turn["real"],
                    turn["z"],
                    penalty=self._penalty(turn) if penalized else None,
                    lecam=game.lecam,
                    anchors=self.anchors,
                    augment=self._augment(turn),
                    labels=turn.get("labels"),
                    fake_labels=turn.get("fake_labels"),
                    **shared,
                )
                for turn in critic_turns
            ]
            take(self.discriminator, self.d_optimizer, gradients, "d_grad_norm")
            if self.anchors is not None:
                move_anchors(self.anchors, measured["d_real"], measured["d_fake"])
        gradients = [
            partial(
                generator_gradient,
                *networks,
                turn["z"],
                real=critic_turn["real"],
                augment=self._augment(turn),
                labels=turn.get("fake_labels"),
                real_labels=critic_turn.get("labels"),
                **shared,
            )
            for turn, critic_turn in zip(last, critic_updates[-1], strict=True)
        ]
        take(self.generator, self.g_optimizer, gradients, "g_grad_norm")
        self.average.update(self.generator, last[0]["shares"])
        return measured

    def look(self, batches: Batches) -> LookRecord:
        """Measures what the guard judges the run by, at the current step; changes nothing.

        The gradient norms are those of the last step. Whether that included a lazy penalty depends on ``penalty_every``
        and ``guard_every``; with those of the preset `best` it never did."""
        game = self.config.game
        count = min(_MAX_LOOK_BATCHES, -(-_LOOK_IMAGES * game.shards // game.batch_size))
        networks = self.generator, self.discriminator, self.average.module
        seen = [self._seen(batches, number) for number in range(count)]
        found = examine(*networks, seen, paired=self.loss.paired)
        norms = {"g_grad_norm": self._norms[0].item(), "d_grad_norm": self._norms[1].item()}
        values: dict[str, Any] = found | norms
        return LookRecord(step=self.step, **values)

    def _seen(self, batches: Batches, number: int) -> Seen:
        """The first shard of the next batch after the current step, or that ``number`` shards later, with inputs for
        fakes."""
        game = self.config.game
        later, shard = divmod(number, game.shards)
        index, size = self.step * game.n_critic + later, game.batch_size // game.shards
        part = slice(shard * size, (shard + 1) * size)
        labels = fake_labels = None
        if self.config.model.num_classes:
            labels = batches.labels(index, part)
            fake_labels = self._fake_labels(labels, "classes of the guard", index, part)
        return Seen(batches.batch(index, part), self._draw_z("z of the guard", index, part), labels, fake_labels)

    def describe_backends(self) -> str:
        """A line that names the backend of each attention layer here."""
        game, bf16 = self.config.game, self.config.run.precision == "bf16"
        size = game.batch_size // game.shards
        dtype = torch.bfloat16 if bf16 else torch.float32
        networks: list[tuple[str, int, Any]] = [("generator", size, self.generator)]
        networks += [("discriminator", 2 * size, self.discriminator)]  # real and fake images in one pass
        lines = []
        for name, batch, network in networks:
            choices = [
                describe_choice(
                    layer.pattern, batch, *layer.dims, dtype=dtype, device=self.device, compiled=self.compiled
                )
                for layer in network.attention.values()
            ]
            lines += [f"{name} {', '.join(choices)}"] if choices else []
        return "attention: " + ("; ".join(lines) or "none")

    def fingerprint(self) -> int:
        """The same number in processes with the same state: weights, buffers, average, optimizers. Waits for the
        device. The average's batch norm is left out, as only the process that draws images measures it."""
        networks = self.networks().values()
        tensors = [weight.detach() for network in networks for weight in network.parameters()]
        tensors += [buffer for network in (self.generator, self.discriminator) for buffer in network.buffers()]
        norms = [module for module in self.average.module.modules() if isinstance(module, nn.BatchNorm2d)]
        measured = {id(buffer) for norm in norms for buffer in norm.buffers()}
        tensors += [buffer for buffer in self.average.module.buffers() if id(buffer) not in measured]
        for optimizer in (self.g_optimizer, self.d_optimizer):
            kept = optimizer.state_dict()["state"]
            tensors += [kept[number][name] for number in sorted(kept) for name in sorted(kept[number])]
        tensors += [] if self.anchors is None else [self.anchors]
        whole = [tensor.view(_WHOLE[tensor.element_size()]) for tensor in tensors]
        sums = torch.stack([bits.sum(dtype=torch.int32).to(self.device) for bits in whole])  # wraps, and is quick
        return hash((self.step, self.attempt, *sums.tolist()))

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average.module}

    def gammas(self) -> dict[str, float]:
        """The gate of each attention layer, named by network and map: ``{"G16": 0.01, "D8": ...}``."""
        networks: list[tuple[str, Any]] = [("G", self.generator), ("D", self.discriminator)]
        return {f"{name}{size}": layer.gamma.item() for name, net in networks for size, layer in net.attention.items()}

    def measured_average(self) -> Generator:
        """The EMA generator, ready for use: its batch norm is measured on fixed z, at most once per step."""
        if self._measured_step != self.step:
            measure_batch_norm(self.average.module, batch_norm_latents(self.average.module, self.config.run.seed))
            self._measured_step = self.step
        return self.average.module

    def _discriminator_turn(self, batches: Batches, number: int, part: slice) -> Turn:
        """The inputs of one shard, ``part`` of the batch. Every draw is made for the whole batch: it does not depend on
        the shards."""
        game, size = self.config.game, self.config.game.batch_size
        turn = {"real": batches.batch(number, part), "z": self._draw_z("z of a discriminator step", number, part)}
        if game.flip:
            mirrored = self._send(uniform((size,), self._chance("mirrored images", number))[part] < 0.5)
            turn["real"] = torch.where(mirrored.view(-1, 1, 1, 1), turn["real"].flip(3), turn["real"])
        if game.augment:
            chance = self._chance("augmentation in a discriminator step", number)
            turn["augment"] = self._send(
                *(of_half[part] for of_half in draw(game.augment, 2 * size, chance).split(size))
            )
        if self.loss.penalty is not None:
            turn["share"] = self._send(uniform((size,), self._chance("points of the gradient penalty", number))[part])
        if self.config.model.num_classes:
            turn["labels"] = batches.labels(number, part)
            turn["fake_labels"] = self._fake_labels(turn["labels"], "classes of a discriminator step", number, part)
        return turn

    def _generator_turn(self, critic_turn: Turn, part: slice) -> Turn:
        """``critic_turn``: that of the discriminator step before, whose real images a paired loss compares with."""
        game = self.config.game
        images = (self.step + 1) * game.batch_size
        turn = {
            "z": self._draw_z("z of a generator step", self.step, part),
            "shares": send(self.average.shares(images, game.batch_size), self.device),
        }
        if game.augment:
            chance = self._chance("augmentation in a generator step", self.step)
            turn["augment"] = self._send(draw(game.augment, game.batch_size, chance)[part])
        if self.config.model.num_classes:
            labels = critic_turn["labels"]
            turn["fake_labels"] = self._fake_labels(labels, "classes of a generator step", self.step, part)
        return turn

    def _chance(self, name: str, step: int) -> torch.Generator:
        return random_generator(self.config.run.seed, purpose(name, self.attempt), step=step)

    def _draw_z(self, name: str, step: int, part: slice) -> Tensor:
        size = self.config.game.batch_size, self.config.model.z_dim
        return self._send(normal(size, self._chance(name, step))[part])

    def _send(self, *drawn: Tensor) -> Tensor:
        return send(torch.cat(drawn), self.device)

    def _fake_labels(self, labels: Tensor, name: str, step: int, part: slice) -> Tensor:
        """The classes of fakes: random, but with a paired loss those of the real images they are compared with."""
        if self.loss.paired:
            return labels
        classes = int(self.config.model.num_classes)
        return self._send(integers(classes, self.config.game.batch_size, self._chance(name, step))[part])

    def _player(self) -> Play:
        captured, add_up = self.config.run.cuda_graphs, self.world.add_up if self.world.size > 1 else None
        on_gpu = self.device.type == "cuda"
        if on_gpu if captured is None else captured:
            return CapturedStep(self.play, self.device, add_up)
        return partial(self.play, add_up=add_up)

    def _augment(self, turn: Turn) -> Augment | None:
        if not (policies := self.config.game.augment):
            return None
        return lambda images: augment(images, policies, turn["augment"])

    def _penalty(self, turn: Turn) -> Penalty:
        """The sum of the configured gradient penalties; one computed every k steps has k times the weight."""
        game = self.config.game
        labels, fake_labels = turn.get("labels"), turn.get("fake_labels")
        default = default_r1_weight(self.discriminator.shape, game.batch_size)
        r1, r2 = (default if weight == "auto" else weight for weight in (game.r1, game.r2))

        def judge(images: Tensor, labels: Tensor | None) -> Tensor:
            return self.discriminator.forward(images, labels)  # not compiled, as that has no second derivative

        def penalty(real: Tensor, fake: Tensor) -> Tensor:
            total = real.new_zeros(())
            if self.loss.penalty is not None:
                of_real = partial(judge, labels=labels)
                total = total + game.lambda_gp * self.loss.penalty(of_real, real, fake, turn["share"])
            if r1:
                total = total + r1 * zero_centred_penalty(partial(judge, labels=labels), real)
            if r2:
                total = total + r2 * zero_centred_penalty(partial(judge, labels=fake_labels), fake)
            return game.penalty_every * self.caution["penalties"] * total

        return penalty

    def _set_rates(self, epoch: int) -> None:
        game = self.config.game
        factor = SCHEDULES[game.lr_schedule](min(1.0, self.step / self.config.run.total_step))
        if game.lr_decay is not None:
            factor *= game.lr_decay**epoch
        rates = (
            (self.g_optimizer, game.g_lr * self.caution["g_lr"]),
            (self.d_optimizer, game.d_lr * self.caution["d_lr"]),
        )
        for optimizer, rate in rates:
            group = optimizer.param_groups[0]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(factor * rate)
            else:
                group["lr"] = factor * rate


def _adam(network: nn.Module, rate: float, game: GameConfig, device: torch.device) -> torch.optim.Adam:
    """Adam; on a GPU its rate and step count are kept there, so that a captured step reads their current values."""
    on_gpu = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if on_gpu else rate
    betas = float(game.beta1), float(game.beta2)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(trained, lr, betas, fused=True, capturable=on_gpu)
    adam._warned_capturable_if_run_uncaptured = True  # as the steps before a capture do, rightly
    return adam
