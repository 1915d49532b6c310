import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sagan.system.errors import UserError
from sagan.system.files import exclusive_lock, expand, is_held, write_whole


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
