import os

import pytest

from sagan.run.config import Config, override
from sagan.run.folder import Run, check_free, make_free_folder
from sagan.run.records import StoppedRecord, TrainRecord
from sagan.system.errors import UserError
from tests import records

CONFIG = override(Config(), {"total_step": 3})


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", CONFIG)


def test_a_new_run_holds_its_config(run):
    assert Run.open(run.folder).config() == CONFIG


def test_a_folder_holds_one_run(run):
    with pytest.raises(ValueError, match="already holds a run: `sagan resume"):
        Run.create(run.folder, Config())
    assert run.config() == CONFIG


def test_a_run_is_not_mixed_with_other_things(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="not an empty folder"):
            Run.create(place, CONFIG)


def test_a_run_may_lie_beside_published_checkpoints(tmp_path):
    (tmp_path / "500_G.pth").touch()
    check_free(tmp_path)


@pytest.mark.parametrize(("made", "said"), [(True, "has no config.json"), (False, "does not exist")])
def test_what_is_not_a_run_is_said(tmp_path, made, said):
    folder = tmp_path / "folder"
    if made:
        folder.mkdir()
    with pytest.raises(ValueError, match=said):
        Run.open(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b""])
def test_a_damaged_config_is_one_sentence_with_its_name(run, content):
    run.config_file.write_bytes(content)
    with pytest.raises(ValueError, match=r"run/config\.json is damaged: "):
        run.config()


def test_a_config_of_a_newer_version_is_not_called_damaged(run):
    run.config_file.write_text('{"format": 99}')
    with pytest.raises(ValueError, match=r"run/config\.json was written by a newer sagan: its format is 99"):
        run.config()


def test_records_come_back_in_order_and_a_torn_last_line_is_left_out(run):
    for step in (1, 2):
        run.append(records.train(step))
    with run.records_file.open("a") as file:
        file.write('{"kind": "train", "st')
    assert run.records() == [records.train(1), records.train(2)]


@pytest.mark.parametrize("line", [b"garbage", b"[3]", b"\xff", b""])
def test_a_damaged_record_is_named_by_its_line(run, line):
    run.append(records.train(1))
    run.records_file.write_bytes(run.records_file.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 2, is damaged: "):
        run.records()


def test_rewinding_drops_only_later_training_records(run):
    score = records.score(9, 1.0)
    for record in (records.train(1), score, records.train(2), records.train(3)):
        run.append(record)
    run.rewind_records(2)
    assert run.records() == [records.train(1), score, records.train(2)]


def test_rewinding_a_damaged_file_leaves_it_as_it_is(run):
    run.records_file.write_bytes(b"garbage\n")
    with pytest.raises(ValueError, match="line 1"):
        run.rewind_records(2)
    assert run.records_file.read_bytes() == b"garbage\n"


def test_one_process_trains_in_a_folder(run):
    with run.locked(), pytest.raises(ValueError, match="being trained by another process"), run.locked():
        pass
    with run.locked():
        pass


def snapshots(folder, *steps):
    (folder / "snapshots").mkdir(parents=True)
    for step in steps:
        Run(folder).snapshot_file(step).touch()


def test_free_folders_are_numbered(tmp_path):
    names = [make_free_folder(tmp_path / "runs" / "faces").name for _ in range(3)]
    assert names == ["faces", "faces-2", "faces-3"]


def test_a_record_after_a_torn_line_takes_its_place(run):
    written = [records.train(1), records.train(2)]
    run.append(*written)
    with run.records_file.open("a") as file:
        file.write('{"kind": "train", "st')
    run.append(records.score(1, 5.0))
    assert run.records() == [*written, records.score(1, 5.0)]
    run.append()
    assert len(run.records()) == 3


def test_records_of_one_kind(run):
    run.append(records.train(1), records.look(1), records.score(1, 5.0), records.train(2))
    assert run.records_of(TrainRecord) == [records.train(1), records.train(2)]
    assert run.records_of(StoppedRecord) == []


def test_only_names_that_a_run_gives_are_snapshots(tmp_path):
    run = Run(tmp_path)
    (tmp_path / "snapshots").mkdir()
    for name in ("00000003", "00000003 (copy)", "3_backup", "1e5", "00000003.bak", "latest-00000005", "latest-x"):
        (tmp_path / "snapshots" / f"{name}.safetensors").touch()
    assert run.snapshots() == [run.snapshot_file(3)]
    assert run.latest_snapshots() == [run.latest_file(5)]
    assert run.snapshot() == run.latest_file(5)


@pytest.mark.parametrize("name", [".config.json.0123abcd.partial", ".config.json.partial"])
def test_a_folder_whose_run_was_killed_before_its_config_takes_one(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("{half")
    run = Run.create(tmp_path / "run", Config())
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


def test_a_folder_of_runs_is_answered_with_the_newest(tmp_path):
    for age, name in enumerate(("new", "old")):
        run = Run.create(tmp_path / name, Config())
        os.utime(run.config_file, (1e9 - age, 1e9 - age))
    with pytest.raises(UserError, match=f"the newest run in it is {tmp_path / 'new'}$"):
        Run.open(tmp_path)


def test_a_run_that_has_saved_nothing_is_told_how_to_go_on(tmp_path):
    run = Run.create(tmp_path / "run", Config())
    with pytest.raises(UserError, match=f"none of its steps was saved: `sagan resume {run.folder}` trains it"):
        run.snapshot()


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "samples/1_fake.png", "notes.txt"])
def test_only_a_run_that_has_done_nothing_is_discarded(name, tmp_path):
    run = Run.create(tmp_path / "run", Config())
    kept = run.folder / name
    kept.parent.mkdir(exist_ok=True)
    kept.touch()
    assert not run.discard_unbegun()
    kept.unlink()
    (run.folder / "1_G.pth").touch()
    assert run.discard_unbegun()
    assert [path.name for path in run.folder.iterdir() if path.is_file()] == ["1_G.pth"]
