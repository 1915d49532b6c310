"""`sagan resume`: which checkpoint a run is resumed from, on a run of four steps."""

import shutil

import pytest

from sagan.cli import main
from sagan.run.checkpoints import find_run, go_on_from
from sagan.run.folder import Run
from sagan.run.records import RollbackRecord
from sagan.run.status import Watched
from sagan.run.weights import load_checkpoint, saved_step
from tests import records
from tests.cli.made import refused


def tear(path):
    path.write_bytes(path.read_bytes()[:1000])


def test_a_run_is_found_by_its_folder_and_by_its_checkpoint(run):
    assert find_run(run.folder) == (run, None)
    assert find_run(run.checkpoint_file) == (run, run.checkpoint_file)
    with pytest.raises(ValueError, match=r"is not a checkpoint.*`sagan resume .*span1` resumes its run"):
        find_run(run.snapshot())
    with pytest.raises(ValueError, match="does not exist"):
        find_run(run.folder / "nowhere.pt")


def test_a_torn_checkpoint_names_an_older_whole_one_and_the_command_works(run, trained, capsys):
    (run.folder.parents[1] / "photos.npy").symlink_to(trained / "photos.npy")
    shutil.copy(run.checkpoint_file, run.healthy_file)
    tear(run.checkpoint_file)
    tear(shutil.copy(run.checkpoint_file, run.pending_file))
    said = refused(capsys, "resume", run.folder, "--total_step", "5")
    assert "is not a whole checkpoint file" in said
    command = said.split("`")[1]
    assert command == f"sagan resume {run.healthy_file}"
    assert main([*command.split()[1:], "--total_step", "5"]) == 0
    assert load_checkpoint(run.checkpoint_file).step == 5
    assert (run.checkpoint_file.with_name("replaced.pt")).exists()


def test_a_torn_pending_checkpoint_names_a_command_that_goes_on_without_it(run, trained, capsys):
    (run.folder.parents[1] / "photos.npy").symlink_to(trained / "photos.npy")
    tear(shutil.copy(run.checkpoint_file, run.pending_file))
    command = refused(capsys, "resume", run.folder, "--guard", "recover", "--total_step", "5").split("`")[1]
    assert main([*command.split()[1:], "--guard", "recover", "--total_step", "5"]) == 0


def test_going_back_to_an_older_checkpoint_forgets_later_rollbacks(run):
    run.append(records.rollback(2, 4))
    shutil.copy(run.checkpoint_file, run.healthy_file)
    go_on_from(run, run.healthy_file)
    assert not run.records_of(RollbackRecord)


def test_a_lost_checkpoint_does_not_start_a_run_anew(run, trained, capsys):
    (run.folder.parents[1] / "photos.npy").symlink_to(trained / "photos.npy")
    run.checkpoint_file.rename(run.pending_file)
    assert f"last.pt is missing; `sagan resume {run.pending_file}`" in refused(capsys, "resume", run.folder)


def test_without_an_older_checkpoint_the_snapshot_is_named(run, capsys):
    tear(run.checkpoint_file)
    assert f"its generator of step 4 is in {run.snapshot()}" in refused(capsys, "resume", run.checkpoint_file)


def test_the_status_of_a_run_that_was_stopped_and_saved_shows_its_step(run):
    run.rewind_records(2)
    run.snapshot().unlink()
    assert (saved_step(run.checkpoint_file), saved_step(run.config_file)) == (4, None)
    watched = Watched(run.folder)
    assert (watched.look().state, watched.look().step) == ("cut", 4)
    tear(run.checkpoint_file)
    assert Watched(Run(run.folder).folder).look().step == 2
