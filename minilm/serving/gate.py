"""What every request passes: the key, the log, and errors as JSON whatever happens."""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from .endpoint import Receive, Scope, Send, respond_error, to_json
from .errors import ServiceError, kind_of_status

logger: logging.Logger = logging.getLogger("minilm.serving")

AccessLog = Callable[[dict[str, Any]], None]  # what there is to say of a request

# May be read without a key: nothing here tells of texts.
PUBLIC = ("/health", "/", "/ping", "/metrics", "/docs", "/openapi.json", "/api-doc/openapi.json")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Gate:
    """ASGI middleware: asks for the key, turns errors into JSON, and writes the log.

    Parameters
    ----------
    app
        What comes behind.
    api_key
        What clients must send, as it is or after ``Bearer``; None lets everybody in.
    access_log
        Called at the end of every request; None for no log.
    pages
        Paths below which everybody may GET: nothing there tells of texts.
    """

    def __init__(
        self,
        app: Any,
        api_key: str | None = None,
        access_log: AccessLog | None = None,
        pages: tuple[str, ...] = (),
    ) -> None:
        self.app: Any = app
        self._key = None if api_key is None else api_key.encode()
        self._log = access_log
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def send_and_remember(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check_key(scope)
            await self.app(scope, receive, send_and_remember)
        except Exception as error:
            if status:  # too late to say so to the client
                raise
            if not isinstance(error, ServiceError):
                logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
                error = ServiceError("Internal", "something went wrong here; the server's log says what")
            await respond_error(scope, send_and_remember, error)
        finally:
            if self._log is not None:
                self._log(_summary(scope, status, time.perf_counter() - begun))

    def _check_key(self, scope: Scope) -> None:
        if self._key is None or (scope["method"] in ("GET", "HEAD") and self._is_public(scope["path"])):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, rest = given.partition(b" ")
        key = rest.strip() if scheme.lower() == b"bearer" else given
        if not hmac.compare_digest(key, self._key):
            raise ServiceError(
                "Unauthorized",
                "send the API key in the header `Authorization`, as `Bearer KEY`"
                if not given
                else "the API key in the header `Authorization` is wrong",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _is_public(self, path: str) -> bool:
        return path in PUBLIC or any(f"{path}/".startswith(f"{page}/") for page in self._pages)


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what the router raises, for Starlette's ``exception_handlers``: no such route, or no such method."""
    assert isinstance(error, HTTPException)
    where, headers = f"{request.method} {request.url.path[:200]}", dict(error.headers or {})
    message = error.detail
    if error.status_code == 404:
        message = f"there is no route {where}; GET /openapi.json lists them"
    elif error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request))) or headers.get("Allow", "")
        message = f"there is no {where}; this route is for {headers['Allow']}"
    found = ServiceError(kind_of_status(error.status_code), message)
    body = to_json(found.body(request.url.path))
    return Response(body, error.status_code, headers, media_type="application/json")


def _methods(request: Request) -> set[str]:
    """Return the methods of all routes of a path: / has one for GET, and one for POST."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in getattr(route, "methods", ())}  # a mount has none


def _summary(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    """Return what the log says of a request."""
    task = scope.get("minilm.task")
    summary = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,  # 0 if the client was gone before there was one
        "ms": round(1000 * seconds, 1),
    }
    if task is not None:
        summary |= {"texts": task.texts, "tokens": task.tokens}
        if task.truncated:
            summary["truncated"] = task.truncated
    trace = dict(scope["headers"]).get(b"traceparent", b"")
    if _TRACE.fullmatch(trace):
        summary["traceparent"] = trace.decode()
    return summary
