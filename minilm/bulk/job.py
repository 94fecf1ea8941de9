"""A job: files of texts to files of vectors, in parts that are done or not, so that it goes on where it was ended."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..sentences.by_name import ModelName
from ..sentences.sentence_transformer import SentenceTransformer
from ..vectors.quantization import quantization_ranges
from .folders import Folder, open_folder
from .parts import Parts, agree
from .rows import Source, check_row
from .settings import Settings
from .sources import find_sources
from .work import Progress, Work

if TYPE_CHECKING:
    from .on_ray import Ray

VERSION = 3  # of the plan: what a job of another version began is not gone on with
RANGES = "_ranges.json"  # of the components, for int8 and uint8
CALIBRATION_TEXTS = 2048  # that the ranges are computed from


def embed_files(
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    settings: Settings | None = None,
    model: ModelName | None = None,
    shard: int = 0,
    on_rows: Progress | None = None,
    engine: Ray | None = None,
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
        compressed (``.gz``, ``.bz2``, ``.zst``, ``.lz4``). Paths, or URIs that `pyarrow.fs` opens (``s3://``,
        ``gs://``, ``hdfs://``), or fsspec, where it is installed.
    output
        A folder: new, empty, or that of the same job. A path or a URI.
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
    engine
        A cluster that does the work, `minilm.bulk.on_ray.Ray`; by default this process does it.

    Returns
    -------
    dict
        What ``_SUCCESS`` holds, or for a shard its own ``_SUCCESS-0-of-4``: ``parts``; ``rows`` and how many of them
        have ``vectors``; how many rows were ``rejected``; how many texts were ``truncated``; and the ``sha256`` of what
        ``sha256sum part-*`` prints.

    Raises
    ------
    FileNotFoundError, ValueError
        If the inputs are not as the settings say. If ``output`` has another plan; the message says what differs. For a
        bad row, if such rows are to end the job.
    RuntimeError
        If another process writes this output. Stores have no locks: there both do the same work.
    OSError
        If something cannot be written, such as on a full disk. Parts that are there stay.
    """
    settings, model = settings or Settings(), model or ModelName()
    if not 0 <= shard < settings.shards:
        raise ValueError(f"shard must be from 0 to {settings.shards - 1}, got {shard}")
    sources, schema = find_sources(inputs, settings)
    own = "" if settings.shards == 1 else f"-{shard}-of-{settings.shards}"
    folder = open_folder(output, own)
    with folder.locked(f".lock{own}"):
        folder.clean()
        loaded = model.load()
        loaded.truncation = "silent"  # what is cut is counted
        plan = _plan(sources, schema, settings, model.describe(loaded))
        with folder.locked(".lock-plan", wait=True):
            agree(folder, plan)
            ranges = _ranges(folder, sources, schema, loaded)
        work = Work(sources, schema, Parts(folder, settings, not plan["nulls"], ranges), shard)
        done = work.parts.there()
        total = work.total(done)

        def report(rows: int) -> None:
            if on_rows is not None:
                on_rows(rows, total)

        if engine is None:
            found = work.do(loaded, work.shares(), done.__contains__, report)
        else:
            found = engine.do(work, model, plan["model"], done, report)
        counts = work.parts.summary(found)
        agree(folder, plan)  # still, in a store that has no locks
        folder.write_json(f"_SUCCESS{own}", counts)
        if own:
            _join(folder, settings.shards)
        folder.clean()
    return counts


def _plan(sources: list[Source], schema: pa.Schema, settings: Settings, model: dict[str, Any]) -> dict[str, Any]:
    files = [source.file for source in sources]
    inputs = [{"path": file.uri, "size": file.size, "mtime_ns": file.mtime_ns} for file in files]
    columns = {field.name: str(field.type) for field in schema}
    nulls = settings.on_error == "null" or any(source.nulls for source in sources)
    return {"version": VERSION, "settings": asdict(settings), "columns": columns, "nulls": nulls, "model": model,
            "inputs": inputs}  # fmt: skip


def _ranges(folder: Folder, sources: list[Source], schema: pa.Schema, model: SentenceTransformer) -> np.ndarray | None:
    """Return the ranges of the components for ``"int8"`` and ``"uint8"``: computed once, then read from the folder."""
    settings = sources[0].settings
    if settings.precision not in ("int8", "uint8"):
        return None
    if not folder.has(RANGES):
        rows = (found for source in sources for _, found in source.blocks(schema, lambda block: True))
        texts = (text for found in rows if found is not None for text in map(check_row, found.texts))
        first = list(itertools.islice((text for text in texts if isinstance(text, str)), CALIBRATION_TEXTS))
        vectors = next(model.encode_chunks(first, max(1, len(first)), **settings.encoding))[1] if first else np.zeros(0)
        folder.write_json(RANGES, quantization_ranges(vectors).tolist())
    return np.array(folder.read_json(RANGES), np.float32)


def _join(folder: Folder, shards: int) -> None:
    """Write ``_SUCCESS`` if every shard has written its own: the sums, and each shard's checksum."""
    names = [f"_SUCCESS-{shard}-of-{shards}" for shard in range(shards)]
    if not set(names) <= folder.names():
        return
    found = [folder.read_json(name) for name in names]
    sums = {name: sum(one[name] for one in found) for name in found[0] if name != "sha256"}
    folder.write_json("_SUCCESS", sums | {"sha256": [one["sha256"] for one in found]})
