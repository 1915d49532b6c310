"""Links, pipes, devices and files of the system in the place of every file that is read: nothing waits, nothing is
changed, and a sentence names the file."""

import contextlib
import json
import os
import shutil
import socket
import tarfile
from pathlib import Path

import pytest

from sagan.core.shapes import ImageShape
from sagan.data.partial import Partial
from sagan.data.sources.open import open_source
from sagan.data.sources.own import refuse_foreign_images
from sagan.data.sources.zip import ZipSource
from sagan.experiments.sweep import _last_words
from sagan.run.folder import Run
from sagan.run.plan import read_plan
from sagan.run.records import RecordReader
from sagan.run.status import Watched
from sagan.run.store import Store
from sagan.run.weights import load_snapshot
from sagan.system.errors import UserError
from sagan.system.files import is_held, read_regular
from sagan.system.torch_files import read_torch_file
from sagan.system.typed import read_json
from sagan.viewing.samples import _first_missing
from tests.attacks.made import ENDLESS, few_mebibytes, nested, put_endless
from tests.data.sources.made import picture, put
from tests.old.conftest import ARCHIVE
from tests.old.test_mutations import TARGETS

pytestmark = [
    pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="this system has no pipes, devices and /proc"),
    pytest.mark.timeout(30),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("name", sorted({target.file for target in TARGETS.values()}))
def test_a_file_of_ours_that_is_none(name, kind, whole):
    path = whole / name
    path.rename(kept := path.with_name("kept"))
    try:
        put_endless(path, kind)
        for target in TARGETS.values():
            if target.file == name:
                with pytest.raises(UserError):
                    target.read(path)
    finally:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        path.with_name("a pipe").unlink(missing_ok=True)
        kept.rename(path)


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("name", ["checkpoints/last.pt", "running.lock", "records.lock", "records.jsonl", "FAILED"])
def test_status_and_records_of_a_run_with_a_file_that_is_none(name, kind, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    put_endless(tmp_path / name, kind)
    run = Watched(tmp_path, total=10, failure=tmp_path / "FAILED")
    if name == "records.jsonl":
        with pytest.raises(UserError, match="records"):
            run.look("cut")
    else:
        assert run.look().step == 0
    if name == "records.lock":
        with pytest.raises(UserError, match="lock is a link, a folder, a pipe or a device, not a lock file"):
            Run(tmp_path).append()


def test_a_lock_that_is_a_link_changes_nothing(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "running.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="not a lock file"), Run(tmp_path / "run").locked():
        pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("name", ["1.png", "set.zip", "set.npy", "data.mdb", "set.mdb", "dataset.json", "x/data.mdb"])
def test_images_that_are_none(name, kind, tmp_path):
    put(tmp_path / "set" / "0.png", picture(0))
    path = tmp_path / "set" / name
    put_endless(path, kind)
    if (name, kind) == ("data.mdb", "/proc/kmsg"):  # it makes an LMDB of the folder
        with pytest.raises(UserError, match="is a pipe or a device, not a file"):
            open_source(tmp_path / "set")
        return
    source = open_source(tmp_path / "set")
    assert [source.name_within(index) for index in range(len(source))] == ["0.png"]
    assert len(source.identity) > 64
    if not name.endswith((".json", ".png")) and kind != "folder":
        with pytest.raises(UserError):
            open_source(path)


@pytest.mark.parametrize("target", ["/proc", "/sys", "/dev", "..", "."])
def test_a_link_to_a_folder_of_the_system_or_above(target, tmp_path):
    put(tmp_path / "set" / "0.png", picture(0))
    (tmp_path / "set" / "link").symlink_to(target)
    assert len(open_source(tmp_path / "set")) == 1


def test_folders_that_link_to_each_other_are_walked_once(tmp_path):
    for one in range(9):
        put(tmp_path / str(one) / "0.png", picture(0))
        for other in range(9):
            (tmp_path / str(one) / f"to {other}").symlink_to(tmp_path / str(other))
    assert len(open_source(tmp_path)) == 9


def test_folders_at_any_depth(tmp_path):
    with nested(tmp_path, ["d"] * 1500):
        assert len(open_source(tmp_path)) == 1
        with pytest.raises(UserError, match="holds other images"):
            refuse_foreign_images(tmp_path, "--out")


def test_a_path_longer_than_the_system_allows_is_left_out(tmp_path):
    put(tmp_path / "0.png", picture(0))
    with nested(tmp_path, ["d" * 250] * 20):
        source = open_source(tmp_path)
    assert len(source) == 1
    assert "too long for this system" in source.description


def test_a_file_that_is_not_there_and_one_of_a_terabyte(tmp_path):
    put(tmp_path / "0.png", picture(0))
    (tmp_path / "1.png").symlink_to("nothing")
    with (tmp_path / "2.png").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    source = open_source(tmp_path)
    assert len(source.identity) > 64  # without reading it
    for index, why in ((1, "is a link to a file that is not there"), (2, "cannot be read: it has 1,099,511,627,776")):
        with pytest.raises(UserError, match=why):
            source.read(index)


@pytest.mark.parametrize("name", ["config.json", "records.jsonl"])
def test_a_text_of_a_terabyte(name, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=f"{name}.* has 1,099,511,627,776 bytes"):
        _ = Run(tmp_path).config() if name == "config.json" else Run(tmp_path).records()


# ---- files that are exchanged


@pytest.mark.parametrize("read", [read_regular, is_held, load_snapshot, read_torch_file, ZipSource, read_json])
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(read, tmp_path, monkeypatch):
    """Whatever was seen under its name before it is opened."""
    (tmp_path / "regular").touch()
    os.mkfifo(tmp_path / "a.zip")
    state = (tmp_path / "regular").stat()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", lambda self, **options: state)
        patch.setattr(Path, "is_file", lambda self: True)
        patch.setattr(Path, "is_dir", lambda self: False)
        if read is is_held:
            assert not read(tmp_path / "a.zip")
        else:
            with pytest.raises(UserError, match=r"a\.zip is a pipe or a device"):
                read(tmp_path / "a.zip")


def test_a_socket_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the paths of sockets are short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("a.json")
        with pytest.raises(UserError, match="is a pipe or a device"):
            read_regular(Path("a.json"))


def test_a_folder_of_samples_with_a_pipe_for_an_image(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    assert _first_missing(tmp_path, "{}.png".format, 3) == 0


# ---- texts


NESTED = b"[" + b"[]," * 2**19 + b"[]]"  # of which the values take thirty times as much memory


@pytest.mark.parametrize("name", ["config.json", "plan.json", "meta.json", "names.json", "records.jsonl"])
def test_a_text_that_takes_much_memory(name, tmp_path, whole):
    for path in (whole / "prepared" / "photos-16-88a428ff17").iterdir() if name in ("meta.json", "names.json") else ():
        shutil.copy(path, tmp_path)
    (tmp_path / name).write_bytes(NESTED * (12 if name == "plan.json" else 44 if name == "meta.json" else 1) + b"\n")
    read = {
        "config.json": lambda: Run(tmp_path).config(),
        "plan.json": lambda: read_plan(tmp_path / "plan.json"),
        "meta.json": lambda: Store.open(tmp_path),
        "names.json": lambda: Store.open(tmp_path).names(),
        "records.jsonl": lambda: Run(tmp_path).records(),
    }
    with few_mebibytes(10), pytest.raises(UserError, match=rf"{name}.* bytes"):
        read[name]()


def test_records_of_empty_lines(tmp_path):
    (tmp_path / "records.jsonl").write_bytes(b"\n" * 2**22)
    seen = []
    with few_mebibytes(20):
        with pytest.raises(UserError, match="line 1,"):
            Run(tmp_path).records()
        with pytest.raises(UserError, match="line 1001,"):
            RecordReader(tmp_path / "records.jsonl").read(seen.append)


def test_a_journal_of_more_images_than_a_chunk_has(tmp_path):
    key = {"source": "x"}
    line = {"read": 2**60, "count": 2**60, "enlarged": 0, "skipped": [], "unused": [], "sha256": "0" * 64}
    folder = tmp_path / "a.partial"
    folder.mkdir()
    (folder / "journal.jsonl").write_text(f"{json.dumps(key)}\n{json.dumps(line)}\n")
    with contextlib.closing(Partial(folder, key, ImageShape.square(8), print)) as partial:
        assert partial.read == partial.count == 0


def test_a_log_is_read_from_its_end(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        file.truncate(2**40)
        file.seek(0, 2)
        file.write(b"\nerror: it went wrong\n")
    assert _last_words(tmp_path / "log", 0, 2) == "it went wrong"
