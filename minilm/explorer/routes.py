"""The explorer as an ASGI app: its page, and what the page asks for. Arrays go out as float32, all else as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ..serving.body import Body
from ..serving.endpoint import check_content_type, to_json
from ..serving.errors import ServiceError
from ..serving.gate import AccessLog, Gate, http_error
from .changes import CHANGES
from .explorer import Explorer, Question

MOST_BYTES = 1 << 18  # of a request
MOST_NUMBERS = 1 << 20  # in one answer: 4 MB
PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    # Nothing from elsewhere, nothing inline; notebooks on this machine may show the page in a frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TO_PAGE = RedirectResponse("/explorer/")
Answer = Callable[[Explorer, Body], "dict[str, Any] | Response"]


def question(body: Body, field: str = "question") -> Question:
    """Read what is to be computed."""
    asked = body.object(field)
    off = asked.values.get("off") or []
    if not isinstance(off, list) or not all(type(one) is int for one in off):
        raise asked.wrong("off", "a list of integers")
    numbers = {name: asked.count(name) or 0 for name in ("padding", "layer", "head")}
    if (change := asked.text("change", "")) and change not in CHANGES:
        raise asked.wrong("change", f"one of {', '.join(CHANGES)}")
    return Question(asked.text("text"), asked.maybe_text("second"), tuple(sorted(set(off))), change=change, **numbers)


def arrays(explorer: Explorer, body: Body) -> Response:
    """Return parts of arrays, end to end."""
    asked = question(body)
    wanted = [Body.of(one, f"`parts` {i}", f"parts.{i}.") for i, one in enumerate(body.items("parts"))]
    found = [explorer.part(asked, one.count("stage"), one.text("array"), one.values.get("slice", ())) for one in wanted]
    if (size := sum(part.size for part in found)) > MOST_NUMBERS:
        raise ValueError(f"{size} numbers are too many at a time: ask for {MOST_NUMBERS} at most")
    numbers = np.concatenate([part.ravel() for part in found]).astype("<f4")
    shapes = to_json([list(part.shape) for part in found]).decode()
    return Response(numbers.tobytes(), 200, {"X-Shapes": shapes}, "application/octet-stream")


ANSWERS: dict[str, Answer] = {
    "model": lambda explorer, body: explorer.describe(),
    "run": lambda explorer, body: explorer.show(question(body)),
    "arrays": arrays,
    "compare": lambda explorer, body: explorer.compare(question(body, "a"), question(body, "b")),
    "nearest": lambda explorer, body: explorer.nearest(body.text("text"), body.texts("sentences")),
}


def _api(explorers: Mapping[str, Explorer], answer: Answer) -> Callable[[Request], Any]:
    def found(raw: bytes) -> Response:
        body = Body.parse(raw)
        explorer = explorers.get(body.text("model", ""), next(iter(explorers.values())))
        try:
            told = answer(explorer, body)
        except ValueError as error:
            raise ServiceError("Validation", str(error)) from error
        if isinstance(told, Response):
            return told
        return Response(to_json({"models": list(explorers), **told}), media_type="application/json")

    async def route(request: Request) -> Response:
        check_content_type(request.headers.get("content-type", "").encode())  # no form of another site's
        raw = b""
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MOST_BYTES:
                raise ServiceError("PayloadTooLarge", f"the request is larger than {MOST_BYTES} bytes")
        response = await run_in_threadpool(found, raw)
        response.headers.update(HEADERS)
        return response

    return route


async def _file(request: Request) -> Response:
    name = request.path_params.get("name") or "index.html"
    if name not in {path.name for path in PAGE.iterdir() if path.suffix in TYPES}:
        raise HTTPException(404)
    return FileResponse(PAGE / name, headers=HEADERS, media_type=TYPES[Path(name).suffix])


def explorer_routes(explorers: Mapping[str, Explorer]) -> list[BaseRoute]:
    """Return the routes of the page at ``/explorer``, and of its API under ``/explorer/api``."""
    api = [Route(f"/api/{name}", _api(explorers, answer), methods=["POST"]) for name, answer in ANSWERS.items()]
    page = [Route("/", _file), Route("/{name}", _file)]
    return [Route("/explorer", TO_PAGE), Mount("/explorer", routes=[*api, *page])]


def create_app(explorers: Mapping[str, Explorer], access_log: AccessLog | None = None) -> Starlette:
    """Return the explorer alone as an ASGI app.

    Parameters
    ----------
    explorers
        The models by their names; the page begins with the first.
    access_log
        Called at the end of every request; None for no log.
    """
    return Starlette(
        routes=[Route("/", TO_PAGE), *explorer_routes(explorers)],
        middleware=[Middleware(Gate, access_log=access_log)],
        exception_handlers={HTTPException: http_error},
    )
