import pytest

from sagan.data.sources.folder import FolderSource
from sagan.data.sources.own import (
    MARK,
    appearing_together,
    is_left_behind,
    is_unused,
    mark_as_ours,
    refuse_foreign_images,
    what_is_ours,
)
from tests.data.sources.made import picture, put


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["config.json", "snapshots"], "a run"),
        (["config.json", "checkpoints", "snapshots"], "a run"),
        (["config.json", "a.png"], ""),
        (["records.jsonl", "a.png"], ""),
    ],
)
def test_a_run_is_known_before_its_first_record(names, what):
    assert what_is_ours(names) == what


def test_a_marked_folder_is_unused_until_something_is_in_it(tmp_path):
    assert is_unused(tmp_path / "out")
    mark_as_ours(tmp_path / "out")
    assert is_unused(tmp_path / "out")
    (tmp_path / "out" / ".a.0123.partial").touch()  # of a process that was killed
    assert is_unused(tmp_path / "out")
    (tmp_path / "out" / "a").touch()
    assert not is_unused(tmp_path / "out")
    assert not is_unused(tmp_path / "out" / "a")


def test_pictures_are_not_mixed_with_a_persons_images_at_any_depth(tmp_path):
    put(tmp_path / "out" / "cats" / "a.png", picture(0))
    with pytest.raises(ValueError, match=r"such as .*a\.png.*give --sample_dir a folder of its own"):
        refuse_foreign_images(tmp_path / "out", "--sample_dir")


def test_other_files_samples_of_earlier_runs_and_marked_folders_are_no_danger(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.txt").touch()
    put(tmp_path / "out" / "100_fake.png", picture(0))
    put(tmp_path / "out" / "drawn" / "000000.png", picture(0))
    mark_as_ours(tmp_path / "out" / "drawn")
    refuse_foreign_images(tmp_path / "out", "--sample_dir")
    refuse_foreign_images(tmp_path / "nowhere", "--sample_dir")


def test_what_is_marked_is_left_out(tmp_path):
    put(tmp_path / "a.png", picture(0))
    put(tmp_path / "drawn" / "000000.png", picture(0))
    (tmp_path / "drawn" / MARK).touch()
    assert FolderSource(tmp_path).paths == ["a.png"]


def test_a_mark_that_a_killed_process_left_empty_is_written_again(tmp_path):
    mark_as_ours(tmp_path / "out")
    text = (tmp_path / "out" / MARK).read_text()
    (tmp_path / "out" / MARK).write_text("")
    mark_as_ours(tmp_path / "out")
    assert text
    assert (tmp_path / "out" / MARK).read_text() == text


@pytest.mark.parametrize("moved", [[], ["a.png"], ["a.png", "old.csv"]], ids=str)
def test_what_a_process_left_that_was_killed_while_it_moved_files_is_made_anew(tmp_path, moved):
    folder = tmp_path / "out"
    (folder / ".unfinished").mkdir(parents=True)
    for name in moved:
        (folder / name).write_text("old")
    assert is_unused(folder)
    assert is_left_behind(folder)
    with appearing_together(folder) as aside:
        for name in ("a.png", "page.html"):
            (aside / name).write_text("new")
    written = {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}
    assert written == {"a.png": "new", "page.html": "new"}
    assert not is_unused(folder)


def test_an_empty_folder_is_left_behind(tmp_path):
    assert is_left_behind(tmp_path)
