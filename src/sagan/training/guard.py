"""Noticing that a run has gone wrong: non-finite numbers, and collapse, before good weights are written over."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sagan.core.layers.spectral_norm import spectral_layers
from sagan.core.networks.interface import Discriminator, Generator
from sagan.run.records import LookRecord, State
from sagan.system.errors import UserError


class Verdict(NamedTuple):
    """What the guard thinks of a run: a word for the progress line, a sentence that gives the reason, and whether it is
    bad enough to go back."""

    state: State
    reason: str = ""
    collapsed: bool = False


HEALTHY = Verdict("healthy")


class Diverged(UserError):
    """A run has gone wrong; ``verdict`` says how, ``step`` where it was noticed."""

    def __init__(self, verdict: Verdict, step: int):
        super().__init__(verdict.reason)
        self.verdict, self.step = verdict, step


# ---- non-finite numbers


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
    """Looks at a run now and then and judges it by all its looks; ``looks`` are the records of a run that goes on.

    ``critic``: the discriminator is one that wins all along and should, as WGAN's.
    """

    def __init__(self, looks: Iterable[LookRecord] = (), *, critic: bool = False):
        self.looks, self.critic = list(looks), critic
        last = self.looks[-1] if self.looks else None
        self.verdict = Verdict(last.verdict, last.reason, last.collapsed) if last else HEALTHY

    def add(self, look: LookRecord) -> LookRecord:
        """Takes in a look (what `examine` found) and gives it with the verdict."""
        self.verdict = judge([*self.looks, look], critic=self.critic)
        state, reason, collapsed = self.verdict
        self.looks.append(dataclasses.replace(look, verdict=state, reason=reason, collapsed=collapsed))
        return self.looks[-1]

    def proved_since(self, step: int) -> bool:
        """Whether there were looks enough after ``step`` to notice a collapse that had begun before it, and none that
        did. What came later does not matter."""
        images = looks = 0
        for look in self.looks:
            if look.step > step:
                if look.collapsed or _is_alike(look):
                    return False
                images, looks = images + (_LOST_IMAGES if look.images is None else look.images), looks + 1
                if looks >= _PATIENCE and images >= _LOST_IMAGES:
                    return True
        return False

    def may_prove(self, step: int) -> bool:
        """Whether there was a look after ``step``, and none that noticed collapse: some more may prove it healthy."""
        later = [look for look in self.looks if look.step > step]
        return bool(later) and not any(look.collapsed for look in later)

    def began(self) -> int:
        """The step of the first of the looks that the present verdict rests on, and those like it just before."""
        looks = self.looks
        alike = _last_in_a_row(looks, _is_lost if self.verdict.state == "D winning" else _is_alike)
        called = _last_in_a_row(looks, lambda look: look.collapsed)
        return looks[-max(alike, called - 1 + _PATIENCE, _PATIENCE) :][0].step if looks else 0


_PATIENCE = 3  # looks in a row that must agree
_BEFORE = 60  # looks before those, whose median is what was usual
_LONG = 20  # looks whose median may be the best that a run ever had; the first as many are no measure by themselves
_ENOUGH_BEFORE = 5  # of those before, to say what is usual
_IN_THE_GAME = 0.99  # a separation below it: the generator has learnt to deceive now and then
_NOTHING = 1e-3  # a spread below it: nothing differs
_ALIKE = 0.05  # a spread below it: images that a person would take for one
_LOST = 0.999  # a separation from it on: the discriminator is hardly ever wrong
_LOST_IMAGES = 192  # so many real images in a row, and as many fakes, must be told apart: by fewer it may be chance
_LOST_PAIRS = 1000  # and so many pairs of them


def judge(looks: Sequence[LookRecord], *, critic: bool = False) -> Verdict:
    """The verdict on a run after its looks so far, of which each but the last has its own.

    A run is compared with itself, at the looks that were no collapse: what is healthy differs with data, networks and
    losses. At first the discriminator always wins, and a fresh generator's images spread as little as a collapsed
    one's, so nothing is called collapse before the generator was in the game. One that never gets there, or has a
    ``critic``, is compared with what it did after its first looks, but not with its best: that may have been noise. A
    discriminator that wins is collapse only where it did not use to; of a critic it is not said at all.
    """
    if not looks:
        return HEALTHY
    recent = looks[-_PATIENCE:]
    bad = [name for name in _WORDS if not math.isfinite(_value(recent[-1], name) or 0.0)]
    if bad:
        return Verdict("diverged", f"{_WORDS[bad[0]]} is no longer a number", True)
    if len(recent) == _PATIENCE and max(look.pixel_spread for look in recent) < _NOTHING:
        return Verdict("diversity falling", "the generator makes one image, whatever its z", True)
    if len(looks) >= _LONG and max(look.pixel_spread for look in looks[-_LONG:]) < _ALIKE:
        return Verdict("diversity falling", f"the generator has made nearly one image for {_LONG} looks", True)
    sound = [look for look in looks[:-_PATIENCE] if not look.collapsed]
    played = [look for look in sound if look.separation < _IN_THE_GAME]
    later, outside = sound[_LONG:], all(look.separation >= _IN_THE_GAME for look in recent)
    verdict = HEALTHY
    if len(later) >= _ENOUGH_BEFORE and (critic or (outside and len(played) < _ENOUGH_BEFORE)):
        verdict = _compare(recent, later, with_best=False)
    elif len(played) >= _ENOUGH_BEFORE:
        verdict = _compare(recent, played)
    if verdict.state != "healthy":
        return verdict
    return HEALTHY if critic else _judge_winning(looks, sound, played)


def _judge_winning(looks: Sequence[LookRecord], sound: Sequence[LookRecord], played: Sequence[LookRecord]) -> Verdict:
    """The verdict on a discriminator that may tell everything apart."""
    lost = looks[len(looks) - _last_in_a_row(looks, _is_lost) :]
    seen = [64 if look.images is None else look.images for look in lost]
    images = sum(seen)
    pairs = sum(count**2 if look.pairs is None else look.pairs for count, look in zip(seen, lost, strict=True))
    if len(lost) < _PATIENCE or images < _LOST_IMAGES or pairs < _LOST_PAIRS:
        return HEALTHY
    lately = [look for look in sound if look.step < lost[0].step][-2 * _ENOUGH_BEFORE :]
    usual = sum(look.separation < _IN_THE_GAME for look in lately) >= _ENOUGH_BEFORE
    was = f", where it used to tell {_usual(played[-_BEFORE:], 'separation'):.0%}" if usual else ""
    reason = f"the discriminator has told every real image from every fake for {len(lost)} looks{was}"
    return Verdict("D winning", reason, collapsed=usual)


_WORDS = {
    "separation": "the share of real and fake images that the discriminator tells apart",
    "gap": "the gap between the logits of real images and fakes",
    "pixel_spread": "the fakes' spread in pixels, as a share of the real images',",
    "feature_spread": "the fakes' spread in the discriminator's features, as a share of the real images',",
    "nearest": "the distance of a fake from the fake that is nearest to it, as a share of the real images',",
    "sigma": "the largest singular value of a layer",
    "gamma": "the largest gate of an attention layer",
    "average_distance": "the distance of the averaged weights from the generator's",
    "g_grad_norm": "the length of the generator's gradient",
    "d_grad_norm": "the length of the discriminator's gradient",
}
_TOO_MUCH = {  # times the usual
    "gap": 30.0, "sigma": 10.0, "gamma": 10.0, "average_distance": 4.0, "g_grad_norm": 100.0, "d_grad_norm": 100.0,
}  # fmt: skip
_AT_LEAST = {  # so much is never too much: what is usual may be near 0
    "gap": 10.0, "gamma": 5.0, "average_distance": 0.7, "d_grad_norm": 10.0,
}  # fmt: skip
_TOO_LITTLE = {"pixel_spread": 0.5, "feature_spread": 0.5, "nearest": 0.4}  # of the usual
_OF_THE_BEST = 0.8  # times these, of the best long median: usual sinks with a slow collapse, the best does not


def _compare(recent: Sequence[LookRecord], sound: Sequence[LookRecord], *, with_best: bool = True) -> Verdict:
    """The verdict on the last looks, from all those before that tell what is usual, and ``with_best`` from what was
    usual when it was best."""
    before = sound[-_BEFORE:]
    for name, times in _TOO_MUCH.items():
        known = _looks_with(name, before)
        if not known:
            continue
        least, usual = min(abs(_value(look, name) or 0.0) for look in recent), _usual(known, name)
        if least > max(times * usual, _AT_LEAST.get(name, 0.0)):
            return Verdict("diverged", f"{_WORDS[name]} is {least:.3g}, where {usual:.3g} was usual", True)
    for name, share in _TOO_LITTLE.items():
        known = _looks_with(name, sound)
        if not known:
            continue
        most = max(math.inf if (value := _value(look, name)) is None else value for look in recent)
        usual, best = _usual(known[-_BEFORE:], name), _best(known, name) if with_best else 0.0
        for less, word, what in ((share, usual, "was usual"), (share * _OF_THE_BEST, best, "was usual at its best")):
            if most < less * word:
                return Verdict("diversity falling", f"{_WORDS[name]} is {most:.2f}, where {word:.2f} {what}", True)
    return HEALTHY


def _looks_with(name: str, looks: Sequence[LookRecord]) -> Sequence[LookRecord]:
    """The looks that have a value; those of earlier versions lack some. None where they are too few."""
    known = [look for look in looks if _value(look, name) is not None]
    return known if len(known) >= _ENOUGH_BEFORE else []


def _usual(looks: Sequence[LookRecord], name: str) -> float:
    return statistics.median(abs(_value(look, name) or 0.0) for look in looks)


def _value(look: LookRecord, name: str) -> float | None:
    value: float | None = getattr(look, name)
    return value


def _best(looks: Sequence[LookRecord], name: str) -> float:
    """The largest median of so many looks in a row; 0 before there are as many."""
    starts = range(0, len(looks) - _LONG + 1, _LONG)
    return max((_usual(looks[start : start + _LONG], name) for start in starts), default=0.0)


def _is_lost(look: LookRecord) -> bool:
    """Whether the discriminator told everything apart."""
    return look.separation >= _LOST


def _is_alike(look: LookRecord) -> bool:
    """Whether the generator made nearly one image."""
    return look.pixel_spread < _ALIKE


def _last_in_a_row(looks: Sequence[LookRecord], holds: Callable[[LookRecord], bool]) -> int:
    """Of how many of the last looks, without a break, something holds."""
    return next((count for count, look in enumerate(reversed(looks)) if not holds(look)), len(looks))


class Seen(NamedTuple):
    """A batch for a look: real images and z, and the classes of both for networks that take them."""

    real: Tensor
    z: Tensor
    labels: Tensor | None = None
    fake_labels: Tensor | None = None


@torch.no_grad()
def examine(
    generator: Generator,
    discriminator: Discriminator,
    average: Generator,
    batches: Sequence[Seen],
    *,
    paired: bool = False,
) -> dict[str, float]:
    """What the guard judges a run by, from one pass over batches of real images and of generated ones; changes nothing.

    ``paired``: the loss compares within a class only, so that logits of different classes say nothing of each other.

    images: how many real images were seen, and as many fakes.
    separation: share of the pairs of a real image and a fake (where the loss is paired, of one class) that the
        discriminator orders rightly, whatever the loss; pairs: how many there are.
    gap: mean logit of real images less that of fakes.
    real_positive, fake_positive: share of the real images, and of fakes, with a logit above 0.
    pixel_spread, feature_spread: the standard deviation of the fakes over the batch, as a share of that of the real
        images, in pixels and in the discriminator's last map. A generator that knows one image has spread 0.
    nearest: the mean distance in pixels of a fake from the fake nearest to it, as a share of the same of the real
        images, which are compared with different ones: of a small set some are seen twice. A generator that knows a few
        images, or one of each of a few classes, has next to 0.
    sigma: the largest singular value that spectral norm finds in a layer.
    gamma: the largest gate of an attention layer, without its sign; 0 where there is none.
    average_distance: how far the averaged weights are from the generator's, as a share of their length.

    There are 2 images or more. Waits for the device once.
    """
    fake, features, logits = _pass(generator, discriminator, batches)
    separation, pairs = _separation(logits[0], logits[1], batches if paired else [])
    real = torch.cat([batch.real for batch in batches])
    weights: list[list[Tensor]] = [list(network.parameters()) for network in (generator, average)]
    sigmas = [layer.sigma() for net in (generator, discriminator) for layer in spectral_layers(net)]
    attention: list[Any] = [layer for net in (generator, discriminator) for layer in net.attention.values()]
    gammas = [layer.gamma.abs() for layer in attention]
    found = {
        "separation": separation,
        "pairs": pairs,
        "gap": logits[0].mean() - logits[1].mean(),
        "real_positive": (logits[0] > 0).float().mean(),
        "fake_positive": (logits[1] > 0).float().mean(),
        "pixel_spread": _spread(fake) / _spread(real).clamp_min(1e-6),
        "feature_spread": _spread(features[1]) / _spread(features[0]).clamp_min(1e-6),
        "nearest": _nearest(fake) / _nearest(real, different=True).clamp_min(1e-6),
        "sigma": torch.stack(sigmas).max(),
        "gamma": torch.stack(gammas).max() if gammas else torch.zeros_like(sigmas[0]),
        "average_distance": _length(torch._foreach_sub(weights[0], weights[1])) / _length(weights[0]),
    }
    values = torch.stack([value.float() for value in found.values()]).tolist()
    return {"images": len(real)} | {name: round(value, 6) for name, value in zip(found, values, strict=True)}


def _pass(
    generator: Generator, discriminator: Discriminator, batches: Sequence[Seen]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The fakes, and of real images and of fakes the discriminator's features and logits."""
    fakes: list[Tensor] = []
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    logits: tuple[list[Tensor], list[Tensor]] = ([], [])
    with _buffers_kept(generator):
        for batch in batches:  # each as large as in training: batch norm takes its statistics from it
            fakes.append(generator.forward(batch.z, batch.fake_labels))  # not compiled: a look is rare
            for number, (images, labels) in enumerate(((batch.real, batch.labels), (fakes[-1], batch.fake_labels))):
                features[number].append(discriminator.features(images))
                logits[number].append(discriminator.judge(features[number][-1], labels))
    return torch.cat(fakes), [torch.cat(each) for each in features], [torch.cat(each) for each in logits]


def _spread(batch: Tensor) -> Tensor:
    """The square root of the variance over the batch, summed over everything else."""
    return batch.flatten(1).var(0).sum().sqrt()


def _separation(real: Tensor, fake: Tensor, batches: Sequence[Seen]) -> tuple[Tensor, Tensor]:
    """The share of pairs of logits that are in order, of all or of those of one class in ``batches``; and of how
    many."""
    right = (real[:, None] - fake).sign() / 2 + 0.5
    alike = torch.ones_like(right, dtype=torch.bool)
    labels = [batch.labels for batch in batches if batch.labels is not None]
    if labels:
        fake_labels = [batch.fake_labels for batch in batches if batch.fake_labels is not None]
        alike = torch.cat(labels)[:, None] == torch.cat(fake_labels)
    return (right * alike).sum() / alike.sum(), alike.sum()


def _nearest(batch: Tensor, *, different: bool = False) -> Tensor:
    """The mean distance of an image from the nearest other, or from the nearest that is not the same image."""
    points = batch.flatten(1).float()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    if different:
        distances.masked_fill_(distances == 0, math.inf)
    return distances.amin(1).mean()


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
