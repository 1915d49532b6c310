"""Files as an attacker makes them."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
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
