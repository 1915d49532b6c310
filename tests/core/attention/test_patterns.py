import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan.core.attention.patterns import ExcludeLocal, Full, Local, PatternCache


def distance_to_keys(height: int, width: int, pool: int) -> torch.Tensor:
    """Chebyshev distance from every query to the nearest pixel of every key's cell, by loops: (queries, keys)."""
    rows = []
    for y in range(height):
        for x in range(width):
            row = []
            for top in range(0, height, pool):
                for left in range(0, width, pool):
                    row.append(min(max(abs(y - top - i), abs(x - left - j)) for i in range(pool) for j in range(pool)))
            rows.append(row)
    return torch.tensor(rows)


def brute_mask(pattern) -> torch.Tensor:
    distance = distance_to_keys(pattern.height, pattern.width, pattern.pool)
    if isinstance(pattern, Local):
        return distance <= pattern.radius
    if isinstance(pattern, Full) or pattern.span == 0:
        return torch.ones_like(distance, dtype=torch.bool)
    return distance > (0 if pattern.span == "self" else pattern.span)


@st.composite
def patterns(draw):
    pool = draw(st.integers(1, 3))
    height, width = (pool * draw(st.integers(1, 8 // pool)) for _ in range(2))
    span = draw(st.one_of(st.just("self"), st.integers(0, 9)))
    masking = draw(st.sampled_from(["after", "before"]))
    radius = draw(st.integers(0, 9))
    kinds = [
        Full(height, width, pool),
        ExcludeLocal(height, width, span, masking, pool),
        Local(height, width, radius, pool),
    ]
    return draw(st.sampled_from(kinds))


@settings(max_examples=150, deadline=None)
@given(patterns(), st.data())
def test_everything_a_pattern_says_agrees_with_its_definition(pattern, data):
    start = data.draw(st.integers(0, pattern.queries))
    check_against_definition(pattern, start, data.draw(st.integers(start, pattern.queries)))


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
@pytest.mark.parametrize("span", [*range(7), "self"])
def test_squares_that_cut_cells_hide_the_whole_cell(span, pool):
    check_against_definition(ExcludeLocal(12, 24, span, pool=pool), 20, 150)


def check_against_definition(pattern, start, stop):
    expected = brute_mask(pattern)
    assert expected.shape == (pattern.queries, pattern.keys)
    assert torch.equal(pattern.mask(), expected)
    visible = pattern.visible_keys()
    assert visible.dtype == torch.int64
    assert torch.equal(visible, expected.sum(1))
    assert pattern.visible_share() == pytest.approx(expected.double().mean().item())
    assert pattern.rows_without_keys() == int((~expected.any(1)).sum())

    assert torch.equal(pattern.mask(start, stop), expected[start:stop])
    assert torch.equal(pattern.hidden_indices(start, stop), (~expected[start:stop]).flatten().nonzero().flatten())
    if start < stop:
        first, last = pattern.key_range(start, stop)
        assert not expected[start:stop, :first].any()
        assert not expected[start:stop, last:].any()


def test_a_few_rows_of_a_huge_map_cost_a_few_rows():
    pattern = ExcludeLocal(1024, 1024, 3)  # the whole mask would be a terabyte
    middle = 512 * 1024 + 512
    assert (~pattern.mask(middle, middle + 2)).sum(1).tolist() == [49, 49]
    assert len(pattern.hidden_indices(middle, middle + 100)) == 4900
    assert pattern.visible_keys()[[0, middle]].tolist() == [2**20 - 16, 2**20 - 49]
    assert Local(1024, 1024, 3).key_range(middle, middle + 1) == (509 * 1024, 516 * 1024)


@pytest.mark.parametrize(
    ("pattern", "empty"),
    [
        (ExcludeLocal(4, 4, 3), 16),
        (ExcludeLocal(4, 4, 2, "before"), 4),
        (ExcludeLocal(8, 8, 4), 4),
        (ExcludeLocal(8, 8, 3), 0),
        (ExcludeLocal(1, 1, "self"), 1),
        (ExcludeLocal(1, 1, 0), 0),
        (Full(4, 4), 0),
        (Local(4, 4, 0), 0),
    ],
)
def test_rows_without_keys(pattern, empty):
    assert pattern.rows_without_keys() == empty


def test_span_0_hides_nothing_and_self_hides_one_key_of_each_query():
    assert ExcludeLocal(4, 6, 0).mask().all()
    assert torch.equal(~ExcludeLocal(4, 6, "self").mask(), torch.eye(24, dtype=torch.bool))
    assert torch.equal(Local(4, 6, 2).mask(), ~ExcludeLocal(4, 6, 2).mask())


@pytest.mark.parametrize(
    ("pattern", "label"),
    [
        (Full(8, 8), "full"),
        (Full(8, 8, pool=2), "full pool 2"),
        (ExcludeLocal(8, 8, 3), "span 3"),
        (ExcludeLocal(8, 8, 3, "before"), "span 3 before"),
        (ExcludeLocal(8, 8, 3, "before", pool=2), "span 3 before pool 2"),
        (ExcludeLocal(8, 8, 0, "before"), "span 0"),
        (ExcludeLocal(8, 8, "self"), "span self"),
        (Local(8, 8, 2), "local 2"),
    ],
)
def test_label(pattern, label):
    assert pattern.label == label


def test_patterns_are_values():
    assert ExcludeLocal(8, 8, 3) == ExcludeLocal(8, 8, 3)
    assert len({ExcludeLocal(8, 8, 3), ExcludeLocal(8, 8, 3), ExcludeLocal(8, 8, 3, "before"), Full(8, 8)}) == 3
    assert Full(8, 8).masking == Local(8, 8, 1).masking == "before"
    assert ExcludeLocal(8, 8, 3).masking == "after"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExcludeLocal(8, 8, -1), r"span must be 0 or more, got -1 \(0 is full attention"),
        (lambda: ExcludeLocal(8, 8, 10**30), "span must be at most 2147483647, got 1000"),
        (lambda: Local(8, 8, 10**5000), "radius must be at most 2147483647"),
        (lambda: ExcludeLocal(8, 8, 1.5), "span must be a whole number, 0 or more, got 1.5"),
        (lambda: ExcludeLocal(8, 8, True), "span must be a whole number"),
        (lambda: ExcludeLocal(8, 8, "none"), "span must be a whole number, 0 or more, got 'none'"),
        (lambda: ExcludeLocal(8, 8, 1, "during"), 'masking must be "after" or "before" the softmax, got \'during\''),
        (lambda: ExcludeLocal(8, 6, 1, pool=4), "width must be divisible by pool, got width 6, pool 4"),
        (lambda: Full(0, 8), "height must be 1 or more, got 0"),
        (lambda: Full(8, 8, pool=0), "pool must be 1 or more, got 0"),
        (lambda: Local(8, 8, -2), "radius must be 0 or more, got -2"),
        (lambda: Full(4, 4).mask(3, 17), "query rows must lie in 0 to 16, got 3 to 17"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_cache_keeps_what_fits_and_drops_the_least_recently_used():
    built = []

    def get(cache, key, size):
        return cache.get(key, lambda: built.append(key) or (torch.empty(size, dtype=torch.uint8),))

    cache = PatternCache(limit=4000)
    for key in ("a", "b", "a", "c", "a", "b"):
        get(cache, key, 1000)
    assert built == ["a", "b", "c", "b"]
    assert cache.size <= cache.limit
    get(cache, "huge", 5000)
    get(cache, "huge", 5000)
    get(cache, "a", 1000)
    assert built == ["a", "b", "c", "b", "huge", "huge"]
