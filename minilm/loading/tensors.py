"""A tensor as it lies in a file: its type there, and its bytes, mapped into memory instead of read."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

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


def map_file(path: Path) -> np.ndarray:
    """Map a whole file into memory: uint8 [size], read-only."""
    with path.open("rb") as file:
        head = file.read(64)
        if head.startswith(b"version https://git-lfs"):
            raise CheckpointError(f"{path} is a Git LFS pointer, not the file that it stands for: run 'git lfs pull'")
        if not head:
            raise CheckpointError(f"{path} is empty")
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def view(data: np.ndarray, start: int, kind: str, count: int) -> np.ndarray:
    """``count`` numbers of a type from byte ``start`` of a mapped file, aligned or not."""
    dtype = DTYPES[kind]
    return data[start : start + count * dtype.itemsize].view(dtype)
