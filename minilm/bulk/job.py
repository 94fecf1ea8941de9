"""A job: files of texts to files of vectors, in parts that are done or not, so that it goes on where it was ended."""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..sentences.by_name import ModelName
from ..sentences.running import WINDOW_TEXTS
from ..sentences.sentence_transformer import SentenceTransformer
from ..vectors.quantization import quantization_ranges
from .parts import Parts, agree, locked, write_json_whole
from .rows import Source, check_row
from .settings import Settings
from .sources import find_sources
from .units import Dedupe, Feed, Unit, make_unit

VERSION = 1  # of the plan: what a job of another version began is not gone on with
CALIBRATION_TEXTS = 2048
WAITING_PARTS = 2  # that may wait to be written

Progress = Callable[[int, int | None], None]


def embed_files(
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    settings: Settings | None = None,
    model: ModelName | None = None,
    shard: int = 0,
    on_rows: Progress | None = None,
) -> dict[str, Any]:
    """Turn files of texts into files of vectors; called again after an interruption, go on.

    The folder ``output`` gets a plan (``_plan.json``), parts of some thousand rows (``part-00000-000000.parquet``: file
    and block of the input), and at the end ``_SUCCESS``, JSON with counts and a checksum. A part appears whole or not
    at all, and one that is there is done. Vectors are lists of fixed size, or just lists where a text can be a null, as
    in JSON lines: few versions of pyarrow can read nulls among lists of fixed size.

    Parameters
    ----------
    inputs
        Files, or patterns of files: ``.parquet``, ``.jsonl``, ``.csv``, ``.tsv``, ``.txt``; all but Parquet also
        compressed (``.gz``, ``.bz2``, ``.zst``, ``.lz4``).
    output
        A folder: new, empty, or that of the same job.
    settings
        What is read of each row, and what is written of it.
    model
        Which model computes; by default all-MiniLM-L6-v2.
    shard
        Which of ``settings.shards`` jobs this is, counted from 0. Each does its own parts, at any time, on any machine.
        ``_SUCCESS`` comes when all are done.
    on_rows
        Called with the number of rows that were done just now, and with how many were to be done when the job began,
        None where that is not known.

    Returns
    -------
    dict
        What ``_SUCCESS`` holds, or for a shard its own ``_SUCCESS-0-of-4``: ``parts``; ``rows`` and how many of them
        have ``vectors``; how many of these were ``computed``, ``truncated``; how many rows were ``rejected``; and the
        ``sha256`` of what ``sha256sum part-*`` prints.

    Raises
    ------
    FileNotFoundError, ValueError
        If the inputs are not as the settings say. If ``output`` has another plan; the message says what differs. For a
        bad row, if such rows are to end the job.
    RuntimeError
        If another process writes this output.
    OSError
        If something cannot be written, such as on a full disk. Parts that are there stay.
    """
    settings, model = settings or Settings(), model or ModelName()
    if not 0 <= shard < settings.shards:
        raise ValueError(f"shard must be from 0 to {settings.shards - 1}, got {shard}")
    sources, schema = find_sources(inputs, settings)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    own = "" if settings.shards == 1 else f"-{shard}-of-{settings.shards}"
    with locked(folder / f".lock{own}"):
        loaded = model.load()
        loaded.truncation = "silent"  # what is cut is counted
        plan = _plan(sources, schema, settings, model.describe(loaded))
        with locked(folder / ".lock-plan", wait=True):
            agree(folder, plan)
            ranges = _ranges(folder, sources, schema, loaded)
        fixed = not plan["nulls"]
        job = Job(sources, schema, loaded, Parts(folder, settings, fixed, ranges), shard)
        counts = job.run(on_rows or (lambda rows, total: None))
        write_json_whole(folder / f"_SUCCESS{own}", counts)
        if own:
            _join(folder, settings.shards)
    return counts


def _plan(sources: list[Source], schema: pa.Schema, settings: Settings, model: dict[str, Any]) -> dict[str, Any]:
    inputs = []
    for source in sources:
        facts = source.path.stat()
        inputs.append({"path": str(source.path), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns})
    columns = {field.name: str(field.type) for field in schema}
    nulls = settings.on_error == "null" or any(source.nulls for source in sources)
    return {"version": VERSION, "settings": asdict(settings), "columns": columns, "nulls": nulls, "model": model,
            "inputs": inputs}  # fmt: skip


def _ranges(folder: Path, sources: list[Source], schema: pa.Schema, model: SentenceTransformer) -> np.ndarray | None:
    """Return the ranges of the components for ``"int8"`` and ``"uint8"``: computed once, then read from the folder."""
    settings = sources[0].settings
    if settings.precision not in ("int8", "uint8"):
        return None
    path = folder / "_ranges.json"
    if not path.exists():
        rows = (found for source in sources for _, found in source.blocks(schema, lambda block: True))
        texts = (text for found in rows if found is not None for text in map(check_row, found.texts))
        first = list(itertools.islice((text for text in texts if isinstance(text, str)), CALIBRATION_TEXTS))
        vectors = next(model.encode_chunks(first, max(1, len(first)), **settings.encoding))[1] if first else np.zeros(0)
        write_json_whole(path, quantization_ranges(vectors).tolist())
    return np.array(json.loads(path.read_text(encoding="utf-8")), np.float32)


def _join(folder: Path, shards: int) -> None:
    """Write ``_SUCCESS`` if every shard has written its own: the sums, and each shard's checksum."""
    paths = [folder / f"_SUCCESS-{shard}-of-{shards}" for shard in range(shards)]
    if not all(path.exists() for path in paths):
        return
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    sums = {name: sum(one[name] for one in found) for name in found[0] if name != "sha256"}
    write_json_whole(folder / "_SUCCESS", sums | {"sha256": [one["sha256"] for one in found]})


class Job:
    """One run over the parts that are not there yet.

    Parameters
    ----------
    sources, schema
        What is read.
    model
        What computes.
    parts
        Where the parts go.
    shard
        Which of the jobs this is.
    """

    def __init__(
        self, sources: list[Source], schema: pa.Schema, model: SentenceTransformer, parts: Parts, shard: int
    ) -> None:
        self._sources, self._schema, self._model, self._parts, self._shard = sources, schema, model, parts, shard
        self._settings = parts.settings
        self._done = parts.there()
        self._seen: list[str] = []  # the names of all parts of this shard
        self._first_part = list(itertools.accumulate((self._blocks(source) for source in sources), initial=0))

    def _blocks(self, source: Source) -> int:
        """How many parts a source has, 0 if that is not known."""
        return -(-(source.count or 0) // self._settings.part_rows)

    def _name(self, number: int, block: int) -> str:
        return f"part-{number:05d}-{block:06d}"

    def _wanted(self, number: int, block: int) -> bool:
        """Whether the part belongs to this shard, and is not there yet."""
        return self._mine(number, block) and self._name(number, block) not in self._done

    def _mine(self, number: int, block: int) -> bool:
        return (self._first_part[number] + number + block) % self._settings.shards == self._shard

    def _total(self) -> int | None:
        """How many rows are to be done; None if that is not known."""
        size, total = self._settings.part_rows, 0
        for number, source in enumerate(self._sources):
            count = source.count
            if count is None:
                return None
            blocks = range(-(-count // size))
            total += sum(min(size, count - block * size) for block in blocks if self._wanted(number, block))
        return total

    def _units(self) -> Iterator[Unit]:
        dedupe = Dedupe() if self._settings.dedupe else None
        for number, source in enumerate(self._sources):

            def wanted(block: int, number: int = number) -> bool:
                return self._wanted(number, block)

            for block, rows in source.blocks(self._schema, wanted):
                name = self._name(number, block)
                if self._mine(number, block):
                    self._seen.append(name)
                if rows is not None:
                    yield make_unit(source, name, block, rows, self._settings, dedupe)

    def run(self, on_rows: Progress) -> dict[str, Any]:
        """Do what is not done; return the counts of all parts of this shard."""
        total = self._total()
        width, dtype = self._empty()
        feed = Feed(self._units())
        size = min(self._settings.part_rows, WINDOW_TEXTS)
        more = {"on_lost": feed.on_lost, "read_ahead": True, **self._settings.encoding}
        chunks: Any = self._model.encode_chunks(feed.texts(), size, **more)
        with closing(chunks), _writing(self._parts) as write:
            finished = (unit for _, vectors in chunks for unit in feed.take(vectors))
            for unit in itertools.chain(finished, feed.rest()):
                unit.finish(width, dtype)
                write(unit)
                on_rows(len(unit.null), total)
        return self._parts.summary(self._seen)

    def _empty(self) -> tuple[int, Any]:
        """Return how many numbers a vector has, and their dtype."""
        none = self._model.encode([], show_progress_bar=False, **self._settings.encoding)
        return none.shape[1], none.dtype


@contextmanager
def _writing(parts: Parts) -> Iterator[Callable[[Unit], None]]:
    """Yield a function that writes a unit in a thread of its own; at the end all are written, or an error is raised."""
    waiting: deque[Future[None]] = deque()

    def write(unit: Unit) -> None:
        waiting.append(pool.submit(parts.write, unit))
        while len(waiting) > WAITING_PARTS:
            waiting.popleft().result()

    with ThreadPoolExecutor(1, "minilm-parts") as pool:
        yield write
        for future in waiting:
            future.result()
