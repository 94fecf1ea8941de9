"""`Admission`: how much work is let in. What is too much is refused at once, with the time to come again."""

from __future__ import annotations

import math
import time

from .errors import ServiceError

FIRST_GUESS = 5000.0  # tokens a second, before there is a rate to speak of


class Admission:
    """Counts the requests that are in work, and their tokens. Used by the event loop alone, without a lock.

    Parameters
    ----------
    max_requests, max_tokens
        What may be in work: as `Settings.max_concurrent_requests` and `Settings.max_queue_tokens` have it.

    Examples
    --------
    >>> admission = Admission(max_requests=10, max_tokens=100)
    >>> large, small = admission.enter(1000), admission.enter(20)  # the large one counts as 50
    >>> try:
    ...     admission.enter(40)
    ... except ServiceError as error:
    ...     print(error.status, error.headers)
    429 {'Retry-After': '1'}
    >>> large.leave(); small.leave(); admission.tokens
    0
    """

    def __init__(self, max_requests: int, max_tokens: int) -> None:
        self.max_requests: int = max_requests
        self.max_tokens: int = max_tokens
        self.requests: int = 0
        self.tokens: int = 0
        self._since: float = time.perf_counter()
        self._done: int = 0

    def enter(self, tokens: int) -> Ticket:
        """Let a request of so many tokens in.

        Raises
        ------
        ServiceError
            With status 429, if there is too much to do already.
        """
        if self.requests >= self.max_requests:
            raise self._overloaded(f"{self.requests} requests are in work, and {self.max_requests} may be")
        if self.requests == 0:  # a pause must not count as slowness
            self._since, self._done = time.perf_counter(), 0
        self.requests += 1
        ticket = Ticket(self)
        try:
            ticket.settle(tokens)
        except ServiceError:
            ticket.leave()
            raise
        return ticket

    def _overloaded(self, why: str) -> ServiceError:
        seconds = time.perf_counter() - self._since
        rate = self._done / seconds if self._done and seconds > 0.5 else FIRST_GUESS
        wait = str(min(60, max(1, math.ceil(self.tokens / rate))))
        return ServiceError(
            "Overloaded", f"model is overloaded: {why}; come again in {wait} s", headers={"Retry-After": wait}
        )


class Ticket:
    """The place of one request among those in work."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._counted = 0

    def settle(self, tokens: int) -> None:
        """Correct the number of tokens; raise a `ServiceError` if they are too many, and others are in work."""
        admission = self._admission
        counted = min(tokens, max(1, admission.max_tokens // 2))  # so that a large request does not lock out all others
        others = admission.tokens - self._counted
        if others and others + counted > admission.max_tokens:
            raise admission._overloaded(f"{others} tokens are in work, and {admission.max_tokens} may be")
        admission.tokens = others + counted
        self._counted = counted

    def leave(self, done: int = 0) -> None:
        """Give the place back, after ``done`` tokens were computed."""
        admission = self._admission
        admission.requests -= 1
        admission.tokens -= self._counted
        admission._done += done
