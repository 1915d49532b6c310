"""Runs: what is wrong with a made one is found, and the command that follows."""

import dataclasses
import shutil

import pytest

from sagan.doctor.runs import examine_run
from sagan.run.config import override
from sagan.run.folder import Run
from sagan.run.presets import PRESETS
from sagan.run.records import to_line
from sagan.system.errors import UserError
from tests.records import look, rollback, score, stopped, train


@pytest.fixture
def recorded(tmp_path):
    """A function that makes a run of 100 steps of these records, without snapshots."""

    def make(*records, **changes):
        config = override(PRESETS["quick"], {"total_step": 100, **changes})
        run = Run.create(tmp_path / "run", config)
        run.records_file.write_bytes(b"".join(map(to_line, records)))
        return run.folder

    return make


def found(folder):
    health = examine_run(folder)
    return {finding.kind: finding for finding in health.findings}, dict(health.next)


def test_a_healthy_run_has_no_warning(recorded):
    findings, _ = found(recorded(*(record(step) for step in range(1, 60) for record in (train, look))))
    assert all(finding.severity in ("note", "sound") for finding in findings.values())
    assert findings["confidence"].severity == "sound"
    assert "G16 +0.125" in findings["gammas"].text


def test_lost_images_are_named_again(recorded, tmp_path):
    finding = found(recorded(train(9), data=str(tmp_path / "gone")))[0]["images"]
    assert finding.severity == "warning"
    assert "--data FOLDER" in finding.remedy


@pytest.mark.parametrize(
    ("records", "kind", "severity"),
    [
        ([look(9, verdict="D winning", reason="it has won", collapsed=True)], "guard", "warning"),
        ([look(9, verdict="diverged", reason="d_loss is nan")], "guard", "stop"),
        ([look(step, separation=0.999) for step in range(1, 31)], "confidence", "warning"),
        ([train(9), rollback(2, 9)], "rollbacks", "warning"),
        ([train(9), stopped(9)], "state", "warning"),
        ([score(1, 20.0), score(2, 31.0)], "scores", "warning"),
        ([score(1, 31.0), score(2, 20.0)], "scores", "sound"),
        ([train(s, images_per_second=80.0 if s < 60 else 9.0) for s in range(1, 81)], "pace", "warning"),
    ],
)
def test_what_the_records_tell(recorded, records, kind, severity):
    assert found(recorded(*records))[0][kind].severity == severity


def test_damaged_records_are_counted(recorded):
    folder = recorded(train(1), train(2))
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b'{"kind": "train"}\nnot json\n')
    findings, _ = found(folder)
    assert findings["records"].count == 2
    assert "line 3" in findings["records"].names[0]


def test_a_damaged_config_stops(recorded):
    folder = recorded(train(1))
    (folder / "config.json").write_text("{")
    findings, _ = found(folder)
    assert findings["config"].severity == "stop"


def test_a_trained_run_is_whole(run):
    findings, following = found(run.folder)
    assert findings["files"].severity == "sound"
    assert "1 snapshot and 1 checkpoint" in findings["files"].text
    assert f"sagan evaluate {run.folder}" in following
    assert any(command.startswith("sagan sample") for command in following)


def test_a_torn_snapshot_and_a_torn_checkpoint(run):
    shutil.copy(run.checkpoint_file, run.healthy_file)
    for path, severity in ((run.snapshots()[0], "warning"), (run.checkpoint_file, "stop")):
        path.write_bytes(path.read_bytes()[:-50])
        health = examine_run(run.folder)
        damaged = next(each for each in health.findings if each.kind == "files" and each.severity != "sound")
        assert damaged.severity == severity
        assert path.name in damaged.text
    assert health.next[0][0] == f"sagan resume {run.healthy_file}"


def test_a_snapshot_that_changed_since_it_was_scored(run):
    record = dataclasses.replace(score(4, 9.0), snapshot_sha256="0" * 64)
    run.append(record)
    assert found(run.folder)[0]["hashes"].severity == "warning"


def test_a_run_that_was_stopped_is_resumed(recorded):
    folder = recorded(train(9))
    assert list(found(folder)[1]) == [f"sagan resume {folder}"]


def test_no_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="config"):
        examine_run(tmp_path)
