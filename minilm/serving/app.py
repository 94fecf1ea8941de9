"""`create_app`: the service as an ASGI app, which is a value: it can be mounted, tested, or run by any server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route

from ..indexing.index import Index
from . import ollama, openai, rerank, search, tei
from .endpoint import Endpoint, Handler
from .gate import AccessLog, Gate, http_error
from .info import describe, document, health, metrics, page, tell, tell_of_model
from .models import ServedModel
from .service import Service
from .settings import Settings

# Routes that take a JSON body and need the engine.
POST: dict[str, Handler] = {
    "/embed": tei.embed,
    "/v1/embeddings": openai.embeddings,
    "/api/embed": ollama.embed,
    "/rerank": rerank.rerank,
    "/predict": tei.predict,
    "/embed_all": tei.embed_all,
    "/embed_sparse": tei.embed_sparse,
    "/similarity": tei.similarity,
    "/tokenize": tei.tokenize,
    "/decode": tei.decode,
    "/embeddings": openai.embeddings,
    "/v1/rerank": rerank.v1,
    "/v2/rerank": rerank.v2,
    "/api/embeddings": ollama.embeddings,
    "/vertex": tei.vertex,
    "/invocations": tei.by_shape,
    "/search": search.search,
    "/": tei.root,
}

# Routes that tell something.
GET: dict[str, Callable[[Service], Any]] = {
    "/info": describe,
    "/v1/models": openai.models,
    "/api/tags": ollama.tags,
    "/api/version": ollama.version,
}


def create_app(
    models: Sequence[ServedModel],
    settings: Settings | None = None,
    access_log: AccessLog | None = None,
    index: Index | None = None,
    pages: Mapping[str, Sequence[BaseRoute]] | None = None,
) -> Starlette:
    """Return the service as an ASGI app.

    Parameters
    ----------
    models
        What is served, see `minilm.serving.models.load_model`. The first of a kind answers requests that name none.
    settings
        Limits and switches.
    access_log
        Called at the end of every request; None for no log.
    index
        What ``POST /search`` searches: a `minilm.Index` with the `minilm.SentenceTransformer` of one of ``models``.
    pages
        Further routes, by the path that they lie below. What they answer to GET is open without a key.

    Returns
    -------
    starlette.applications.Starlette
        Its ``state.service`` is the `minilm.serving.service.Service`.

    Examples
    --------
    >>> from starlette.testclient import TestClient
    >>> from minilm.serving.models import load_model
    >>> app = create_app([load_model("sentence-transformers/all-MiniLM-L6-v2")])
    >>> with TestClient(app) as client:
    ...     vectors = client.post("/embed", json={"inputs": "This is an example sentence"}).json()
    >>> [round(x, 4) for x in vectors[0][:3]]
    [0.0677, 0.0635, 0.0487]
    """
    settings = settings or Settings()
    service = Service(models, settings, index)
    executor = ThreadPoolExecutor(2, thread_name_prefix="minilm-http")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.engine.close()
        executor.shutdown()

    cors = Middleware(
        CORSMiddleware, allow_origins=settings.cors_allow_origins, allow_methods=["GET", "POST"], allow_headers=["*"],
        expose_headers=["*"],
    )  # fmt: skip
    routes = [
        *(Route(path, Endpoint(service, handler, executor), methods=["POST"]) for path, handler in POST.items()),
        *(Route(path, tell(service, answer), methods=["GET"]) for path, answer in GET.items()),
        Route("/v1/models/{name:path}", tell_of_model(service), methods=["GET"]),
        *(Route(path, health(service), methods=["GET"]) for path in ("/health", "/", "/ping")),
        Route("/metrics", metrics(service), methods=["GET"]),
        *(Route(path, document(service), methods=["GET"]) for path in ("/openapi.json", "/api-doc/openapi.json")),
        Route("/docs", page, methods=["GET"]),
        *(route for routes in (pages or {}).values() for route in routes),
    ]
    app = Starlette(
        routes=routes,
        middleware=[cors, Middleware(Gate, api_key=settings.api_key, access_log=access_log, pages=tuple(pages or ()))],
        exception_handlers={HTTPException: http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app
