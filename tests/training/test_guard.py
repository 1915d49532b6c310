import copy
import math

import pytest
import torch

from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import ModelConfig
from sagan.training.guard import HEALTHY, Diverged, FiniteWatch, Guard, Seen, all_finite, examine, judge
from tests import records

SMALL = ModelConfig(imsize=16, z_dim=8, g_conv_dim=8, d_conv_dim=8)
FRESH = {"separation": 1.0, "pixel_spread": 0.3, "feature_spread": 0.2, "gap": 4.0}


def looks(*parts):
    """Looks made of (count, changes) parts, 10 steps apart."""
    found = [changes for count, changes in parts for _ in range(count)]
    return [records.look(10 * number, **changes) for number, changes in enumerate(found, 1)]


def verdicts(seen, **kind):
    """What a guard says at each of these looks, one after the other."""
    guard = Guard(**kind)
    found = []
    for look in seen:
        guard.add(look)
        found.append(guard.verdict)
    return found


def test_a_steady_run_is_healthy():
    assert judge([]) == HEALTHY
    assert judge(looks((1, {}))) == HEALTHY
    assert judge(looks((100, {}))) == HEALTHY


def test_a_fresh_generator_is_no_collapse():
    verdict = judge(looks((30, FRESH)))
    assert verdict.state == "D winning"
    assert not verdict.collapsed
    assert judge(looks((30, FRESH), (20, {}))) == HEALTHY


def test_a_critic_that_wins_all_along_is_no_collapse():
    """As WGAN's does, and should."""
    assert not judge(looks((500, FRESH))).collapsed
    winning = [records.look(n, separation=0.98 if n % 25 == 0 else 1.0) for n in range(500)]
    assert not any(verdict.collapsed for verdict in verdicts(winning))
    begins_to_win = looks((30, {}), (50, {"separation": 1.0, "gap": 60.0}))
    assert {verdict.state for verdict in verdicts(begins_to_win, critic=True)} == {"healthy", "diverged"}
    assert all(verdict == HEALTHY for verdict in verdicts(looks((30, {}), (50, {"separation": 1.0})), critic=True))


@pytest.mark.parametrize("critic", [False, True])
@pytest.mark.parametrize(
    ("changes", "state"), [({"pixel_spread": 0.1}, "diversity falling"), ({"sigma": 20.0}, "diverged")]
)
def test_a_generator_that_never_deceives_may_collapse_too(critic, changes, state):
    seen = looks((30, FRESH | {"separation": 0.997}), (3, FRESH | {"separation": 0.997} | changes))
    found = verdicts(seen, critic=critic)
    assert not any(verdict.collapsed for verdict in found[:-1])
    assert (found[-1].state, found[-1].collapsed) == (state, True)
    assert not verdicts(seen[10:], critic=critic)[-1].collapsed  # its first looks are no measure


def test_a_critic_s_generator_may_collapse_early():
    for good in (8, 15, 22, 30):
        found = verdicts(looks((good, {}), (3, {"pixel_spread": 0.1})), critic=True)
        assert [verdict.collapsed for verdict in found[-2:]] == [False, True]


def test_getting_into_the_game_late_is_no_collapse():
    """Neither where no gradient was left, as hinge has it, nor where the fakes spread less than noise did."""
    for before, after in (({"d_grad_norm": 0.0}, {"d_grad_norm": 12.0}), ({}, {"feature_spread": 0.3})):
        outside = {"separation": 1.0, "feature_spread": 0.9} | before
        found = verdicts(looks((60, outside), (40, {"separation": 0.8} | after)))
        assert not any(verdict.collapsed for verdict in found)


def test_noise_that_settles_under_a_winning_discriminator_is_no_collapse():
    settling = [records.look(n, separation=1.0, nearest=1.4 - n / 300) for n in range(295)]
    assert not any(verdict.collapsed for verdict in verdicts(settling))


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_few_pairs_of_one_class_are_told_apart_by_chance(classes):
    """As below, where only images of one class are compared."""
    torch.manual_seed(0)
    seen = []
    for step in range(600):
        real, fake = torch.randn(64) + 2.05 * 2**0.5, torch.randn(64)
        labels = torch.randint(classes, (64,))
        alike = labels[:, None] == labels
        told = (real[:, None] > fake)[alike].float()
        seen.append(records.look(step, separation=told.mean().item(), pairs=len(told)))
    assert not any(verdict.collapsed for verdict in verdicts(seen))


@pytest.mark.parametrize("images", [4, 8, 16, 32])
def test_few_images_in_a_row_are_told_apart_by_chance(images):
    """A game that stands still, at a batch that is small: pairs are told apart with probability 0.98."""
    torch.manual_seed(0)
    real, fake = torch.randn(2000, images) + 2.05 * 2**0.5, torch.randn(2000, images)
    told = (real[:, :, None] > fake[:, None]).float().mean((1, 2)).tolist()
    seen = [records.look(n, images=images, pairs=images**2, separation=share) for n, share in enumerate(told)]
    assert not any(verdict.collapsed for verdict in verdicts(seen))


def test_a_gap_that_is_usually_near_nothing_may_be_much_more_at_times():
    torch.manual_seed(0)
    gaps = torch.randn(2000).tolist()
    balanced = [records.look(n, separation=0.5, gap=gap) for n, gap in enumerate(gaps)]
    assert all(verdict == HEALTHY for verdict in verdicts(balanced))


@pytest.mark.parametrize("before", [looks((30, {})), looks((30, FRESH), (10, {}))], ids=["steady", "after a start"])
@pytest.mark.parametrize(
    ("changes", "state", "word"),
    [
        ({"pixel_spread": 0.1}, "diversity falling", "a share of the real images', is 0.10, where 0.80"),
        ({"feature_spread": 0.4}, "diversity falling", "spread in the discriminator's features"),
        ({"separation": 1.0}, "D winning", "for 3 looks, where it used to tell 90%"),
        ({"gap": -50.0}, "diverged", "the gap between the logits"),
        ({"sigma": 20.0}, "diverged", "the largest singular value of a layer is 20, where 1.5 was usual"),
        ({"gamma": 6.0}, "diverged", "the largest gate of an attention layer is 6, where 0.2 was usual"),
        ({"average_distance": 0.8}, "diverged", "the averaged weights from the generator's is 0.8"),
        ({"g_grad_norm": 1e4}, "diverged", "the length of the generator's gradient"),
        ({"d_grad_norm": 1e4}, "diverged", "the length of the discriminator's gradient"),
        ({"nearest": 0.1}, "diversity falling", "from the fake nearest to it"),
    ],
)  # fmt: skip
def test_collapse_is_told_after_three_looks_and_not_before(before, changes, state, word):
    broken = [records.look(1000 + number, **changes) for number in range(4)]
    assert judge(before + broken[:1]) == HEALTHY
    assert judge(before + broken[:2]) == HEALTHY
    verdict = judge(before + broken[:3])
    assert (verdict.state, verdict.collapsed) == (state, True)
    assert word in verdict.reason
    assert judge(before + broken).collapsed


@pytest.mark.parametrize(
    "name",
    [
        *("separation", "gap", "pixel_spread", "feature_spread", "nearest", "sigma", "gamma"),
        *("average_distance", "g_grad_norm", "d_grad_norm"),
    ],
)
def test_a_value_that_is_no_number_is_told_at_once(name):
    verdict = judge(looks((1, {}), (1, {name: math.nan})))
    assert (verdict.state, verdict.collapsed) == ("diverged", True)


def test_a_generator_of_one_image_is_told_whatever_was_before():
    assert not judge(looks((2, {"pixel_spread": 0.0}))).collapsed
    assert judge(looks((3, {"pixel_spread": 0.0}))).reason == "the generator makes one image, whatever its z"


def test_a_generator_that_never_made_more_than_one_image_is_told_in_the_end():
    found = verdicts(looks((30, FRESH | {"pixel_spread": 0.02})))
    assert not any(verdict.collapsed for verdict in found[:19])
    assert all(verdict.collapsed for verdict in found[19:])
    guard = Guard()
    for look in looks((10, FRESH | {"pixel_spread": 0.02})):
        guard.add(look)
    assert not guard.proved_since(0)  # it is not known to be bad, but healthy it is not


def test_a_single_odd_look_is_let_pass():
    assert judge(looks((30, {}), (2, {"pixel_spread": 0.1, "gap": 90}), (1, {}))) == HEALTHY


def test_slow_change_is_healthy():
    drifting = [records.look(n, gap=1.01**n, separation=0.7 + n / 1500, sigma=1 + n / 20) for n in range(400)]
    assert all(verdict == HEALTHY for verdict in verdicts(drifting))


def test_collapse_is_not_forgotten():
    for changes in ({"pixel_spread": 0.1}, {"separation": 1.0}):
        found = verdicts(looks((60, {}), (300, changes)))
        assert all(verdict.collapsed for verdict in found[63:])
    assert verdicts(looks((60, {}), (100, {"pixel_spread": 0.1}), (3, {})))[-1] == HEALTHY  # it recovered


def test_slow_collapse_is_told():
    fading = [records.look(n, pixel_spread=0.8 * 0.99 ** max(0, n - 60)) for n in range(200)]
    found = verdicts(fading)
    first = next(n for n, verdict in enumerate(found) if verdict.collapsed)
    assert "0.80 was usual at its best" in found[first].reason
    assert fading[first].pixel_spread > 0.25


def test_a_guard_that_goes_on_judges_as_one_that_never_stopped():
    seen = looks((30, FRESH), (10, {}), (3, {"pixel_spread": 0.1}))
    straight = Guard()
    judged = [straight.add(look) for look in seen]
    resumed = Guard(judged[:20])
    assert [resumed.add(look) for look in seen[20:]] == judged[20:]
    assert judged[-1].verdict == "diversity falling"


def test_proof_asks_for_looks_enough_and_for_no_collapse():
    guard = Guard()
    for look in looks((30, {}), (3, {"pixel_spread": 0.1}), (4, {})):
        guard.add(look)
    assert guard.proved_since(340)  # looks at 350, 360 and 370
    assert not guard.proved_since(350)  # two are too few to notice collapse
    assert not guard.proved_since(310)
    assert guard.proved_since(290)  # what comes after its three looks does not matter
    assert not guard.proved_since(300)  # the third of those notices what began with the first
    assert guard.may_prove(360)
    assert not guard.may_prove(370)  # nobody has looked
    assert not guard.may_prove(310)
    assert not Guard().proved_since(0)
    winning = Guard()
    for look in looks((10, FRESH)):
        winning.add(look)
    assert winning.verdict.state == "D winning"
    assert winning.proved_since(0)  # which is no collapse
    small = Guard()
    for look in looks((11, {"images": 16, "pairs": 16**2})):
        small.add(look)
    assert not small.proved_since(0)  # a discriminator that wins is told by 192 images only
    small.add(records.look(120, images=16, pairs=16**2))
    assert small.proved_since(0)


def test_looks_of_an_earlier_version_are_judged_by_what_they_have():
    lacking = {"nearest": None, "d_grad_norm": None, "images": None, "pairs": None}
    old = looks((30, lacking))
    assert verdicts([*old, *looks((3, {"pixel_spread": 0.1}))])[-1].collapsed
    soon = verdicts([*old, *looks((8, {}), (3, {"nearest": 0.1}))])
    assert soon[-1].state == "diversity falling"
    assert verdicts([*old, *looks((3, {"nearest": 0.1}))])[-1] == HEALTHY  # nobody knows what was usual


def test_a_verdict_says_when_what_it_rests_on_began():
    for changes in ({"pixel_spread": 0.1}, {"separation": 1.0}):
        guard = Guard()
        for look in looks((30, {}), (3, changes)):
            guard.add(look)
        assert guard.verdict.collapsed
        assert guard.began() == 310


def test_one_that_rests_on_many_looks_began_with_the_first_of_them():
    guard = Guard()
    for look in looks((5, FRESH), (20, FRESH | {"pixel_spread": 0.02})):
        guard.add(look)
    assert guard.verdict.collapsed
    assert guard.began() == 60


class Pair:
    def __init__(self):
        self.generator, self.discriminator = build_generator(SMALL), build_discriminator(SMALL)
        self.average = copy.deepcopy(self.generator)
        torch.manual_seed(0)
        self.real, self.z = torch.rand(32, 3, 16, 16) * 2 - 1, torch.randn(32, 8)

    def examine(self):
        return examine(self.generator, self.discriminator, self.average, [Seen(self.real, self.z)])


def test_a_look_changes_nothing():
    pair = Pair()
    before = copy.deepcopy([net.state_dict() for net in (pair.generator, pair.discriminator)])
    assert pair.examine() == pair.examine()
    after = [net.state_dict() for net in (pair.generator, pair.discriminator)]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_what_a_look_finds_by_hand():
    pair = Pair()
    with torch.no_grad():
        pair.average.last.bias += 1.0
        fake = copy.deepcopy(pair.generator)(pair.z)
        logits = [pair.discriminator(images) for images in (pair.real, fake)]
    found = pair.examine()
    pairs = [float(r > f) for r in logits[0] for f in logits[1]]
    assert found["separation"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-4)
    assert found["gap"] == pytest.approx((logits[0].mean() - logits[1].mean()).item(), abs=1e-4)
    assert found["pixel_spread"] == pytest.approx((fake.var(0).sum() / pair.real.var(0).sum()).sqrt().item(), rel=1e-4)
    length = torch.cat([p.flatten() for p in pair.generator.parameters()]).norm().item()
    assert found["average_distance"] == pytest.approx(3**0.5 / length, rel=1e-3)
    assert found["sigma"] > 0
    assert found["images"] == 32
    assert found["gamma"] == 0
    assert found["real_positive"] == pytest.approx((logits[0] > 0).float().mean().item())
    assert found["fake_positive"] == pytest.approx((logits[1] > 0).float().mean().item())
    apart = [
        [min((a - each[other]).norm().item() for other in range(32) if other != own) for own, a in enumerate(each)]
        for each in (fake, pair.real)
    ]
    assert found["nearest"] == pytest.approx(sum(apart[0]) / sum(apart[1]), rel=1e-3)


def test_a_look_at_several_batches_sees_what_each_would_show():
    pair = Pair()
    halves = [Seen(pair.real[:16], pair.z[:16]), Seen(pair.real[16:], pair.z[16:])]
    found = examine(pair.generator, pair.discriminator, pair.average, halves)
    fake = torch.cat([copy.deepcopy(pair.generator)(half.z) for half in halves])  # batch norm by each half
    assert found["images"] == 32
    assert found["pixel_spread"] == pytest.approx((fake.var(0).sum() / pair.real.var(0).sum()).sqrt().item(), rel=1e-4)


def test_of_a_paired_loss_only_logits_of_one_class_are_compared():
    model = ModelConfig(network="resnet", num_classes=3, imsize=16, z_dim=8, g_conv_dim=4, d_conv_dim=4)
    generator, discriminator = build_generator(model), build_discriminator(model)
    torch.manual_seed(0)
    labels, fake_labels = torch.arange(24) % 3, torch.arange(24).flip(0) % 3
    seen = [Seen(torch.rand(24, 3, 16, 16) * 2 - 1, torch.randn(24, 8), labels, fake_labels)]
    with torch.no_grad():
        fake = copy.deepcopy(generator)(seen[0].z, fake_labels)
        logits = discriminator(seen[0].real, labels), discriminator(fake, fake_labels)
    networks = generator, discriminator, copy.deepcopy(generator)
    for paired in (False, True):
        pairs = [
            float(logits[0][i] > logits[1][j])
            for i in range(24)
            for j in range(24)
            if not paired or labels[i] == fake_labels[j]
        ]
        found = examine(*networks, seen, paired=paired)["separation"]
        assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-4)


def test_a_real_image_that_is_seen_twice_is_not_near_itself():
    pair = Pair()
    once = pair.examine()["nearest"]
    twice = examine(pair.generator, pair.discriminator, pair.average, [Seen(pair.real, pair.z)] * 2)
    pair.real = torch.cat([pair.real[:16], pair.real[:16]])
    assert pair.examine()["nearest"] == pytest.approx(once, rel=0.1)
    assert twice["nearest"] == 0  # its fakes were the same


def test_a_generator_of_three_images_is_far_from_none_but_near_itself():
    pair = Pair()
    pair.z = pair.z[:3].repeat(11, 1)[:32]
    found = pair.examine()
    assert found["nearest"] == pytest.approx(0, abs=1e-3)


def test_a_generator_of_one_image_has_no_spread():
    pair = Pair()
    pair.z = pair.z[:1].expand(32, -1)
    found = pair.examine()
    assert found["pixel_spread"] == pytest.approx(0, abs=1e-3)
    assert found["feature_spread"] == pytest.approx(0, abs=1e-3)


def test_real_images_that_are_all_alike_make_no_infinite_spread():
    pair = Pair()
    pair.real = pair.real[:1].expand(32, -1, -1, -1)
    assert math.isfinite(pair.examine()["pixel_spread"])


def test_a_loss_that_is_no_number_is_named_with_its_step():
    watch = FiniteWatch({})
    watch.add(7, {"d_loss": torch.tensor(1.0), "g_loss": torch.tensor(2.0)})
    watch.check()
    watch.add(8, {"d_loss": torch.tensor(1.0), "g_loss": torch.tensor(math.inf)})
    watch.add(9, {"d_loss": torch.tensor(math.nan), "g_loss": torch.tensor(math.nan)})
    with pytest.raises(Diverged, match="g_loss is inf at step 8") as trouble:
        watch.check()
    assert trouble.value.step == 8
    assert trouble.value.verdict.collapsed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_weight_among_many_is_found(bad):
    network = build_generator(SMALL)
    assert all_finite(network)
    network.last.weight.data[0, 0, 0, 0] = bad
    assert not all_finite(network)
