"""Plain values become dataclasses by their hints, or one sentence says what is wrong with them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from sagan.system.errors import UserError
from sagan.system.typed import AnyFloat, check_format, from_plain, parse_json, read_json, shorten, to_plain


@dataclass(frozen=True)
class Inner:
    size: int
    note: str | None = None

    def __post_init__(self):
        if self.size < 0:
            raise UserError(f"size must be 0 or more, got {self.size}")


@dataclass(frozen=True)
class Outer:
    count: int = 1
    share: float = 0.5
    found: AnyFloat = 0.0
    flag: bool = False
    name: str = "a"
    mode: Literal["after", "before"] = "after"
    radius: int | Literal["self"] = 0
    limit: float | None = None
    sizes: tuple[int, ...] = ()
    weights: Mapping[str, float] | None = None
    inner: Inner = Inner(1)
    other: Inner | None = None


FULL = Outer(
    count=-3, share=-1e300, found=math.inf, flag=True, name="ü", mode="before", radius="self", limit=0.25,
    sizes=(8, 16), weights={"g": 1.0, "d": 0.5}, inner=Inner(2, "n"), other=Inner(0),
)  # fmt: skip


def read(**values):
    return from_plain(Outer, values, "the file")


@pytest.mark.parametrize("value", [Outer(), FULL])
def test_what_was_written_comes_back(value):
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value))), "the file") == value


def test_what_is_none_by_default_is_not_written():
    assert {"limit", "weights", "other"} & to_plain(Outer()).keys() == set()
    assert to_plain(Inner(1)) == {"size": 1}


@pytest.mark.parametrize(
    ("name", "plain", "value"),
    [
        ("count", 2**63 - 1, 2**63 - 1),
        ("share", 3, 3),
        ("found", 3, 3.0),
        ("found", -math.inf, -math.inf),
        ("radius", 4, 4),
        ("limit", 2, 2),
        ("limit", None, None),
        ("sizes", [], ()),
        ("sizes", [8, 4], (8, 4)),
        ("weights", {}, {}),
        ("other", None, None),
        ("other", {"size": 3}, Inner(3)),
    ],
)
def test_what_suits_a_hint_is_taken(name, plain, value):
    assert read(**{name: plain}) == replace(Outer(), **{name: value})


def test_a_number_that_may_be_anything_may_be_nan():
    assert math.isnan(read(found=math.nan).found)
    assert math.isnan(json.loads(json.dumps(to_plain(read(found=math.nan))))["found"])


WHOLE, NUMBER, BELOW = "must be a whole number, got", "must be a number, got", "must be below 2"


@pytest.mark.parametrize(
    ("name", "plain", "said"),
    [
        ("count", 1.0, f"{WHOLE} 1.0"),
        ("count", True, f"{WHOLE} True"),
        ("count", "1", f"{WHOLE} '1'"),
        ("count", None, f"{WHOLE} None"),
        ("count", [1], f"{WHOLE} [1]"),
        ("count", 2**63, BELOW),
        ("count", -(2**63), BELOW),
        pytest.param("count", 10**400, BELOW, id="400 digits"),
        pytest.param("count", 10**5000, BELOW, id="more digits than Python prints"),
        ("share", "0.5", f"{NUMBER} '0.5'"),
        ("share", False, f"{NUMBER} False"),
        ("share", None, f"{NUMBER} None"),
        ("share", math.nan, "must be finite, got nan"),
        ("share", -math.inf, "must be finite, got -inf"),
        pytest.param("share", 10**400, BELOW, id="400 digits for a float"),
        ("found", "nan", f"{NUMBER} 'nan'"),
        ("found", True, f"{NUMBER} True"),
        pytest.param("found", 10**400, BELOW, id="400 digits for any float"),
        ("flag", 1, "must be true or false, got 1"),
        ("flag", None, "must be true or false, got None"),
        ("name", 1, "must be text, got 1"),
        ("name", ["a"], "must be text, got ['a']"),
        ("mode", "aft", "must be after or before, got 'aft'"),
        ("mode", {}, "must be after or before, got {}"),
        ("radius", "other", "must be a whole number or self, got 'other'"),
        ("radius", 1.5, "must be a whole number or self, got 1.5"),
        ("radius", None, "must be a whole number or self, got None"),
        ("limit", "no", f"{NUMBER} 'no'"),
        ("limit", math.inf, "must be finite, got inf"),
        ("sizes", 8, "must be whole numbers, or none, got 8"),
        ("sizes", [8, "4"], f"{WHOLE} '4'"),
        ("sizes", None, "must be whole numbers, or none, got None"),
        ("weights", [1.0], "must be a JSON object, got [1.0]"),
        ("inner", None, "must be a JSON object, got None"),
    ],
)  # fmt: skip
def test_what_does_not_suit_a_hint_is_one_sentence(name, plain, said):
    with pytest.raises(UserError) as error:
        read(**{name: plain})
    assert str(error.value).startswith(f"the file{'' if name != 'inner' else ', inner,'} is damaged: ")
    assert said in str(error.value)
    assert name in str(error.value)
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"weights": {"g": "x"}}, "the file is damaged: weights['g'] must be a number, got 'x'"),
        ({"inner": {"size": "x"}}, "the file, inner, is damaged: size must be a whole number, got 'x'"),
        ({"inner": {}}, "the file, inner, is damaged: size missing"),
        ({"inner": {"size": -1}}, "the file, inner, is damaged: size must be 0 or more, got -1"),
        ({"other": {"size": 1, "b": 1}}, "the file, other, was written by a newer sagan: this version does not know b"),
        ({"z": 1, "colour": 2}, "the file was written by a newer sagan: this version does not know colour, z"),
    ],
)
def test_the_place_of_a_damage_is_said(values, said):
    with pytest.raises(UserError) as error:
        read(**values)
    assert str(error.value) == said


def test_a_place_that_ends_with_a_comma_gets_no_second_one():
    with pytest.raises(UserError, match=r"^the file, line 2, inner, is damaged: size missing$"):
        from_plain(Outer, {"inner": {}}, "the file, line 2,")


@pytest.mark.parametrize("given", [None, 3, "text", [], [{}]])
def test_what_is_no_object_is_refused(given):
    with pytest.raises(UserError, match="^the file is damaged: it must be a JSON object, got "):
        from_plain(Outer, given, "the file")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"\xff\xfe", b"[1,]", b"nonsense", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_json_is_damage(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=r"a\.json is damaged: it is (not JSON|nested too deeply)") as error:
        read_json(tmp_path / "a.json")
    assert len(str(error.value)) < 300


def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path):
    with pytest.raises(UserError, match="is damaged: it is not a file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


def test_what_is_nested_as_deeply_as_it_can_be_read_is_refused_too():
    for depth in (200, 900):
        value = parse_json(b"[" * depth + b"]" * depth, "the file")
        for name in ("count", "share", "name", "sizes", "weights", "inner", "radius"):
            with pytest.raises(UserError, match="is damaged: "):
                read(**{name: value})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (2, "the file was written by a newer sagan: its format is 2, this version reads 1"),
        (0, "the file is damaged: its format is 0, this version of sagan reads format 1"),
        (None, "the file is damaged: its format is None, this version of sagan reads format 1"),
        ("1", "the file is damaged: its format is '1', this version of sagan reads format 1"),
        (True, "the file is damaged: its format is True, this version of sagan reads format 1"),
    ],
)
def test_another_format_is_newer_or_damage(found, said):
    check_format(1, 1, "the file")
    with pytest.raises(UserError) as error:
        check_format(found, 1, "the file")
    assert str(error.value) == said


def test_long_values_are_cut():
    assert shorten("x" * 100) == "'" + "x" * 56 + "..."
    assert shorten(10**5000) == "int"


def test_a_value_that_holds_itself_many_times_is_short_at_once():
    value = ["lol"]
    for _ in range(60):
        value = [value] * 10
    assert len(shorten(value)) <= 60
    assert len(shorten({"a": value, "b": "x" * 10**6, "c": 10**400})) <= 60


@pytest.mark.parametrize("text", ["a\0b", chr(0xD800), chr(0xDFFF)])
def test_text_that_is_none_is_refused(text):
    @dataclass(frozen=True)
    class Named:
        name: str

    with pytest.raises(UserError, match="file is damaged: name must be text without NUL and lone surrogates"):
        from_plain(Named, {"name": text}, "file")
    latin = b"caf\xe9".decode(errors="surrogateescape")  # a path that is not UTF-8
    assert from_plain(Named, {"name": latin}, "file").name == latin
