"""The command that reports, on sweeps whose records were made up."""

from pathlib import Path

import pytest

import sagan.experiments.report
from sagan.cli import main
from sagan.cli.flags import flags_of
from sagan.cli.report import ReportFlags
from tests.experiments.made import empty_figure, full_sweep


def command(line):
    return main(["report", *line.split()])


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sagan.experiments.report, "save_figure", empty_figure)
    return full_sweep(Path("faces"), {0: 0.0, 1: -9.0}, noise=0.3)


def test_a_report_is_one_word(sweep, capsys):
    assert command("faces") == 0
    printed = capsys.readouterr().out
    assert "span 1 is better than span 0 by " in printed
    assert "report: faces/report/report.html" in printed
    assert Path("faces/report/report.html").is_file()
    assert command("faces --out elsewhere --threshold 25 --step 300") == 0
    assert "at 300 steps" in capsys.readouterr().out
    assert "Time to 25" in Path("elsewhere/report.md").read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nowhere", "nowhere"),
        ("faces --metric kernel", "has a score 'kernel' (there are: frechet)"),
        ("faces --step 7", "no run was scored at step 7"),
        ("faces --published", "the published figures are FIDs by Inception"),
        ("faces --treshold 20", "did you mean --threshold"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_writes_nothing(sweep, line, said, capsys):
    assert command(line) == 2
    assert said in capsys.readouterr().err
    assert not Path("faces/report").exists()


def test_a_folder_of_a_person_s_own_is_left_alone(sweep, capsys):
    Path("mine").mkdir()
    Path("mine/report.md").write_text("my own")
    assert command("faces --out mine") == 2
    assert "mine is neither empty nor an earlier report" in capsys.readouterr().err
    assert [path.name for path in Path("mine").iterdir()] == ["report.md"]
    assert command("faces") == command("faces") == 0


def test_the_help_names_every_flag(capsys):
    assert command("--help") == 0
    shown = capsys.readouterr().out
    for name in flags_of(ReportFlags):
        assert name in shown.lower()


class Killed(BaseException):
    """Ends a process as a signal that cannot be caught."""


def test_a_report_that_is_cut_leaves_the_one_before_and_does_not_block_its_folder(sweep, monkeypatch):
    assert command("faces") == 0
    folder = Path("faces/report")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(sagan.experiments.report, "to_markdown", die)
        patch.setattr("shutil.rmtree", lambda *arguments, **options: None)  # a killed process removes nothing
        with pytest.raises(Killed):
            command("faces --threshold 25")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    (folder / "events.csv").touch()  # of an earlier report that had more
    assert command("faces") == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_report_that_an_earlier_version_cut_is_written_anew(sweep):
    assert command("faces") == 0
    Path("faces/report/report.html").unlink()
    assert command("faces") == 0
    assert Path("faces/report/report.html").is_file()
