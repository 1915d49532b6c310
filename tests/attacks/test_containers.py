"""Containers whose headers lie, that are cut, that unpack to more than they say, and that changed by chance: each is a
sentence, and takes little memory."""

import contextlib
import gzip
import io
import pickle
import random
import re
import tarfile
import zipfile

import numpy as np
import pytest

from sagan.data.prepare import prepare
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from sagan.system.errors import UserError
from tests.attacks.made import few_mebibytes
from tests.data.made import quiet
from tests.data.sources.made import encoded, make_cifar, make_idx, make_tar, picture

PNG = encoded(picture(0))


class ManyImages(Exception):
    """A container says that it has more images than it was made with."""


def read_all(path):
    """Opens a container, and reads every image and class that it says it has."""
    source = open_source(path)
    if len(source) > 100:
        raise ManyImages
    for index in range(len(source)):
        source.read(index)
        source.class_of(index)


# ---- tars


def header(name="a.png", size=0, kind=tarfile.REGTYPE, **fields):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(data):
    return data + bytes(-len(data) % 512)


def note(kind, data):
    return header("note", len(data), kind) + padded(data)


IMAGE = header(size=len(PNG)) + padded(PNG)
TARS = {
    "nothing": (b"", "no images found"),
    "no tar": (bytes(range(256)) * 4, "the header at byte 0 is damaged"),
    "a half header": (IMAGE + b"x" * 100, "it is cut short"),
    "cut": (IMAGE[:600], "it is cut short, or damaged: 'a.png' would have"),
    "a terabyte": (header(size=2**40), "would have 1,099,511,627,776 bytes"),
    "less than nothing": (header(size=-512), "would have -512 bytes"),
    "a long name": (note(b"L", b"a" * 5000) + IMAGE, "a name longer than programs write"),
    "a very long name": (note(b"L", b"a" * 70_000) + IMAGE, "has 70,000 bytes, more than programs write"),
    "many folders": (note(b"L", b"a/" * 200 + b"a.png") + IMAGE, "a name longer than programs write"),
    "a sparse file": (header(kind=b"S") + IMAGE, "is a sparse file"),
    "a newer sparse file": (note(b"x", b"22 GNU.sparse.major=1\n") + IMAGE, "is a sparse file"),
    "damaged records": (note(b"x", b"99 path=a.png\n") + IMAGE, "a header is damaged"),
    "records of no length": (note(b"x", b"0 path=a.png\n") + IMAGE, "a header is damaged"),
    "a negative size": (note(b"x", b"11 size=-9\n") + IMAGE, "a header is damaged: it gives no size"),
    "a size of many digits": (note(b"x", b"28 size=" + b"9" * 19 + b"\n") + IMAGE, "a header is damaged"),
    "only links": (header(kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "no images found"),
    "packed": (gzip.compress(IMAGE), "it is compressed: uncompress it first"),
    "a run of this program": (
        b"".join(header(f"run/{name}") for name in ("config.json", "records.jsonl", "a.png")),
        "holds a run of sagan",
    ),
    "a label of many letters": (header("a.cls", 300) + padded(b"x" * 300) + IMAGE, "a label of 300 characters"),
    "a label with a zero": (header("a.cls", 2) + padded(b"x\0") + IMAGE, "not text|cannot be read"),
    "a label of some": (header("b.cls", 1) + padded(b"1") + IMAGE, "has no .cls, and no .json with a label, for a.png"),
    "a label that is deep": (
        header("a.json", 60_000) + padded(b"[" * 60_000) + header("b.cls", 1) + padded(b"1") + IMAGE,
        "has no .cls, and no .json with a label, for a.png",
    ),
}


@pytest.mark.parametrize("kind", TARS)
def test_a_tar_that_no_program_writes(kind, tmp_path):
    data, sentence = TARS[kind]
    (tmp_path / "set.tar").write_bytes(data)
    with few_mebibytes(5), pytest.raises(UserError, match=sentence):
        read_all(tmp_path / "set.tar")


def test_links_out_of_a_tar_are_left_out_and_said(tmp_path):
    link = header("b.png", kind=tarfile.SYMTYPE, linkname="/etc/passwd") + header("c.png", kind=tarfile.LNKTYPE)
    (tmp_path / "set.tar").write_bytes(link + IMAGE)
    source = open_source(tmp_path / "set.tar")
    assert (len(source), "(left out 2 links)" in source.description) == (1, True)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_format_are_read(form, tmp_path):
    folder = "" if form == tarfile.USTAR_FORMAT else "ä" * 120 + "/"
    source = open_source(
        make_tar(tmp_path / "set.tar", {f"{folder}a/1.png": PNG, f"{folder}b/1.png": PNG}, format=form)
    )
    assert [source.class_of(index) for index in range(2)] == ["a", "b"]


def test_names_that_lead_out_of_a_tar_only_name(tmp_path):
    source = open_source(make_tar(tmp_path / "set.tar", {"../../etc/a.png": PNG, "/etc/b.png": PNG}))
    assert [source.name_within(index) for index in range(2)] == ["etc/a.png", "etc/b.png"]


# ---- arrays


def npz(path, how=zipfile.ZIP_DEFLATED, **arrays):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, array in arrays.items():
            if isinstance(array, np.ndarray):
                file = io.BytesIO()
                np.lib.format.write_array(file, array)
                array = file.getvalue()
            archive.writestr(f"{name}.npy", array)
    return path


def lying(shape, kind="|u1", more=200):
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(max(117, len(text))) + b"\n"
    return b"\x93NUMPY\x02\0" + len(text).to_bytes(4, "little") + text + bytes(more)


GOOD = np.zeros((3, 4, 5, 3), np.uint8)
NPZS = {
    "no images": ({"weights": GOOD}, r"has no array named images, x or data \(it holds 'weights'\)"),
    "numbers": ({"x": GOOD.astype(np.float32)}, "must hold uint8 images .* got float32"),
    "channels first": ({"x": GOOD.transpose(0, 3, 1, 2).copy()}, r"save images.transpose\(0, 2, 3, 1\)"),
    "objects": ({"x": lying("(1,)", "|O")}, "holds objects"),
    "columns": ({"x": np.asfortranarray(np.ones((2, 3, 4), np.uint8))}, "is stored by column"),
    "no array": ({"x": b"PK no array"}, "it is no array|fewer|end behind"),
    "more than it has": ({"x": lying("(9, 4, 4, 3)")}, "is not complete"),
    "any number": ({"x": lying("(4294967296, 4294967296, 4294967296, 3)")}, "is not complete"),
    "less than nothing": ({"x": lying("(-1, 4, 4, 3)")}, "its shape is"),
    "no numbers": ({"x": lying("(None, 4)")}, "header is damaged|its shape is"),
    "code": ({"x": lying("__import__('os').abort()")}, "its header is damaged"),
    "a long header": ({"x": lying("(" + "1," * 10_000 + ")")}, "its header is too long"),
    "a nested header": ({"x": lying("(" * 8000 + ")" * 8000)}, "its header is too long|its header is damaged"),
    "too few labels": ({"x": GOOD, "y": np.arange(2)}, r"has the shape \(2,\), and x has 3 images"),
    "one label": ({"x": GOOD, "y": np.array(3)}, r"has the shape \(\), and x has 3 images"),
    "labels that are no text": ({"x": GOOD, "y": lying("(3,)", "<U1", 0) + b"\xff" * 12}, "not text"),
    "labels of surrogates": ({"x": GOOD, "y": lying("(3,)", "<U1", 0) + b"\0\xd8\0\0" * 3}, "not text"),
    "long labels": ({"x": GOOD, "y": np.array(["x" * 300] * 3)}, "a label of 300 characters"),
}


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", NPZS)
def test_arrays_that_no_program_writes(kind, how, tmp_path):
    arrays, sentence = NPZS[kind]
    path = npz(tmp_path / "set.npz", how, **arrays)
    with few_mebibytes(8), pytest.raises(UserError, match=sentence):
        read_all(path)


@pytest.mark.parametrize(
    "labels", [np.zeros((3, 2), np.float32), np.zeros(3, "datetime64[s]"), np.ones((3, 2), np.uint8)]
)
def test_labels_that_are_no_classes_leave_the_images(labels, tmp_path):
    source = open_source(npz(tmp_path / "set.npz", x=GOOD, y=labels))
    assert source.class_of(0) is None
    assert re.search("not a class for each image|several labels for an image", source.no_classes)
    assert source.read(2).size == (5, 4)


def test_an_array_that_unpacks_to_much_takes_little_memory(tmp_path):
    """64 MiB of one colour, in some 64 KiB; whose last image is that of any other array of this length."""
    path = npz(tmp_path / "set.npz", x=np.full((1024, 256, 256, 1), 7, np.uint8))
    with few_mebibytes(40):
        source = open_source(path)
        for index in (0, 1, 1023, 512, 3, 1022):
            assert source.read(index).getpixel((255, 255)) == (7, 7, 7)


def test_an_array_of_more_than_can_be_packed(tmp_path):
    path = npz(tmp_path / "set.npz", x=lying("(1, 4, 4, 3)", more=48))
    data = bytearray(path.read_bytes())
    for start, place in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = data.rindex(start) + place
        data[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="more than deflate can pack in them"):
        open_source(path)


def test_a_wrong_checksum_is_found_with_the_last_image(tmp_path):
    path = npz(tmp_path / "set.npz", x=GOOD)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2") + 16
    data[at] ^= 1
    path.write_bytes(data)
    source = open_source(path)
    for index in (0, 1):
        source.read(index)
    with pytest.raises(UserError, match="its checksum is wrong"):
        source.read(2)


# ---- idx and CIFAR

IDXS = {
    "nothing": (b"", "does not begin like an idx file"),
    "text": (b"hello, this is no idx file", "does not begin like an idx file"),
    "numbers": (b"\0\0\x0d\3" + bytes(12), "does not begin like an idx file"),
    "no sides": (b"\0\0\x08\0", "does not begin like an idx file"),
    "cut": (b"\0\0\x08\3" + b"\0\0\0\2" * 3 + bytes(7), "it is cut short"),
    "much": (b"\0\0\x08\3" + b"\xff\xff\xff\xff" * 3, "it is cut short"),
    "no images": (b"\0\0\x08\3" + b"\0\0\0\0" * 3, "must hold images of shape"),
    "labels": (b"\0\0\x08\1" + b"\0\0\0\1" + b"x", "must hold images of shape"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", IDXS)
def test_an_idx_file_that_no_program_writes(kind, packed, tmp_path):
    data, sentence = IDXS[kind]
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    with few_mebibytes(5), pytest.raises(UserError, match=sentence):
        read_all(path)


@pytest.mark.parametrize("cut", [3, 15, 30, -9, -1])
def test_a_packed_idx_file_that_is_cut(cut, tmp_path):
    path = make_idx(tmp_path / "images-idx3-ubyte.gz", np.random.default_rng(0).integers(0, 256, (3, 9, 9), np.uint8))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError):
        read_all(path)


def test_a_packed_idx_file_that_says_too_much(tmp_path):
    """So much that its length, of which gzip keeps 32 bits, is right again."""
    head = b"\0\0\x08\3" + (2**20).to_bytes(4, "big") + (2**12).to_bytes(4, "big") + b"\0\0\0\1"
    path = tmp_path / "images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(head))
    with pytest.raises(UserError, match="more than deflate can pack"):
        read_all(path)


def test_labels_that_do_not_fit(tmp_path):
    make_idx(tmp_path / "images-idx3-ubyte", np.zeros((3, 4, 4), np.uint8))
    make_idx(tmp_path / "labels-idx1-ubyte", np.zeros(2, np.uint8))
    with pytest.raises(UserError, match=r"has labels of shape \(2,\)"):
        open_source(tmp_path)


def test_cifar_that_is_cut_or_has_more_labels_than_names(tmp_path):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    path = make_cifar(tmp_path / "set", images, [0, 7], ["cat"])
    with pytest.raises(UserError, match="it has the label 7, and there are 1 classes"):
        open_source(path)
    (path / "data_batch_1.bin").write_bytes(bytes(3000))
    with pytest.raises(UserError, match="is cut short or not CIFAR's"):
        open_source(path)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("names", [["data_batch_1", "batches.meta"], ["train", "test", "meta"]])
def test_pickles_of_cifar_are_never_opened(names, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="download the binary version"):
        open_source(tmp_path)
    if names[0].startswith("data"):
        with pytest.raises(UserError, match="download the binary version"):
            open_source(tmp_path / names[0])


# ---- changes by chance


def originals(folder):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    make_tar(
        folder / "a.tar", {f"{i}.png": encoded(picture(i)) for i in range(4)} | {f"{i}.cls": f"{i}" for i in range(4)}
    )
    np.savez(folder / "a.npz", images=images, labels=np.arange(4))
    np.savez_compressed(folder / "b.npz", images=images, labels=np.arange(4))
    make_idx(folder / "images-idx4-ubyte.gz", images)
    make_idx(folder / "c-images-idx4-ubyte", images)
    return sorted(folder.iterdir())


def damaged(data, chance):
    """Some bytes changed, most of them among the first or the last; or what is behind a place gone."""
    data = bytearray(data)
    if chance.random() < 0.3:
        return data[: chance.randrange(len(data))]
    for _ in range(chance.randrange(1, 6)):
        at = chance.choice([chance.randrange(len(data)), chance.randrange(200), len(data) - 1 - chance.randrange(200)])
        data[at] = chance.randrange(256)
    return data


def try_many(folder, times, seed):
    chance = random.Random(seed)
    for path in originals(folder):
        whole = path.read_bytes()
        for _ in range(times):
            path.write_bytes(damaged(whole, chance))
            with contextlib.suppress(UserError, ManyImages):
                read_all(path)
        path.unlink()


def test_containers_that_changed_by_chance(tmp_path):
    try_many(tmp_path, 30, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_containers_that_changed_by_chance_many_times(seed, tmp_path):
    try_many(tmp_path, 300, seed)


def test_what_is_before_damage_in_a_packed_array_is_read_and_the_rest_named(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), np.uint8)
    path = make_idx(tmp_path / "images-idx4-ubyte.gz", images)
    data = bytearray(path.read_bytes())
    data[150_000:150_500] = b"\xff" * 500
    path.write_bytes(data)
    store = prepare(open_source(tmp_path), Recipe(8), tmp_path / "store", **quiet)
    assert store.count >= 1
    assert store.skipped[-1].name.endswith("images-idx4-ubyte.gz[3]")
