"""What a job writes: the plan, the parts, and their counts at the end."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .folders import Folder
from .settings import Settings
from .units import COUNTS, Counts, Unit, table_of, vector_column

PLAN = "_plan.json"
REJECTS = "_rejects"


# ---- the plan --------------------------------------------------------------------------------------------------------


def agree(folder: Folder, plan: dict[str, Any]) -> None:
    """Write the plan, or check that it is the one that is there.

    Raises
    ------
    ValueError
        If another plan is there; the message says what differs. If there are other files and no plan.
    """
    there = folder.names()
    if PLAN not in there:
        others = sorted(name for name in there if name[0] not in "._")
        if others:
            raise ValueError(f"{folder} holds {others[0]} and no plan of a job: give a new or an empty folder")
        folder.write_json(PLAN, plan)
        return
    found = list(differences(folder.read_json(PLAN), json.loads(json.dumps(plan))))
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


class Part(NamedTuple):
    """What is to be known of a part that is there: its counts, and the lines of ``sha256sum`` for its files."""

    counts: Counts
    sums: str


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

    def __init__(self, folder: Folder, settings: Settings, fixed: bool, ranges: np.ndarray | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self.fixed = fixed
        self.ranges = ranges

    def there(self) -> set[str]:
        """Return the names of the parts that are done."""
        suffix = f".{self.settings.format}"
        names = (name for name in self.folder.names() if name.startswith("part-"))
        return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}

    def has(self, name: str) -> bool:
        """Whether a part is done."""
        return self.folder.has(f"{name}.{self.settings.format}")

    def write(self, unit: Unit) -> Part:
        """Write a part and its rejects; the file that makes it count as done comes last."""
        if unit.rejects:
            lines = [json.dumps(row, ensure_ascii=True) + "\n" for row in unit.rejects]
            self.folder.write(f"{REJECTS}/{unit.name}.jsonl", "".join(lines).encode())
        table, vectors = table_of(unit, self.settings, self.ranges)
        if self.settings.format == "npy":
            vectors[unit.null] = 0
            buffer = io.BytesIO()
            np.save(buffer, vectors, allow_pickle=False)
            files = {"parquet": _parquet(table), "npy": buffer.getbuffer()}
        else:
            files = {
                "parquet": _parquet(table.append_column("embedding", vector_column(vectors, unit.null, self.fixed)))
            }
        for suffix, data in files.items():
            self.folder.write(f"{unit.name}.{suffix}", data)
        return Part(unit.counts(), _sums(unit.name, files))

    def read(self, name: str) -> Part:
        """Return what is to be known of a part that is there."""
        suffixes = ("npy", "parquet") if self.settings.format == "npy" else ("parquet",)
        files = {suffix: self.folder.read(f"{name}.{suffix}") for suffix in suffixes}
        counts = json.loads(pq.read_schema(pa.BufferReader(files["parquet"])).metadata[COUNTS])
        return Part(Counts(**counts), _sums(name, files))

    def summary(self, parts: Mapping[str, Part | None]) -> dict[str, Any]:
        """Return the counts of these parts together, and the SHA-256 of what ``sha256sum part-*`` prints."""
        found = [part or self.read(name) for name, part in sorted(parts.items())]
        total = Counts(*map(sum, zip(*(part.counts for part in found), strict=True)))
        digest = hashlib.sha256("".join(part.sums for part in found).encode()).hexdigest()
        return {"parts": len(found), **total._asdict(), "sha256": digest}


def _sums(name: str, files: Mapping[str, Any]) -> str:
    """Return the lines that ``sha256sum`` prints for a part's files."""
    return "".join(f"{hashlib.sha256(files[suffix]).hexdigest()}  {name}.{suffix}\n" for suffix in sorted(files))


def _parquet(table: pa.Table) -> Any:
    """Return a Parquet file; only flat columns are compressed: vectors hardly get smaller."""
    sink = pa.BufferOutputStream()
    flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    pq.write_table(table, sink, compression=dict.fromkeys(flat, "zstd"), use_dictionary=flat, write_statistics=flat)
    return sink.getvalue()
