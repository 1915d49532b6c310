import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import rich.console

from sagan.system.console import Console, duration, run_safely
from sagan.system.errors import UserError
from tests import records

RECORD = records.train(2, images_per_second=12.3)


def failing(error):
    def action():
        raise error

    return action


def test_a_command_that_ends_well_gives_its_own_status():
    assert run_safely(lambda: 7, Console()) == 7


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("span must be 0 or more"), "error: span must be 0 or more\n"),
        (OSError(errno.ENOSPC, "No space left on device", "last.pt"), "error: No space left on device: last.pt\n"),
        (OSError("the disk is full"), "error: the disk is full\n"),
    ],
)
def test_a_persons_error_is_one_sentence_and_status_2(error, said, capsys):
    assert run_safely(failing(error), Console()) == 2
    assert capsys.readouterr() == ("", said)


def test_notes_are_said_behind_an_error(capsys):
    error = OSError(errno.ENOSPC, "No space left on device")
    error.add_note("the last checkpoint is whole")
    assert run_safely(failing(error), Console()) == 2
    assert capsys.readouterr().err == "error: No space left on device; the last checkpoint is whole\n"


@pytest.mark.parametrize("error", [ValueError("zip() argument 2 is longer"), KeyError("step"), ImportError("torch")])
def test_any_other_error_is_a_bug_of_ours_and_keeps_its_traceback(error, capsys):
    with pytest.raises(type(error)) as raised:
        run_safely(failing(error), Console())
    assert raised.value is error
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bug in sagan" in said
    assert "sagan --version" in said


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate")])
def test_too_little_memory_is_one_sentence_and_no_bug(error, capsys):
    assert run_safely(failing(error), Console()) == 2
    expected = "error: there is too little memory: close other programs, or ask for less\n"
    assert capsys.readouterr().err == expected


def test_ctrl_c_is_status_130(capsys):
    assert run_safely(failing(KeyboardInterrupt()), Console()) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="sends a signal the POSIX way")
def test_sigterm_is_status_143_and_leaves_the_former_handler(capsys):
    former = signal.getsignal(signal.SIGTERM)

    def action():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    assert run_safely(action, Console()) == 143
    assert signal.getsignal(signal.SIGTERM) is former


def test_a_command_runs_in_another_thread_too():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(run_safely(lambda: 0, Console())))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_quiet_leaves_only_warnings(capsys):
    console = Console(quiet=True)
    console.say("something")
    console.warn("look out")
    assert capsys.readouterr() == ("", "warning: look out\n")


def test_brackets_are_said_as_they_are(capsys):
    Console().say("[red]a[/red] [1] C:\\x")
    assert capsys.readouterr().out == "[red]a[/red] [1] C:\\x\n"


def test_a_record_on_one_line_has_every_figure():
    line = RECORD.describe()
    for figure in ("12 img/s", "D 1.500", "G -0.250", "D(real) +0.50", "D(fake) -0.50", "G16 +0.125", "D4 -0.500"):
        assert figure in line


def test_in_a_log_file_progress_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("sagan.system.console.time.monotonic", lambda: next(clock))
    with Console().progress("drawing") as progress:
        for done in range(1, 6):
            progress(done, 5)
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 3
    assert all(line.startswith("drawing ") and "/s, " in line and line.endswith(" left") for line in lines)


def test_in_a_log_file_training_says_the_first_and_the_last_record(capsys):
    with Console().training(10, 14) as show:
        for step in range(11, 15):
            show(step, RECORD if step % 2 == 0 else None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["12/14", "14/14"]


def test_the_step_that_warms_up_is_no_part_of_the_pace(capsys, monkeypatch):
    clock = iter([0.0, 50.0, 50.0, 51.0, 51.0, 52.0, 52.0])
    monkeypatch.setattr("sagan.system.console.time.monotonic", lambda: next(clock))
    with Console().training(0, 3) as show:
        for step in (1, 2, 3):
            show(step, RECORD if step != 2 else None)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 1/3  12 img/s")
    assert last.startswith("step 3/3  0:00:00 left")


@pytest.fixture
def on_a_terminal(monkeypatch):
    """A console that writes for a terminal of 60 columns, and what it wrote."""
    file = io.StringIO()
    real = rich.console.Console
    monkeypatch.setattr(
        "sagan.system.console.rich.console.Console",
        lambda **options: real(**options, file=file, force_terminal=True, width=60),
    )
    return Console(), file


def test_on_a_narrow_terminal_every_figure_is_seen(on_a_terminal):
    console, file = on_a_terminal
    with console.training(0, 4) as show:
        show(2, RECORD)
    shown = file.getvalue()
    assert "2/4" in shown
    assert "D4" in shown
    assert "-0.500" in shown


def test_on_a_terminal_nothing_to_count_draws_no_bar(on_a_terminal):
    console, file = on_a_terminal
    with console.progress("preparing"):
        pass
    assert "preparing" not in file.getvalue()
    with console.progress("preparing") as progress:
        progress(3, 4)
    assert "3/4" in file.getvalue()


def test_a_sentence_is_never_broken_into_lines(on_a_terminal):
    console, file = on_a_terminal
    console.say("a path that must be copied whole: " + "x" * 100)
    assert file.getvalue().count("\n") == 1


def test_durations_read_as_hours_minutes_seconds():
    assert [duration(s) for s in (0, 59.9, 61, 3661)] == ["0:00:00", "0:00:59", "0:01:01", "1:01:01"]
    assert duration(11 * 86_400 + 3661) == "11 days 1:01:01"
    assert duration(float("inf")) == duration(1e300)


# ---- streams that cannot take everything


def sagan(*words, **options):
    """A process that runs a command of `sagan`, or Python code."""
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def ended_without_reader(process):
    """The status and the errors of a process whose output nobody reads."""
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    return process.wait(), errors


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_a_reader_who_leaves_is_no_error(words):
    assert ended_without_reader(sagan("-m", "sagan", *words)) == (0, "")


def test_work_goes_on_when_its_reader_has_left():
    code = (
        "import sys; from sagan.system.console import Console, run_safely\n"
        "def work():\n"
        "    for number in range(1000): console.say('x' * 100)\n"
        "    console.warn('done'); return 7\n"
        "console = Console(command=True); sys.exit(run_safely(work, console))"
    )
    assert ended_without_reader(sagan("-c", code)) == (7, "warning: done\n")


@pytest.mark.parametrize("place", ["full", "strict", "closed"])
def test_in_another_program_its_streams_stay_as_they_are(place, tmp_path):
    program = (
        "import os, sys; from sagan.system.console import Console\n"
        "before = [(s.errors, s.encoding, os.fstat(s.fileno())[1:3]) for s in (sys.stdout, sys.stderr) if s]\n"
        "console = Console(); console.say('a \\u65e5 b'); console.hang_up(); console.say('more')\n"
        "assert before == [(s.errors, s.encoding, os.fstat(s.fileno())[1:3]) for s in (sys.stdout, sys.stderr) if s]\n"
        "os._exit(7)"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, "-c", program]
    with Path("/dev/full" if place == "full" else tmp_path / "out").open("w") as out:
        if place == "closed":
            command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
        ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert ended.returncode == 7, ended.stderr


@pytest.mark.parametrize("command", [False, True])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_name_that_the_encoding_lacks_is_printed_with_backslashes(encoding, command):
    code = (
        "from sagan.system.console import Console\n"
        f"console = Console(command={command})\n"
        "for print in (console.say, console.warn): print('a \\udce9 \\u65e5')"
    )
    out, err = sagan("-c", code, env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}).communicate()
    shown = "日".encode() if encoding == "utf-8" else b"\\u65e5"
    assert (out, err) == (b"a \\udce9 " + shown + b"\n", b"warning: a \\udce9 " + shown + b"\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("both", [False, True])
def test_work_goes_on_where_output_cannot_be_written(both, tmp_path):
    program = (
        "from sagan.system.console import Console\n"
        "console = Console(command=True)\n"
        "for number in range(3):\n    console.say('said')\n    console.warn('warned')\n"
        "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    )
    with Path("/dev/full").open("w") as full:
        to = full if both else subprocess.PIPE
        command = [sys.executable, "-c", program, str(tmp_path / "done")]
        ended = subprocess.run(command, stdout=full, stderr=to, text=True, check=False)
    assert (ended.returncode, (tmp_path / "done").exists()) == (0, True)
    if not both:
        assert ended.stderr.count("standard output cannot be written (No space left on device)") == 1
        assert ended.stderr.count("warned") == 3
