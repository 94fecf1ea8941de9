"""JSON files of a model: what is read is an object, and every error names the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .hub import ModelFiles

MAX_CONFIG = 1 << 22  # bytes; the largest real ones, with thousands of labels, have some hundred thousand


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Let every `ValueError` in the block, and what else bad values raise, name the file ``path``."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{path}: {kind}{error}") from error


def read_text(path: Path, largest: int) -> str:
    """Read a UTF-8 file of at most ``largest`` bytes.

    Raises
    ------
    ValueError
        If it is larger, or not UTF-8; the message names the file.
    """
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"{path} has {size:,} bytes; such files have at most {largest:,}")
    with naming(path):
        return path.read_text(encoding="utf-8")


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file that holds an object, or a ``list``.

    Raises
    ------
    ValueError
        If it holds anything else, is no JSON, or is too large to be a config; the message names the file.
    """
    text = read_text(path, MAX_CONFIG)
    with naming(path):
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError("its lists and objects are nested too deeply") from None
        if not isinstance(value, kind):
            raise ValueError(f"expected {'an object' if kind is dict else 'a list'}, found {value!r:.80}")
        return value


def read_json_if_there(files: ModelFiles, name: str) -> tuple[Path | None, dict[str, Any]]:
    """Read an object of a file that a model may lack: return its path and its values, or None and nothing."""
    path = files.get(name)
    return path, {} if path is None else read_json(path)
