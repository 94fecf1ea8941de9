"""`encode_query` and `encode_document`: `encode` with the prompt for a task."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")
T = TypeVar("T")


def with_prompt_of(task: str, encode: Callable[P, T]) -> Callable[P, T]:
    """Return `encode` with the prompt for a task, unless another is given."""
    names = list(inspect.signature(encode).parameters)[1:]

    @functools.wraps(encode)
    def encode_for_task(*args: P.args, **kwargs: P.kwargs) -> T:
        model: Any = args[0]
        settings: dict[str, Any] = {"task": task, "prompt_name": None, "prompt": None, **kwargs}
        settings.update(zip(names, args[1:], strict=False))
        if settings["prompt_name"] is None and settings["prompt"] is None:
            settings["prompt_name"] = getattr(model, f"{task}_prompt_name")
        found: T = model.encode(**settings)
        return found

    encode_for_task.__name__ = name = f"encode_{task}"
    encode_for_task.__qualname__ = f"SentenceTransformer.{name}"
    encode_for_task.__doc__ = f"""`encode` with the prompt for the task {task!r}, unless another is given.

        It is the one that `{task}_prompt_name` names, if there is one.
        """
    return encode_for_task
