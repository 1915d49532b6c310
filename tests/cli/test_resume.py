"""`sagan resume`."""

import shutil

import numpy as np
import pytest

from sagan.cli import main
from tests.cli.made import refused


def test_resume_needs_only_the_folder_and_works_from_anywhere(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["resume", str(run.folder), "--total_step", "5", "--span", "1"]) == 0
    assert main(["resume", str(run.folder)]) == 0
    assert "nothing to do: the run is at step 5 already" in capsys.readouterr().out
    assert [record.step for record in run.records()] == [1, 2, 3, 4, 5]
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--span", "3"], "trained with span 1 (not 3)"),
        (["--span", "self"], "trained with span 1 (not self)"),
        (["--imsize", "32", "--seed", "4"], "imsize 16 (not 32), seed 0 (not 4)"),
        (["--total_step", "3"], "is at step 4 already"),
        (["--data", "nowhere"], "--data says where they are now"),
        (["--data", "other.npy"], "trained on other images"),
        (["--device", "gpu"], "device must be"),
    ],
)
def test_a_refused_change_leaves_the_run_as_it_was(run, capsys, words, said):
    np.save("other.npy", np.zeros((24, 16, 16, 3), np.uint8))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert said in refused(capsys, "resume", run.folder, *words)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_run_killed_before_its_first_checkpoint_starts_again(run, capsys):
    records = run.records()
    run.checkpoint_file.unlink()
    assert main(["resume", str(run.folder)]) == 0
    assert "no checkpoint was written yet" in capsys.readouterr().out
    assert [record.d_loss for record in run.records()] == [record.d_loss for record in records]


def test_images_may_have_moved(run, trained, capsys):
    shutil.copy(trained / "photos.npy", "moved.npy")
    assert main(["resume", str(run.folder), "--total_step", "5", "--data", "moved.npy", "--prepared", "kept"]) == 0
    assert run.config().data.data.endswith("moved.npy")


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("config.json", lambda data: b"{", "config.json is damaged"),
        ("config.json", lambda data: data.replace(b'"imsize": 16', b'"imsize": "x"'), "imsize must be a whole number"),
        (
            "config.json",
            lambda data: data.replace(b'"imsize"', b'"imsise"'),
            "newer sagan: this version does not know imsise",
        ),
        ("records.jsonl", lambda data: b"garbage\n" + data, "records.jsonl, line 1, is damaged: it is not JSON"),
        ("checkpoints/last.pt", lambda data: data[: len(data) // 2], "last.pt is not a whole checkpoint"),
        ("checkpoints/last.pt", lambda data: b"", "last.pt is not a whole checkpoint"),
    ],
)
def test_a_damaged_run_is_refused_by_the_name_of_the_file(run, capsys, file, damage, said):
    damaged = damage((run.folder / file).read_bytes())
    (run.folder / file).write_bytes(damaged)
    assert said in refused(capsys, "resume", run.folder, "--total_step", "5")
    assert (run.folder / file).read_bytes() == damaged


def test_a_full_disk_says_how_to_go_on(run, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sagan.training.start.train", full)
    said = refused(capsys, "resume", run.folder, "--total_step", "5")
    assert "No space left on device" in said
    assert f"sagan resume {run.folder}" in said
