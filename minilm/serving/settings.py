"""`Settings`: the limits and switches of the service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How the service behaves.

    Attributes
    ----------
    max_concurrent_requests
        How many requests are in work at a time; further ones are refused with 429.
    max_queue_tokens
        How many tokens may wait. A request that would make them more is refused with 429, unless nothing waits. A
        single request counts as half of it at most, so that a large one does not lock out all others.
    max_batch_tokens
        How many tokens are computed together.
    max_client_batch_size
        How many texts a request may have.
    payload_limit
        How many bytes the body of a request may have.
    auto_truncate
        Whether texts that are too long are cut where a request says nothing of ``truncate``. If not, they are refused.
    reject_empty
        Whether empty texts are refused, as text-embeddings-inference does.
    default_prompt_name
        The prompt before every text to embed, for requests that name none; None for the model's own.
    api_key
        What clients must send in ``Authorization``, with or without ``Bearer``; None lets everybody in.
    cors_allow_origins
        The origins of web pages that may call the service; ``("*",)`` for all.
    body_timeout
        How many seconds a client may take to send a body.
    hang_seconds
        After so many seconds without an end to a computation ``/health`` answers 503.
    large_bytes
        Bodies, and answers, from this size on are read and written in a thread of their own.
    """

    max_concurrent_requests: int = 512
    max_queue_tokens: int = 131_072
    max_batch_tokens: int = 256  # fewer than `encode` has: who comes next waits for less
    max_client_batch_size: int = 2048
    payload_limit: int = 16_000_000
    auto_truncate: bool = True
    reject_empty: bool = False
    default_prompt_name: str | None = None
    api_key: str | None = None
    cors_allow_origins: tuple[str, ...] = ("*",)
    body_timeout: float = 30.0
    hang_seconds: float = 60.0
    large_bytes: int = 16_384
