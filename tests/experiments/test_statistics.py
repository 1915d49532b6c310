import itertools
import math
import statistics as standard

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan.experiments.statistics import (
    Comparison,
    censored_median,
    compare,
    first_reached,
    holm,
    mean,
    sign_flip_interval,
    sign_flip_p,
    smallest_sign_flip_p,
    spread,
    t_interval,
    t_probability,
    t_quantile,
)

few = settings(max_examples=25, deadline=None)
SAMPLES = st.lists(st.integers(-1000, 1000).map(lambda number: number / 8), min_size=2, max_size=9)


# ---- Student's


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 8, 13, 30, 99])
def test_students_distribution_is_scipys(df):
    for t in (0.0, 0.1, 0.9, 2.5, 8.86, 60.0):
        assert t_probability(t, df) == pytest.approx(scipy.stats.t.cdf(t, df) - scipy.stats.t.cdf(-t, df), abs=1e-13)
    for level in (0.0, 0.5, 0.95, 0.9875, 0.999):
        assert t_quantile(level, df) == pytest.approx(scipy.stats.t.ppf((1 + level) / 2, df), rel=1e-9)


def test_quantiles_of_the_printed_tables():
    assert t_quantile(0.95, 1) == pytest.approx(12.706, abs=5e-4)
    assert t_quantile(0.95, 2) == pytest.approx(4.303, abs=5e-4)


def test_the_t_interval_by_hand_and_by_scipy():
    interval = t_interval([1.0, 2.0, 6.0])
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)  # the mean is 3, the squared deviations 4, 1 and 9
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    values = [0.3, -1.2, 4.0, 2.2, 2.3]
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (t_interval(values, 0.9).low, t_interval(values, 0.9).high) == pytest.approx(tuple(theirs), rel=1e-9)


def test_one_value_has_no_interval_and_no_spread():
    assert mean([3.0]) == 3.0
    assert spread([3.0]) is t_interval([3.0]) is None


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan], [math.inf]])
def test_what_is_no_sample_is_refused(values):
    with pytest.raises(ValueError, match="statistics need"):
        mean(values)


# ---- signs


def all_flips(values):
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    return sum(each >= abs(sum(values)) - 1e-9 for each in sums) / len(sums)


def test_three_seeds_cannot_give_a_small_p():
    assert sign_flip_p([5.0, 5.1, 4.9]) == smallest_sign_flip_p(3) == 0.25
    assert sign_flip_p([1.0, -1.0, 0.5]) == 1.0


@few
@given(SAMPLES)
def test_sign_flips_are_all_tried(values):
    assert sign_flip_p(values) == pytest.approx(all_flips(values))


def test_sign_flips_are_scipys():
    values = np.array([0.3, 1.2, -0.4, 2.2, 1.3, 0.9])
    theirs = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue)


def test_many_values_are_flipped_at_random_and_the_real_signs_count():
    draw = np.random.default_rng(0)
    values = draw.normal(0.3, 1, 20)
    assert sign_flip_p(values) == pytest.approx(float(scipy.stats.ttest_1samp(values, 0).pvalue), abs=0.02)
    assert sign_flip_p(np.ones(20)) == smallest_sign_flip_p(20) > 0


@pytest.mark.parametrize(("count", "level"), [(5, 0.95), (7, 0.9875)])
def test_too_few_seeds_have_no_interval_by_signs(count, level):
    assert sign_flip_interval(list(range(count)), level) is None
    assert sign_flip_interval(list(range(count + 1)), level) is not None


def test_the_interval_of_six_seeds_is_from_the_smallest_to_the_largest():
    interval = sign_flip_interval([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
    assert (interval.low, interval.high, interval.level) == (1.0, 9.0, 1 - 2 / 64)


@few
@given(
    st.lists(st.integers(-400, 400).map(lambda number: number / 4), min_size=6, max_size=9),
    st.sampled_from([0.8, 0.95]),
)
def test_the_interval_holds_what_the_test_does_not_reject(values, level):
    interval = sign_flip_interval(values, level)
    for shift in (interval.low - 0.01, interval.high + 0.01):
        assert sign_flip_p(np.array(values) - shift) <= 1 - level + 1e-9
    inside = (interval.low + interval.high) / 2
    if interval.low < inside < interval.high:
        assert (
            sign_flip_p(np.array(values) - (interval.low + 1e-7 * (interval.high - interval.low))) > 1 - interval.level
        )


# ---- all of them


INTERVALS = [t_interval, lambda values: sign_flip_interval(values, 0.5)]


@pytest.mark.parametrize("interval", INTERVALS)
@few
@given(values=SAMPLES, shift=st.integers(-50, 50), times=st.integers(1, 9))
def test_intervals_turn_shift_and_grow_with_the_values(interval, values, shift, times):
    found = interval(values)
    turned = interval([-value for value in values])
    moved = interval([times * value + shift for value in values])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    assert (moved.low, moved.high) == pytest.approx((times * found.low + shift, times * found.high + shift), abs=1e-6)
    assert found.low - 1e-9 <= mean(values) <= found.high + 1e-9


def test_intervals_hold_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(0)
    normal = [t_interval(each) for each in draws.normal(5, 2, (1000, 3))]
    assert 0.93 <= np.mean([not each.excludes(5) for each in normal]) <= 0.97
    skewed = draws.exponential(1, (400, 2, 6))  # differences of anything exchangeable are symmetric
    flipped = [sign_flip_interval(one - other) for one, other in skewed]
    assert np.mean([not each.excludes(0) for each in flipped]) == pytest.approx(1 - 2 / 64, abs=0.025)


# ---- arms


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_none_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, its in zip(p_values, adjusted, strict=True):
        assert p <= its <= min(1, len(p_values) * p) + 1e-12
    assert sorted(range(len(p_values)), key=lambda i: (p_values[i], adjusted[i])) == sorted(
        range(len(p_values)), key=lambda i: (adjusted[i], p_values[i])
    )


def test_only_common_seeds_are_compared_and_by_pairs():
    (found,) = compare([{0: 12.0, 1: 23.0, 2: 31.0, 7: 99.0}], {0: 10.0, 1: 20.0, 2: 30.0, 5: 0.0})
    assert found.seeds == (0, 1, 2)
    assert found.difference == 2.0
    assert found.interval == t_interval([2.0, 3.0, 1.0])
    assert found.p == found.smallest_p == 0.25


def test_more_arms_make_wider_intervals():
    arm, base = {0: 1.0, 1: 2.5, 2: 2.0}, {0: 0.0, 1: 0.0, 2: 0.0}
    widths = []
    for arms in (1, 2, 4):
        found = compare([arm] * arms, base)
        widths.append(found[0].interval.high - found[0].interval.low)
        assert found[0].interval.level == pytest.approx(1 - 0.05 / arms)
    assert widths == sorted(widths)
    assert widths[0] < widths[1]


def test_many_seeds_need_no_normal_differences():
    arm, base = {seed: seed**2 / 7 for seed in range(8)}, dict.fromkeys(range(8), 0.0)
    assert compare([arm] * 4, base)[0].interval.method == "sign flips"
    assert compare([arm] * 7, base)[0].interval.method == "t"


def test_what_cannot_be_compared():
    nothing, one = compare([{3: 1.0}, {0: 1.0}], {0: 2.0})
    assert nothing == Comparison()
    assert not nothing.shown
    assert (one.difference, one.interval, one.shown) == (-1.0, None, False)


def test_swapping_arm_and_baseline_swaps_the_sign():
    one, other = {0: 3.0, 1: 4.5, 2: 5.1}, {0: 2.0, 1: 1.5, 2: 2.2}
    (there,), (back,) = compare([one], other), compare([other], one)
    assert there.difference == -back.difference
    assert (there.interval.low, there.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))
    assert (there.p, there.shown) == (back.p, back.shown)


def test_of_arms_without_an_effect_few_families_find_one():
    draws = np.random.default_rng(3).normal(30, 3, (400, 5, 3))
    wrong = 0
    for base, *arms in draws:
        found = compare([dict(enumerate(arm)) for arm in arms], dict(enumerate(base)))
        wrong += any(each.shown for each in found)
    assert wrong / len(draws) <= 0.075  # 5% and three standard errors


# ---- times


def test_the_first_step_at_the_threshold():
    scores = {30: 29.0, 10: 50.0, 20: 31.0, 40: 20.0}
    assert first_reached(scores, 30) == 30
    assert first_reached(scores, 20) == 40
    assert first_reached(scores, 19) is None
    assert first_reached(scores, 50, lower=False) == 10


def test_without_censoring_the_median_is_that_of_the_times():
    for times in ([3.0], [5.0, 1.0, 9.0], [2.0, 2.0, 8.0, 4.0, 7.0]):
        assert censored_median(times, [True] * len(times)) == standard.median_low(times)


def test_a_median_that_was_not_reached_is_none():
    assert censored_median([100, 100, 60], [False, False, True]) is None
    assert censored_median([100, 80, 60], [False, True, True]) == 80
    assert censored_median([50, 80, 60], [False, True, True]) == 60, "watched to 50 only: two are left, one gets there"
    assert censored_median([], []) is None


@few
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8))
def test_the_median_is_that_of_scipys_survival_function(cases):
    times, reached = [time for time, _ in cases], [event for _, event in cases]
    data = scipy.stats.CensoredData.right_censored(times, [not event for event in reached])
    left = scipy.stats.ecdf(data).sf
    halved = [time for time, share in zip(left.quantiles, left.probabilities, strict=True) if share <= 0.5 + 1e-12]
    assert censored_median(times, reached) == (halved[0] if halved else None)
