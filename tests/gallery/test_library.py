"""Runs are found and named by where they are in the folder; nothing outside of it is."""

import shutil

import pytest

from sagan.gallery.library import Library, Missing, details, grids, read_grid, row, state_of
from sagan.run.status import RunStatus
from tests import records
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
    assert about["commands"]["go on with it"] == "sagan resume deep"
    assert "--span 3" in about["commands"]["the run anew"]


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
