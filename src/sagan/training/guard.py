"""Noticing that a run has gone wrong: numbers that are none, and collapse, before good weights are written over."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sagan.layers.spectral_norm import spectral_layers

State = Literal["healthy", "D winning", "diversity falling", "diverged"]


class Verdict(NamedTuple):
    """What the guard thinks of a run: a word for the progress line, a sentence that gives the reason, and whether it is
    bad enough to go back."""

    state: State
    reason: str = ""
    collapsed: bool = False


HEALTHY = Verdict("healthy")


class Diverged(ValueError):
    """A run has gone wrong; ``verdict`` says how, ``step`` where it was noticed."""

    def __init__(self, verdict: Verdict, step: int):
        super().__init__(verdict.reason)
        self.verdict, self.step = verdict, step


# ---- numbers that are none


class FiniteWatch:
    """Notices a loss or a weight that is not a number, at the latest before anything is written.

    The losses of every step are kept on their device until they are looked at, so that watching does not stop a GPU.
    ``networks`` must stay finite: parameters and buffers.
    """

    def __init__(self, networks: dict[str, nn.Module]):
        self.networks = networks
        self.unseen: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, step: int, measured: dict[str, Tensor]) -> None:
        """Keeps a step's losses for the next `check`."""
        self.unseen.append((step, measured))

    def check(self) -> None:
        """Raises `Diverged`, naming the first step and value that went wrong, unless all is finite.

        Looks only when there was a step since it last looked.
        """
        if not self.unseen:
            return
        unseen, self.unseen = self.unseen, []
        names = [(step, name) for step, measured in unseen for name in measured]
        values = torch.stack([value for _, measured in unseen for value in measured.values()])
        for (step, name), value in zip(names, values.tolist(), strict=True):  # tolist: the one wait for the device
            if not math.isfinite(value):
                raise Diverged(Verdict("diverged", f"{name} is {value} at step {step:,}", True), step)
        for name, network in self.networks.items():
            if not all_finite(network):
                step = unseen[-1][0]
                reason = f"the {name}'s weights are no longer numbers after step {step:,}"
                raise Diverged(Verdict("diverged", reason, True), step)


def all_finite(network: nn.Module) -> bool:
    """Whether every parameter and floating-point buffer of a network is finite; waits for its device once."""
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    largest = torch.stack(torch._foreach_norm(tensors, ord=math.inf))  # NaN and infinity come through
    return bool(largest.isfinite().all())


# ---- collapse


class Guard:
    """Looks at a run now and then and judges it by all its looks; ``looks`` are those of a run that goes on."""

    def __init__(self, looks: Iterable[dict[str, Any]] = ()):
        self.looks = list(looks)
        self.verdict = judge(self.looks)

    def add(self, look: dict[str, Any]) -> dict[str, Any]:
        """Takes in a look (what `examine` found, with ``step``) and gives it as a record, with the verdict."""
        self.looks.append(look)
        self.verdict = judge(self.looks)
        return {"kind": "guard", **look, "verdict": self.verdict.state, "reason": self.verdict.reason}

    def healthy_since(self, step: int) -> bool:
        """Whether there were looks enough after ``step`` to notice collapse, and none that was not healthy."""
        later = [number for number, look in enumerate(self.looks, 1) if look["step"] > step]
        return len(later) >= _PATIENCE and all(judge(self.looks[:number]).state == "healthy" for number in later)


_PATIENCE = 3  # looks in a row that must agree
_BEFORE = 60  # looks before those, whose median they are compared with
_ENOUGH_BEFORE = 5  # of them, in which the generator was in the game
_IN_THE_GAME = 0.99  # a separation below it: the generator has learnt to deceive now and then
_NOTHING = 1e-3  # a spread below it: nothing differs
_LOST = 0.999  # a separation from it on: the discriminator is hardly ever wrong


def judge(looks: Sequence[Mapping[str, float]]) -> Verdict:
    """The verdict on a run after its looks so far.

    A run is compared with itself: what is healthy differs with data, networks and losses. At first the discriminator
    always wins, and a fresh generator's images spread as little as a collapsed one's, so nothing is called collapse
    before the generator was in the game. A discriminator that wins is collapse only where it did not use to: WGAN's
    critic wins all along, and should.
    """
    recent, before = looks[-_PATIENCE:], looks[-_PATIENCE - _BEFORE : -_PATIENCE]
    played = [look for look in before if look["separation"] < _IN_THE_GAME]
    if recent:
        bad = [name for name in _WORDS if not math.isfinite(recent[-1][name])]
        if bad:
            return Verdict("diverged", f"{_WORDS[bad[0]]} is no longer a number", True)
        if len(recent) == _PATIENCE and max(look["pixel_spread"] for look in recent) < _NOTHING:
            return Verdict("diversity falling", "the generator makes one image, whatever its z", True)
    lost = _looks_in_a_row(looks, lambda look: look["separation"] >= _LOST)
    if len(played) >= _ENOUGH_BEFORE:
        verdict = _compare(recent, played)
        if verdict.state != "healthy":
            return verdict
    if lost >= _PATIENCE:
        lately = [look["separation"] < _IN_THE_GAME for look in before[-2 * _ENOUGH_BEFORE :]]
        usual = sum(lately) >= _ENOUGH_BEFORE
        was = f", where it used to tell {_usual(played, 'separation'):.0%}" if usual else ""
        reason = f"the discriminator has told every real image from every fake for {lost} looks{was}"
        return Verdict("D winning", reason, collapsed=usual)
    return HEALTHY


_WORDS = {
    "separation": "the share of real and fake images that the discriminator tells apart",
    "gap": "the gap between the logits of real images and fakes",
    "pixel_spread": "the fakes' spread in pixels, as a share of the real images',",
    "feature_spread": "the fakes' spread in the discriminator's features, as a share of the real images',",
    "sigma": "the largest singular value of a layer",
    "g_grad_norm": "the length of the generator's gradient",
}
_TOO_MUCH = {"gap": 30.0, "sigma": 10.0, "g_grad_norm": 100.0}  # times the usual
_AT_LEAST = {"gap": 10.0}  # a gap of logits may be near 0 as usual: so much is never too much
_TOO_LITTLE = {"pixel_spread": 0.5, "feature_spread": 0.5}


def _compare(recent: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]]) -> Verdict:
    """The verdict on a game that was going well, from its last looks and those before them."""
    for name, times in _TOO_MUCH.items():
        least, usual = min(abs(look[name]) for look in recent), _usual(before, name)
        if least > max(times * usual, _AT_LEAST.get(name, 0.0)):
            return Verdict("diverged", f"{_WORDS[name]} is {least:.3g}, where {usual:.3g} was usual", True)
    for name, share in _TOO_LITTLE.items():
        most, usual = max(look[name] for look in recent), _usual(before, name)
        if most < share * usual:
            return Verdict("diversity falling", f"{_WORDS[name]} is {most:.2f}, where {usual:.2f} was usual", True)
    return HEALTHY


def _usual(looks: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(abs(look[name]) for look in looks)


def _looks_in_a_row(looks: Sequence[Mapping[str, float]], holds: Callable[[Mapping[str, float]], bool]) -> int:
    return next((count for count, look in enumerate(reversed(looks)) if not holds(look)), len(looks))


@torch.no_grad()
def examine(
    generator: Any, discriminator: Any, average: nn.Module, real: Tensor, z: Tensor, labels: Sequence[Tensor] = ()
) -> dict[str, float]:
    """What the guard judges a run by, from one pass over real (n, 3, h, w) and generated images; changes nothing.

    separation: share of the pairs of a real image and a fake that the discriminator orders rightly, whatever the loss.
    gap: mean logit of real images less that of fakes.
    pixel_spread, feature_spread: the standard deviation of the fakes over the batch, as a share of that of the real
        images, in pixels and in the discriminator's last map. A generator that knows one image has spread 0.
    sigma: the largest singular value that spectral norm finds in a layer.
    average_distance: how far the averaged weights are from the generator's, as a share of their length.

    Both batches hold 2 images or more. ``labels``: the classes of the real images and of z, for networks that take
    them. Waits for the device once.
    """
    real_labels, fake_labels = ([each] for each in labels) if labels else ([], [])
    with _buffers_kept(generator):
        fake = generator.forward(z, *fake_labels)  # not compiled: a look is rare
    features = [discriminator.features(images) for images in (real, fake)]
    logits = [discriminator.judge(features[0], *real_labels), discriminator.judge(features[1], *fake_labels)]
    weights = [list(network.parameters()) for network in (generator, average)]
    sigmas = [layer.sigma() for net in (generator, discriminator) for layer in spectral_layers(net)]
    found = {
        "separation": (logits[0][:, None] - logits[1]).sign().mean() / 2 + 0.5,
        "gap": logits[0].mean() - logits[1].mean(),
        "pixel_spread": _spread(fake) / _spread(real).clamp_min(1e-6),
        "feature_spread": _spread(features[1]) / _spread(features[0]).clamp_min(1e-6),
        "sigma": torch.stack(sigmas).max(),
        "average_distance": _length(torch._foreach_sub(weights[0], weights[1])) / _length(weights[0]),
    }
    values = torch.stack([value.float() for value in found.values()]).tolist()
    return {name: round(value, 6) for name, value in zip(found, values, strict=True)}


def _spread(batch: Tensor) -> Tensor:
    """The square root of the variance over the batch, summed over everything else."""
    return batch.flatten(1).var(0).sum().sqrt()


def _length(tensors: Sequence[Tensor]) -> Tensor:
    length: Tensor = torch.stack(torch._foreach_norm(list(tensors))).norm()
    return length


@contextlib.contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Batch norm in training mode moves its statistics; afterwards they are as they were."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    yield
    for buffer, kept in before:
        buffer.copy_(kept)
