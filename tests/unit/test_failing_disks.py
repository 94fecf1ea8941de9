"""Disks that are full and renames that fail, under everything that writes: what stands there is old or new, never torn.

A limit on the size of files makes the system refuse to write, in whatever language the writer is. Every rename of a job
fails in its turn.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("orjson", reason="the tiny models are the service's: pip install 'minilm[serve]'")
pytest.importorskip("resource", reason="limits of a process are Unix's")
pytest.importorskip("pyarrow", reason="bulk needs: pip install 'minilm[bulk]'")

import resource

import pyarrow.parquet as pq
from serving_models import embedder

from minilm import Index, SentenceTransformer
from minilm.cli import main

TEXTS = {"old": ["a b", "c"], "new": ["d e f", "a", "x y z"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    embedder().model.save_pretrained(folder)
    return folder


def command(*arguments: Any) -> None:
    """Run a command of minilm; raise an `OSError` with what it says if it fails."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    if result.exit_code:
        assert result.exit_code == 1 and result.stderr.startswith("Error: "), result.output
        raise OSError(result.stderr)


def texts_file(place: Path, which: str) -> Path:
    file = place / f"{which}.txt"
    if not file.exists():  # a job that goes on finds what it began with
        file.write_text("".join(f"{text}\n" for text in TEXTS[which]))
    return file


def embed(kind: str) -> Callable[[Path, Path, str], None]:
    def write(place: Path, model: Path, which: str) -> None:
        texts = texts_file(place, which)
        command("embed", "-f", texts, "-o", place / f"x.{kind}", "--model", model, "--backend", "numpy")

    return write


def read_npz(place: Path) -> Any:
    with np.load(place / "x.npz") as arrays:
        return arrays["embeddings"].tolist(), arrays["texts.json"]


def save(place: Path, model: Path, which: str) -> None:
    loaded = SentenceTransformer(model, backend="numpy")
    loaded.max_seq_length = 5 + len(TEXTS[which])
    loaded.prompts = {"query": which}
    loaded.save_pretrained(place / "model")


def read_model(place: Path) -> Any:
    loaded = SentenceTransformer(place / "model", backend="numpy")
    return loaded.max_seq_length, loaded.prompts, loaded.encode("a b").tolist()


def index(place: Path, model: Path, which: str) -> None:
    for file in place.glob("*.txt"):
        file.unlink()
    with Index(place / "x.db", SentenceTransformer(model, backend="numpy", truncation="silent")) as index:
        index.update(texts_file(place, which))


def read_index(place: Path) -> Any:
    """Return the passages, with their vectors; whatever has happened, the file is sound."""
    db = sqlite3.connect(place / "x.db")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    with Index(place / "x.db") as index:
        return [(Path(entry.path).name, entry.text, entry.vector.tolist()) for entry in index]


def bulk(place: Path, model: Path, which: str) -> None:
    settings = ["--part-rows", 2, "--model", model, "--backend", "numpy"]
    command("bulk", texts_file(place, which), "-o", place / "out", *settings)


def read_bulk(place: Path) -> Any:
    return pq.read_table(sorted((place / "out").glob("part-*"))).to_pylist()


@dataclass(frozen=True)
class Job:
    """Something that writes.

    Attributes
    ----------
    write
        Writes, in a folder, with the model of another one, what becomes of the old or the new texts.
    read
        Returns what was written.
    whole
        Whether a job that fails leaves what was there before. If not, it leaves parts that are whole, and goes on.
    """

    write: Callable[[Path, Path, str], None]
    read: Callable[[Path], Any]
    whole: bool = True


JOBS = {
    "npy": Job(embed("npy"), lambda place: np.load(place / "x.npy").tolist()),
    "npz": Job(embed("npz"), read_npz),
    "jsonl": Job(embed("jsonl"), lambda place: (place / "x.jsonl").read_text()),
    "model": Job(save, read_model),
    "index": Job(index, read_index, whole=False),
    "bulk": Job(bulk, read_bulk, whole=False),
}


# ---- what fails ------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to make a file larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def rename_that_fails(number: int) -> Iterator[list[str]]:
    """Let the rename of this number fail, from 0; yield a list that fills with the names that were to be there."""
    seen: list[str] = []

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def rename(a: Any, b: Any, **more: Any) -> None:
            seen.append(str(b))
            if len(seen) == number + 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(a), None, str(b))
            real(a, b, **more)

        return rename

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(os, name, failing(getattr(os, name)))
        yield seen


def files(place: Path) -> list[Path]:
    """Return what was written."""
    return [path for path in place.rglob("*") if path.is_file() and path.suffix != ".txt"]


def check(job: Job, place: Path, model: Path, fails: Any, before: Any, after: Any) -> None:
    """Check what a job leaves that fails, and that it does its work the next time."""
    with fails, pytest.raises(OSError):
        job.write(place, model, "new")
    if job.whole:
        assert before is not None or files(place) == []
        assert before is None or job.read(place) == before
    assert not [path for path in files(place) if path.name.endswith(".part") or "_writing" in path.parts]
    job.write(place, model, "new")
    assert job.read(place) == after


CASES = [(name, over) for name in JOBS for over in ("nothing", "old")]
CASES.remove(("bulk", "old"))  # an output folder takes one job


@pytest.mark.parametrize(("name", "over"), CASES)
def test_a_disk_that_fails(name: str, over: str, model: Path, tmp_path: Path) -> None:
    job, before = JOBS[name], None

    def place(number: int) -> Path:
        nonlocal before
        folder = tmp_path / str(number)
        folder.mkdir()
        if over == "old":
            job.write(folder, model, "old")
            before = job.read(folder)
        return folder

    first = place(0)
    with rename_that_fails(-1) as renamed:
        job.write(first, model, "new")
    after = job.read(first)
    assert after != before
    largest = max(path.stat().st_size for path in files(first))
    for number, size in enumerate((0, 1, largest // 3, largest - 1), start=1):
        folder = place(number)
        texts_file(folder, "new")
        check(job, folder, model, files_of_at_most(size), before, after)
    assert renamed or name == "index"
    for number in range(len(renamed)):
        check(job, place(100 + number), model, rename_that_fails(number), before, after)
