"""A tensor as it lies in a file: its type there, and its bytes, mapped into memory instead of read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# The types by their names in safetensors. NumPy has no bfloat16: those are kept as the 16 bits that they are.
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
FLOATING = ("F64", "F32", "F16", "BF16")


class CheckpointError(ValueError):
    """A file of weights that is corrupted, unsafe, or of another model; the message names the file and the key."""


@dataclass(frozen=True)
class Tensor:
    """A type of `DTYPES` and a read-only view of the file, strided and aligned as it comes."""

    kind: str
    array: np.ndarray

    def to(self, dtype: np.dtype) -> np.ndarray:
        """Return the values as a C-contiguous array of ``dtype``: the mapped one itself, if it is that already.

        Raises
        ------
        CheckpointError
            If the file does not hold floating-point numbers, or one of them is beyond the range of ``dtype``.
        """
        if self.kind not in FLOATING:
            raise CheckpointError(f"holds {self.kind}, expected one of {', '.join(FLOATING)}")
        array = self.array
        if self.kind == "BF16":  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        with np.errstate(over="ignore"):
            # Compiled kernels assume aligned numbers; the older format of torch.save does not align them.
            cast = np.require(array, dtype, ["C", "ALIGNED"])
        if dtype.itemsize < array.dtype.itemsize and not np.array_equal(np.isfinite(cast), np.isfinite(array)):
            raise CheckpointError(f"has values beyond the range of {dtype}")
        return cast


class MappedFile(mmap.mmap):
    """A file mapped into memory, read-only.

    Arrays of a loaded model are views of it, and read the file again whenever the system has dropped a page. So the
    file must stay what it was: `check` raises if it was written to or cut. A file that was deleted, or replaced by
    another one of its name, stays readable through the map.
    """

    path: Path
    _descriptor: int
    _stamp: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> MappedFile:
        """Map a file that is not empty."""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            mapped = cls(descriptor, 0, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(descriptor)
            raise
        mapped.path, mapped._descriptor, mapped._stamp = path, descriptor, _stamp(descriptor)
        return mapped

    def check(self) -> None:
        """Raise a `RuntimeError` if the file is no longer what was mapped."""
        if _stamp(self._descriptor) != self._stamp:
            raise RuntimeError(f"{self.path} was changed while a model was reading it: load the model again")

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the interpreter's end ``os`` is gone
        if hasattr(self, "_descriptor"):
            close(self._descriptor)


def _stamp(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def mapped_file(array: Any) -> MappedFile | None:
    """Return the mapped file that an array is a view of; None for an array of another kind."""
    owner: Any = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner if isinstance(owner, MappedFile) else None


def map_file(path: Path) -> np.ndarray:
    """Map a whole file into memory: uint8 [size], read-only."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file that it stands for: run 'git lfs pull'")
    if not head:
        raise CheckpointError(f"{path} is empty")
    return np.frombuffer(MappedFile.open(path), dtype=np.uint8)


def view(data: np.ndarray, start: int, kind: str, count: int) -> np.ndarray:
    """``count`` numbers of a type from byte ``start`` of a mapped file, aligned or not."""
    dtype = DTYPES[kind]
    return data[start : start + count * dtype.itemsize].view(dtype)
