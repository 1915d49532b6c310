import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sagan.system.files
from sagan.system.errors import UserError
from sagan.system.files import exclusive_lock, expand, is_held, keep_as, remove_partial_files, write_whole


class Busy(Exception):
    pass


def refuse():
    raise Busy


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_written_whole(tmp_path, sync):
    path = tmp_path / "deep" / "file"
    write_whole(path, lambda file: file.write(b"one"), sync=sync)
    write_whole(path, lambda file: file.write(b"two"), sync=sync)
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda file: file.write(b"old"))

    def half(file):
        file.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, half)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_lock_is_held_by_one_and_given_back(tmp_path):
    path = tmp_path / "lock"
    with exclusive_lock(path, refuse), pytest.raises(Busy), exclusive_lock(path, refuse):
        pass
    with exclusive_lock(path, refuse):
        pass
    assert not path.exists()


def test_a_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyError), exclusive_lock(tmp_path / "lock", refuse):
        raise KeyError
    with exclusive_lock(tmp_path / "lock", refuse):
        pass


def test_the_next_holder_of_a_lock_holds_the_file_that_others_will_see(tmp_path):
    """The first holder removes the file when done; one who waited on it must not take the removed one for the lock."""
    path, held, told = tmp_path / "lock", threading.Event(), threading.Event()

    def first():
        with exclusive_lock(path, refuse):
            held.set()
            assert told.wait(30)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(first)
        assert held.wait(30)
        with exclusive_lock(path, told.set):
            done.result()
            assert is_held(path)
            with pytest.raises(Busy), exclusive_lock(path, refuse):
                pass
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="kills a process the POSIX way")
def test_the_lock_of_a_killed_process_does_not_hold(tmp_path):
    path = tmp_path / "lock"
    holder = (
        "import sys, time; from pathlib import Path; from sagan.system.files import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), sys.exit): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Busy), exclusive_lock(path, refuse):
            pass
    finally:
        process.kill()
        process.communicate()
    assert path.exists()
    with exclusive_lock(path, refuse):
        pass


def test_a_lock_in_a_folder_that_is_gone_makes_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError), exclusive_lock(tmp_path / "gone" / "lock", refuse):
        pass
    assert not list(tmp_path.iterdir())


def test_of_many_at_once_one_holds_the_lock(tmp_path):
    """Each removes the file that others are about to lock."""
    inside, together = [], []

    def hold(number):
        for _ in range(20):
            with exclusive_lock(tmp_path / "lock", lambda: None):
                inside.append(number)
                together.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, range(4)))
    assert together == [1] * 80
    assert not list(tmp_path.iterdir())


def test_home_folders_are_expanded_and_unknown_users_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand("~/runs") == Path("/home/me/runs")
    assert expand(Path("a/~b")) == Path("a/~b")
    with pytest.raises(UserError, match="~nobody-here/x cannot be expanded: ~nobody-here is not the home folder"):
        expand("~nobody-here/x")


# ---- several at once, and what killed ones leave


def test_many_who_write_one_file_at_once_do_not_get_in_each_others_way(tmp_path):
    contents = [bytes([65 + number]) * 50_000 for number in range(4)]

    def write(content):
        for _ in range(20):
            write_whole(tmp_path / "file", lambda file: file.write(content), sync=False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unfinished_files_are_removed_by_their_name(tmp_path):
    for name in (".last.pt.1a.partial", ".last.pt.partial", ".other.1a.partial", "last.pt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / ".last.pt.folder.partial").mkdir()
    remove_partial_files(tmp_path, "last.pt")
    assert {path.name for path in tmp_path.iterdir()} == {
        *(".other.1a.partial", "last.pt", ".hidden", ".last.pt.folder.partial")
    }
    remove_partial_files(tmp_path)
    assert not (tmp_path / ".other.1a.partial").exists()


# ---- file systems that lack something


@pytest.fixture
def nothing_said(monkeypatch):
    monkeypatch.setattr(sagan.system.files, "_warned", set())


def lacking(number):
    """What a function does on a file system without it."""

    def function(*arguments):
        raise OSError(number, os.strerror(number))

    return function


UNSUPPORTED = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL]


@pytest.mark.parametrize("number", UNSUPPORTED)
def test_a_file_system_that_cannot_flush_is_warned_of_once(number, tmp_path, monkeypatch, capsys, nothing_said):
    monkeypatch.setattr(os, "fsync", lacking(number))
    for name in ("one", "two"):
        write_whole(tmp_path / name, lambda file: file.write(b"whole"))
        assert (tmp_path / name).read_bytes() == b"whole"
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "cannot flush to the disk" in said


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
@pytest.mark.parametrize("number", UNSUPPORTED)
def test_a_file_system_without_locks_is_warned_of_once(number, tmp_path, monkeypatch, capsys, nothing_said):
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lacking(number))
    for _ in range(2):
        with exclusive_lock(tmp_path / "lock", refuse):
            assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "has no locks" in said


def test_any_other_error_of_the_disk_is_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lacking(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "file", lambda file: file.write(b"whole"))
    assert not list(tmp_path.iterdir())


def test_a_file_is_kept_where_there_are_no_hard_links(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"whole")
    monkeypatch.setattr(os, "link", lacking(errno.EPERM))
    keep_as(tmp_path / "file", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"whole"
