"""The log on standard error: a line, or a JSON object, for each request and each thing worth knowing."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import orjson


class Log:
    """Writes the log.

    Parameters
    ----------
    as_json
        Whether a line is a JSON object.
    stream
        Where to; standard error by default.

    Examples
    --------
    >>> Log(stream=sys.stdout).message("INFO", "ready")  # doctest: +ELLIPSIS
    20...Z INFO ready
    >>> log = Log(True, sys.stdout)
    >>> log.request({"method": "GET", "path": "/info", "status": 200, "ms": 0.3})  # doctest: +ELLIPSIS
    {"time":"20...Z","level":"INFO","method":"GET","path":"/info","status":200,"ms":0.3}
    """

    def __init__(self, as_json: bool = False, stream: TextIO | None = None) -> None:
        self.as_json: bool = as_json
        self.stream: TextIO = stream or sys.stderr

    def request(self, summary: dict[str, Any]) -> None:
        """Write what there is to say of a request."""
        if self.as_json:
            self._write({"level": "INFO", **summary})
            return
        first = f"{summary['method']} {summary['path']} {summary['status']} {summary['ms']} ms"
        rest = [f"{name}={value}" for name, value in list(summary.items())[4:]]
        self._write({"level": "INFO", "message": " ".join([_one_line(first), *rest])})

    def message(self, level: str, message: str) -> None:
        """Write a message."""
        self._write({"level": level, "message": message})

    def _write(self, fields: dict[str, Any]) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.as_json:
            line = orjson.dumps({"time": now, **fields}).decode()
        else:
            line = f"{now} {fields['level']} {fields['message']}"
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads the log any more: go on serving
            pass

    @contextlib.contextmanager
    def of_loggers(self, *names: str) -> Iterator[None]:
        """Write what Python's loggers of these names say, inside the ``with`` block."""
        handler, loggers = _Handler(self), [logging.getLogger(name) for name in names]
        before = [logger.propagate for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, propagate in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.propagate = propagate


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._log.message(record.levelname, self.format(record))


def _one_line(text: str) -> str:
    """Return a text without characters that would end a line of the log, or begin something else on a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
