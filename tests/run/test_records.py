import itertools
import json
import math

import pytest

import sagan.run.records as records_module
from sagan.run.records import KINDS, RecordReader, from_line, to_line
from sagan.system.errors import UserError
from sagan.system.files import open_regular
from tests import records

ALL = [
    records.train(4),
    records.train(6, d_grad_norm=0.5, g_grad_norm=0.25, penalty=0.1, lecam=0.2, gamma={}, verdict=None),
    records.look(5),
    records.look(6, verdict="D winning", reason="it has won", collapsed=True, sigma=math.inf, images=None),
    records.score(4, 30.5),
    records.score(4, 30.5, "kernel", weights_sha256="00", commit="0123456789ab+"),
    records.rollback(4, 9),
    records.stopped(9),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.jsonl"


def add(path, *lines):
    with path.open("ab") as file:
        file.writelines(lines)


def changed(record, **changes):
    """The record's line with values changed; a value of None takes it out."""
    values = json.loads(to_line(record)) | changes
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode() + b"\n"


# ---- lines


def test_there_is_a_record_of_every_kind_here():
    assert {record.kind for record in ALL} == set(KINDS)


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.kind)
def test_a_record_comes_back_from_its_line(record):
    line = to_line(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["kind"] == record.kind
    assert from_line(line, "the line") == record


def test_what_the_guard_saw_may_be_nan():
    back = from_line(to_line(records.look(5, gap=math.nan, pixel_spread=-math.inf)), "the line")
    assert math.isnan(back.gap)
    assert back.pixel_spread == -math.inf


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.kind)
def test_a_field_that_is_not_known_was_written_by_a_newer_version(record):
    with pytest.raises(UserError, match="^the line was written by a newer sagan: this version does not know colour$"):
        from_line(changed(record, colour=1), "the line")


def test_a_kind_that_is_not_known_was_written_by_a_newer_version():
    with pytest.raises(UserError, match="^the line was written by a newer sagan: .* know records of the kind 'dream'$"):
        from_line(b'{"kind": "dream", "step": 1}\n', "the line")


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.kind)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": None}, "step missing"),
        ({"step": "4"}, "step must be a whole number, got '4'"),
        ({"step": True}, "step must be a whole number, got True"),
        ({"step": -1}, "step must be 0 or more, got -1"),
        ({"step": 10**400}, "step must be below 2"),
    ],
    ids=["missing", "text", "true", "negative", "large"],
)
def test_a_damaged_step_is_named_whatever_the_kind(record, changes, said):
    with pytest.raises(UserError) as error:
        from_line(changed(record, **changes), "the line")
    assert str(error.value).startswith(f"the line is damaged: {said}")


@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        (records.train(4), {"d_loss": math.nan}, "is damaged: d_loss must be finite, got nan"),
        (records.train(4), {"seconds": -1.0}, "is damaged: seconds must be 0 or more, got -1.0"),
        (records.train(4), {"gamma": {"G8": "x"}}, "is damaged: gamma['G8'] must be a number, got 'x'"),
        (
            records.train(4),
            {"gamma": {"Dx": 1.0}},
            "is damaged: gamma must be named by network and map, such as G16, got 'Dx'",
        ),
        (records.train(4), {"gamma": []}, "is damaged: gamma must be a JSON object, got []"),
        (
            records.train(4),
            {"verdict": "bored"},
            "is damaged: verdict must be healthy or D winning or diversity falling or diverged, got 'bored'",
        ),
        (records.look(4), {"gap": None}, "is damaged: gap missing"),
        (records.look(4), {"collapsed": 1}, "is damaged: collapsed must be true or false, got 1"),
        (records.score(4, 1.0), {"value": math.inf}, "is damaged: value must be finite, got inf"),
        (records.score(4, 1.0), {"floor_samples": -1}, "is damaged: floor_samples must be 0 or more, got -1"),
        (records.score(4, 1.0), {"card": 1}, ", card, is damaged: it must be a JSON object, got 1"),
        (records.rollback(4, 9), {"remedy": None}, "is damaged: remedy missing"),
        (records.rollback(4, 9), {"attempt": 1.5}, "is damaged: attempt must be a whole number, got 1.5"),
        (records.stopped(9), {"reason": 3}, "is damaged: reason must be text, got 3"),
    ],
)
def test_a_damaged_value_is_named(record, changes, said):
    with pytest.raises(UserError) as error:
        from_line(changed(record, **changes), "the line")
    assert str(error.value) == f"the line{'' if said.startswith(',') else ' '}{said}"


@pytest.mark.parametrize("line", [b"\n", b"nonsense\n", b"[3]\n", b"{}\n", b'{"kind": 3}\n', b"\xff\n", b'{"kind"\n'])
def test_what_is_no_record_is_damage(line):
    with pytest.raises(UserError, match="^the line is damaged: it is not "):
        from_line(line, "the line")


# ---- files


def test_no_file_has_no_records(path):
    assert RecordReader(path).read() == []


def test_a_folder_in_the_place_of_the_file_is_damage(path):
    path.mkdir()
    with pytest.raises(UserError, match=r"records\.jsonl is damaged: it is not a file"):
        RecordReader(path).read()


def test_a_reader_follows_a_file_that_grows(path):
    reader = RecordReader(path)
    assert reader.read() == []
    seen = []
    for count, record in enumerate(ALL, 1):
        add(path, to_line(record))
        seen += reader.read()
        assert seen == ALL[:count] == RecordReader(path).read()
        assert reader.restarted == (count == 1)
        assert reader.read() == []
        assert not reader.restarted


def test_a_torn_last_line_is_read_when_it_is_whole(path):
    reader, line = RecordReader(path), to_line(ALL[1])
    for cut in (1, len(line) // 2, len(line) - 1):
        path.unlink(missing_ok=True)
        add(path, to_line(ALL[0]), line[:cut])
        assert reader.read() == [ALL[0]]
        assert reader.restarted
        assert reader.read() == []
        add(path, line[cut:])
        assert reader.read() == [ALL[1]]
        assert not reader.restarted


@pytest.mark.parametrize("kept", [0, 2, len(ALL)])
def test_a_file_that_is_written_anew_is_read_from_its_start(path, kept):
    """As after a rollback: another file takes its name, which may be as long as the old one or longer."""
    add(path, *map(to_line, ALL))
    reader = RecordReader(path)
    assert reader.read() == ALL
    other = path.with_suffix(".partial")
    add(other, *map(to_line, ALL[:kept]), to_line(records.train(50)))
    other.replace(path)
    assert reader.read() == [*ALL[:kept], records.train(50)]
    assert reader.restarted


def test_a_file_that_is_written_anew_while_it_is_read(path, monkeypatch):
    add(path, *map(to_line, ALL))
    other = path.with_suffix(".partial")
    add(other, *map(to_line, ALL), to_line(records.train(50)))

    def replaced(opened):
        file = open_regular(opened)
        other.replace(path)
        return file

    reader = RecordReader(path)
    with monkeypatch.context() as patch:
        patch.setattr("sagan.run.records.open_regular", replaced)
        assert reader.read() == ALL
    assert reader.read() == [*ALL, records.train(50)]


def test_a_file_that_was_written_anew_under_the_number_of_the_old_one_is_read_from_its_start(path):
    add(path, to_line(records.train(1)), to_line(records.train(2)))
    reader = RecordReader(path)
    reader.read()
    number = path.stat().st_ino
    other = [records.train(1), records.train(3), records.train(4)]
    path.write_bytes(b"".join(map(to_line, other)))
    assert path.stat().st_ino == number
    assert reader.read() == other
    assert reader.restarted
    add(path, to_line(records.train(5)))
    assert reader.read() == [records.train(5)]
    assert not reader.restarted


@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        (records.rollback(4, 9), {"attempt": 0}, "attempt must be 1 or more, got 0"),
        (records.rollback(4, 9), {"step": 10}, "step must be at most from_step, 9, got 10"),
        (
            records.rollback(4, 9),
            {"remedy": {"g_lr": 0.0}},
            "remedy of g_lr must be more than 0 and at most 1, got 0.0",
        ),
        (records.rollback(4, 9), {"remedy": {"d_lr": 1e300}}, "remedy of d_lr must be more than 0 and at most 1"),
        (
            records.rollback(4, 9),
            {"remedy": {"penalties": 0.5}},
            r"remedy of penalties must be from 1 to 2\^1, got 0.5",
        ),
        (records.rollback(4, 9), {"remedy": {"a\n": 1.0}}, r"remedy must be of g_lr, d_lr, penalties, got 'a\\n'"),
        (records.score(4, 1.0), {"spread": -3.0}, "spread must be 0 or more, got -3.0"),
        (records.score(4, 1.0), {"error": -3.0}, "error must be 0 or more"),
        (records.score(4, 1.0), {"snapshot_sha256": "x"}, "snapshot_sha256 must be 64 hexadecimal digits, got 'x'"),
        (records.train(4), {"g_grad_norm": -1.0}, "g_grad_norm must be 0 or more"),
    ],
)
def test_what_no_run_writes_is_damage(record, changes, said):
    with pytest.raises(ValueError, match=f"^the line is damaged: {said}"):
        from_line(json.dumps({**json.loads(to_line(record)), **changes}).encode(), "the line")


def test_a_kind_of_any_text_is_quoted_and_cut():
    with pytest.raises(ValueError, match=r"does not know records of the kind 'a\\na") as refusal:
        from_line(json.dumps({"kind": "a\n" * 5000}).encode(), "the line")
    assert len(str(refusal.value)) < 200


def test_a_file_that_was_cut_or_taken_away_is_read_from_its_start(path):
    add(path, *map(to_line, ALL))
    reader = RecordReader(path)
    reader.read()
    path.write_bytes(to_line(ALL[2]))
    assert reader.read() == [ALL[2]]
    assert reader.restarted
    path.unlink()
    assert reader.read() == []
    assert reader.restarted
    add(path, to_line(ALL[0]))
    assert reader.read() == [ALL[0]]


def test_damage_is_named_by_its_line_also_when_the_file_has_grown(path):
    reader = RecordReader(path)
    add(path, *map(to_line, ALL[:2]))
    reader.read()
    add(path, to_line(ALL[2]), changed(ALL[0], images="many"), b'{"kind": "dream"}\n', to_line(ALL[3]))
    with pytest.raises(UserError, match=rf"^{path}, line 4, is damaged: images must be a whole number, got 'many'$"):
        RecordReader(path).read()
    said = []
    assert reader.read(said.append) == ALL[2:4]
    assert [str(error).removeprefix(str(path)).partition(":")[0] for error in said] == [
        ", line 4, is damaged",
        ", line 5, was written by a newer sagan",
    ]


def test_a_damaged_card_is_named_by_its_line(path):
    card = json.loads(to_line(ALL[4]))["card"]
    for wrong, said in (
        (card | {"colour": 1}, "was written by a newer sagan: this version does not know colour"),
        (card | {"samples": "x"}, "is damaged: samples must be a whole number, got 'x'"),
        ({name: value for name, value in card.items() if name != "seed"}, "is damaged: seed missing"),
    ):
        path.write_bytes(to_line(ALL[0]) + changed(ALL[4], card=wrong))
        with pytest.raises(UserError) as error:
            RecordReader(path).read()
        assert str(error.value) == f"{path}, line 2, card, {said}"


def test_lines_come_with_their_records(path):
    add(path, *map(to_line, ALL))
    assert list(RecordReader(path).read_with_lines()) == [(to_line(record), record) for record in ALL]


def test_many_records_are_read_sparsely_but_for_what_is_rare(tmp_path, monkeypatch):
    monkeypatch.setattr(records_module, "_MANY", 1000)
    monkeypatch.setattr(records_module, "SPARSE", 20)
    monkeypatch.setattr(records_module, "_ENDS", 3)
    path = tmp_path / "records.jsonl"
    train = [records.train(step) for step in range(1, 2001)]
    rare = [records.score(500, 30.0), records.score(1003, 20.0)]
    every = sorted([*train, *rare], key=lambda record: record.step)
    path.write_bytes(b"".join(map(to_line, every)))
    reader = RecordReader(path)
    found = reader.read_sparsely()
    assert [record for record in found if record.kind == "score"] == rare
    steps = [record.step for record in found if record.kind == "train"]
    assert steps == sorted(set(steps))
    assert steps[-3:] == [1998, 1999, 2000]
    assert 20 <= len(steps) <= 23
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 110, "evenly spaced"
    with path.open("ab") as file:
        file.write(to_line(records.train(2001)))
    assert reader.read_sparsely() == [records.train(2001)]
