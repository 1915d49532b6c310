"""Where images come from: a folder, a zip, an LSUN LMDB or an array file, all read through one small protocol.

Every source hands out RGB images by number, in an order that depends on the names alone. What cannot be read is an
error that names the image; what is left out on purpose is said in the source's ``description``.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import io
import itertools
import os
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sagan.system.errors import UserError

Handle = TypeVar("Handle")

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}
COPIES = "transformed_images"  # the published program's scripts wrote 64x64 copies under this name, inside the data set


@runtime_checkable
class Source(Protocol):
    """Images by number.

    ``description`` is a phrase for a person ("2,000 JPEG files under data/CelebA"). ``identity`` is
    "short-name:digest"; it changes whenever images are added, removed or changed, and a prepared store is found by it.
    ``name(index)`` says which image is meant in a message. ``read(index)`` returns the image in mode RGB, may be called
    from several threads at once, and raises UserError or OSError with a sentence when that image is damaged.

    ``class_of(index)`` is the name of the image's class, which follows from what ``identity`` covers. Either every
    image has a class and ``no_classes`` is empty, or none has (None) and ``no_classes`` says why, for a person.
    """

    description: str
    identity: str
    no_classes: str = "only a folder or a zip with a folder for each class has classes"

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def read(self, index: int) -> Image.Image: ...

    def class_of(self, index: int) -> str | None:
        return None


# ---- pixels


def decode(data: bytes, name: str) -> Image.Image:
    """The RGB image in ``data``, turned upright by its EXIF orientation; of an animation, the first frame.

    Colour profiles are not applied. Raises UserError naming the image when the bytes are no image or a damaged one.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)
    except UnidentifiedImageError:
        what = "it holds no image in a known format" if data else "the file is empty"
        raise UserError(f"{name} cannot be read: {what}") from None
    except MemoryError:  # the machine's trouble, not the image's
        raise
    except Exception as error:  # damaged bytes make decoders raise nearly anything: SyntaxError, struct.error, ...
        raise UserError(f"{name} cannot be read: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB, 8 bits a channel.

    Transparency (alpha, or a transparent palette entry) is laid over white, as a page would show it. 16-bit grey is
    scaled so that 65535 becomes 255; 32-bit integers are taken for 16-bit values, which is how Pillow hands over some
    16-bit files. Floating-point images have no known range and raise UserError.
    """
    if image.mode == "F":
        raise UserError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16-bit values (mode I or I;16) as mode L: v / 257, rounded. UserError outside 0..65535."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(
            f"its pixels run from {values.min()} to {values.max()}, outside the 0..65535 of a 16-bit image; "
            f"save it with 8 or 16 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def over_white(image: Image.Image) -> Image.Image:
    """The image laid over a white ground, mode RGB."""
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")


# ---- the sources


class FolderSource(Source):
    """Every image file under ``root``, at any depth, sorted by relative path. Folders of images are classes: see
    ``class_level``.

    Left out: hidden files and folders, ``__MACOSX``, and any folder below ``root`` named ``transformed_images*`` (name
    that folder itself to read it). Files that are no images are counted in the description. Raises UserError when
    nothing is left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        stamps: dict[str, str] = {}  # relative path -> size and time
        copies: list[str] = []
        others = 0
        for entry, relative in walk(root, skipped=copies):
            if is_image(relative):
                state = entry.stat(follow_symlinks=entry.is_file())  # a broken link counts, and is named when read
                stamps[relative] = f"{state.st_size} {state.st_mtime_ns}"
            else:
                others += 1
        aside = "".join(
            [f" ({plural(others, 'other file')} ignored)" if others else ""]
            + [f" (left out {root / copy}: copies made by an earlier program)" for copy in sorted(copies)]
        )
        if not stamps:
            raise UserError(no_images(root, others, copies))
        self.paths = sorted(stamps)
        self.class_level, self.no_classes = class_level(self.paths)
        self.description = f"{plural(len(self.paths), kind_of(self.paths) + ' file')} under {root}{aside}"
        self.identity = f"{short_name(root)}:{digest(f'{path} {stamps[path]}' for path in self.paths)}"

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def read(self, index: int) -> Image.Image:
        path = self.root / self.paths[index]
        return decode(path.read_bytes(), str(path))

    def class_of(self, index: int) -> str | None:
        return None if self.class_level is None else self.paths[index].split("/")[self.class_level]


class ZipSource(Source):
    """Every image in a zip file, at any depth, sorted by member name, with the classes of a folder that holds the same;
    the same members are left out as of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = PerProcess(functools.partial(open_zip, path))
        members = [m for m in self.archive.get().infolist() if not m.is_dir() and visible(PurePosixPath(m.filename))]
        copies = {m.filename for m in members if any(p.startswith(COPIES) for p in m.filename.split("/")[:-1])}
        images = [m for m in members if m.filename not in copies and is_image(m.filename)]
        others = len(members) - len(copies) - len(images)
        if not images:
            raise UserError(no_images_in_zip(path, [m.filename for m in members]))
        images.sort(key=lambda m: m.filename)
        self.members = [m.filename for m in images]
        self.class_level, self.no_classes = class_level(self.members)
        aside = f" ({plural(others, 'other member')} ignored)" if others else ""
        if copies:
            aside += f" (left out {len(copies):,} under {COPIES}*: copies made by an earlier program)"
        self.description = f"{plural(len(images), kind_of(self.members) + ' file')} in {path}{aside}"
        self.identity = f"{short_name(path)}:{digest(f'{m.filename} {m.file_size} {m.CRC}' for m in images)}"

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return f"{self.path}:{self.members[index]}"

    def read(self, index: int) -> Image.Image:
        archive = self.archive.get()
        try:
            with self.archive.lock:  # one file position for all threads
                data = archive.read(self.members[index])
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError (encrypted), NotImplementedError, ...
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        return decode(data, self.name(index))

    def class_of(self, index: int) -> str | None:
        return None if self.class_level is None else self.members[index].split("/")[self.class_level]


class LmdbSource(Source):
    """The encoded images of an LMDB as LSUN publishes it (``NAME_lmdb/data.mdb``), in the order of its keys.

    Needs the ``lmdb`` package (``pip install 'sagan[data]'``, UserError without it). Opened read-only and without the
    lock file, so a read-only disk will do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = PerProcess(functools.partial(open_lmdb, path))
        self.keys: list[bytes] = []
        stamps = [str((path / "data.mdb" if path.is_dir() else path).stat().st_mtime_ns)]
        with self.environment.get().begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                self.keys.append(bytes(key))
                stamps.append(f"{bytes(key).hex()} {len(value)}")
        if not self.keys:
            raise UserError(f"no images found in the LMDB {path}: it has no entries")
        self.description = f"{plural(len(self.keys), 'image')} in the LMDB {path}"
        self.identity = f"{short_name(path)}:{digest(stamps)}"

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, index: int) -> str:
        key = self.keys[index]
        return f"{self.path}:{key.decode() if key.isascii() else key.hex()}"

    def read(self, index: int) -> Image.Image:
        try:
            with self.environment.get().begin() as transaction:
                data = transaction.get(self.keys[index])
        except Exception as error:  # lmdb.Error, from a damaged page
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        return decode(data, self.name(index))


class ArraySource(Source):
    """The images of a ``.npy`` file of uint8, shape (count, height, width, channels) with 1, 3 or 4 channels.

    One channel is grey; four are RGBA, laid over white. The file is mapped, not loaded. Raises UserError for another
    type or shape.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = open_array(path)
        count, height, width, channels = self.images.shape
        kind = {1: "grey", 3: "RGB", 4: "RGBA"}[channels]
        state = path.stat()
        self.description = f"{plural(count, f'{kind} image')} of {height}x{width} in {path}"
        self.identity = f"{short_name(path)}:{digest([f'{self.images.shape} {state.st_size} {state.st_mtime_ns}'])}"

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"{self.path}[{index}]"

    def read(self, index: int) -> Image.Image:
        pixels = np.array(self.images[index])
        return to_rgb(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def class_level(paths: Sequence[str]) -> tuple[int | None, str]:
    """Which folder of each path (slashes between the parts) is its class, 0 for the first; or None, and why.

    It is the first folder that not all paths share: of ``set/cat/1.png`` and ``set/dog/old/2.png`` the second, level 1.
    When an image lies directly beside such folders there are no classes, for nobody knows which is its own.
    """
    ends = zip(min(paths).split("/")[:-1], max(paths).split("/")[:-1], strict=False)  # what these share, all share
    level = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], ends)))
    beside = [path for path in paths if path.count("/") == level]
    if len(beside) == len(paths):
        return None, "its images lie in one folder, not in a folder for each class"
    if beside:
        return None, f"{beside[0]} lies beside folders of images; move it into the folder of its class"
    return level, ""


# ---- finding and opening


def open_source(path: str | os.PathLike[str]) -> Source:
    """The source at ``path``: a folder of images, a folder holding ``data.mdb``, a zip, a ``.mdb`` or a ``.npy``.

    Raises UserError, with what was found and what to do, for a path that is missing, empty or something else.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(missing(path))
    if path.is_dir():
        return LmdbSource(path) if (path / "data.mdb").is_file() else FolderSource(path)
    if path.name == "data.mdb":
        return LmdbSource(path.parent)
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        raise UserError(not_a_source(path))
    return opener(path)


OPENERS: dict[str, Callable[[Path], Source]] = {
    ".zip": ZipSource,
    ".npy": ArraySource,
    ".mdb": LmdbSource,
    ".lmdb": LmdbSource,
}

# Where the downloads unpack to and where the published program looked, most exact first; "." is image_path itself,
# taken only when its own name says what it is or when images (or data.mdb) lie directly in it.
PLACES = {
    "celeb": (
        "CelebA/img_align_celeba/img_align_celeba",
        "CelebA/img_align_celeba",
        "CelebA",
        "img_align_celeba/img_align_celeba",
        "img_align_celeba",
        ".",
        "CelebA/celeba-dataset.zip",
        "CelebA/img_align_celeba.zip",
        "celeba-dataset.zip",
        "img_align_celeba.zip",
    ),
    "lsun": (
        "LSUN/church_outdoor_train_lmdb",
        "church_outdoor_train_lmdb",
        "LSUN/lsunchurch",
        "lsunchurch",
        "LSUN",
        "lsun-church",
        "CelebA/church_outdoor_train_lmdb",
        ".",
        "LSUN/lsunchurch.zip",
        "lsunchurch.zip",
    ),
}
PUBLISHED_CROPS = {"celeb": "160", "lsun": "squash"}  # as the published program trains on them
DOWNLOADS = {
    "celeb": ("jessicali9530/celeba-dataset", "CelebA"),
    "lsun": ("ajaykgp12/lsunchurch", "LSUN"),
}


def find_dataset(dataset: str, image_path: str | os.PathLike[str]) -> Path:
    """The path of a known data set ("celeb" or "lsun") below ``image_path``, to give to ``open_source``.

    Looks where the Kaggle downloads unpack to and where the published program looked, whatever the case of the names.
    Raises UserError with the places tried and what to download.
    """
    if dataset not in PLACES:
        raise UserError(f"dataset must be one of {', '.join(PLACES)}, got {dataset!r} (or name your own: --data PATH)")
    root = Path(image_path).expanduser()
    for place in PLACES[dataset]:
        candidate = in_any_case(root, place)
        if candidate is not None and (found := images_at(candidate, dataset, itself=place == ".")):
            return found
    download, folder = DOWNLOADS[dataset]
    tried = ", ".join(str(root / place) for place in PLACES[dataset])
    raise UserError(
        f"the data set {dataset!r} was not found (looked at {tried}): download the Kaggle data set {download} and "
        f"unpack it as {root / folder}, or name a folder, zip, LMDB or .npy of images with --data PATH"
    )


def images_at(place: Path, dataset: str, *, itself: bool) -> Path | None:
    """What to open at a place where the data set may be: the place, an LMDB up to two levels inside it, or None."""
    if place.is_file():
        return place
    named = any(word in (place.absolute().name.lower(), place.resolve().name.lower()) for word in NAMES[dataset])
    if itself and not named:
        return place if (place / "data.mdb").is_file() or any(is_image(p.name) for p in place.iterdir()) else None
    if dataset == "lsun":
        databases = [file.parent for depth in ("", "*/", "*/*/") for file in sorted(place.glob(f"{depth}data.mdb"))]
        training = [folder for folder in databases if "train" in folder.name]
        if databases:
            return (training or databases)[0]
    return place if any(is_image(relative) for _, relative in walk(place)) else None


NAMES = {
    "celeb": ("celeba", "img_align_celeba", "celeba-dataset"),
    "lsun": ("lsun", "lsunchurch", "lsun-church", "church_outdoor_train_lmdb"),
}


def in_any_case(root: Path, place: str) -> Path | None:
    """``root / place`` as it is spelt on the disk, exact spelling first; None when it does not exist."""
    path = root
    for part in PurePosixPath(place).parts:
        if not (path / part).exists():
            same = [p.name for p in sorted(path.iterdir()) if p.name.lower() == part.lower()] if path.is_dir() else []
            if not same:
                return None
            part = same[0]
        path = path / part
    return path if path.exists() else None


# ---- files


def walk(root: Path, skipped: list[str] | None = None) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every visible file below ``root`` with its relative path (slashes); names of folders of copies go to ``skipped``.

    Links to folders are followed, but not into a folder that is being walked already.
    """
    yield from _walk(root, "", (os.path.realpath(root),), skipped)


def _walk(
    folder: Path, prefix: str, above: tuple[str, ...], skipped: list[str] | None
) -> Iterator[tuple[os.DirEntry[str], str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            relative = prefix + entry.name
            if not visible(PurePosixPath(entry.name)):
                continue
            if not entry.is_dir():
                if entry.is_file() or entry.is_symlink():  # not a pipe or a device
                    yield entry, relative
            else:
                real = os.path.realpath(entry.path)
                if entry.name.startswith(COPIES):
                    if skipped is not None:
                        skipped.append(relative)
                elif real not in above:
                    yield from _walk(Path(entry.path), f"{relative}/", (*above, real), skipped)


def visible(path: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def is_image(name: str) -> bool:
    return visible(PurePosixPath(name)) and PurePosixPath(name).suffix.lower() in FORMATS


class PerProcess(Generic[Handle]):
    """A handle opened at first use in each process: it survives fork and pickling, which an open file does not."""

    def __init__(self, opener: Callable[[], Handle]) -> None:
        self.opener = opener
        self.lock = threading.Lock()
        self.held: tuple[int, Handle] | None = None

    def get(self) -> Handle:
        held = self.held
        if held is None or held[0] != os.getpid():
            with self.lock:
                if self.held is None or self.held[0] != os.getpid():
                    self.held = (os.getpid(), self.opener())
                held = self.held
        return held[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self.opener,)


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not a whole zip file ({error}): make or download it again") from error


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()  # lmdb opens a path once a process
_environments_lock = threading.Lock()


def open_lmdb(path: Path) -> Any:
    """The read-only LMDB environment at a folder or a file, shared by all sources of this process."""
    try:
        import lmdb
    except ImportError as error:
        raise UserError(f"reading the LMDB {path} needs the lmdb package: pip install 'sagan[data]'") from error
    with _environments_lock:
        key = os.path.realpath(path)
        environment = _environments.get(key)
        if environment is None:
            try:
                environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise UserError(f"{path} cannot be opened as an LMDB: {error}") from error
            end = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            size = (path / "data.mdb" if path.is_dir() else path).stat().st_size
            if size < end:  # reading past the end of a mapped file would kill the process
                raise UserError(f"the LMDB {path} is cut short ({size:,} of {end:,} bytes): copy or download it again")
            _environments[key] = environment
    return environment


def open_array(path: Path) -> npt.NDArray[np.uint8]:
    try:
        images: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is not a whole .npy array ({error}): save it again with numpy.save") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4) or 0 in images.shape:
        hint = ""
        if images.ndim == 4 and images.shape[1] in (1, 3, 4):
            hint = "; this looks like channels first: save images.transpose(0, 2, 3, 1)"
        raise UserError(
            f"{path} must hold uint8 images of shape (count, height, width, channels) with 1, 3 or 4 channels, "
            f"got {images.dtype} of shape {images.shape}{hint}"
        )
    return images


# ---- words


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def kind_of(names: Iterable[str]) -> str:
    """ "JPEG" when all names are of one format, else "image"."""
    kinds = {FORMATS[PurePosixPath(name).suffix.lower()] for name in names}
    return kinds.pop() if len(kinds) == 1 else "image"


def short_name(path: Path) -> str:
    """The last name of a path without its ending, in letters that suit a folder's name and a source's identity."""
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".-") or "images"


def digest(lines: Iterable[str]) -> str:
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode(errors="surrogateescape") + b"\n")
    return state.hexdigest()


def missing(path: Path) -> str:
    """The sentence for a path that does not exist, with the nearest name where the path breaks off."""
    folder, name = path.parent, path.name
    while not folder.exists() and folder != folder.parent:
        folder, name = folder.parent, folder.name
    siblings = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    lowered = {sibling.lower(): sibling for sibling in sorted(siblings, reverse=True)}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    hint = f": did you mean {folder / lowered[near[0]]}?" if near else f": {folder} has no {name!r}"
    return f"{path} does not exist{hint}"


def no_images(root: Path, others: int, copies: list[str]) -> str:
    found = f"found {plural(others, 'other file')}" if others else "found no files at all"
    hint = f", and left out {root / copies[0]} (name that folder itself to read its copies)" if copies else ""
    packed = [p for p in sorted(root.iterdir()) if p.suffix.lower() in OPENERS or (p / "data.mdb").is_file()]
    if packed:
        hint += f"; to read {packed[0]}, name it itself"
    return f"no images found under {root}: looked for {', '.join(FORMATS)}; {found}{hint}"


def no_images_in_zip(path: Path, members: list[str]) -> str:
    database = next((name for name in members if PurePosixPath(name).name == "data.mdb"), None)
    if database:
        return f"{path} holds an LMDB ({database}), which cannot be read inside a zip: unpack it and name its folder"
    return f"no images found in {path}: looked for {', '.join(FORMATS)}; found {plural(len(members), 'other member')}"


def not_a_source(path: Path) -> str:
    if is_image(path.name):
        return f"{path} is one image: name the folder that holds your images"
    return f"{path} is not a folder of images, a zip, an LMDB (data.mdb) or a .npy array"
