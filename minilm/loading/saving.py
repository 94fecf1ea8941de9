"""Models to files: a folder is written beside its place and appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..config import CALL_SETTINGS, BertConfig
from .families import FAMILIES
from .termination import before_termination
from .whole import written_beside


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to write into, whose files come to stand in ``folder`` at the end, if all went well.

    A folder that is there already keeps its other files; those of the same names are replaced one by one, after
    everything has been written. If one of them cannot be replaced, those before it come back.

    Raises
    ------
    OSError
        If something cannot be written, such as on a full disk. Then ``folder`` is as it was.
    """
    target = Path(folder).absolute()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder, or a name for a new one")
    written = target.with_name(f".{target.name}.{os.getpid()}.part")
    with _removed_before_termination(written):
        yield from _written_beside(folder, target, written)


def _written_beside(folder: str | os.PathLike[str], target: Path, written: Path) -> Iterator[Path]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(written, ignore_errors=True)  # of an earlier process of this number that was killed
        written.mkdir()
        yield written
        if not target.exists():
            os.rename(written, target)
            return
        _move_files(written, target)
        shutil.rmtree(written, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(written, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise type(error)(error.errno, error.strerror, str(folder)) from error
        raise


def _move_files(source: Path, target: Path) -> None:
    """Move all files of a folder into another one, or none of them if one cannot be moved."""
    moved: list[tuple[Path, Path | None]] = []  # where to, and the name that the file before it has meanwhile
    try:
        for path in [path for path in sorted(source.rglob("*")) if path.is_file()]:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            kept = None
            if place.exists():
                kept = path.with_name(f"{path.name}.before")
                _link(place, kept)
            moved.append((place, kept))
            os.replace(path, place)
    except BaseException:
        for place, kept in reversed(moved):
            if kept is None:
                place.unlink(missing_ok=True)
            else:
                os.replace(kept, place)
        raise


def _link(path: Path, other: Path) -> None:
    """Give a file a second name; a copy where the file system has no links."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copy2(path, other)


@contextmanager
def _removed_before_termination(part: Path) -> Iterator[None]:
    """Remove a folder before SIGTERM ends the process."""

    def end(number: int, frame: Any) -> None:
        shutil.rmtree(part, ignore_errors=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    with before_termination(end):
        yield


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, for people to read."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write a ``.safetensors`` file.

    Raises
    ------
    OSError
        If it cannot be written; nothing of it is left then.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    plain = {name: np.array(x, order="C", subok=False, copy=None) for name, x in tensors.items()}
    try:
        with written_beside(path) as part:
            save_file(plain, part, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:  # what the library makes of an error of the system
        raise OSError(f"{path} could not be written: {error}") from error


def config_dict(config: BertConfig, raw: Mapping[str, Any], architecture: str, dtype: str) -> dict[str, Any]:
    """Return what goes into ``config.json``.

    Parameters
    ----------
    config
        What the model computes with.
    raw
        The whole ``config.json`` that it was loaded from, empty for none: what inference does not read is kept.
    architecture
        The name of the model's class.
    dtype
        Of the parameters.
    """
    values = FAMILIES[config.model_type].from_bert(config)
    for name in ("id2label", "num_labels", "architectures", "problem_type", *CALL_SETTINGS):
        values.pop(name)
    kept = {name: value for name, value in raw.items() if name not in ("torch_dtype", "_name_or_path")}
    found = {**kept, **values, "model_type": config.model_type, "architectures": [architecture], "dtype": dtype}
    found |= {name: getattr(config, name) for name in CALL_SETTINGS if getattr(config, name) != (name == "return_dict")}
    if config.problem_type is not None:
        found["problem_type"] = config.problem_type
    if config.id2label or config.num_labels is not None:
        found["id2label"] = {str(i): label for i, label in enumerate(config.labels)}
        found["label2id"] = {label: i for i, label in enumerate(config.labels)}
    found.pop("num_labels", None)
    return found
