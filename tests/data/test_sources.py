"""Sources: every kind of place gives the same images, every pixel mode becomes RGB, bad input is answered plainly."""

import io
import os
import pickle
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sagan.data.sources import Source, decode, find_dataset, open_source

SHARED = Path(__file__).parents[3] / "shared" / "data"


def picture(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, image: Image.Image, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image, kind))


def make_lmdb(folder: Path, entries: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return folder


def make_source(kind: str, folder: Path) -> Source:
    """The pictures 0..3 in a source of each kind; the folder and the zip are nested."""
    if kind == "folder":
        for i in range(4):
            put(folder / "set" / ("a" if i < 2 else "b") / f"{i}.png", picture(i))
        return open_source(folder / "set")
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for i in (2, 0, 3, 1):
                archive.writestr(f"deep/er/{i}.PNG", encoded(picture(i)))
        return open_source(folder / "set.zip")
    if kind == "lmdb":
        return open_source(make_lmdb(folder / "set_lmdb", {b"k%d" % i: encoded(picture(i)) for i in (3, 1, 0, 2)}))
    np.save(folder / "set.npy", np.stack([np.asarray(picture(i)) for i in range(4)]))
    return open_source(folder / "set.npy")


KINDS = ["folder", "zip", "lmdb", "npy"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_images_in_order(kind, tmp_path):
    source = make_source(kind, tmp_path)
    assert isinstance(source, Source)
    assert len(source) == 4
    for i in range(4):
        assert source.read(i).mode == "RGB"
        assert np.array_equal(np.asarray(source.read(i)), np.asarray(picture(i)))
    assert len({source.name(i) for i in range(4)}) == 4
    assert source.identity.startswith("set")
    assert source.description.startswith("4 ")


@pytest.mark.parametrize("kind", KINDS)
def test_reading_is_safe_from_many_threads_and_survives_pickling(kind, tmp_path):
    source = make_source(kind, tmp_path)
    for reader in (source, pickle.loads(pickle.dumps(source))):
        with ThreadPoolExecutor(8) as pool:
            images = list(pool.map(lambda k, reader=reader: np.asarray(reader.read(k % 4)), range(200)))
        assert all(np.array_equal(image, np.asarray(picture(k % 4))) for k, image in enumerate(images))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_reads_from_the_same_source(kind, tmp_path):
    source = make_source(kind, tmp_path)
    source.read(0)
    child = os.fork()
    if not child:
        same = all(np.array_equal(np.asarray(source.read(i)), np.asarray(picture(i))) for i in range(4))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_one_lmdb_can_be_two_sources_at_once(tmp_path):
    first = make_source("lmdb", tmp_path)
    for second in (open_source(tmp_path / "set_lmdb"), open_source(tmp_path / "set_lmdb" / "data.mdb")):
        assert np.array_equal(np.asarray(first.read(1)), np.asarray(second.read(1)))


# ---- folders


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
    with pytest.raises(OSError, match=r"gone\.png"):
        source.read(0)


@pytest.mark.parametrize("change", ["add", "remove", "rewrite", "rename"])
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
    else:
        state = (root / "0.png").stat()
        put(root / "0.png", picture(9))
        os.utime(root / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    assert open_source(root).identity != before


# ---- classes


def tree(kind: str, folder: Path, *names: str) -> Source:
    """A folder or a zip of images with these names, in which nothing but the names is right."""
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        return open_source(folder / "set.zip")
    for name in names:
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(b"x")
    return open_source(folder / "set")


def classes(source: Source) -> list[str | None]:
    return [source.class_of(i) for i in range(len(source))]


@pytest.mark.parametrize("above", ["", "set/", "train/images/"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_class_of_an_image_is_the_first_folder_that_not_all_images_share(kind, above, tmp_path):
    names = ["dog/1.png", "cat/old/2.png", "cat/old/cat/3.png", "a b/é.png", "cat/1.png", "a/.b/no.png"]
    source = tree(kind, tmp_path, *(above + name for name in names), "notes.txt", "__MACOSX/x/1.png", "none/read.txt")
    assert classes(source) == ["a b", "cat", "cat", "cat", "dog"]
    assert source.no_classes == ""


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["1.png", "2.png"], "its images lie in one folder, not in a folder for each class"),
        (["cat/old/1.png", "cat/old/2.png"], "its images lie in one folder"),
        (["a/b/only.png"], "its images lie in one folder"),
        (
            ["cat/1.png", "dog/2.png", "zz.png"],
            r"^zz\.png lies beside folders of images; move it into the folder of its",
        ),
        (["x/0.png", "x/cat/1.png", "x/dog/2.png"], r"^x/0\.png lies beside folders of images"),
        (["x/0.png", "x/cat/1.png"], r"^x/0\.png lies beside"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_that_no_folder_tells_apart_have_no_classes(kind, names, why, tmp_path):
    source = tree(kind, tmp_path, *names)
    assert classes(source) == [None] * len(names)
    assert re.search(why, source.no_classes)


@pytest.mark.parametrize("kind", ["lmdb", "npy"])
def test_databases_and_arrays_have_no_classes(kind, tmp_path):
    source = make_source(kind, tmp_path)
    assert classes(source) == [None] * 4
    assert source.no_classes == "only a folder or a zip with a folder for each class has classes"


# ---- pixels


def value(image: Image.Image, kind: str = "PNG", **options) -> tuple[int, int, int]:
    """The first pixel after writing, reading back and turning to RGB."""
    result = decode(encoded(image, kind, **options), "it")
    assert result.mode == "RGB"
    return result.getpixel((0, 0))


def palette_image(transparency: int | None = None) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (2, 2), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (2, 2), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (2, 2), (40, 255)), "PNG", (40, 40, 40)),
        (Image.new("RGBA", (2, 2), (200, 100, 50, 255)), "PNG", (200, 100, 50)),
        (Image.new("RGBA", (2, 2), (200, 100, 50, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (palette_image(), "PNG", (10, 200, 30)),
        (palette_image(transparency=1), "PNG", (255, 255, 255)),
        (palette_image(), "GIF", (10, 200, 30)),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "BMP", (1, 2, 3)),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "PPM", (1, 2, 3)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "TIFF", (255, 255, 255)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
    ],
)
def test_every_pixel_mode_becomes_rgb(image, kind, expected):
    assert value(image, kind) == expected


def test_a_cmyk_jpeg_is_not_inverted():
    red, green, blue = value(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert red > 245
    assert max(green, blue) < 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("deep", "expected"), [(65535, 255), (0, 0), (32896, 128), (257, 1), (255, 1), (128, 0), (129, 1)]
)
def test_16_bit_grey_is_scaled_not_clipped(kind, deep, expected):
    image = Image.fromarray(np.full((2, 2), deep, dtype=np.uint16))
    assert value(image, kind) == (expected,) * 3


def test_16_bit_colour_and_portable_maps_are_scaled():
    assert decode(b"P6 1 1 65535\n\xff\xff\x00\x00\x80\x80", "it").getpixel((0, 0)) == (255, 0, 128)
    assert decode(b"P5 1 1 65535\n\xff\xff", "it").getpixel((0, 0)) == (255, 255, 255)


def test_numbers_without_a_known_range_are_refused():
    with pytest.raises(ValueError, match="floating-point"):
        value(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    with pytest.raises(ValueError, match="70000"):
        value(Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)), "TIFF")


def test_exif_orientation_is_applied():
    image = picture(5, width=16, height=8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to look at it
    turned = decode(encoded(image, "PNG", exif=exif), "it")
    assert np.array_equal(np.asarray(turned), np.asarray(image.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_one_three_and_four_channels(channels, tmp_path):
    array = np.full((2, 4, 4, channels), 90, dtype=np.uint8)
    array[1, ..., -1] = 255 if channels != 4 else 0
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    assert source.read(0).getpixel((0, 0)) == {1: (90, 90, 90), 3: (90, 90, 90), 4: (197, 197, 197)}[channels]
    assert source.read(1).getpixel((0, 0)) == {1: (255,) * 3, 3: (90, 90, 255), 4: (255,) * 3}[channels]


# ---- bad input


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("kind", ["folder", "zip", "lmdb"])
def test_a_damaged_image_is_named(kind, damage, tmp_path):
    whole = encoded(picture(0, 64, 64), "JPEG")
    data = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no image at all"}[damage]
    if kind == "folder":
        (tmp_path / "bad.jpg").write_bytes(data)
        source = open_source(tmp_path)
    elif kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr("bad.jpg", data)
        source = open_source(tmp_path / "set.zip")
    else:
        source = open_source(make_lmdb(tmp_path / "set", {b"bad.jpg": data}))
    with pytest.raises(ValueError, match=r"bad\.jpg cannot be read: \w+") as caught:
        source.read(0)
    assert "object at 0x" not in str(caught.value)  # the reason is stored, so it must be the same each time


def test_a_damaged_zip_member_is_named(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.png", encoded(picture(0, 40, 40)))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.png cannot be read"):
        open_source(path).read(0)


def test_a_missing_path_suggests_the_nearest_name(tmp_path):
    (tmp_path / "CelebA" / "img").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"did you mean .*CelebA\?"):
        open_source(tmp_path / "celeb" / "img")
    with pytest.raises(ValueError, match="has no 'zzz'"):
        open_source(tmp_path / "zzz")


def test_folders_without_images_say_what_was_looked_for_and_found(tmp_path):
    with pytest.raises(ValueError, match=r"no images found under .*: looked for \.jpg.*found no files at all"):
        open_source(tmp_path)
    for name in ("a.txt", "b.csv", "c.mp4"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match="found 3 other files"):
        open_source(tmp_path)
    put(tmp_path / "transformed_images" / "1.png", picture(1))
    with pytest.raises(ValueError, match=r"left out .*transformed_images .name that folder itself"):
        open_source(tmp_path)
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"to read .*photos\.zip, name it itself"):
        open_source(tmp_path)


def test_files_that_are_no_source(tmp_path):
    put(tmp_path / "one.png", picture(0))
    with pytest.raises(ValueError, match="one image: name the folder"):
        open_source(tmp_path / "one.png")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="not a folder of images, a zip"):
        open_source(tmp_path / "notes.txt")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="not a whole zip"):
        open_source(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "lsun.zip", "w") as archive:
        archive.writestr("church_outdoor_train_lmdb/data.mdb", b"x")
    with pytest.raises(ValueError, match=r"holds an LMDB .*: unpack it"):
        open_source(tmp_path / "lsun.zip")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), r"transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint8), r"shape \(8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"shape \(0, 8, 8, 3\)"),
        (np.zeros((2, 8, 8, 2), np.uint8), "1, 3 or 4 channels"),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / "a.npy")


def test_an_array_file_cut_short_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8, 3), np.uint8))
    data = (tmp_path / "a.npy").read_bytes()
    for length in (0, 20, len(data) - 1):
        (tmp_path / "a.npy").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"not a whole \.npy"):
            open_source(tmp_path / "a.npy")


def test_lmdbs_that_cannot_be_read(tmp_path):
    folder = make_lmdb(tmp_path / "cut_lmdb", {b"%d" % i: encoded(picture(i, 50, 50)) for i in range(20)})
    data = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(data[: 5 * 4096])
    with pytest.raises(ValueError, match="cut short"):
        open_source(folder)
    (folder / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(ValueError, match="cannot be opened as an LMDB"):
        open_source(folder)
    with pytest.raises(ValueError, match="no entries"):
        open_source(make_lmdb(tmp_path / "empty_lmdb", {}))


def test_without_the_lmdb_package_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "data.mdb").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ValueError, match=r"pip install 'sagan\[data\]'"):
        open_source(tmp_path)


# ---- known data sets


@pytest.mark.parametrize(
    ("dataset", "image_path", "expected", "file"),
    [
        ("celeb", "data", "data/CelebA/img_align_celeba/img_align_celeba", "1.jpg"),
        ("celeb", "data", "data/CelebA/img_align_celeba", "1.jpg"),
        ("celeb", "data", "data/CelebA", "1.jpg"),
        ("celeb", "data", "data/celeba", "faces/1.jpg"),
        ("celeb", "data", "data/img_align_celeba", "1.jpg"),
        ("celeb", "data/img_align_celeba", "data/img_align_celeba", "1.jpg"),
        ("celeb", "photos", "photos", "1.jpg"),
        ("celeb", "data", "data/CelebA/celeba-dataset.zip", ""),
        ("lsun", "data", "data/LSUN/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data", "data/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data/church_outdoor_train_lmdb", "data/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data", "data/CelebA/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data", "data/lsunchurch/in/train_lmdb", "data.mdb"),
        ("lsun", "data", "data/LSUN", "data.mdb"),
        ("lsun", "data", "data/LSUN", "any/1.webp"),
        ("lsun", "data", "data/lsunchurch", "a/1.jpg"),
        ("lsun", "data/LSUN", "data/LSUN", "a/1.jpg"),
    ],
)
def test_a_known_data_set_is_found_where_its_download_unpacks(dataset, image_path, expected, file, tmp_path):
    (tmp_path / expected / file).parent.mkdir(parents=True)
    (tmp_path / expected / file).write_bytes(b"x")
    assert find_dataset(dataset, tmp_path / image_path).samefile(tmp_path / expected)


def test_lsun_takes_the_training_set(tmp_path):
    for name in ("church_outdoor_train_lmdb", "a_val_lmdb"):
        (tmp_path / "lsun" / name).mkdir(parents=True)
        (tmp_path / "lsun" / name / "data.mdb").write_bytes(b"x")
    assert find_dataset("lsun", tmp_path).name == "church_outdoor_train_lmdb"


def test_one_data_set_is_not_taken_for_the_other(tmp_path):
    put(tmp_path / "LSUN" / "church" / "1.png", picture(0))
    put(tmp_path / "CelebA" / "transformed_images" / "1.png", picture(0))
    with pytest.raises(
        ValueError, match=r"not found .looked at .*img_align_celeba.* jessicali9530/celeba-dataset .*--data PATH"
    ):
        find_dataset("celeb", tmp_path)


def test_unknown_data_sets_are_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="one of celeb, lsun, got 'cifar'"):
        find_dataset("cifar", tmp_path)


# ---- real files


@pytest.mark.skipif(not (SHARED / "CelebA").is_dir(), reason="no CelebA photographs beside the repository")
def test_the_kaggle_layout_of_celeba():
    source = open_source(find_dataset("celeb", SHARED))
    assert len(source) == 2000
    assert source.read(1999).size == (178, 218)
    assert "2,000 JPEG files" in source.description


@pytest.mark.skipif(not (SHARED / "LSUN").is_dir(), reason="no LSUN photographs beside the repository")
def test_the_lmdb_of_lsun():
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    source = open_source(find_dataset("lsun", SHARED))
    assert len(source) == 1350
    assert source.read(0).size == (224, 224)


@pytest.mark.skipif(not (SHARED / "celeba64.zip").is_file(), reason="no zip of faces beside the repository")
def test_a_zip_of_faces():
    source = open_source(SHARED / "celeba64.zip")
    assert len(source) == 15723
    assert source.read(len(source) - 1).size == (64, 64)
