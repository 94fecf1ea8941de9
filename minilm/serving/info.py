"""The routes that tell something: of the models, of health, of the metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from .. import __version__
from . import openai, openapi
from .endpoint import to_json
from .errors import ServiceError
from .models import ServedModel
from .service import Service

Answer = Callable[[Request], Awaitable[Response]]


def describe(service: Service) -> dict[str, Any]:
    """Return what text-embeddings-inference's ``/info`` tells, of the first model; ``models`` tells it of all."""
    settings, first = service.settings, service.models[0]
    return {
        **_of_model(first),
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_batch_tokens": settings.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_client_batch_size,
        "max_queue_tokens": settings.max_queue_tokens,
        "auto_truncate": settings.auto_truncate,
        "tokenization_workers": first.model.threads,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "models": [_of_model(model) for model in service.models],
    }


def _of_model(served: ServedModel) -> dict[str, Any]:
    return {
        "model_id": served.model_id,
        "model_sha": served.revision,
        "model_dtype": "int8" if served.model.backend.name == "int8" else served.model.backend.dtype,
        "served_model_name": served.name,
        "model_type": served.model_type,
        "max_input_length": served.model.max_seq_length,
    }


def tell(service: Service, answer: Callable[[Service], Any]) -> Answer:
    """Return a route that tells what ``answer`` returns."""

    async def route(request: Request) -> Response:
        return Response(to_json(answer(service)), media_type="application/json")

    return route


def tell_of_model(service: Service) -> Answer:
    """Return the route ``/v1/models/{name}``."""

    async def route(request: Request) -> Response:
        return Response(to_json(openai.model(service, request.path_params["name"])), media_type="application/json")

    return route


def health(service: Service) -> Answer:
    """Return the route that says whether the engine is alive: 200 and nothing more, or 503."""

    async def route(request: Request) -> Response:
        if not service.is_healthy:
            seconds = service.settings.hang_seconds
            raise ServiceError("Unhealthy", f"unhealthy: the engine has been at the same texts for over {seconds:g} s")
        return Response()

    return route


def document(service: Service) -> Answer:
    """Return the route of the OpenAPI document."""
    body = to_json(openapi.document(with_key=service.settings.api_key is not None))

    async def route(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return route


async def page(request: Request) -> Response:
    """Show the OpenAPI document to people; the page needs nothing from elsewhere."""
    return FileResponse(Path(__file__).with_name("docs.html"), media_type="text/html")


def metrics(service: Service) -> Answer:
    """Return the route ``/metrics``."""

    async def route(request: Request) -> Response:
        gauges = {
            "te_queue_size": float(service.engine.waiting_jobs),
            "te_queue_tokens": float(service.admission.tokens),
            "te_requests_in_work": float(service.admission.requests),
        }
        return Response(service.metrics.render(gauges), media_type="text/plain; version=0.0.4")

    return route
