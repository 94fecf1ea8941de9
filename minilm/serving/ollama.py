"""Ollama's routes for embeddings, models and versions."""

from __future__ import annotations

import time
from typing import Any

from .. import __version__
from .body import Body
from .models import ServedModel
from .service import Service, Task


def embed(service: Service, body: Body) -> Task:
    """Return a vector of length 1 for each text."""
    model = service.choose("embedding", body.maybe_text("model"))
    begun = time.perf_counter()
    inputs, single = ([], False) if body.values.get("input") == [] else body.text_or_texts("input")
    if not inputs:  # Ollama has no quarrel with this
        return Task([], lambda: {"model": model.name, "embeddings": []})

    def reply(vectors: list[Any]) -> dict[str, Any]:
        nanoseconds = int(1e9 * (time.perf_counter() - begun))
        return {"model": model.name, "embeddings": vectors, "total_duration": nanoseconds, "load_duration": 0,
                "prompt_eval_count": task.tokens}  # fmt: skip

    task = service.embedding(
        model, inputs, reply, truncate=service.truncate(body), dimensions=body.count("dimensions"), single=single,
        field="input",
    )  # fmt: skip
    return task


def embeddings(service: Service, body: Body) -> Task:
    """Return the vector of one text: the route before ``/api/embed``."""
    model = service.choose("embedding", body.maybe_text("model"))
    return service.embedding(
        model, [body.text("prompt")], lambda vectors: {"embedding": vectors[0]}, truncate=service.truncate(body),
        single=True, field="prompt",
    )  # fmt: skip


def tags(service: Service) -> dict[str, Any]:
    """Return the served models."""
    return {"models": [_describe(model) for model in service.models]}


def _describe(served: ServedModel) -> dict[str, Any]:
    config = served.model.transformer.model.config
    return {
        "name": served.name,
        "model": served.name,
        "modified_at": "2023-11-14T22:13:20Z",
        "size": 0,
        "digest": served.revision or "",
        "details": {
            "parent_model": "",
            "format": "safetensors",
            "family": config.model_type,
            "families": [config.model_type],
            "parameter_size": f"{config.num_hidden_layers} layers of {config.hidden_size}",
            "quantization_level": "I8" if served.model.backend.name == "int8" else served.model.backend.dtype,
        },
    }


def version(service: Service) -> dict[str, Any]:
    """Return the version."""
    return {"version": __version__}
