"""torch's file format, read without running code from the file and without more memory than the file has bytes.

A file holds a pickle and the bytes of its storages: in a zip or, as torch before 1.6 wrote it, one after the other. The
pickle is read step by step. What it names is looked up here and never called: all that it can make is tensors, numbers,
text and their containers.
"""

from __future__ import annotations

import errno
import io
import json
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.files import open_regular, write_whole
from sagan.system.typed import shorten

T = TypeVar("T")

_LARGEST_PICKLE = 2**26  # bytes, without the tensors' numbers
_STEPS = 2**22  # of a pickle: two for each text, twenty for each tensor
_LARGEST_HEADER = 2**24  # bytes of a safetensors file's
_DIMENSIONS = 64  # of a tensor
_OLD = 0x1950A86A20F9469CFC6C, 1001  # with which files of torch before 1.6 begin

_DTYPES = {
    f"{kind}Storage": dtype
    for kind, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexDouble": torch.complex128,
        "ComplexFloat": torch.complex64,
        "Untyped": torch.uint8,
    }.items()
} | {name: dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}


def write_torch_file(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them. The old file stays until the new one is complete on the
    disk. Raises OSError if it cannot be written."""
    try:
        write_whole(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch wraps the error of the file system
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        raise cause or OSError(f"{path} cannot be written; is the disk full?") from error


def read_torch_file(path: Path, what: str = "checkpoint") -> Any:
    """The content of a torch file, on the CPU: tensors without gradients, numbers, texts, lists, tuples and dicts.

    Raises UserError for a torn or damaged file and for one of another kind than ``what``.
    """
    with open_regular(path, f"{what} file") as file:
        try:
            return _read(file, torch.device("cpu"))
        except UserError as error:
            raise UserError(f"{path} is not a whole {what} file: {error}") from error
        except Exception as error:  # what a damaged file leads to may be nearly anything
            if is_out_of_memory(error):
                raise
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a torn zip's offset
                error.filename = error.filename or str(path)
                raise
            raise UserError(f"{path} is not a whole {what} file") from error


def read_without_tensors(path: Path) -> Any:
    """The content of a torch file, its tensors without their numbers; None where it is torn or of another kind."""
    try:
        with open_regular(path, "checkpoint file") as file:
            return _read(file, torch.device("meta"))
    except Exception as error:  # what a damaged file leads to may be nearly anything
        if is_out_of_memory(error):
            raise
        return None


def _read(file: IO[bytes], device: torch.device) -> Any:
    start, length = file.read(4), file.seek(0, 2)
    file.seek(0)
    return _read_zip(file, length, device) if start == b"PK\3\4" else _read_old(file, length, device)


def from_safetensors(data: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors in the bytes of a safetensors file. Raises SafetensorError where they are damaged,
    or describe themselves at greater length than any networks need."""
    size = int.from_bytes(data[:8], "little")
    if size > _LARGEST_HEADER:
        raise SafetensorError(f"its header has {size:,} bytes, more than {_LARGEST_HEADER:,}")
    tensors = load(data)  # which checks the header, and that metadata are texts
    return json.loads(data[8 : 8 + size]).get("__metadata__") or {}, tensors


# ---- the bytes of storages

Storages = Callable[[torch.dtype, str, int], Tensor]
"""Gives the storage of a dtype and a name, of so many numbers, as a tensor of one dimension."""


def _read_zip(file: IO[bytes], length: int, device: torch.device) -> Any:
    archive = zipfile.ZipFile(file)
    listed = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in listed):
        raise UserError("a part of it is compressed")
    file.seek(-22, 2)
    alone = file.read(4) == b"PK\5\6" and min(member.header_offset for member in listed) == 0
    names = {member.filename.lower() for member in listed}
    if not alone or len(names) < len(listed) or sum(member.file_size for member in listed) > length:
        raise UserError("its directory is damaged")
    members = {member.filename: member for member in listed}
    pickles = [name for name in members if name.lower().endswith(".pkl")]
    if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
        raise UserError("it must hold one data.pkl, and no other pickle as TorchScript does")
    root = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{root}byteorder")
    swapped = order is not None and archive.read(order) != sys.byteorder.encode()
    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, name: str, count: int) -> Tensor:
        if name not in storages:
            member = members[f"{root}data/{name}"]
            storages[name] = made = torch.empty(member.file_size, dtype=torch.uint8, device=device)
            if device.type == "cpu":
                try:
                    with archive.open(member) as stream:
                        _fill(made, stream)
                except zipfile.BadZipFile as error:
                    raise UserError(f"the checksum of {shorten(member.filename)} is wrong") from error
                if swapped:
                    made.untyped_storage().byteswap(dtype)
        return storages[name][: count * dtype.itemsize].view(dtype)

    return _unpickle(io.BytesIO(archive.read(pickles[0])), storage)


def _read_old(file: IO[bytes], length: int, device: torch.device) -> Any:
    if (_unpickle(file), _unpickle(file)) != _OLD:
        raise UserError("it begins like no file of torch")
    _unpickle(file)  # about the machine
    storages: dict[str, Tensor] = {}
    left = length

    def storage(dtype: torch.dtype, name: str, count: int) -> Tensor:
        nonlocal left
        if name not in storages:
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise UserError("its tensors are larger than the file")
            storages[name] = torch.empty(count, dtype=dtype, device=device)
        return storages[name].view(dtype)

    content = _unpickle(file, storage)
    if device.type == "cpu":
        for name in _unpickle(file):
            made = storages.pop(name)
            if int.from_bytes(file.read(8), "little") != len(made):
                raise UserError("a tensor in it has another size than it says")
            _fill(made.view(torch.uint8), file)
        if storages:
            raise UserError("a tensor in it has no numbers")
    return content


def _fill(storage: Tensor, file: IO[bytes]) -> None:
    left = memoryview(storage.numpy().data)
    while left:
        some = file.read(min(len(left), 2**20))
        if not some:
            raise UserError("it is cut")
        left[: len(some)] = some
        left = left[len(some) :]


# ---- the pickle


@dataclass(frozen=True)
class _Named:
    """A type or a function that a pickle names."""

    name: str


@dataclass(frozen=True, eq=False)
class _Storage:
    numbers: Tensor


class _Bounded:
    """A file of which a pickle is read, which says itself how many bytes each of its parts has."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left = file, _LARGEST_PICKLE

    def read(self, count: int) -> bytes:
        return self._counted(self.file.read(min(count, self.left)))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(self.left))

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        return data


def _no_storage(dtype: torch.dtype, name: str, count: int) -> Tensor:
    raise UserError("it has a tensor where none may be")


def _unpickle(file: IO[bytes], storage: Storages = _no_storage) -> Any:
    """What the pickle at a file's position holds. Any exception says that it is damaged."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[object, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for step, (code, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Bounded(file)))):
        if step > _STEPS:
            raise UserError(f"its pickle has more than {_STEPS:,} steps")
        match code.name:
            case "PROTO":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINSTRING":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}[code.name])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                items = [stack.pop()]
                _of(list, stack[-1]).extend(items)
            case "APPENDS":
                items = since_mark()
                _of(list, stack[-1]).extend(items)
            case "SETITEM":
                items = stack[-2:]
                del stack[-2:]
                _set(_of(dict, stack[-1]), items)
            case "SETITEMS":
                items = since_mark()
                _set(_of(dict, stack[-1]), items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_named(str(argument)))
            case "BINPERSID":
                stack.append(_stored(stack.pop(), storage))
            case "REDUCE":
                arguments, named = stack.pop(), stack.pop()
                stack.append(_made(named, arguments))
            case "BUILD":  # the attributes of an OrderedDict, such as a state dict's versions
                stack.pop()
                _of(dict, stack[-1])
            case "STOP":
                return stack.pop()
            case _:
                raise UserError(f"its pickle holds {code.name}, which no tensors need")
    raise UserError("it is cut")


def _of(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise UserError(f"{shorten(value)} in it is taken for a {kind.__name__}")
    return value


def _set(items: dict[Any, Any], pairs: list[Any]) -> None:
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if type(key) not in (str, int):  # a hash may take any time
            raise UserError(f"a key in it must be text or a whole number, got {shorten(key)}")
        items[key] = value


_FUNCTIONS = re.compile(
    r"collections OrderedDict|torch (Size|device)|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter)"
    r"|torch\._utils _rebuild_(sparse_tensor|meta_tensor_no_storage)|torch\.serialization _get_layout"
)


def _named(name: str) -> _Named:
    place, _, kind = name.partition(" ")
    is_type = place in ("torch", "torch.cuda", "torch.storage") and kind in _DTYPES
    if not is_type and _FUNCTIONS.fullmatch(name) is None:
        raise UserError(f"it holds {shorten(name)}, and may hold tensors, numbers and text only")
    return _Named(name)


def _dtype(named: _Named) -> torch.dtype:
    return _DTYPES[named.name.partition(" ")[2]]


def _stored(found: object, storage: Storages) -> _Storage:
    """The storage of a persistent id; a part of it in files of torch before 0.4."""
    match found:
        case ("storage", _Named() as kind, str(name), _, int(count)):
            return _Storage(storage(_dtype(kind), name, count))
        case ("storage", _Named() as kind, str(name), _, int(count), None):
            return _Storage(storage(_dtype(kind), name, count))
        case ("storage", _Named() as kind, str(name), _, int(count), (_, int(start), int(size))):
            return _Storage(storage(_dtype(kind), name, count)[start : start + size])
    raise UserError(f"it refers to {shorten(found)}")


def _made(named: object, arguments: object) -> Any:
    """What torch's functions of these names make of these arguments, without gradients and hooks."""
    match named, arguments:
        case _Named("collections OrderedDict"), ():
            return {}
        case _Named("collections OrderedDict"), (list(pairs),):  # of Python 2
            made: dict[Any, Any] = {}
            _set(made, [each for key, value in pairs for each in (key, value)])
            pairs.clear()  # else a few bytes could copy it again
            return made
        case _Named("torch Size" | "torch device"), (plain, *_):
            return plain
        case _Named(name) as other, _ if "sparse" in name or "meta" in name or "layout" in name:
            return other  # no dense tensor: whoever looks for one says where it is
        case _Named("torch._utils _rebuild_parameter"), (Tensor() as tensor, *_):
            return tensor
        case (
            _Named("torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2"),
            (_Storage(numbers), start, sizes, strides, *more),
        ) if not any(more[2:]):
            return _tensor(numbers, start, sizes, strides)
        case (
            _Named("torch._utils _rebuild_tensor_v3"),
            (_Storage(numbers), start, sizes, strides, _, _, _Named() as kind, *more),
        ) if not any(more):
            return _tensor(numbers.view(_dtype(kind)), start, sizes, strides)
    raise UserError(f"it makes something of {shorten(arguments)} that is no tensor")


def _tensor(numbers: Tensor, start: Any, sizes: Any, strides: Any) -> Tensor:
    """A view of a storage's numbers. Raises an error for one beyond its end: torch would make the storage larger."""
    if any(type(number) is not int or number < 0 for number in (start, *sizes, *strides)) or len(sizes) > _DIMENSIONS:
        raise UserError("the shape of a tensor in it is damaged")
    last = start + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= len(numbers):
        raise UserError("a tensor in it is larger than its numbers")
    made = torch.empty(0, dtype=numbers.dtype, device=numbers.device)
    return made.set_(numbers.untyped_storage(), numbers.storage_offset() + start, sizes, strides)
