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
from ..serving.endpoint import to_json
from ..serving.errors import ServiceError
from ..serving.gate import AccessLog, Gate, http_error
from .changes import CHANGES
from .explorer import Explorer, Question

MOST_BYTES = 1 << 18  # of a request
MOST_SENTENCES, MOST_SLICES = 200, 256
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
Answer = Callable[[Explorer, Body], "dict[str, Any] | tuple[np.ndarray, list[list[int]]]"]


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


def arrays(explorer: Explorer, body: Body) -> tuple[np.ndarray, list[list[int]]]:
    """Return parts of arrays, end to end."""
    asked, wanted = question(body), body.items("parts")
    if len(wanted) > MOST_SLICES:
        raise ServiceError("Validation", f"`parts` may be {MOST_SLICES} at most, got {len(wanted)}")
    found = []
    for i, one in enumerate(wanted):
        part = Body.of(one, f"`parts` {i}", f"parts.{i}.")
        stage, slices = part.values.get("stage"), part.values.get("slice") or []
        if type(stage) is not int or not isinstance(slices, list):
            raise part.wrong("stage", "an integer, and `slice` a list")
        found.append(explorer.part(asked, stage, part.text("array"), slices))
    return np.concatenate([part.ravel() for part in found]), [list(part.shape) for part in found]


def compare(explorer: Explorer, body: Body) -> dict[str, Any]:
    """Tell the cosine of two texts, and its split over their tokens."""
    cosine, split, reason = explorer.compare(question(body, "a"), question(body, "b"))
    return {"cosine": cosine, "split": None if split is None else split.tolist(), "reason": reason}


def nearest(explorer: Explorer, body: Body) -> dict[str, Any]:
    """Rank sentences by their cosine with a text, and lay them on a map."""
    sentences = body.texts("sentences")
    if len(sentences) > MOST_SENTENCES:
        raise ServiceError("Validation", f"`sentences` may be {MOST_SENTENCES} at most, got {len(sentences)}")
    return explorer.nearest(body.text("text"), sentences)


ANSWERS: dict[str, Answer] = {
    "model": lambda explorer, body: explorer.describe(),
    "run": lambda explorer, body: explorer.show(question(body)),
    "arrays": arrays, "compare": compare, "nearest": nearest,
}  # fmt: skip


def _api(explorers: Mapping[str, Explorer], answer: Answer) -> Callable[[Request], Any]:
    def found(raw: bytes) -> Response:
        body = Body.parse(raw)
        explorer = explorers.get(body.text("model", ""), next(iter(explorers.values())))
        try:
            told = answer(explorer, body)
        except ValueError as error:  # of a text, such as a lone surrogate
            raise ServiceError("Validation", str(error)) from error
        if isinstance(told, dict):
            return Response(to_json({"models": list(explorers), **told}), media_type="application/json")
        numbers, shapes = told
        return Response(numbers.astype("<f4").tobytes(), 200, {"X-Shapes": to_json(shapes).decode()},
                        "application/octet-stream")  # fmt: skip

    async def route(request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/json"):  # no form of another site's
            raise ServiceError("UnsupportedMediaType", "send JSON, with the header `Content-Type: application/json`")
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


async def _to_page(request: Request) -> Response:
    return RedirectResponse("/explorer/")


def explorer_routes(explorers: Mapping[str, Explorer]) -> list[BaseRoute]:
    """Return the routes of the page at ``/explorer``, and of its API under ``/explorer/api``."""
    api = [Route(f"/api/{name}", _api(explorers, answer), methods=["POST"]) for name, answer in ANSWERS.items()]
    page = [Route("/", _file), Route("/{name}", _file)]
    return [Route("/explorer", _to_page), Mount("/explorer", routes=[*api, *page])]


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
        routes=[Route("/", _to_page), *explorer_routes(explorers)],
        middleware=[Middleware(Gate, access_log=access_log)],
        exception_handlers={HTTPException: http_error},
    )
