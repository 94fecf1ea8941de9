"""The output folder of a job: parts that appear whole or not at all, the plan, the lock, the counts at the end."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..loading.hub import sha256
from .settings import Settings
from .units import COUNTS, Unit, table_of, vector_column

PLAN = "_plan.json"
REJECTS = "_rejects"


def write_whole(path: Path, data: Any) -> None:
    """Write bytes into a file that appears whole or not at all, and stays after a power cut.

    Raises
    ------
    OSError
        If it cannot be written, such as on a full disk; nothing is left of it then.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    if os.name == "posix":  # the name stays as well
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json_whole(path: Path, value: Any) -> None:
    """Write JSON into a file that appears whole or not at all."""
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Raises
    ------
    RuntimeError
        If another process holds it, unless this one is to ``wait``.
    """
    with open(path, "a+b") as file:
        while not _lock(file):
            if not wait:
                file.seek(0)
                holder = file.read().decode(errors="replace").strip() or "another process"
                raise RuntimeError(f"{path.parent} is being written by {holder}: wait for it, or end it")
            time.sleep(0.05)
        if sys.platform != "win32":  # there nobody else can read it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n".encode())
            file.flush()
        yield


def _lock(file: Any) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


# ---- the plan --------------------------------------------------------------------------------------------------------


def agree(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or check that it is the one that is there.

    Raises
    ------
    ValueError
        If another plan is there; the message says what differs. If there are other files and no plan.
    """
    path = folder / PLAN
    if not path.exists():
        others = sorted(entry.name for entry in folder.iterdir() if entry.name[0] not in "._")
        if others:
            raise ValueError(f"{folder} holds {others[0]} and no plan of a job: give a new or an empty folder")
        write_json_whole(path, plan)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    found = list(differences(before, json.loads(json.dumps(plan))))
    if found:
        raise ValueError(
            f"{folder} has another plan: {'; '.join(found[:5])}{'; …' if len(found) > 5 else ''}. Give "
            "another folder, or what the plan says"
        )


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Yield where two values of JSON differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from differences(before.get(name), now.get(name), f"{where}.{name}" if where else name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from differences(old, new, f"{where}[{i}]")
    elif isinstance(before, list) and isinstance(now, list):
        yield f"{where} had {len(before)} entries and has {len(now)}"
    elif before != now:
        yield f"{where} was {json.dumps(before)} and is {json.dumps(now)}"


# ---- parts -----------------------------------------------------------------------------------------------------------


class Parts:
    """The parts in a folder.

    Parameters
    ----------
    folder
        Where they are.
    settings
        In which format, and what is stored.
    fixed
        Whether the lists of numbers have a fixed size. Where a null may come they have none: pyarrow before 26 can't
        read Parquet files with nulls among lists of fixed size.
    ranges
        Of the components, for ``"int8"`` and ``"uint8"``.
    """

    def __init__(self, folder: Path, settings: Settings, fixed: bool, ranges: np.ndarray | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self.fixed = fixed
        self.ranges = ranges

    def there(self) -> set[str]:
        """Return the names of the parts that are done."""
        suffix = f".{self.settings.format}"
        names = (entry.name for entry in os.scandir(self.folder) if entry.name.startswith("part-"))
        return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}

    def write(self, unit: Unit) -> None:
        """Write a part and its rejects; the file that makes it count as done comes last."""
        rejects = self.folder / REJECTS / f"{unit.name}.jsonl"
        if unit.rejects:
            rejects.parent.mkdir(exist_ok=True)
            lines = [json.dumps(row, ensure_ascii=True) + "\n" for row in unit.rejects]
            write_whole(rejects, "".join(lines).encode())
        table, vectors = table_of(unit, self.settings, self.ranges)
        flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
        if self.settings.format == "npy":
            write_whole(self._path(unit.name, "parquet"), _parquet(table, flat))
            vectors[unit.null] = 0
            buffer = io.BytesIO()
            np.save(buffer, vectors, allow_pickle=False)
            write_whole(self._path(unit.name, "npy"), buffer.getbuffer())
        else:
            column = vector_column(vectors, unit.null, self.fixed)
            write_whole(self._path(unit.name, "parquet"), _parquet(table.append_column("embedding", column), flat))

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}.{suffix}"

    def summary(self, names: list[str]) -> dict[str, Any]:
        """Return the counts of these parts together, and the SHA-256 of what ``sha256sum part-*`` prints."""
        total: dict[str, Any] = {"parts": len(names)}
        lines = []
        for name in sorted(names):
            described = pq.read_schema(self._path(name, "parquet")).metadata[COUNTS]
            for key, count in json.loads(described).items():
                total[key] = total.get(key, 0) + count
            for suffix in ("npy", "parquet") if self.settings.format == "npy" else ("parquet",):
                path = self._path(name, suffix)
                lines.append(f"{sha256(path)}  {path.name}\n")
        return total | {"sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def _parquet(table: pa.Table, flat: list[str]) -> Any:
    """Return a Parquet file; only flat columns are compressed: vectors hardly get smaller."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=dict.fromkeys(flat, "zstd"), use_dictionary=flat, write_statistics=flat)
    return sink.getvalue()
