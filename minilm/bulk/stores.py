"""Files of this machine, and of stores that a URI names: what `pyarrow.fs` opens, and fsspec where it is installed."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import pyarrow as pa
from pyarrow import fs

READ_BYTES = 1 << 20  # of a file at a time

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/]*)/?(.*?)(\?\w+=[^&]*(?:&\w+=[^&]*)*)?", re.DOTALL)
_WILD = re.compile(r"[*?[]")
_ONE_PUT = "allow_delayed_open=true"  # a small object is uploaded at once, not in a multipart upload of one part


@dataclass(frozen=True)
class File:
    """A file that is read.

    Attributes
    ----------
    uri
        An absolute path or a URI: what messages and plans call it.
    system
        Where it is, and its ``path`` there.
    size, mtime_ns
        In bytes; in nanoseconds since 1970, None where the store does not tell.
    """

    uri: str
    system: Any
    path: str
    size: int
    mtime_ns: int | None

    def __str__(self) -> str:
        return self.uri

    @property
    def suffixes(self) -> list[str]:
        """The endings of its name, such as ``[".jsonl", ".gz"]``."""
        return PurePath(self.path).suffixes

    def open(self) -> Any:
        """Open it at any place."""
        with errors_of(self.uri):
            return self.system.open_input_file(self.path)

    def stream(self) -> Any:
        """Open it from front to back, uncompressed."""
        with errors_of(self.uri):
            return self.system.open_input_stream(self.path, compression="detect", buffer_size=READ_BYTES)


def is_uri(name: str) -> bool:
    """Whether this is a URI of a store: ``file://`` is none."""
    found = _URI.fullmatch(name)
    return found is not None and found[1] != "file"


def shown(uri: str) -> str:
    """Return a URI without the keys that one of S3 or of Google's store can hold."""
    return re.sub(r"^(s3|gs|gcs)://[^/@]*@", r"\1://", uri)


def local_path(name: str) -> str:
    """Return a path of this machine, absolute, from a path or a ``file://`` URI."""
    return os.path.abspath(fs.FileSystem.from_uri(name)[1] if name.startswith("file://") else name)


@dataclass(frozen=True)
class Place:
    """A name in a store.

    Attributes
    ----------
    system
        The store.
    root, inside
        The path in it: the bucket, and the name there.
    base
        The start of the URI in messages, without keys and settings.
    """

    system: Any
    root: str
    inside: str
    base: str

    def __str__(self) -> str:
        return f"{self.base}/{self.inside}"

    def path(self, inside: str) -> str:
        """Return the path of a name in the bucket."""
        return f"{self.root.rstrip('/')}/{inside}" if inside else self.root

    def name(self, path: str) -> str:
        """Return the name in the bucket of a path."""
        return path.strip("/")[len(self.root.strip("/")) :].strip("/")


def place_of(uri: str) -> Place:
    """Open the store of a URI. The name in it stands as it is: ``%20`` means these three characters.

    Raises
    ------
    ValueError
        If nothing that is installed opens such URIs.
    """
    found = _URI.fullmatch(uri)
    assert found is not None
    scheme, authority, path, query = found[1], found[2], found[3], found[4] or ""
    with errors_of(uri):
        system, root = _system(scheme, authority, query)
    return Place(system, root, path.strip("/"), shown(f"{scheme}://{authority}"))


@lru_cache(maxsize=16)
def _system(scheme: str, authority: str, query: str) -> tuple[Any, str]:
    """Return the file system, and what comes before paths in it."""
    base = f"{scheme}://{authority}"
    try:
        if scheme == "s3":
            try:
                return _opened(f"{base}/{query}{'&' if query else '?'}{_ONE_PUT}")
            except pa.ArrowInvalid:  # pyarrow before 19 does not know that setting
                pass
        return _opened(f"{base}/{query}" if query else base)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(base)
    except (ImportError, ValueError) as error:
        raise ValueError(f"pyarrow opens no {scheme}://, and fsspec neither: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), root


def _opened(uri: str) -> tuple[Any, str]:
    found: tuple[Any, str] = fs.FileSystem.from_uri(uri)
    return found


@contextmanager
def errors_of(uri: str) -> Iterator[None]:
    """Let errors of a store name the URI, and say what to do about the frequent ones."""
    try:
        yield
    except pa.ArrowInvalid as error:
        raise ValueError(f"{shown(uri)}: {error}") from None
    except OSError as error:
        if not is_uri(uri):
            raise
        told = str(error).partition("\n")[0]
        if re.search("NO_SUCH_BUCKET|NOT_FOUND.*ListObjects", told):  # S3's words; Google's
            raise FileNotFoundError(f"{shown(uri)}: there is no such bucket") from error
        if re.search("ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|CLIENT_ID|TOKEN|code 40[13]", told):
            raise PermissionError(
                f"{shown(uri)}: access is denied: check the store's credentials, such as AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY, and what they may do ({told})"
            ) from error
        raise type(error)(f"{shown(uri)}: {told}") from error


# ---- names and patterns ----------------------------------------------------------------------------------------------


def find_files(given: str) -> list[File]:
    """Return the files that a name or a pattern means: a path or a URI, with ``*``, ``?``, ``[…]`` and ``**``.

    Raises
    ------
    FileNotFoundError
        If none fits.
    ValueError
        If it names a folder.
    """
    found = _in_store(given) if is_uri(given) else _local(given)
    if not found:
        raise FileNotFoundError(f"no file fits {shown(given)!r}")
    return found


def _folder_error(given: str) -> ValueError:
    uri = _URI.fullmatch(given) if is_uri(given) else None
    given = shown(given)
    if uri is None:
        pattern = os.path.join(given, "*.parquet")
    else:
        query = uri[4] or ""
        pattern = f"{given.removesuffix(query).rstrip('/')}/*.parquet{query}"
    return ValueError(f"{given} is a folder: give a pattern of files, such as '{pattern}'")


def _local(given: str) -> list[File]:
    given = local_path(given) if given.startswith("file://") else given
    if os.path.isdir(given):
        raise _folder_error(given)
    names = [given] if os.path.exists(given) else sorted(filter(os.path.isfile, glob.glob(given, recursive=True)))
    system, files = fs.LocalFileSystem(), []
    for path in map(os.path.abspath, names):
        facts = os.stat(path)
        files.append(File(path, system, path, facts.st_size, facts.st_mtime_ns))
    return files


def _in_store(given: str) -> list[File]:
    place = place_of(given)
    patterns = place.inside.split("/")
    fixed = next((i for i, part in enumerate(patterns) if _WILD.search(part)), None)
    with errors_of(given):
        if fixed is None:
            found = [place.system.get_file_info(place.path(place.inside))]
            if found[0].type == fs.FileType.Directory:
                raise _folder_error(given)
            fits = found if found[0].type == fs.FileType.File else []
        else:
            base, deep = place.path("/".join(patterns[:fixed])), fixed < len(patterns) - 1
            found = place.system.get_file_info(fs.FileSelector(base, recursive=deep))
            files = [info for info in found if info.type == fs.FileType.File]
            fits = [info for info in files if _fits(place.name(info.path).split("/"), patterns)]
    return [
        File(f"{place.base}/{place.name(info.path)}", place.system, info.path, info.size, info.mtime_ns)
        for info in sorted(fits, key=lambda info: str(info.path))
    ]


def _fits(names: list[str], patterns: list[str]) -> bool:
    """Whether a path fits a pattern, folder by folder; ``**`` stands for any number of folders."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_fits(names[i:], patterns[1:]) for i in range(len(names) + 1))
    if not names or (names[0].startswith(".") and not patterns[0].startswith(".")):
        return False
    return fnmatchcase(names[0], patterns[0]) and _fits(names[1:], patterns[1:])
