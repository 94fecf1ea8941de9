"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path, part: Path | None = None) -> Iterator[Path]:
    """Yield a name to write to; that file is renamed to ``path`` at the end, if all went well, and removed otherwise.

    Parameters
    ----------
    path
        What is to appear, in place of what is there.
    part
        The name to write to, on the same file system; by default one beside ``path``.

    Raises
    ------
    OSError
        If it cannot be written, such as on a full disk; the error names ``path``.
    """
    part = part or path.with_name(f".{path.name}.{os.getpid()}.part")
    with errors_naming(path, part):
        try:
            yield part
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):  # report the first error
                part.unlink(missing_ok=True)
            raise


@contextmanager
def errors_naming(path: Path, written: Path) -> Iterator[None]:
    """Let errors of the system that name no file, or the one that is ``written``, name ``path``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:  # one of minilm's own is a text, without a number
        if error.errno is None or error.filename not in (None, str(written), written):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
