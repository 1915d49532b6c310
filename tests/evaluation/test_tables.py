import pytest

from sagan.evaluation.tables import compare
from sagan.run.config import Config
from sagan.run.folder import Run
from tests import records


def comparison_table(one, other, metric):
    """The first table."""
    return compare(one, other, metric).tables[""]


@pytest.fixture
def runs(tmp_path):
    return [Run.create(tmp_path / name, Config()) for name in ("one", "other")]


def test_each_step_of_either_run_is_a_row(runs):
    one, other = runs
    one.append(records.score(100, 9.0), records.score(200, 8.0))
    other.append(records.score(200, 7.0, seed=3), records.score(300, 6.5, seed=3))
    assert comparison_table(one, other, "frechet") == [
        ["FID, at step", str(one.folder), str(other.folder)],
        ["100", "9.0000", "not scored"],
        ["200", "8.0000", "7.0000"],
        ["300", "not scored", "6.5000"],
    ]


def test_of_each_run_the_largest_group_of_like_scores_is_compared(runs):
    for run in runs:
        run.append(records.score(100, 9.0), records.score(200, 8.0), records.score(200, 5.0, samples=500))
    assert [row[1:] for row in comparison_table(*runs, "frechet")[1:]] == [["9.0000"] * 2, ["8.0000"] * 2]


def test_unlike_cards_and_a_metric_without_scores_are_refused(runs):
    one, other = runs
    one.append(records.score(100, 9.0))
    other.append(records.score(100, 9.0, samples=500))
    with pytest.raises(ValueError, match="cannot be compared, their cards differ in samples: 100 and 500"):
        comparison_table(one, other, "frechet")
    with pytest.raises(ValueError, match="has no score 'kernel' .it has: frechet."):
        comparison_table(one, other, "kernel")


def test_scores_that_only_one_run_has_are_named_beside_the_comparison(runs):
    one, other = runs
    one.append(records.score(100, 9.0), records.score(200, 8.0), records.score(300, 7.0))
    other.append(records.score(100, 6.0, samples=500), records.score(200, 5.0, samples=500))
    other.append(records.score(200, 4.0))
    assert comparison_table(one, other, "frechet")[2:] == [
        ["200", "8.0000", "4.0000"],
        ["300", "7.0000", "not scored"],
    ]
    (sentence,) = compare(one, other, "frechet").left_out
    assert f"only {other.folder} has such: 2 scores with samples 500, not" in sentence


def test_every_pair_of_like_groups_is_compared(runs):
    for run in runs:
        run.append(records.score(100, 9.0), records.score(200, 8.0), records.score(200, 5.0, samples=500))
    first, second = compare(*runs, "frechet").tables.items()
    assert (first[0], len(first[1]), len(second[1])) == ("", 3, 2)
    assert second[0].startswith("scores with samples 500, not")


def test_a_table_and_its_title_are_one_whatever_is_left_out(runs):
    one, _ = runs
    for run in runs:
        run.append(records.score(100, 9.0), records.score(200, 8.0), records.score(200, 5.0, samples=500))
    one.append(records.score(300, 7.0, samples=60))
    found = compare(*runs, "frechet")
    titles = list(found.tables)
    assert titles[0] == ""
    assert titles[1].startswith("scores with samples 500, not")
    assert [row[0] for row in found.tables[titles[1]][1:]] == ["200"]
    (sentence,) = found.left_out
    assert f"only {one.folder} has such: 1 score with samples 60, not" in sentence
