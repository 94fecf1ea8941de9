"""The folder that a job writes: on this machine, or in a store; its files appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from ..loading.whole import written_beside
from .stores import Place, errors_of, is_uri, local_path, place_of

WRITING = "_writing"  # what is being written, and what a killed process left of that


class Folder:
    """A folder of files that appear whole or not at all; it can be pickled.

    Parameters
    ----------
    own
        What the names of this process' own files end in, where several share the folder: ``"-0-of-4"``.
    """

    def __init__(self, own: str = "") -> None:
        self.own = own

    def names(self) -> set[str]:
        """Return the names of the files directly in it."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        raise NotImplementedError

    def read(self, name: str) -> Any:
        """Return a file's bytes."""
        raise NotImplementedError

    def write(self, name: str, data: Any) -> None:
        """Write bytes into a file that appears whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written, such as on a full disk; nothing is left of it then.
        """
        raise NotImplementedError

    def clean(self) -> None:
        """Remove what processes that were killed left unfinished."""
        raise NotImplementedError

    @contextmanager
    def locked(self, name: str, wait: bool = False) -> Iterator[None]:
        """Hold a lock that ends with this process, however it ends; a store has none, and lets everybody in.

        Raises
        ------
        RuntimeError
            If another process holds it, unless this one is to ``wait``.
        """
        yield

    def read_json(self, name: str) -> Any:
        """Return what a file of JSON holds."""
        return json.loads(bytes(self.read(name)))

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of JSON, for people to read as well."""
        self.write(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def open_folder(name: str | os.PathLike[str], own: str = "") -> Folder:
    """Return the folder of a path or of a URI; on this machine it is made."""
    given = os.fspath(name)
    if is_uri(given):
        return StoreFolder(place_of(given), own)
    folder = Path(local_path(given))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{given} is a file; expected a folder, or a name for a new one")
    folder.mkdir(parents=True, exist_ok=True)
    return LocalFolder(folder, own)


class LocalFolder(Folder):
    """A folder of this machine, or of a file system that machines share."""

    def __init__(self, path: Path, own: str = "") -> None:
        super().__init__(own)
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def names(self) -> set[str]:
        """Return the names of the files directly in it."""
        return {entry.name for entry in os.scandir(self._path)}

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self._path / name).exists()

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self._path / name).read_bytes()

    def write(self, name: str, data: Any) -> None:
        """Write beside, sync, rename, sync the name: the file stays after a power cut, too."""
        path, writing = self._path / name, self._path / f"{WRITING}{self.own}"
        for folder in (path.parent, writing):
            folder.mkdir(exist_ok=True)
        with written_beside(path, writing / uuid.uuid4().hex) as part, open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if os.name == "posix":
            number = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def clean(self) -> None:
        """Remove what processes that were killed left unfinished."""
        shutil.rmtree(self._path / f"{WRITING}{self.own}", ignore_errors=True)

    @contextmanager
    def locked(self, name: str, wait: bool = False) -> Iterator[None]:
        """Hold a lock that ends with this process, however it ends."""
        with open(self._path / name, "a+b") as file:
            while not _lock(file):
                if not wait:
                    file.seek(0)
                    holder = file.read().decode(errors="replace").strip() or "another process"
                    raise RuntimeError(f"{self} is being written by {holder}: wait for it, or end it")
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


class StoreFolder(Folder):
    """A folder in a store: on S3 and Google's store a file is one upload, elsewhere it is written beside and renamed.

    There is no lock. Two jobs with one plan do the same work and write the same files; with two plans, the one that
    came too early to see the other's plan ends with an error when it has done its work.
    """

    def __init__(self, place: Place, own: str = "") -> None:
        super().__init__(own)
        self._place = place

    def __str__(self) -> str:
        return str(self._place)

    def _at(self, name: str) -> str:
        return self._place.path(f"{self._place.inside}/{name}".strip("/"))

    @contextmanager
    def _store(self, name: str) -> Iterator[Any]:
        with errors_of(f"{self}/{name}".rstrip("/")):
            yield self._place.system

    def names(self) -> set[str]:
        """Return the names of the files directly in it; an empty one is none, but an upload that was ended."""
        with self._store("") as system:
            found = system.get_file_info(fs.FileSelector(self._at(""), allow_not_found=True))
        return {info.base_name for info in found if info.type == fs.FileType.File and info.size}

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        with self._store(name) as system:
            info = system.get_file_info(self._at(name))
        return bool(info.type == fs.FileType.File and info.size)

    def read(self, name: str) -> Any:
        """Return a file's bytes."""
        with self._store(name) as system, system.open_input_stream(self._at(name)) as stream:
            return stream.read()

    def write(self, name: str, data: Any) -> None:
        """Write bytes into a file that appears whole or not at all."""
        with self._store(name) as system:
            if system.type_name in ("s3", "gcs"):
                _upload(system, self._at(name), data)
                return
            part = self._at(f"{WRITING}{self.own}/{uuid.uuid4().hex}")
            for path in (self._at(name), part):
                system.create_dir(path.rpartition("/")[0], recursive=True)
            _upload(system, part, data)
            if system.get_file_info(self._at(name)).type == fs.FileType.File:
                system.delete_file(self._at(name))
            system.move(part, self._at(name))

    def clean(self) -> None:
        """Remove what processes that were killed left unfinished."""
        writing = f"{WRITING}{self.own}"
        with self._store(writing) as system, contextlib.suppress(FileNotFoundError):
            if system.type_name not in ("s3", "gcs"):
                system.delete_dir(self._at(writing))


def _upload(system: Any, path: str, data: Any) -> None:
    stream = system.open_output_stream(path)
    stream.write(data)
    stream.close()  # not after an error: that would finish the upload
