"""`Service`: the models, the engine and the limits that all routes share; `Task`: what a request asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .admission import Admission
from .body import Body
from .engine import Computation, Engine, Job
from .errors import ServiceError
from .metrics import Metrics
from .models import NOT_OF_KIND, Input, Pair, ServedModel, Tokenized
from .settings import Settings

if TYPE_CHECKING:
    from ..indexing.index import Index


@dataclass
class Task:
    """What a request asks the engine for, and how its answer is made.

    Attributes
    ----------
    jobs
        What is computed; there may be none.
    reply
        Makes the answer, which is to be written as JSON, when all jobs are done.
    single
        Whether the request has a single text that is no list of one.
    characters, truncated
        How many characters the request's texts have, and how many of them were cut.
    kind
        ``"embed"`` or ``"predict"``, under which it is counted.
    in_thread
        Whether ``reply`` takes so long that it is called in a thread, and not in the event loop.
    """

    jobs: list[Job]
    reply: Callable[[], Any]
    single: bool = False
    characters: int = 0
    truncated: int = 0
    kind: str = "embed"
    in_thread: bool = False
    begun: float = field(default_factory=time.perf_counter)
    tokenized: float = 0.0

    @property
    def tokens(self) -> int:
        """How many tokens are computed."""
        return sum(job.tokens for job in self.jobs)

    @property
    def texts(self) -> int:
        """How many texts are computed."""
        return sum(len(job.texts) for job in self.jobs)


class Service:
    """What all routes share.

    Parameters
    ----------
    models
        Those that are served, with different names; the first of its kind is the one for requests that name none.
    settings
        Limits and switches.
    index
        The `minilm.Index` of ``/search``, with one of the models; None for no index.
    """

    def __init__(self, models: Sequence[ServedModel], settings: Settings, index: Index | None = None) -> None:
        if not models:
            raise ValueError("give at least one model to serve")
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise ValueError(f"the served models must have different names, got {', '.join(names)}")
        self.models: tuple[ServedModel, ...] = tuple(models)
        self.index: Index | None = index
        self.index_model: ServedModel | None = None if index is None else self._model_of(index)
        self.settings: Settings = settings
        self.metrics: Metrics = Metrics(max(model.model.max_seq_length for model in models))
        self.engine: Engine = Engine(
            max(model.model.threads for model in models), settings.max_batch_tokens, self.metrics.count_pack
        )
        self.admission: Admission = Admission(settings.max_concurrent_requests, settings.max_queue_tokens)
        if settings.default_prompt_name is not None:
            for model in models:
                if model.kind == "embedding":
                    self.prompt(model, None)

    def _model_of(self, index: Index) -> ServedModel:
        for model in self.models:
            if model.model is index.model:
                return model
        raise ValueError(f"{index.path} has a model that is not served: open it with one that is")

    # ---- which model, and what of its texts --------------------------------------------------------------------------

    def choose(self, kind: str, name: str | None) -> ServedModel:
        """Return the model of a kind for a request.

        A name that no model has is ignored as long as there is only one model of that kind, as in
        text-embeddings-inference.

        Raises
        ------
        ServiceError
            If there is no such model (424), or none of that name among several (404).
        """
        wanted = ("reranker", "classifier") if kind == "classifier" else (kind,)
        of_kind = sorted((model for model in self.models if model.kind in wanted), key=lambda m: m.kind != kind)
        if name is not None:
            for model in self.models:
                if model.answers_to(name):
                    of_kind = [model] if model.kind in wanted else []
                    break
            else:
                if len(of_kind) > 1:
                    raise self.no_such_model(name)
        if not of_kind:
            self.metrics.count_failure("model_type")
            raise ServiceError("Backend", f"model is not {NOT_OF_KIND[kind]} model")
        return of_kind[0]

    def no_such_model(self, name: str) -> ServiceError:
        """Return the error for a name that no model has."""
        known = ", ".join(model.name for model in self.models)
        return ServiceError("NotFound", f"there is no model {name[:100]!r} here; served: {known}")

    def prompt(self, model: ServedModel, name: str | None) -> str:
        """Return the prompt of that name, or the default one; raise a `ServiceError` if there is none."""
        name = name if name is not None else self.settings.default_prompt_name or model.embedder.default_prompt_name
        if name is None:
            return ""
        prompts = model.embedder.prompts
        if name not in prompts:
            known = ", ".join(map(repr, prompts)) or "none"
            raise ServiceError("Validation", f"`prompt_name` {name[:100]!r} is unknown; {model.name} has: {known}")
        return prompts[name]

    def truncate(self, body: Body) -> bool:
        """Whether the request's texts are cut if they are too long."""
        return body.flag("truncate", self.settings.auto_truncate)

    def check(self, inputs: Sequence[Any], field: str = "inputs") -> None:
        """Raise a `ServiceError` for too many inputs, or for empty ones if these are refused."""
        limit = self.settings.max_client_batch_size
        if len(inputs) > limit:
            self.metrics.count_failure("batch_size")
            raise ServiceError("Validation", f"batch size {len(inputs)} > maximum allowed batch size {limit}")
        if self.settings.reject_empty:
            for i, one in enumerate(inputs):
                if not any(one) if isinstance(one, tuple) else not one:
                    raise ServiceError("Empty", f"`{field}` {i} cannot be empty")

    # ---- tasks -------------------------------------------------------------------------------------------------------

    def embedding(
        self,
        model: ServedModel,
        inputs: Sequence[Input],
        reply: Callable[[list[Any]], Any],
        *,
        truncate: bool,
        side: str = "right",
        prompt_name: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        every_token: bool = False,
        single: bool = False,
        field: str = "inputs",
    ) -> Task:
        """Return the task of embedding texts; ``reply`` makes the answer of their vectors.

        A ``prompt`` wins over a ``prompt_name``.
        """
        self.check(inputs, field)
        if prompt is None:
            prompt = self.prompt(model, prompt_name)
        if every_token:
            computation = model.token_vectors()
        else:
            computation = model.embedding(normalize=normalize, dimensions=dimensions, prompt=prompt)
        return self._task(
            computation, lambda: model.tokenize(inputs, truncate=truncate, side=side, prompt=prompt, field=field),
            reply, "embed", single,
        )  # fmt: skip

    def scoring(
        self,
        model: ServedModel,
        pairs: Sequence[Pair],
        reply: Callable[[list[Any]], Any],
        *,
        truncate: bool,
        side: str = "right",
        single: bool = False,
    ) -> Task:
        """Return the task of classifying texts or pairs; ``reply`` makes the answer of their logits."""
        self.check(pairs)
        return self._task(
            model.logits(), lambda: model.tokenize_pairs(pairs, truncate=truncate, side=side), reply, "predict", single
        )

    def _task(
        self,
        computation: Computation,
        tokenize: Callable[[], Tokenized],
        reply: Callable[[list[Any]], Any],
        kind: str,
        single: bool,
    ) -> Task:
        begun = time.perf_counter()
        try:
            tokenized = tokenize()
        except ServiceError:
            self.metrics.count_failure("tokenization")
            raise
        job = Job(computation, tokenized.tokens)
        seconds = time.perf_counter() - begun
        return Task(
            [job], lambda: reply(job.results), single, tokenized.characters, tokenized.truncated, kind, begun=begun,
            tokenized=seconds,
        )  # fmt: skip

    @property
    def is_healthy(self) -> bool:
        """Whether the engine is alive: no pack takes longer than `Settings.hang_seconds`."""
        return self.engine.longest_run() < self.settings.hang_seconds
