"""Folders: what is read, what is left out and said, and when the identity changes."""

import errno
import io
import json
import os
from pathlib import Path

import pytest

from sagan.data.sources.open import open_source
from sagan.data.sources.own import mark_as_ours
from sagan.system.errors import UserError
from tests.data.sources.made import classes, picture, put, tree


def test_a_folder_is_read_at_any_depth_in_any_case_and_what_is_left_out_is_said(tmp_path):
    root = tmp_path / "CelebA"
    for name in ("z.JPG", "a/b/c.jpeg", "a/1.Png"):
        put(root / name, picture(0), "JPEG" if "j" in name.lower() else "PNG")
    put(root / ".hidden.png", picture(1))
    put(root / "__MACOSX" / "z.png", picture(1))
    put(root / ".cache" / "z.png", picture(1))
    put(root / "img" / "transformed_images_2" / "copy.png", picture(1))
    (root / "list.csv").write_text("1,2")
    source = open_source(root)
    assert [Path(source.name(i)).relative_to(root).as_posix() for i in range(len(source))] == [
        "a/1.Png",
        "a/b/c.jpeg",
        "z.JPG",
    ]
    assert "1 other file ignored" in source.description
    assert "transformed_images_2" in source.description
    copies = open_source(root / "img" / "transformed_images_2")  # named itself, it is read
    assert len(copies) == 1


def test_the_description_names_the_format_when_there_is_one(tmp_path):
    for i in range(3):
        put(tmp_path / "faces" / f"{i}.jpg", picture(i), "JPEG")
    assert open_source(tmp_path / "faces").description == f"3 JPEG files under {tmp_path / 'faces'}"


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path):
    put(tmp_path / "real" / "1.png", picture(1))
    (tmp_path / "set").mkdir()
    try:
        (tmp_path / "set" / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        (tmp_path / "real" / "circle").symlink_to(tmp_path / "set", target_is_directory=True)
        (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "nothing")
    except OSError:
        pytest.skip("this system does not let us make links")
    source = open_source(tmp_path / "set")
    assert [Path(source.name(i)).name for i in range(len(source))] == ["gone.png", "1.png"]
    with pytest.raises(UserError, match=r"gone\.png is a link to a file that is not there"):
        source.read(0)
    before = source.identity
    put(tmp_path / "nothing", picture(2))
    assert open_source(tmp_path / "set").identity != before  # so that it is tried again


@pytest.mark.parametrize("change", ["add", "remove", "rewrite", "edit", "rename"])
def test_the_identity_changes_when_the_images_do_and_not_when_the_folder_moves(change, tmp_path):
    for i in range(3):
        put(tmp_path / "set" / f"{i}.png", picture(i))
    before = open_source(tmp_path / "set").identity
    (tmp_path / "elsewhere").mkdir()
    root = (tmp_path / "set").rename(tmp_path / "elsewhere" / "set")
    (root / "notes.txt").write_text("no image")
    assert open_source(root).identity == before
    if change == "add":
        put(root / "3.png", picture(3))
    elif change == "remove":
        (root / "0.png").unlink()
    elif change == "rename":
        (root / "0.png").rename(root / "00.png")
    elif change == "edit":  # of the same size, and as old
        state = (root / "0.png").stat()
        data = bytearray((root / "0.png").read_bytes())
        data[-20] ^= 1
        (root / "0.png").write_bytes(data)
        os.utime(root / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        state = (root / "0.png").stat()
        put(root / "0.png", picture(9))
        os.utime(root / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    assert open_source(root).identity != before


def test_folders_without_images_say_what_was_looked_for_and_found(tmp_path):
    with pytest.raises(ValueError, match=r"no images found under .*: looked for \.jpg.*found no files at all"):
        open_source(tmp_path)
    for name in ("a.txt", "b.csv", "c.mp4"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match="found 3 other files"):
        open_source(tmp_path)
    put(tmp_path / "transformed_images" / "1.png", picture(1))
    with pytest.raises(ValueError, match=r"left out .*transformed_images .copies.*; name that folder itself"):
        open_source(tmp_path)
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"to read .*photos\.zip, name it itself"):
        open_source(tmp_path)


OURS = {
    "a run": ["config.json", "records.jsonl"],
    "a sweep": ["plan.json", "runs/one/config.json"],
    "prepared images": ["meta.json", "images.npy"],
    "samples or figures": [".sagan"],
}


@pytest.mark.parametrize("what", OURS)
def test_what_this_program_wrote_is_left_out_and_said(what, tmp_path):
    put(tmp_path / "photos" / "1.png", picture(1))
    before = open_source(tmp_path / "photos").identity
    made = tmp_path / "photos" / "deep" / "made"
    for name in OURS[what]:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("{}")
    put(made / "samples" / "1_fake.png", picture(2))
    source = open_source(tmp_path / "photos")
    assert len(source) == 1
    assert source.identity == before
    assert f"(left out {made}: {what} of sagan)" in source.description
    if what == "samples or figures":
        assert len(open_source(made)) == 1  # named itself, as to score it
    elif what != "prepared images":  # which are a source of their own
        with pytest.raises(UserError, match=f"holds {what} of sagan, not images to train on"):
            open_source(made)


def test_a_marked_folder_is_ours(tmp_path):
    put(tmp_path / "1.png", picture(1))
    mark_as_ours(tmp_path / "new" / "samples")
    put(tmp_path / "new" / "samples" / "2.png", picture(1))
    assert len(open_source(tmp_path)) == 1


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"])
def test_folders_of_the_system_are_left_out_and_said(name, tmp_path):
    put(tmp_path / "1.png", picture(1))
    put(tmp_path / "sub" / name / "thumb.png", picture(2))
    source = open_source(tmp_path)
    assert len(source) == 1
    assert f"(left out {tmp_path / 'sub' / name}: made by the system)" in source.description


def test_a_file_that_cannot_be_reached_is_not_a_damaged_image(tmp_path):
    for i in range(2):
        put(tmp_path / f"{i}.png", picture(i))
    source = open_source(tmp_path)
    (tmp_path / "1.png").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        source.read(1)


def test_the_labels_of_a_stylegan_data_set_are_its_classes(tmp_path):
    for i in range(4):
        put(tmp_path / f"0000{i // 2}" / f"{i}.png", picture(i))
    labels = [[f"0000{i // 2}/{i}.png", 10 * (i % 2) + 2] for i in range(4)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    source = open_source(tmp_path)
    assert classes(source) == ["2", "12", "2", "12"]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": None}))
    assert classes(open_source(tmp_path)) == [None] * 4
    assert open_source(tmp_path).identity != source.identity
    (tmp_path / "dataset.json").write_text(json.dumps({"made by": "another program"}))
    assert classes(open_source(tmp_path)) == ["00000", "00000", "00001", "00001"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "dataset.json is not JSON"),
        ("[" * 100_000, "dataset.json is not JSON"),
        ('{"labels": 5}', "must be a list of names and numbers, got 5"),
        ('{"labels": [["1.png", 0.5]]}', r"must be an image's name and its class's number, got \['1.png', 0.5\]"),
        ('{"labels": [["2.png", 1]]}', "has no label for 1.png"),
    ],
)
def test_labels_that_cannot_be_taken_are_refused(content, sentence, tmp_path):
    put(tmp_path / "1.png", picture(1))
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        open_source(tmp_path)


def test_folders_that_link_to_each_other_are_read_once(tmp_path):
    folders = [tmp_path / "set" / f"{number:02d}" for number in range(12)]
    for number, folder in enumerate(folders):
        put(folder / f"{number}.png", picture(number))
    for folder in folders:
        for other in folders:
            if other != folder:
                (folder / f"to-{other.name}").symlink_to(other, target_is_directory=True)
    (tmp_path / "set" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_source(tmp_path / "set")) == 12


def test_a_link_to_itself_is_a_link_to_nothing(tmp_path):
    put(tmp_path / "set" / "1.png", picture(1))
    for name in ("loop.png", "folder"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "set" / name)
    source = open_source(tmp_path / "set")
    assert len(source) == 2
    with pytest.raises(UserError, match="is a link to a file that is not there"):
        source.read(1)


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path, monkeypatch):
    put(tmp_path / "1.png", picture(1))

    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def fileno(self):
            return os.open(tmp_path / "1.png", os.O_RDONLY)

    source = open_source(tmp_path)
    monkeypatch.setattr("sagan.system.files.open_regular", lambda path: Failing())
    with pytest.raises(OSError, match="1.png"):
        _ = source.identity


def test_pipes_devices_and_files_of_the_system_are_left_out_and_said(tmp_path):
    put(tmp_path / "set" / "1.png", picture(1))
    os.mkfifo(tmp_path / "pipe")
    for name, target in {"a.png": "/dev/zero", "b.png": tmp_path / "pipe", "c.png": "/proc/kmsg", "d": "/proc"}.items():
        (tmp_path / "set" / name).symlink_to(target)
    source = open_source(tmp_path / "set")
    assert len(source) == 1
    left_out = 4 if Path("/proc").is_mount() else 2
    assert f"(left out {left_out}: pipes, devices or files of the system, such as a.png)" in source.description
    assert len(source.identity) > 64


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("name", ["ffhq/dataset.json", "ffhq/Dataset.JSON", "DATASET.json"])
def test_labels_are_read_in_any_folder_that_holds_all_images(kind, name, tmp_path):
    folder = name.rpartition("/")[0]
    images = [f"0000{i // 2}/{i}.png" for i in range(4)]
    below = "" if folder else "ffhq/"
    labels = json.dumps({"labels": [[below + image, i % 2] for i, image in enumerate(images)]})
    source = tree(kind, tmp_path, *(f"ffhq/{image}" for image in images), contents={name: labels})
    assert classes(source) == ["0", "1", "0", "1"]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_labels_that_are_not_above_all_images_are_said_to_be_unread(kind, tmp_path):
    source = tree(kind, tmp_path, "a/x.png", "b/00000/1.png", contents={"b/dataset.json": '{"labels": []}'})
    assert classes(source) == ["a", "b"]
    assert source.remarks == ("b/dataset.json is not read: its folder does not hold all images",)


def test_new_labels_of_the_same_images_change_the_signature(tmp_path):
    found = set()
    for label in (0, 1):
        content = json.dumps({"labels": [["1.png", label]]})
        found.add(tree("folder", tmp_path, "1.png", contents={"dataset.json": content}).signature)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("whole", "gone", "sentence"),
    [
        (10, ["sub"], "sub is a link to something that is not there"),
        (10, ["v1.0"], "v1.0 is a link to something that is not there"),
        (10, ["dataset.json"], "dataset.json is a link to something that is not there"),
        (10, [f"l{i}.png" for i in range(30)], "30 of the 40 images .* are links to files that are not there"),
        (2, ["l1.png", "l2.png"], "2 of the 4 images"),
        (10, ["l.png", "notes.txt"], None),
        (1, ["l.png"], None),
    ],
)
def test_more_than_lone_links_to_nothing_are_refused(whole, gone, sentence, tmp_path):
    for i in range(whole):
        put(tmp_path / "set" / f"{i}.png", picture(0))
    for name in gone:
        (tmp_path / "set" / name).symlink_to(tmp_path / "away" / name)
    if sentence is None:
        assert len(open_source(tmp_path / "set")) == whole + sum(name.endswith(".png") for name in gone)
        return
    with pytest.raises(UserError, match=sentence):
        open_source(tmp_path / "set")


def test_what_is_not_read_even_if_it_is_named_is_not_proposed(tmp_path):
    (tmp_path / "runs" / "one" / "snapshots").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "config.json").touch()
    with pytest.raises(UserError, match=r"left out .*one \(a run of sagan\)$"):
        open_source(tmp_path / "runs")


def test_a_folder_of_the_system_is_left_out_even_if_it_cannot_be_read(tmp_path, monkeypatch):
    put(tmp_path / "1.png", picture(1))
    for name in ("lost+found", "@sharebin", "RECYCLER", "~snapshot"):
        put(tmp_path / name / "2.png", picture(1))
    real = os.scandir

    def scandir(path):
        if str(path) != str(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    source = open_source(tmp_path)
    assert len(source) == 1
    assert source.description.count("made by the system") == 4


def test_many_folders_that_are_left_out_are_counted(tmp_path):
    photos = tmp_path / "photos"
    put(photos / "1.png", picture(1))
    for what, count in (("a run", 3), ("prepared images", 2)):
        for number in range(count):
            for name in OURS[what]:
                (photos / f"{what}-{number}" / name).parent.mkdir(parents=True, exist_ok=True)
                (photos / f"{what}-{number}" / name).write_text("{}")
    for number in range(20):
        put(photos / f"{number}" / "@eaDir" / "1.png", picture(1))
    (photos / "prepared" / "identities").mkdir(parents=True)
    (photos / "prepared" / "identities" / ("0f" * 32)).write_text("photos")
    said = open_source(photos).description
    assert said.endswith(
        f"under {photos} (left out 3 runs and 2 stores of sagan) "
        f"(left out 20 folders, such as {photos / '0' / '@eaDir'}: made by the system)"
    )
