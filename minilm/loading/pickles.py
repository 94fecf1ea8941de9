"""What ``torch.save`` wrote (``pytorch_model.bin``), read without PyTorch and without running what is in it.

A pickle is a program for a small stack machine. Python's own machine imports and calls whatever the program names. The
machine below has only the opcodes that a table of tensors needs, and calls nothing. Where the program asks to rebuild a
tensor, the machine notes which part of which storage the tensor is. It refuses everything else by name. Then the notes
are checked against the file, and every tensor becomes a view of it. No memory is allocated from a number in the pickle.

`torch.save` has two formats. Since 1.6 a file is a zip archive, stored and not compressed: ``*/data.pkl`` and one
``*/data/KEY`` a storage. Before, it was five pickles (magic number, protocol, system, tensors, keys of the storages),
then for each key the count of elements in 8 bytes and the elements. See ``torch/serialization.py``.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .tensors import DTYPES, CheckpointError, Tensor, map_file, view

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE = 1 << 18  # bytes, which take at most half a second; a BERT of 24 layers has 79 KB
_MAX_DIRECTORY = 1 << 20  # bytes; that of a zip archive takes about 100 for each storage

_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_REBUILD_TENSOR = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED_DICT = "collections.OrderedDict"
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_NUMBERS_AND_STRINGS = _NUMBERS | {"BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}

# What this module, zipfile and pickletools raise for a malformed file; a DeprecationWarning (for escapes in a string)
# where warnings are errors.
_MALFORMED = (
    ValueError,
    LookupError,
    TypeError,
    OSError,
    OverflowError,
    EOFError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    DeprecationWarning,
)

_GLOBALS = {*_STORAGES, *_REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED_DICT}


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """Read a state dict that ``torch.save`` wrote: every tensor under its key, as a view of the mapped file.

    Raises
    ------
    CheckpointError
        If the file is corrupted or truncated, or its pickle asks for anything but tensors.
    """
    data = map_file(path)
    try:
        if data[:4].tobytes() == b"PK\x03\x04":
            notes, storages = _read_zip(path, data)
        else:
            notes, storages = _read_legacy(data)
        return {key: _tensor(key, note, data, storages) for key, note in notes.items()}
    except _MALFORMED as error:
        raise CheckpointError(f"{path} is not a sound file of tensors by torch.save: {error}") from error


# ---- where the storages lie ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Global:
    """A name that the pickle would have imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """What a pickle says of a storage: ``count`` numbers of a type."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class _View:
    """What a pickle says of a tensor: which elements of which storage."""

    storage: _Storage
    offset: Any
    size: Any
    stride: Any


class _LimitedReads(io.FileIO):
    """A file whose reads are limited to _MAX_DIRECTORY bytes: zipfile would read a directory of any size at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is not None and 0 <= size <= _MAX_DIRECTORY else _MAX_DIRECTORY) or b""


def _read_zip(path: Path, data: np.ndarray) -> tuple[dict[str, _View], dict[str, tuple[int, int]]]:
    """Return the notes, and where each storage starts and ends in the file."""
    with _LimitedReads(path) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    spans: dict[str, tuple[int, int]] = {}
    for entry in entries:
        if entry.filename in spans:
            raise ValueError(f"{entry.filename} is in the archive twice")
        spans[entry.filename] = _stored_at(entry, data)
    roots = [name.removesuffix("data.pkl") for name in spans if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"it is a zip archive with {len(roots)} entries */data.pkl, expected 1")
    root = roots[0]
    if f"{root}constants.pkl" in spans:
        raise ValueError("it is a TorchScript program, expected tensors alone")
    start, end = spans.get(f"{root}byteorder", (0, 0))
    if data[start : min(end, start + 9)].tobytes() not in (b"", b"little"):
        raise ValueError("its numbers are not little-endian")
    start, end = spans[f"{root}data.pkl"]
    if end - start > _MAX_PICKLE:
        raise ValueError(f"its data.pkl has {end - start} bytes, more than any table of tensors")
    program = data[start:end].tobytes()
    checksum = next(entry.CRC for entry in entries if entry.filename == f"{root}data.pkl")
    if checksum and checksum != zlib.crc32(program):  # 0: torch.save was told to leave it out
        raise ValueError("its data.pkl has another checksum than the archive says")
    notes = _table(_Machine().run(io.BytesIO(program)))
    prefix = f"{root}data/"
    return notes, {name.removeprefix(prefix): span for name, span in spans.items() if name.startswith(prefix)}


def _stored_at(entry: zipfile.ZipInfo, data: np.ndarray) -> tuple[int, int]:
    """Return where an archive's entry starts and ends in the file: after its local header of 30 bytes and two names."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise ValueError(f"{entry.filename} is compressed or encrypted; torch.save does neither")
    header = data[entry.header_offset : entry.header_offset + 30].tobytes() if entry.header_offset >= 0 else b""
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise ValueError(f"{entry.filename} has no header where the archive says")
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    if start + entry.file_size > data.size:
        raise ValueError(f"{entry.filename} would end beyond the file")
    return start, start + entry.file_size


def _read_legacy(data: np.ndarray) -> tuple[dict[str, _View], dict[str, tuple[int, int]]]:
    """Return the notes, and where each storage starts and ends in the file."""
    stream = io.BytesIO(data[:_MAX_PICKLE].tobytes())
    if data[0] != 0x80 or _Machine().run(stream) != _LEGACY_MAGIC:
        raise ValueError("it is neither a zip archive nor in the older format")
    protocol, system = _Machine().run(stream), _Machine().run(stream)
    if protocol != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its protocol is not 1001, or its numbers are not little-endian")
    machine = _Machine()
    notes, keys = _table(machine.run(stream)), _Machine().run(stream)
    if not isinstance(keys, list):
        raise ValueError(f"it lists its storages in {_kind_of(keys)}, expected a list")
    start, spans = stream.tell(), {}
    for key in keys:
        if not isinstance(key, str) or key not in machine.storages:
            raise ValueError("it has a storage that no tensor uses")
        storage = machine.storages[key]
        count = int.from_bytes(data[start : start + 8].tobytes(), "little", signed=True)
        end = start + 8 + storage.count * DTYPES[storage.kind].itemsize
        if count != storage.count or end > data.size:
            raise ValueError(f"storage {_short(key)} should have {storage.count} numbers, which are not there")
        spans[key] = (start + 8, end)
        start = end
    return notes, spans


def _table(value: Any) -> dict[str, _View]:
    """Return what a pickle made, if it is a dict of tensors."""
    if not isinstance(value, dict):
        raise ValueError(f"it holds {_kind_of(value)}, expected a dict of tensors")
    for key, note in value.items():
        if not isinstance(key, str) or not isinstance(note, _View):
            raise ValueError(f"entry {_short(key)} is {_kind_of(note)}, expected a tensor")
    return value


def _tensor(key: str, note: _View, data: np.ndarray, spans: Mapping[str, tuple[int, int]]) -> Tensor:
    """Make the view that a note describes, if it lies within its storage and the storage within the file."""
    storage, offset, size, stride = note.storage, note.offset, note.size, note.stride
    itemsize = DTYPES[storage.kind].itemsize
    if storage.key not in spans:
        raise ValueError(f"{_short(key)} lies in storage {_short(storage.key)}, which is not in the file")
    start, end = spans[storage.key]
    if storage.count * itemsize != end - start:
        raise ValueError(
            f"{_short(key)} claims a storage of {storage.count} × {itemsize} bytes, but the file has {end - start}"
        )
    for numbers in ((offset,), size, stride):
        if not isinstance(numbers, tuple) or len(numbers) > 8 or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"{_short(key)} has an offset, size or stride that is not made of numbers of at least 0")
    if len(size) != len(stride):
        raise ValueError(f"{_short(key)} has {len(size)} sizes and {len(stride)} strides")
    count = math.prod(size)
    if count == 0:
        return Tensor(storage.kind, np.empty(size, dtype=DTYPES[storage.kind]))
    span = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if offset + span > storage.count:
        raise ValueError(f"{_short(key)} reaches beyond its storage of {storage.count} numbers")
    if count * itemsize > data.size:  # strides of 0 repeat numbers, so this can be; no parameter is like that
        raise ValueError(f"{_short(key)} has {count} numbers, more than the whole file")
    elements = view(data, start + offset * itemsize, storage.kind, span)
    strides = tuple(step * itemsize for step in stride)
    return Tensor(storage.kind, np.lib.stride_tricks.as_strided(elements, size, strides, writeable=False))


# ---- the machine -----------------------------------------------------------------------------------------------------


class _Machine:
    """Pickle's stack machine, with the opcodes of plain data and a pad to note tensors on.

    Time and memory are in proportion to the pickle: what it repeats by reference is never walked, printed or hashed.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """Run one pickle, up to its STOP; the stream is left behind it."""
        argument: Any
        for opcode, argument, _ in pickletools.genops(stream):
            match opcode.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    break
                case name if name in _LITERALS:
                    self.stack.append(_LITERALS[name])
                case name if name in _NUMBERS_AND_STRINGS:
                    self.stack.append(argument)
                case "EMPTY_LIST" | "EMPTY_DICT":
                    self.stack.append([] if opcode.name == "EMPTY_LIST" else {})
                case "MARK":
                    self.marks.append(len(self.stack))
                case "TUPLE":
                    self.stack.append(tuple(self._since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    self.stack.append(tuple(self._pop(int(opcode.name[-1]))))
                case "APPEND" | "APPENDS":
                    values = self._pop(1) if opcode.name == "APPEND" else self._since_mark()
                    self._top(list).extend(values)
                case "SETITEM" | "SETITEMS":
                    values = self._pop(2) if opcode.name == "SETITEM" else self._since_mark()
                    _set_items(self._top(dict), values)
                case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                    self.memo[len(self.memo) if argument is None else argument] = self._top(object)
                case "BINGET" | "LONG_BINGET":
                    self.stack.append(self.memo[argument])
                case "GLOBAL":
                    self.stack.append(_allowed(argument.replace(" ", ".")))
                case "STACK_GLOBAL":
                    self.stack.append(_allowed(".".join(map(_text, self._pop(2)))))
                case "BINPERSID":
                    self.stack.append(self._storage(*self._pop(1)))
                case "REDUCE":
                    self.stack.append(_call(*self._pop(2)))
                case "BUILD":  # a state dict's own attributes: versions of modules
                    self._pop(1)
                    self._top(dict)
                case _:
                    raise ValueError(f"its pickle has the opcode {opcode.name}, which no tensor needs")
        return self._pop(1)[0]

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle takes from an empty stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("its pickle looks for a mark that it did not set")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def _top(self, expected: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], expected):
            raise ValueError(f"its pickle expects a {expected.__name__} where there is none")
        return self.stack[-1]

    def _storage(self, reference: Any) -> _Storage:
        """Note a storage: ``("storage", type, key, device, count)``, in the older format with a view of None."""
        match reference:
            case ("storage", _Global(name), str(key), str(), int(count), *rest) if name in _STORAGES and count >= 0:
                storage = _Storage(key, _STORAGES[name], count)
                if rest in ([], [None]) and self.storages.setdefault(key, storage) == storage:
                    return storage
        raise ValueError("its pickle refers to something that is not a storage of numbers")


def _allowed(name: str) -> _Global:
    if name not in _GLOBALS:
        raise ValueError(f"its pickle asks for {_short(name)}, which no tensor needs; refused, and nothing was run")
    return _Global(name)


def _call(function: Any, arguments: Any) -> Any:
    """Note what a call would make."""
    match function, arguments:
        case _Global(name), () if name == _ORDERED_DICT:
            return {}
        case _Global(name), (_Storage() as storage, offset, size, stride, *_) if name in _REBUILD_TENSOR:
            return _View(storage, offset, size, stride)
        case _Global(name), (_View() as tensor, bool(), *_) if name == _REBUILD_PARAMETER:
            return tensor
    raise ValueError(f"its pickle calls {_kind_of(function)} in a way that makes no tensor")


def _set_items(target: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2 or not all(type(key) in (str, int) for key in values[::2]):
        raise ValueError("its pickle has a dict with keys that are not strings")
    target.update(zip(values[::2], values[1::2], strict=True))
    return target


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("its pickle asks for a global whose name is not a string")
    return value


def _kind_of(value: Any) -> str:
    return _short(value.name) if isinstance(value, _Global) else f"a {type(value).__name__}"


def _short(name: Any) -> str:
    return repr(name[:80]) if isinstance(name, str) else f"a {type(name).__name__}"
