"""Files as an attacker makes them."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

ENDLESS = ["pipe", "link to a pipe", "/dev/zero", "/proc/kmsg", "folder"]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) (w) file closefile showpage\n"


def put_endless(path, kind):
    """Something at ``path`` that a reader would wait for, or that has no end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("a pipe"))
        path.symlink_to(path.with_name("a pipe"))
    else:
        path.symlink_to(kind)


@contextlib.contextmanager
def nested(folder, names):
    """Folders one inside the other, with an image at the bottom, as long as the context is open: what removes folders
    otherwise goes down by recursion. They are made step by step, as the whole path may be too long."""
    before, below = Path.cwd(), 0
    os.chdir(folder)
    try:
        for name in names:
            Path(name).mkdir()
            os.chdir(name)
            below += 1
        Path("0.png").write_bytes(png(9, 9))
        os.chdir(before)
        yield
        os.chdir(folder)
        for name in names:
            os.chdir(name)
    finally:
        Path("0.png").unlink(missing_ok=True)
        for name in reversed(names[:below]):
            os.chdir("..")
            Path(name).rmdir()
        os.chdir(before)


def png(width, height, depth=8, colour=2, rows=None):
    """A PNG of zeros, whose header says this size; of ``rows`` rows, by default all. It takes hardly any memory."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def with_directory(before: bytes, shown: dict[str, bytes], hidden: dict[str, bytes]) -> bytes:
    """A zip with two directories: Python's zipfile finds that of ``shown``, readers that go by the offset in its end
    find that of ``hidden``, which is compressed."""
    one, other = io.BytesIO(), io.BytesIO()
    for file, members, how in ((one, hidden, zipfile.ZIP_DEFLATED), (other, shown, zipfile.ZIP_STORED)):
        with zipfile.ZipFile(file, "w", how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    first, second = one.getvalue(), bytearray(other.getvalue())
    start = struct.unpack("<L", first[-6:-2])[0]
    second[-6:-2] = struct.pack("<L", len(before) + start)
    return before + first + bytes(second)


class Made:
    """An object whose pickle calls a function with arguments."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def torch_zip(content: object, compressed: bool = False) -> bytes:
    """What torch.save writes, of an object without tensors."""
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file := io.BytesIO(), "w", how) as archive:
        archive.writestr("x/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("x/version", b"3\n")
    return file.getvalue()


_MEASURED = """
import resource, sys
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{code}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def peak_mebibytes(imports: str, code: str, *arguments: object) -> float:
    """By how much the most memory of a process grows while it executes ``code``, after ``imports``."""
    words = [sys.executable, "-c", f"{imports}\n{_MEASURED.format(code=code)}", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=280)
    return int(done.stdout.splitlines()[-1]) / 1024


def pickled(*parts: bytes | int | str) -> bytes:
    """A pickle of protocol 2, step by step: whole numbers and texts are pushed as such."""

    def step(part: bytes | int | str) -> bytes:
        if isinstance(part, int):
            return b"\x8a\x08" + part.to_bytes(8, "little", signed=True)
        return part if isinstance(part, bytes) else b"X" + struct.pack("<I", len(part)) + part.encode()

    return b"\x80\x02" + b"".join(map(step, parts)) + b"."


def zip_of_pickle(pickle_of: bytes, name: str = "x/data.pkl", more: dict[str, bytes] | None = None) -> bytes:
    """A file of torch with this pickle and further members."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr(name, pickle_of)
        archive.writestr("x/version", b"3\n")
        for other, content in (more or {}).items():
            archive.writestr(other, content)
    return file.getvalue()


def old_file(content: bytes, keys: list[str] | None = None) -> bytes:
    """What torch before 1.6 wrote, with this pickle in it and no numbers."""
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    before = (pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, about))
    return b"".join(before) + content + pickle.dumps(keys or [], 2)


def tiled_tiff(width: int, height: int, size: int = 16) -> bytes:
    """A black TIFF, of which one tile of this width and height is stored."""
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(bytes(width * 3)) for _ in range(height)) + packer.flush()
    tags = {256: size, 257: size, 258: 0, 259: 8, 262: 2, 277: 3, 284: 1, 322: width, 323: height, 324: 0}
    tags[325] = len(data)
    tags[258] = 14 + 12 * len(tags)  # where the numbers of bits are
    tags[324] = tags[258] + 6
    entries = b"".join(
        struct.pack("<HHII", tag, *((3, 3) if tag == 258 else (4, 1)), value) for tag, value in tags.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I3H", 0, 8, 8, 8) + data


def lying_zip(path: Path, name: str, method: int, content: bytes, size: int) -> Path:
    """A zip of one member that says that it unpacks to its first ``size`` bytes, of which it has the checksum."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    for start, place in ((b"PK\1\2", 16), (b"PK\3\4", 14)):
        at = data.rindex(start) + place
        data[at : at + 4] = struct.pack("<I", zlib.crc32(content[:size]))
        data[at + 8 : at + 12] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


@contextlib.contextmanager
def few_mebibytes(most: float):
    """Fails where Python takes more memory than this inside."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,.1f} MiB"
