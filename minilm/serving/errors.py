"""What a client is told when something is wrong: a status, a type, and a sentence that says what to do."""

from __future__ import annotations

from typing import Any

# Types as text-embeddings-inference has them, and further ones in its style, with their status.
STATUS: dict[str, int] = {
    "Empty": 400,
    "BadRequest": 400,
    "Unauthorized": 401,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "Timeout": 408,
    "PayloadTooLarge": 413,
    "UnsupportedMediaType": 415,
    "Validation": 422,
    "Tokenizer": 422,
    "Backend": 424,
    "Overloaded": 429,
    "Internal": 500,
    "Unhealthy": 503,
}

# What OpenAI calls an error of a status; everything else is an invalid request.
_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "server_error",
                 503: "server_error"}  # fmt: skip


class ServiceError(Exception):
    """An error that ends a request.

    Parameters
    ----------
    kind
        One of `STATUS`.
    message
        What was wrong, what was expected, what to do.
    headers
        Further headers of the answer, such as ``Retry-After``.

    Examples
    --------
    >>> error = ServiceError("Empty", "`inputs` cannot be empty")
    >>> error.status, error.body("/embed")
    (400, {'error': '`inputs` cannot be empty', 'error_type': 'Empty'})
    """

    def __init__(self, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.kind: str = kind
        self.message: str = message
        self.headers: dict[str, str] = headers or {}

    @property
    def status(self) -> int:
        """The status of the answer."""
        return STATUS[self.kind]

    def body(self, path: str) -> dict[str, Any]:
        """Return the answer in the route's dialect: OpenAI's under /v1, Cohere's under /v2, Ollama's under /api."""
        if path.startswith("/v1/") or path == "/embeddings":
            kind = _OPENAI_TYPES.get(self.status, "invalid_request_error")
            return {"error": {"message": self.message, "type": kind, "param": None, "code": self.kind}}
        if path.startswith("/v2/"):
            return {"message": self.message}
        if path.startswith("/api/"):
            return {"error": self.message}
        return {"error": self.message, "error_type": self.kind}


def kind_of_status(status: int) -> str:
    """Return the type of an error of that status."""
    return next((kind for kind, known in STATUS.items() if known == status and kind != "Empty"), "BadRequest")
