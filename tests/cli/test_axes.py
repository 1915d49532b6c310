"""Words become values, several for one flag."""

import pytest

from sagan.cli.axes import read_values


def values(line):
    return read_values(line.split())[0]


@pytest.mark.parametrize("line", ["--span 0 1 self", "--span=0 1 self", "--span 0 --span 1 self"])
def test_numbers_and_words_take_several_values(line):
    assert values(line) == {"span": [0, 1, "self"]}


def test_the_words_of_a_setting_of_several_values_belong_together():
    assert values("--g_attention 8 16 --g_attention none --g-attention 16,32") == {
        "g_attention": [(8, 16), (), (16, 32)]
    }
    assert values("--g_span 1 2 --g_span 3") == {"g_span": [(1, 2), (3,)]}
    assert values("--augment color flip") == {"augment": [("color", "flip")]}


def test_each_value_is_of_its_setting_s_type():
    found = values("--g_lr 1e-4 2e-4 --total_step 1e3 --flip --r1 auto 0.5 --data none a.zip --max_grad_norm none 1")
    assert found == {
        "g_lr": [1e-4, 2e-4],
        "total_step": [1000],
        "flip": [True],
        "r1": ["auto", 0.5],
        "data": [None, "a.zip"],
        "max_grad_norm": [None, 1.0],
    }
    assert values("--flip true false") == {"flip": [True, False]}


def test_other_words_are_left_as_they_are_and_in_their_order():
    given, left_out, rest = read_values(["stray", "--jobs", "2", "--span", "1", "2", "--no_such", "3", "--dry_run"])
    assert given == {"span": [1, 2]}
    assert not left_out
    assert rest == ["stray", "--jobs", "2", "--no_such", "3", "--dry_run"]


def test_what_is_left_out_is_read_as_the_settings_are():
    left_out = read_values(["--leave_out", "span=0", "masking=before", "--leave_out", "g_attention=8,16"])[1]
    assert left_out == [{"span": 0, "masking": "before"}, {"g_attention": (8, 16)}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--span 0 one", "--span must be a whole number or self, got 'one'"),
        ("--span", "--span needs a value"),
        ("--masking after sideways", "--masking must be after or before, got 'sideways'"),
        ("--leave_out", "--leave_out must be such as span=0 masking=before"),
        ("--leave_out span", "--leave_out must be such as span=0 masking=before, got 'span'"),
        ("--leave_out spam=0", "there is no flag --spam: did you mean --span?"),
        ("--leave_out span=none", "--span must be"),
        ("--leave_out masking=before,after", "--leave_out takes one value of --masking, got before and after"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(line, said):
    with pytest.raises(ValueError, match="^" + said.replace("?", r"\?")):
        read_values(line.split())
