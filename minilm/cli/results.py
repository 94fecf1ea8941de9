"""Writing results: vectors as JSON lines, .npy or .npz, to standard output or to a file that appears whole."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from ..loading.whole import errors_naming, written_beside

Chunk = tuple[list[str], Any]  # texts, and their vectors [texts, components]


_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/self/fd/(\d+)|/dev/std(in|out|err)")


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path such as ``/dev/stdout`` or ``/dev/fd/3`` names, else None."""
    found = _DESCRIPTOR.fullmatch(str(path))
    if found is None:
        return None
    return ("in", "out", "err").index(found[3]) if found[3] else int(found[1] or found[2])


def is_plain(path: Path) -> bool:
    """Whether this is, or will be, a plain file under its own name: no device, no pipe, and not open already."""
    return (path.is_file() or not path.exists()) and _descriptor(path) is None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` for writing, and rename it to ``path`` at the end, if all went well.

    A device or a named pipe is written to directly. So is a file that is open already, such as ``/dev/stdout``: writing
    goes on where it stands, and keeps what the file holds.
    """
    descriptor = _descriptor(path)
    if not is_plain(path):
        with errors_naming(path, path), open(path if descriptor is None else os.dup(descriptor), "wb") as file:
            yield file
        return
    target = path.resolve()  # a link is kept, and its target is replaced
    with errors_naming(path, target), written_beside(target) as part:
        with open(part, "w+b") as file:
            yield file
        if target.exists():
            shutil.copymode(target, part)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON of what a command found.

    Raises
    ------
    ValueError
        For NaN and infinity, which JSON cannot hold: a model with damaged weights computes them.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        raise ValueError(_NOT_FINITE) from None


_NOT_FINITE = "the results hold NaN or infinity, which JSON has no numbers for: are the model's weights damaged?"


def _json_vector(vector: Any) -> str:
    """Return a vector as JSON, with digits enough to read back the same number: 9 for float32, 17 for float64."""
    digits = {"float32": "%.9g", "float64": "%.17g"}.get(str(vector.dtype), "%d")
    return "[" + ", ".join([digits] * len(vector)) % tuple(vector.tolist()) + "]"


def write_jsonl(file: BinaryIO, chunks: Iterable[Chunk]) -> None:
    """Write ``{"text": …, "embedding": […]}``, a line for each text."""
    import numpy as np

    for texts, vectors in chunks:
        if not np.isfinite(vectors).all():
            raise ValueError(_NOT_FINITE)
        for text, vector in zip(texts, vectors, strict=True):
            line = f'{{"text": {to_json(text)}, "embedding": {_json_vector(vector)}}}\n'
            file.write(line.encode())
        file.flush()


def write_npy(file: BinaryIO, chunks: Iterable[Chunk]) -> None:
    """Write one array [texts, components], chunk by chunk; its header, of fixed size, is written again at the end.

    ``file`` must be seekable; `write_at_once` is for files that are not.
    """
    from numpy.lib import format as npy

    start, rows = file.tell(), 0
    header: dict[str, Any] = {}
    for _, vectors in chunks:
        if not header:
            header = npy.header_data_from_array_1_0(vectors)
            npy.write_array_header_1_0(file, header)  # with room for the shape to grow
        file.write(vectors.tobytes())
        rows += len(vectors)
    file.seek(start)
    npy.write_array_header_1_0(file, header | {"shape": (rows, *header["shape"][1:])})
    file.seek(0, os.SEEK_END)


def write_npz(file: BinaryIO, chunks: Iterable[Chunk]) -> None:
    """Write ``embeddings`` [texts, components], and the texts as JSON, a list of strings, as the member ``texts.json``.

    All vectors are in memory before they are written. An array of strings has the longest text's room for each.
    """
    import zipfile

    import numpy as np
    from numpy.lib import format as npy

    texts, vectors = zip(*chunks, strict=True)
    described = zipfile.ZipInfo("texts.json")
    described.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            npy.write_array(member, np.concatenate(vectors), allow_pickle=False)
        with archive.open(described, "w", force_zip64=True) as member:
            start = "["
            for text in itertools.chain.from_iterable(texts):
                member.write((start + to_json(text)).encode())
                start = ",\n"
            member.write(b"]" if start != "[" else b"[]")


def write_at_once(kind: str, file: BinaryIO, chunks: Iterable[Chunk]) -> None:
    """Write into memory with the writer of that name, then all at once into ``file``."""
    buffer = io.BytesIO()
    WRITERS[kind](buffer, chunks)
    file.write(buffer.getbuffer())


def write_short(file: BinaryIO, chunks: Iterable[Chunk], components: int = 6) -> None:
    """Write each text and the first few numbers of its vector, for reading on a terminal."""
    for texts, vectors in chunks:
        for text, vector in zip(texts, vectors, strict=True):
            shown = "  ".join(f"{x:7.4f}" if vector.dtype.kind == "f" else f"{x:4d}" for x in vector[:components])
            rest = f"  … {len(vector)} numbers" if len(vector) > components else ""
            file.write(f"{shorten(text)}\n  {shown}{rest}\n".encode())


WRITERS: dict[str, Callable[[BinaryIO, Iterable[Chunk]], None]] = {
    "jsonl": write_jsonl,
    "npy": write_npy,
    "npz": write_npz,
    "short": write_short,
}
NEED_SEEK = {"npy", "npz"}
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy", ".npz": "npz"}


def check_folder(file: Path | None) -> None:
    """Raise a usage error if the folder of ``file`` does not exist: called before the work, not after it."""
    if file is not None and not file.absolute().parent.is_dir():
        raise click.UsageError(f"{file}: there is no folder {file.parent}")


def chart(name: str, file: Path | None) -> Callable[[Any], None]:
    """Return a function that draws results into ``file`` with the function of that name in `minilm.plots`.

    It does nothing if ``file`` is None. A missing folder, package or file format is an error here, before the work.
    """
    if file is None:
        return lambda results: None
    check_folder(file)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.backend_bases import FigureCanvasBase

    from .. import plots

    draw, suffix = getattr(plots, name), file.suffix.lstrip(".")
    if suffix not in (known := FigureCanvasBase.get_supported_filetypes()):
        raise click.UsageError(f"{file}: end its name in .{', .'.join(sorted(known))}.")

    def save(results: Any) -> None:
        with replacing(file) as stream:
            draw(results).figure.savefig(stream, format=suffix, bbox_inches="tight")

    return save


def shorten(text: str, width: int = 72) -> str:
    """Return a text on one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
