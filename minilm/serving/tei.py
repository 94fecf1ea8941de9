"""The routes of text-embeddings-inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..vectors.similarity import cos_sim
from .body import Body
from .errors import ServiceError
from .models import Pair, ServedModel
from .service import Service, Task


def _direction(body: Body) -> str:
    return body.choice("truncation_direction", "right", "left")


def embed(service: Service, body: Body) -> Task:
    """Return a vector for each text."""
    model = service.choose("embedding", body.maybe_text("model"))
    inputs, single = body.inputs("inputs")
    return service.embedding(
        model, inputs, lambda vectors: vectors, truncate=service.truncate(body), side=_direction(body),
        prompt_name=body.maybe_text("prompt_name"), normalize=body.flag("normalize", True),
        dimensions=body.count("dimensions"), single=single,
    )  # fmt: skip


def embed_all(service: Service, body: Body) -> Task:
    """Return a vector for each token of each text."""
    model = service.choose("embedding", body.maybe_text("model"))
    inputs, single = body.inputs("inputs")
    return service.embedding(
        model, inputs, lambda vectors: vectors, truncate=service.truncate(body), side=_direction(body),
        prompt_name=body.maybe_text("prompt_name"), every_token=True, single=single,
    )  # fmt: skip


def embed_sparse(service: Service, body: Body) -> Task:
    """Refuse: no model here is a SPLADE model."""
    body.inputs("inputs")
    service.metrics.count_failure("model_type")
    raise ServiceError("Backend", "model is not an embedding model with SPLADE pooling")


def similarity(service: Service, body: Body) -> Task:
    """Return the cosine of a sentence with each of others."""
    model = service.choose("embedding", body.maybe_text("model"))
    inputs, parameters = body.object("inputs"), body.object("parameters", {})
    texts = [inputs.text("source_sentence"), *inputs.texts("sentences")]

    def reply(vectors: list[Any]) -> list[float]:
        cosines: list[float] = cos_sim(vectors[0], np.stack(vectors[1:]))[0].tolist()
        return cosines

    return service.embedding(
        model, texts, reply, truncate=service.truncate(parameters), side=_direction(parameters),
        prompt_name=parameters.maybe_text("prompt_name"), normalize=False, field="inputs.sentences",
    )  # fmt: skip


# ---- classification --------------------------------------------------------------------------------------------------


def predict(service: Service, body: Body) -> Task:
    """Return the labels of each text or pair of texts with their scores, the best first.

    A body with an object ``parameters`` is one of Hugging Face's inference API, which answers a single text, too, with
    a list of lists.
    """
    model = service.choose("classifier", body.maybe_text("model"))
    pairs, single = _sequences(body)
    parameters = body.object("parameters", {})
    raw = body.flag("raw_scores", parameters.text("function_to_apply", "") == "none")
    top, flat = parameters.count("top_k"), single and not isinstance(body.values.get("parameters"), dict)

    def reply(logits: list[Any]) -> Any:
        answer = []
        for row in scores(model, logits, raw).tolist():
            best_first = sorted(zip(row, model.labels, strict=True), reverse=True)[:top]
            answer.append([{"score": score, "label": label} for score, label in best_first])
        return answer[0] if flat else answer

    return service.scoring(model, pairs, reply, truncate=service.truncate(body), side=_direction(body), single=single)


def _sequences(body: Body) -> tuple[list[Pair], bool]:
    """Return texts and pairs, and whether it was a single one: a flat list of one or two strings is one."""
    value = body.values.get("inputs")
    if isinstance(value, str):
        return [(value,)], True
    if not isinstance(value, list) or not value:
        raise body.wrong("inputs", "a string, a pair of strings, or a list of lists of one or two strings")
    items = [value] if isinstance(value[0], str) else value
    for i, one in enumerate(items):
        if not isinstance(one, list) or len(one) not in (1, 2) or not all(isinstance(text, str) for text in one):
            raise body.wrong_item("inputs", i, one, "a list of one or two strings")
    return [tuple(one) for one in items], items is not value


def scores(model: ServedModel, logits: list[Any], raw: bool) -> np.ndarray:
    """Return the logits themselves, or scores from 0 to 1, [texts, labels].

    Raises
    ------
    ServiceError
        If one is not a number.
    """
    rows = np.stack(logits)
    rows = rows if raw else model.probabilities(rows)
    if np.isnan(rows).any():
        raise ServiceError("Backend", "score is NaN")
    return rows


def ranked(model: ServedModel, logits: list[Any], raw: bool) -> list[tuple[int, float]]:
    """Return the numbers of the documents with their scores, the best first."""
    found = enumerate(scores(model, logits, raw)[:, 0].tolist())
    return sorted(found, key=lambda one: -one[1])


def rerank(service: Service, body: Body) -> Task:
    """Return the order of texts by their relevance to a query."""
    query, texts = body.text("query"), body.texts("texts")
    model = service.choose("reranker", body.maybe_text("model"))
    raw, with_text = body.flag("raw_scores", False), body.flag("return_text", False)

    def reply(logits: list[Any]) -> list[dict[str, Any]]:
        ranks = [{"index": i, "score": score} for i, score in ranked(model, logits, raw)]
        return [{**rank, "text": texts[int(rank["index"])]} for rank in ranks] if with_text else list(ranks)

    return service.scoring(
        model, [(query, text) for text in texts], reply, truncate=service.truncate(body), side=_direction(body)
    )


# ---- tokens ----------------------------------------------------------------------------------------------------------


def tokenize(service: Service, body: Body) -> Task:
    """Return the tokens of each text, with their places in bytes."""
    model = _model_of_any_kind(service, body)
    texts, _ = body.text_or_texts("inputs")
    service.check(texts)
    special = body.flag("add_special_tokens", True)
    prompt = service.prompt(model, body.maybe_text("prompt_name")) if model.kind == "embedding" else ""
    texts = [prompt + text for text in texts]
    found = model.model.tokenizer(
        texts, add_special_tokens=special, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    answer = []
    for i, text in enumerate(texts):
        starts = _byte_offsets(text)
        tokens = []
        rows = (found["input_ids"][i], found.tokens(i), found["special_tokens_mask"][i], found["offset_mapping"][i])
        for number, token, is_special, (start, stop) in zip(*rows, strict=True):
            if is_special:
                tokens.append({"id": number, "text": token, "special": True, "start": None, "stop": None})
            else:
                tokens.append({"id": number, "text": text[start:stop], "special": False, "start": starts[start],
                               "stop": starts[stop]})  # fmt: skip
        answer.append(tokens)
    return Task([], lambda: answer)


def _byte_offsets(text: str) -> Any:
    """Return where each character begins in UTF-8, and where the text ends."""
    if text.isascii():
        return range(len(text) + 1)
    return [0, *np.cumsum([len(character.encode()) for character in text]).tolist()]


def decode(service: Service, body: Body) -> Task:
    """Return the texts of token ids."""
    model = _model_of_any_kind(service, body)
    ids, _ = body.ids("ids")
    service.check(ids, "ids")
    tokenizer, skip = model.model.tokenizer, body.flag("skip_special_tokens", True)
    size = len(tokenizer)
    texts = [tokenizer.decode([one for one in row if one < size], skip_special_tokens=skip) for row in ids]
    return Task([], lambda: texts)


def _model_of_any_kind(service: Service, body: Body) -> ServedModel:
    name = body.maybe_text("model")
    return next((model for model in service.models if name and model.answers_to(name)), service.models[0])


# ---- several routes in one -------------------------------------------------------------------------------------------


def by_shape(service: Service, body: Body) -> Task:
    """Answer as the route whose body this is: similarity, rerank, predict or embed."""
    if isinstance(body.values.get("inputs"), dict):
        return similarity(service, body)
    if "query" in body:
        return rerank(service, body)
    parameters = body.values.get("parameters")
    if isinstance(parameters, dict):  # as Hugging Face's inference API has it
        body = Body({**parameters, **body.values})
    name = body.maybe_text("model")
    named = next((model for model in service.models if name and model.answers_to(name)), None)
    embeds = named.kind == "embedding" if named else any(model.kind == "embedding" for model in service.models)
    return embed(service, body) if embeds else predict(service, body)


def root(service: Service, body: Body) -> Task:
    """Answer as `by_shape`; a classifier's answer is that of Hugging Face's inference API, whose clients ask here."""
    return by_shape(service, Body({"parameters": {}, **body.values}))


def vertex(service: Service, body: Body) -> Task:
    """Answer several requests at once, each as the route whose body it is."""
    tasks = [
        by_shape(service, Body.of(one, f"`instances` {i}", f"instances {i}: "))
        for i, one in enumerate(body.items("instances"))
    ]
    jobs = [job for task in tasks for job in task.jobs]
    characters, truncated = sum(task.characters for task in tasks), sum(task.truncated for task in tasks)
    return Task(
        jobs, lambda: {"predictions": [task.reply() for task in tasks]}, False, characters, truncated, tasks[0].kind
    )
