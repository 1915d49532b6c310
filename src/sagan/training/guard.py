"""Detects that a run has gone wrong (non-finite values, collapse) before it overwrites good weights."""

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
    """The guard's judgement of a run: a word for the progress line, the reason in a sentence, and whether it is bad
    enough to go back."""

    state: State
    reason: str = ""
    collapsed: bool = False


HEALTHY = Verdict("healthy")


class Diverged(UserError):
    """A run has gone wrong; ``verdict`` says how, ``step`` where it was noticed."""

    def __init__(self, verdict: Verdict, step: int):
        super().__init__(verdict.reason)
        self.verdict, self.step = verdict, step


# ---- non-finite values


class FiniteWatch:
    """Detects non-finite losses, and non-finite parameters and buffers of ``networks``, before anything is written.

    The losses of every step stay on their device until they are checked, so that watching does not stall a GPU.
    """

    def __init__(self, networks: dict[str, nn.Module]):
        self.networks = networks
        self.unchecked: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, step: int, measured: dict[str, Tensor]) -> None:
        """Keeps a step's losses for the next `check`."""
        self.unchecked.append((step, measured))

    def check(self) -> None:
        """Raises `Diverged`, naming the first step and value that went wrong, unless everything is finite.

        Does nothing if there was no step since the last check.
        """
        if not self.unchecked:
            return
        unchecked, self.unchecked = self.unchecked, []
        names = [(step, name) for step, measured in unchecked for name in measured]
        values = torch.stack([value for _, measured in unchecked for value in measured.values()])
        for (step, name), value in zip(names, values.tolist(), strict=True):  # tolist: the one wait for the device
            if not math.isfinite(value):
                raise Diverged(Verdict("diverged", f"{name} is {value} at step {step:,}", True), step)
        for name, network in self.networks.items():
            if not all_finite(network):
                step = unchecked[-1][0]
                reason = f"the {name}'s weights are no longer finite after step {step:,}"
                raise Diverged(Verdict("diverged", reason, True), step)


def all_finite(network: nn.Module) -> bool:
    """Whether every parameter and floating-point buffer of a network is finite; waits for its device once."""
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    largest = torch.stack(torch._foreach_norm(tensors, ord=math.inf))  # NaN and infinity come through
    return bool(largest.isfinite().all())


# ---- collapse


class Guard:
    """Judges a run by its looks, which are measured at intervals; a resumed run starts with those in its records.

    ``critic``: the discriminator is a critic, which wins all along and should, as WGAN's does.
    """

    def __init__(self, looks: Iterable[LookRecord] = (), *, critic: bool = False):
        self.looks, self.critic = list(looks), critic
        last = self.looks[-1] if self.looks else None
        self.verdict = Verdict(last.verdict, last.reason, last.collapsed) if last else HEALTHY

    def add(self, look: LookRecord) -> LookRecord:
        """Adds a look (what `examine` measured); returns it with the verdict."""
        self.verdict = judge([*self.looks, look], critic=self.critic)
        state, reason, collapsed = self.verdict
        self.looks.append(dataclasses.replace(look, verdict=state, reason=reason, collapsed=collapsed))
        return self.looks[-1]

    def proved_since(self, step: int) -> bool:
        """Whether there were enough looks after ``step`` to notice a collapse that had begun before it, and none did.
        Later looks do not matter."""
        images = looks = 0
        for look in self.looks:
            if look.step > step:
                if look.collapsed or _is_uniform(look):
                    return False
                images, looks = images + (_MIN_IMAGES if look.images is None else look.images), looks + 1
                if looks >= _PATIENCE and images >= _MIN_IMAGES:
                    return True
        return False

    def may_prove(self, step: int) -> bool:
        """Whether there was a look after ``step``, and none saw a collapse: more of them may prove it healthy."""
        later = [look for look in self.looks if look.step > step]
        return bool(later) and not any(look.collapsed for look in later)

    def began(self) -> int:
        """The step of the first look that the current verdict is based on, or of the first like it just before."""
        looks = self.looks
        similar = _count_last(looks, _is_lost if self.verdict.state == "D winning" else _is_uniform)
        collapsed = _count_last(looks, lambda look: look.collapsed)
        return looks[-max(similar, collapsed - 1 + _PATIENCE, _PATIENCE) :][0].step if looks else 0


_PATIENCE = 3  # the number of consecutive looks that must agree
_BEFORE = 60  # the number of looks before those, whose median is the usual value
_LONG = 20  # the number of looks whose median may count as a run's best, and of first looks that are no reference yet
_ENOUGH_BEFORE = 5  # the fewest looks that make a usual value
_COMPETITIVE = 0.99  # separation below which the generator sometimes fools the discriminator
_CONSTANT = 1e-3  # spread below which all images are the same
_UNIFORM = 0.05  # spread below which all images look the same to a person
_LOST = 0.999  # separation from which the discriminator is hardly ever wrong
_MIN_IMAGES = 192  # the fewest real images, and fakes, that must be told apart in a row: with fewer it may be chance
_MIN_PAIRS = 1000  # the fewest pairs of them


def judge(looks: Sequence[LookRecord], *, critic: bool = False) -> Verdict:
    """The verdict on a run after its looks so far, all of which but the last have their own verdict.

    A run is compared with itself, at the looks without collapse: what is healthy depends on data, networks and losses.
    At first the discriminator always wins, and a fresh generator's images vary as little as a collapsed one's, so
    nothing is called collapse before the generator has been competitive. A run that never gets there, or has a
    ``critic``, is compared with its looks after the first ones, but not with its best, which may have been noise. A
    winning discriminator means collapse only if it did not win before; with a critic it never does.
    """
    if not looks:
        return HEALTHY
    recent = looks[-_PATIENCE:]
    bad = [name for name in _WORDS if not all(map(math.isfinite, _values(recent[-1:], name)))]
    if bad:
        return Verdict("diverged", f"{_WORDS[bad[0]]} is no longer finite", True)
    if len(recent) == _PATIENCE and max(look.pixel_spread for look in recent) < _CONSTANT:
        return Verdict("diversity falling", "the generator makes one image, whatever its z", True)
    if len(looks) >= _LONG and max(look.pixel_spread for look in looks[-_LONG:]) < _UNIFORM:
        return Verdict("diversity falling", f"the generator has made nearly one image for {_LONG} looks", True)
    sound = [look for look in looks[:-_PATIENCE] if not look.collapsed]
    competitive = [look for look in sound if look.separation < _COMPETITIVE]
    later, losing = sound[_LONG:], all(look.separation >= _COMPETITIVE for look in recent)
    verdict = HEALTHY
    if len(later) >= _ENOUGH_BEFORE and (critic or (losing and len(competitive) < _ENOUGH_BEFORE)):
        verdict = _compare(recent, later, with_best=False)
    elif len(competitive) >= _ENOUGH_BEFORE:
        verdict = _compare(recent, competitive)
    if verdict.state != "healthy":
        return verdict
    return HEALTHY if critic else _judge_winning(looks, sound, competitive)


def _judge_winning(
    looks: Sequence[LookRecord], sound: Sequence[LookRecord], competitive: Sequence[LookRecord]
) -> Verdict:
    """The verdict on a discriminator that may have learnt to tell all fakes from real images."""
    lost = looks[len(looks) - _count_last(looks, _is_lost) :]
    seen = [64 if look.images is None else look.images for look in lost]
    images = sum(seen)
    pairs = sum(count**2 if look.pairs is None else look.pairs for count, look in zip(seen, lost, strict=True))
    if len(lost) < _PATIENCE or images < _MIN_IMAGES or pairs < _MIN_PAIRS:
        return HEALTHY
    before = [look for look in sound if look.step < lost[0].step][-2 * _ENOUGH_BEFORE :]
    new = sum(look.separation < _COMPETITIVE for look in before) >= _ENOUGH_BEFORE
    usual = f", where it used to tell {_usual(_values(competitive, 'separation')):.0%}" if new else ""
    reason = f"the discriminator has told every real image from every fake for {len(lost)} looks{usual}"
    return Verdict("D winning", reason, collapsed=new)


_WORDS = {
    "separation": "the share of real and fake images that the discriminator tells apart",
    "gap": "the gap between the logits of real images and fakes",
    "pixel_spread": "the fakes' spread in pixels, as a share of the real images',",
    "feature_spread": "the fakes' spread in the discriminator's features, as a share of the real images',",
    "nearest": "the distance of a fake from the fake nearest to it, as a share of the real images',",
    "sigma": "the largest singular value of a layer",
    "gamma": "the largest gate of an attention layer",
    "average_distance": "the distance of the averaged weights from the generator's",
    "g_grad_norm": "the length of the generator's gradient",
    "d_grad_norm": "the length of the discriminator's gradient",
}
_TOO_MUCH = {  # times the usual value
    "gap": 30.0, "sigma": 10.0, "gamma": 10.0, "average_distance": 4.0, "g_grad_norm": 100.0, "d_grad_norm": 100.0,
}  # fmt: skip
_AT_LEAST = {  # up to this a value is never too large, as the usual one may be near 0
    "gap": 10.0, "gamma": 5.0, "average_distance": 0.7, "d_grad_norm": 10.0,
}  # fmt: skip
_TOO_LITTLE = {"pixel_spread": 0.5, "feature_spread": 0.5, "nearest": 0.4}  # times the usual value
_OF_THE_BEST = 0.8  # times these, of the best long median: in a slow collapse the usual value sinks, the best does not


def _compare(recent: Sequence[LookRecord], sound: Sequence[LookRecord], *, with_best: bool = True) -> Verdict:
    """The verdict on the last looks by comparison with sound ones before: with the usual value and, ``with_best``, with
    the usual value when it was best. Records of earlier versions lack some values, which are then not compared."""
    for name, times in _TOO_MUCH.items():
        now, known = _values(recent, name), _values(sound[-_BEFORE:], name)
        if len(now) < len(recent) or len(known) < _ENOUGH_BEFORE:
            continue
        least, usual = min(now), _usual(known)
        if least > max(times * usual, _AT_LEAST.get(name, 0.0)):
            return Verdict("diverged", f"{_WORDS[name]} is {least:.3g}, where {usual:.3g} was usual", True)
    for name, share in _TOO_LITTLE.items():
        now, known = _values(recent, name), _values(sound, name)
        if len(now) < len(recent) or len(known) < _ENOUGH_BEFORE:
            continue
        most, usual, best = max(now), _usual(known), _best(known) if with_best else 0.0
        for limit, value, what in ((share, usual, "was usual"), (share * _OF_THE_BEST, best, "was usual at its best")):
            if most < limit * value:
                return Verdict("diversity falling", f"{_WORDS[name]} is {most:.2f}, where {value:.2f} {what}", True)
    return HEALTHY


def _values(looks: Sequence[LookRecord], name: str) -> list[float]:
    """The absolute values of one quantity in the looks that have it."""
    values = (getattr(look, name) for look in looks)
    return [abs(value) for value in values if value is not None]


def _usual(values: Sequence[float]) -> float:
    return statistics.median(values[-_BEFORE:])


def _best(values: Sequence[float]) -> float:
    """The largest median of ``_LONG`` values in a row; 0 if there are fewer."""
    starts = range(0, len(values) - _LONG + 1, _LONG)
    return max((statistics.median(values[start : start + _LONG]) for start in starts), default=0.0)


def _is_lost(look: LookRecord) -> bool:
    return look.separation >= _LOST


def _is_uniform(look: LookRecord) -> bool:
    return look.pixel_spread < _UNIFORM


def _count_last(looks: Sequence[LookRecord], holds: Callable[[LookRecord], bool]) -> int:
    """The number of consecutive looks, up to the last, for which ``holds`` is true."""
    return next((count for count, look in enumerate(reversed(looks)) if not holds(look)), len(looks))


# ---- looks


class Seen(NamedTuple):
    """A batch for a look: real images and z, and the classes of both for conditional networks."""

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
    """Measures what the guard judges a run by, in one pass over batches of real and generated images; changes nothing.

    ``paired``: the loss compares within a class only, so logits of different classes cannot be compared. Returns:

    images: the number of real images, and of fakes.
    separation: the fraction of pairs of a real image and a fake (of the same class if the loss is paired) that the
        discriminator orders correctly, whatever the loss; pairs: the number of pairs.
    gap: mean logit of real images minus that of fakes.
    real_positive, fake_positive: the fractions of real images and of fakes with a logit above 0.
    pixel_spread, feature_spread: the standard deviation of the fakes over the batch, relative to that of the real
        images, in pixels and in the discriminator's last map. It is 0 for a generator that makes only one image.
    nearest: the mean distance in pixels of a fake from the nearest other fake, relative to that of the real images,
        for which identical images are skipped, as those of a small set are seen twice. It is near 0 for a generator
        that makes only a few images, or one for each of a few classes.
    sigma: the largest singular value that spectral norm finds in a layer.
    gamma: the largest absolute gate of an attention layer; 0 if there is none.
    average_distance: the distance of the EMA weights from the generator's, relative to the norm of the latter.

    Needs at least 2 images. Waits for the device once.
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
    """The fakes, and the discriminator's features and logits: of the real images, and of the fakes."""
    fakes: list[Tensor] = []
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    logits: tuple[list[Tensor], list[Tensor]] = ([], [])
    with _buffers_kept(generator):
        for batch in batches:  # of the same size as in training, as batch norm takes its statistics from it
            fakes.append(generator.forward(batch.z, batch.fake_labels))  # not compiled, as looks are rare
            for number, (images, labels) in enumerate(((batch.real, batch.labels), (fakes[-1], batch.fake_labels))):
                features[number].append(discriminator.features(images))
                logits[number].append(discriminator.judge(features[number][-1], labels))
    return torch.cat(fakes), [torch.cat(each) for each in features], [torch.cat(each) for each in logits]


def _spread(batch: Tensor) -> Tensor:
    """The square root of the variance over the batch, summed over everything else."""
    return batch.flatten(1).var(0).sum().sqrt()


def _separation(real: Tensor, fake: Tensor, batches: Sequence[Seen]) -> tuple[Tensor, Tensor]:
    """The fraction of pairs of logits that are in order, and the number of pairs: all of them, or those of the same
    class if ``batches`` has labels."""
    right = (real[:, None] - fake).sign() / 2 + 0.5
    alike = torch.ones_like(right, dtype=torch.bool)
    labels = [batch.labels for batch in batches if batch.labels is not None]
    if labels:
        fake_labels = [batch.fake_labels for batch in batches if batch.fake_labels is not None]
        alike = torch.cat(labels)[:, None] == torch.cat(fake_labels)
    return (right * alike).sum() / alike.sum(), alike.sum()


def _nearest(batch: Tensor, *, different: bool = False) -> Tensor:
    """The mean distance of an image from the nearest other; ``different``: from the nearest that is not identical."""
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
    """Restores the network's buffers: batch norm in training mode changes its statistics."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, kept in before:
            buffer.copy_(kept)
