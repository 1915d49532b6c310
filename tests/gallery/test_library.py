"""Runs are found and named by where they are in the folder; nothing outside of it is."""

import json
import os
import shutil
from pathlib import Path

import pytest

from sagan.gallery.library import Library, Missing, details, grids, read_grid, row, rows, state_of
from sagan.run.config import names_of
from sagan.run.folder import Run
from sagan.run.status import RunStatus
from sagan.system.errors import UserError
from tests import records
from tests.experiments.made import begun, made_sweep, scored
from tests.gallery.made import make_run, picture


@pytest.fixture
def root(tmp_path):
    make_run(tmp_path / "runs" / "a & b")
    make_run(tmp_path / "runs" / "more" / "deep", span=3)
    return tmp_path / "runs"


def test_runs_are_found_at_any_depth_and_come_and_go(root):
    library = Library(root)
    assert set(library.find()) == {"a & b", "more/deep"}
    make_run(root / "new")
    assert "new" in library.find()
    shutil.rmtree(root / "new")
    assert "new" not in library.find()
    with pytest.raises(Missing, match="there is no run new here; it may have been removed"):
        library.get("new")


def test_the_folder_may_be_a_run(root):
    library = Library(root / "a & b")
    assert set(library.find()) == {"a & b"}
    assert library.get("a & b").folder == root / "a & b"


@pytest.mark.parametrize(
    "name", ["..", "../runs", "/", "a & b/..", "a & b/samples", "", ".", "a & b/", "A & B", "a\0b"]
)
def test_only_names_that_were_found_are_known(root, name):
    with pytest.raises(Missing):
        Library(root).get(name)


def test_links_lead_nowhere(root, tmp_path):
    outside = make_run(tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "more" / "loop").symlink_to(root)
    library = Library(root)
    assert set(library.find()) == {"a & b", "more/deep"}
    found = library.get("a & b")
    secret = picture(tmp_path / "secret.png")
    grid = found.folder / "samples" / "4_fake.png"
    grid.unlink()
    grid.symlink_to(secret)
    with pytest.raises(Missing):
        read_grid(library, found, 4)
    shutil.rmtree(found.folder / "snapshots")
    (found.folder / "snapshots").symlink_to(outside.folder / "snapshots")
    with pytest.raises(Missing):
        library.file(found, "snapshots", "00000004.safetensors")


def test_a_row_says_how_a_run_stands(root):
    library = Library(root)
    about = row(library, library.get("a & b"))
    wanted = {"state": "done", "step": 4, "total": 4, "span": "1", "size": 16, "images": "faces", "grid": 4}
    assert about.items() >= wanted.items()
    assert about["score"].items() >= {"label": "FID", "value": 30.5, "floor": 4.0, "samples": 100}.items()
    assert about["left"] is None


def test_damaged_runs_are_rows_that_say_so(root):
    library = Library(root)
    (root / "a & b" / "config.json").write_text("{")
    about = row(library, library.get("a & b"))
    assert about["state"] == "damaged"
    assert "config.json" in about["said"]
    assert str(root) not in about["said"], "it names no folder of this machine"
    assert details(library, library.get("a & b"))["state"] == "damaged"


def test_a_torn_grid_is_missing_and_not_an_error(root):
    library = Library(root)
    found = library.get("a & b")
    path = found.folder / "samples" / "4_fake.png"
    assert read_grid(library, found, 4) == path.read_bytes()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Missing, match="not a whole picture"):
        read_grid(library, found, 4)
    path.unlink()
    assert grids(found) == [2]


def test_details_say_what_differs_and_how_to_repeat_it(root):
    library = Library(root)
    about = details(library, library.get("more/deep"))
    assert (about["grids"], about["snapshots"]) == ([2, 4], [2, 4])
    assert {"name": "span", "value": "3", "usual": "0"} in about["settings"]
    assert about["commands"]["go on with it"] == "sagan resume runs/more/deep"
    assert "--span 3" in about["commands"]["the run anew"]


def test_settings_of_this_machine_are_no_difference(root):
    library = Library(root)
    settings = {each["name"] for each in details(library, library.get("more/deep"))["settings"]}
    assert not settings & names_of("place")


def test_a_grid_written_anew_has_another_stamp(root):
    library = Library(root)
    found = library.get("a & b")
    before = details(library, found)
    os.utime(found.folder / "samples" / "2_fake.png", ns=(1, 1))
    after = details(library, found)
    assert before["stamps"][0] != after["stamps"][0]
    assert before["stamps"][1] == after["stamps"][1] == after["stamp"]


def test_the_place_of_a_run_is_one_that_a_command_finds(root, monkeypatch):
    for start in (root, root.parent, root / "more"):
        library = Library(root, start)
        monkeypatch.chdir(start)
        for found in library.find().values():
            assert Path(library.place(found)).samefile(found.folder)
    assert details(Library(root), library.get("a & b"))["commands"]["go on with it"] == "sagan resume 'runs/a & b'"


def test_names_that_are_no_text_are_shown_and_found(root):
    shutil.copytree(root / "a & b", os.fsdecode(os.fsencode(root) + b"/n\xff"))
    library = Library(root)
    json.dumps(rows(library)).encode()
    names = [each["name"] for each in rows(library)]
    (name,) = (name for name in names if name.startswith("n"))
    assert library.get(name).folder.name.startswith("n")
    assert name.encode()


def test_sweeps_are_listed_also_those_not_begun(tmp_path):
    made_sweep(tmp_path / "waiting", span=(0, 1), seed=(0,))
    sweep = made_sweep(tmp_path / "faces", span=(0, 1), seed=(0,))
    scored(begun(sweep, "span0-seed0"), {200: 30.0})
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "plan.json").write_text("{")
    listed = {each["name"]: each for each in rows(Library(tmp_path)) if each["kind"] == "sweep"}
    assert {name: each["state"] for name, each in listed.items()} == {
        "waiting": "waiting",
        "faces": "stopped",
        "torn": "damaged",
    }
    assert (listed["faces"]["runs"], listed["waiting"]["said"]) == (2, "0 of 2 runs done")
    assert str(tmp_path) not in listed["torn"]["said"]


@pytest.mark.parametrize("name", ["records.jsonl", "config.json", "checkpoints/last.pt", "samples"])
def test_files_that_are_links_out_of_a_run_are_not_read(root, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text("TOPSECRET")
    path = root / "a & b" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(secret)
    library = Library(root)
    (about,) = (each for each in rows(library) if each["name"] == "a & b")
    assert (about["state"], name in about["said"]) == ("damaged", True)
    assert "TOPSECRET" not in json.dumps(rows(library))
    with pytest.raises(UserError, match="leads out of the folder"):
        library.get("a & b")
    assert library.get("more/deep")


def test_a_log_that_is_a_link_out_of_a_sweep_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("TOPSECRET")
    sweep = made_sweep(tmp_path / "runs" / "faces", span=(0, 1), seed=(0,))
    begun(sweep, "span0-seed0")
    (sweep.folder / "logs").mkdir(exist_ok=True)
    (sweep.folder / "logs" / "span0-seed0.failed").symlink_to(tmp_path / "secret")
    assert "TOPSECRET" not in json.dumps(rows(Library(tmp_path / "runs")))


def test_folders_that_may_not_be_looked_into_hide_no_others(root, monkeypatch):
    (root / "closed").mkdir()
    usual = Path.is_file

    def is_file(path):
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert set(Library(root).find()) == {"a & b", "more/deep"}


def test_control_characters_in_a_name_are_written_out(root):
    shutil.copytree(root / "a & b", root / "two\nlines\x1b")
    library = Library(root)
    assert library.get("two\\nlines\\x1b").folder.name == "two\nlines\x1b"


def test_an_impossible_clock_says_no_time_left(root, monkeypatch):
    found = Library(root).get("a & b")
    for last in (-1e6, 1e308):
        (found.folder / "records.jsonl").unlink()
        Run(found.folder).append(records.train(1, seconds=1e6), records.train(2, seconds=max(0, last)))
        json.dumps(row(Library(root), found), allow_nan=False)


def test_damage_stays_damage_when_it_is_looked_at_again(root):
    library = Library(root)
    found = library.get("a & b")
    (found.folder / "records.jsonl").write_text("{\n" * 1500)
    first, second = row(library, found), row(library, found)
    assert first["state"] == second["state"] == "damaged"


def test_a_collapse_is_a_state_of_its_own():
    stopped = RunStatus("a", "failed", 4, 9, verdict="diversity falling", reason="it collapsed")
    assert state_of(stopped) == "collapsed"
    assert state_of(RunStatus("a", "failed", 4, 9, reason="no disk")) == "failed"
    assert state_of(RunStatus("a", "cut", 4, 9)) == "stopped"


def test_a_status_follows_the_records(root):
    library = Library(root)
    found = library.get("a & b")
    assert library.status(found).step == 4
    from sagan.run.folder import Run

    Run(found.folder).append(records.train(5))
    assert library.status(found).step == 5
