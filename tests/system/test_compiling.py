import os
import stat

import pytest

from sagan.system.compiling import VARIABLE, compile_into_own_cache, is_private


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sagan" / "compiled"


def test_compiled_programs_are_kept_in_a_folder_of_ones_own(cache):
    compile_into_own_cache()
    assert os.environ[VARIABLE] == str(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_the_variable_of_torch_wins(cache, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    compile_into_own_cache()
    assert os.environ[VARIABLE] == "/elsewhere"
    assert not cache.exists()


@pytest.mark.parametrize("trouble", ["others may write", "a file is there", "no home"])
def test_where_there_is_no_folder_of_ones_own_a_new_one_is_made(trouble, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if trouble == "others may write":
        cache.mkdir(parents=True)
        cache.chmod(0o777)
    elif trouble == "a file is there":
        cache.parent.write_text("")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "~nosuchuser")
    compile_into_own_cache()
    made = os.environ[VARIABLE]
    assert made.startswith(str(tmp_path / "sagan-compiled-"))
    assert is_private(type(tmp_path)(made))
