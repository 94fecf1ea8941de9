"""OpenAI's routes for embeddings and models."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from .body import Body
from .models import ServedModel
from .service import Service, Task

CREATED = 1_700_000_000  # clients want a time, and there is none to tell


def embeddings(service: Service, body: Body) -> Task:
    """Return a vector for each text, as numbers or as base64 of little-endian float32."""
    model = service.choose("embedding", body.maybe_text("model"))
    inputs, single = body.inputs("input")
    in_base64 = body.choice("encoding_format", "float", "base64") == "base64"
    body.maybe_text("user")

    def reply(vectors: list[Any]) -> dict[str, Any]:
        shown = [_base64(vector) for vector in vectors] if in_base64 else vectors
        data = [{"object": "embedding", "embedding": one, "index": i} for i, one in enumerate(shown)]
        usage = {"prompt_tokens": task.tokens, "total_tokens": task.tokens}
        return {"object": "list", "data": data, "model": model.name, "usage": usage}

    task = service.embedding(
        model, inputs, reply, truncate=service.settings.auto_truncate, dimensions=body.count("dimensions"),
        single=single, field="input",
    )  # fmt: skip
    return task


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()


def describe(model: ServedModel) -> dict[str, Any]:
    """Return a model as ``/v1/models`` lists it."""
    return {"id": model.name, "object": "model", "created": CREATED, "owned_by": "minilm"}


def models(service: Service) -> dict[str, Any]:
    """Return the served models."""
    return {"object": "list", "data": [describe(model) for model in service.models]}


def model(service: Service, name: str) -> dict[str, Any]:
    """Return one of the served models; raise a `ServiceError` for a name that none has."""
    for one in service.models:
        if one.answers_to(name):
            return describe(one)
    raise service.no_such_model(name)
