"""The OpenAPI document: every route with its bodies, answers and errors, and a page to read it."""

from __future__ import annotations

from typing import Any

from .. import __version__
from ..indexing.searching import MODES
from .gate import PUBLIC
from .search import MOST_HITS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}


def _list(items: Schema, least: int = 1) -> Schema:
    return {"type": "array", "items": items, **({"minItems": least} if least else {})}


def _one_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _or_null(schema: Schema) -> Schema:
    return _one_of(schema, {"type": "null"})


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    properties = {**required, **{name: _or_null(schema) for name, schema in optional.items()}}
    return {"type": "object", "required": list(required), "properties": properties}


def _answer(**fields: Schema) -> Schema:
    return {"type": "object", "required": list(fields), "properties": fields}


VECTOR = _list(NUMBER)
VECTORS = _list(VECTOR)
IDS = _list(ID)
INPUT = _one_of(TEXT, IDS, _list(_one_of(TEXT, IDS)))
SIDE: Schema = {"type": "string", "enum": ["right", "left", "Right", "Left"], "default": "right"}
CUT: dict[str, Schema] = {
    "truncate": {
        **FLAG,
        "description": "Cut texts that are too long; by default as --auto-truncate says.",
    },
    "truncation_direction": SIDE,
}
MODEL: dict[str, Schema] = {"model": {**TEXT, "description": "The served model's name; may be left out."}}
PROMPT: dict[str, Schema] = {"prompt_name": {**TEXT, "description": "One of the model's prompts."}}
DIMENSIONS: dict[str, Schema] = {"dimensions": {"type": "integer", "minimum": 1}}

SEQUENCE: Schema = {**_list(TEXT), "maxItems": 2}
PREDICT = _one_of(TEXT, SEQUENCE, _list(SEQUENCE))
PREDICTION = _list(_answer(score=NUMBER, label=TEXT))
TOKEN = _answer(id=ID, text=TEXT, special=FLAG, start=_or_null(COUNT), stop=_or_null(COUNT))
USAGE = _answer(prompt_tokens=COUNT, total_tokens=COUNT)
DOCUMENT = _one_of(TEXT, _object({"text": TEXT}))
RANKING: dict[str, Schema] = {"top_n": COUNT, "return_documents": FLAG, "raw_scores": FLAG, "truncate": FLAG, **MODEL}
RANKED = _list(_answer(index=COUNT, relevance_score=NUMBER), least=0)

EMBED = _object({"inputs": INPUT}, normalize={**FLAG, "default": True}, **DIMENSIONS, **CUT, **PROMPT, **MODEL)
SIMILARITY = _object(
    {"inputs": _object({"source_sentence": TEXT, "sentences": _list(TEXT)})},
    parameters=_object({}, **CUT, **PROMPT),
    **MODEL,
)
TEI_RERANK = _object({"query": TEXT, "texts": _list(TEXT)}, raw_scores=FLAG, return_text=FLAG, **CUT, **MODEL)
TEI_RANKED = _list(_answer(index=COUNT, score=NUMBER))
DOCUMENTS_RERANK = _object({"query": TEXT, "documents": _list(DOCUMENT)}, **RANKING)
OPENAI = _object(
    {"input": INPUT}, encoding_format={"type": "string", "enum": ["float", "base64"]}, user=TEXT, **DIMENSIONS, **MODEL
)
OPENAI_ANSWER = _answer(
    object=TEXT, model=TEXT, usage=USAGE,
    data=_list(_answer(object=TEXT, index=COUNT, embedding=_one_of(VECTOR, TEXT))),
)  # fmt: skip
ANY_SHAPE = _one_of(SIMILARITY, TEI_RERANK, EMBED, _object({"inputs": PREDICT}, raw_scores=FLAG, **CUT, **MODEL))
ANY_ANSWER: Schema = {"type": "array"}
HIT = _answer(
    score=NUMBER, similarity=_or_null(NUMBER), file=TEXT, line=COUNT, last_line=COUNT, heading=TEXT, text=TEXT,
    others=_list(_answer(file=TEXT, line=COUNT, last_line=COUNT), least=0),
)  # fmt: skip
SEARCH = _object(
    {"query": TEXT},
    top_k={"type": "integer", "minimum": 1, "maximum": MOST_HITS, "default": 10},
    mode={"type": "string", "enum": list(MODES), "default": MODES[0]},
    below={**_one_of(TEXT, _list(TEXT)), "description": "Only these files and folders, from the index's folder."},
    min_score={**NUMBER, "description": "Only passages with a cosine of at least this."},
    rerank={**FLAG, "description": "Let a served reranker sort the first hits."},
    reranker={**TEXT, "description": "The reranker's name; may be left out."},
)
INDEX, TEI, OTHER, ABOUT = "an index", "text-embeddings-inference", "other dialects", "about the service"

# Of each POST route: its tag, what it does, its body, its answer.
POSTS: dict[str, tuple[str, str, Schema, Schema]] = {
    "/embed": (TEI, "A vector for each text", EMBED, VECTORS),
    "/embed_all": (TEI, "A vector for each token of each text",
                   _object({"inputs": INPUT}, **CUT, **PROMPT, **MODEL), _list(VECTORS)),
    "/embed_sparse": (TEI, "Refused: no model here is a SPLADE model", _object({"inputs": INPUT}), ANY_ANSWER),
    "/predict": (TEI, "Labels of texts, or of pairs of texts, the best first",
                 _object({"inputs": PREDICT}, raw_scores=FLAG, **CUT, **MODEL), _one_of(PREDICTION, _list(PREDICTION))),
    "/rerank": (TEI, "Texts in the order of their relevance to a query; with `documents` as infinity has it",
                _one_of(TEI_RERANK, DOCUMENTS_RERANK), _one_of(TEI_RANKED, _answer(results=RANKED, model=TEXT))),
    "/similarity": (TEI, "The cosine of a sentence with each of others", SIMILARITY, VECTOR),
    "/tokenize": (TEI, "The tokens of texts, with their places in bytes",
                  _object({"inputs": _one_of(TEXT, _list(TEXT))}, add_special_tokens=FLAG, **PROMPT, **MODEL),
                  _list(_list(TOKEN, least=0))),
    "/decode": (TEI, "The texts of token ids",
                _object({"ids": _one_of(IDS, _list(_list(ID, least=0)))}, skip_special_tokens=FLAG, **MODEL),
                _list(TEXT)),
    "/vertex": (TEI, "Several requests at once, each told by its shape",
                _object({"instances": _list(ANY_SHAPE)}), _answer(predictions=ANY_ANSWER)),
    "/invocations": (TEI, "Embedding, similarity, reranking or classification, told by the shape of the body",
                     ANY_SHAPE, ANY_ANSWER),
    "/": (TEI, "Embedding, similarity, reranking or classification, told by the shape of the body",
          ANY_SHAPE, ANY_ANSWER),
    "/search": (INDEX, "Passages that answer a query, by their meaning and their words", SEARCH,
                _answer(hits=_list(HIT, least=0), model=TEXT)),
    "/v1/embeddings": (OTHER, "Vectors, as OpenAI has it", OPENAI, OPENAI_ANSWER),
    "/embeddings": (OTHER, "Vectors, as OpenAI has it", OPENAI, OPENAI_ANSWER),
    "/v1/rerank": (OTHER, "Reranking, as Jina and the first version of Cohere have it", DOCUMENTS_RERANK,
                   _answer(id=TEXT, model=TEXT, results=RANKED, usage=USAGE)),
    "/v2/rerank": (OTHER, "Reranking, as the second version of Cohere has it", DOCUMENTS_RERANK,
                   _answer(id=TEXT, results=RANKED)),
    "/api/embed": (OTHER, "Vectors, as Ollama has it",
                   _object({"input": _one_of(TEXT, _list(TEXT, least=0))}, truncate=FLAG, **DIMENSIONS, **MODEL),
                   _answer(model=TEXT, embeddings=_list(VECTOR, least=0))),
    "/api/embeddings": (OTHER, "The vector of one text, as Ollama had it before",
                        _object({"prompt": TEXT}, truncate=FLAG, **MODEL), _answer(embedding=VECTOR)),
}  # fmt: skip

# Of each GET route: its tag, what it tells, its answer; None for one that is no JSON.
GETS: dict[str, tuple[str, str, Schema | None]] = {
    "/info": (
        ABOUT,
        "The models, and the limits of the service",
        _answer(model_id=TEXT, model_type={"type": "object"}),
    ),
    "/health": (ABOUT, "Whether the engine is alive", None),
    "/ping": (ABOUT, "Whether the engine is alive", None),
    "/": (ABOUT, "Whether the engine is alive", None),
    "/metrics": (ABOUT, "Counters and times, in Prometheus's format", None),
    "/v1/models": (OTHER, "The models, as OpenAI has it", _answer(object=TEXT, data=_list(_answer(id=TEXT)))),
    "/v1/models/{name}": (OTHER, "A model, as OpenAI has it", _answer(id=TEXT, object=TEXT)),
    "/api/tags": (OTHER, "The models, as Ollama has it", _answer(models=_list(_answer(name=TEXT)))),
    "/api/version": (OTHER, "The version, as Ollama has it", _answer(version=TEXT)),
}

ERRORS = {
    400: "The body is not JSON, or there is nothing to do",
    401: "The API key is missing or wrong",
    404: "There is no such model",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "A field is wrong, or there are too many texts, or one is too long",
    424: "The model is of another kind, or its computation failed",
    429: "There is too much to do; the header Retry-After says when to come again",
    500: "A mistake of the service",
    503: "The engine does not answer",
}


def _error_schema(path: str) -> Schema:
    if path.startswith("/v1/") or path == "/embeddings":
        return _answer(error=_answer(message=TEXT, type=TEXT, code=TEXT))
    if path.startswith("/v2/"):
        return _answer(message=TEXT)
    if path.startswith("/api/"):
        return _answer(error=TEXT)
    return _answer(error=TEXT, error_type=TEXT)


def _content(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _responses(path: str, answer: Schema | None, *statuses: int) -> Schema:
    responses = {"200": {"description": "The answer", **(_content(answer) if answer is not None else {})}}
    for status in statuses:
        responses[str(status)] = {"description": ERRORS[status], **_content(_error_schema(path))}
    return responses


def document(with_key: bool) -> dict[str, Any]:
    """Return the document; ``with_key`` says whether an API key is needed.

    >>> document(False)["paths"]["/embed"]["post"]["summary"]
    'A vector for each text'
    """
    paths: dict[str, dict[str, Any]] = {}
    for path, (tag, summary, body, answer) in POSTS.items():
        paths.setdefault(path, {})["post"] = {
            "tags": [tag],
            "summary": summary,
            "requestBody": {"required": True, **_content(body)},
            "responses": _responses(path, answer, *(status for status in ERRORS if status != 503)),
        }
    for path, (tag, summary, told) in GETS.items():
        statuses = [404] if "{name}" in path else [503]
        operation: dict[str, Any] = {"tags": [tag], "summary": summary}
        if "{name}" in path:
            operation["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": TEXT}]
        if path in PUBLIC:
            operation["security"] = []
        else:
            statuses = [401, *statuses]
        operation["responses"] = _responses(path, told, *statuses)
        paths.setdefault(path, {})["get"] = operation
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "minilm serve", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
    }
    if with_key:
        found["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        found["security"] = [{"key": []}]
    return found
