"""Reading the fields of a request's body: each with its type, or an error that names it."""

from __future__ import annotations

from typing import Any

import orjson

from .errors import ServiceError


class Body:
    """The JSON object of a request. Fields that nobody asks for are ignored, and null is as good as absent.

    Parameters
    ----------
    values
        The object.
    path
        Where it lies in the body, for messages.

    Examples
    --------
    >>> body = Body({"inputs": ["one", "two"], "normalize": None})
    >>> body.texts("inputs"), body.flag("normalize", True)
    (['one', 'two'], True)
    """

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self.values: dict[str, Any] = values
        self.path: str = path

    @classmethod
    def parse(cls, raw: bytes) -> Body:
        """Read a body.

        Raises
        ------
        ServiceError
            If it is not JSON (400), or not an object (422).
        """
        try:
            values = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ServiceError("BadRequest", f"the body is not JSON: {error}") from None
        return cls.of(values, "the body")

    @classmethod
    def of(cls, values: Any, where: str, path: str = "") -> Body:
        """Return the fields of an object; raise a `ServiceError` for anything else."""
        if not isinstance(values, dict):
            raise ServiceError("Validation", f"{where} must be an object, got {_name(values)}")
        return cls(values, path)

    def __contains__(self, field: str) -> bool:
        return self.values.get(field) is not None

    def wrong(self, field: str, expected: str) -> ServiceError:
        """Return the error for a field that is not there, or not as expected."""
        value = self.values.get(field)
        got = "it is missing" if value is None else f"got {_name(value)}"
        return ServiceError("Validation", f"`{self.path}{field}` must be {expected}: {got}")

    def object(self, field: str, default: dict[str, Any] | None = None) -> Body:
        """Return an object."""
        value = self.values.get(field)
        if value is None:
            value = default
        if not isinstance(value, dict):
            raise self.wrong(field, "an object")
        return Body(value, f"{self.path}{field}.")

    def text(self, field: str, default: str | None = None) -> str:
        """Return a string."""
        value = self.values.get(field)
        if value is None:
            value = default
        if not isinstance(value, str):
            raise self.wrong(field, "a string")
        return value

    def maybe_text(self, field: str) -> str | None:
        """Return a string, or None if there is none."""
        return self.text(field) if field in self else None

    def flag(self, field: str, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return value

    def count(self, field: str) -> int | None:
        """Return an integer from 0 on, or None if there is none."""
        value = self.values.get(field)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():  # JSON has one kind of numbers
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(field, "an integer of at least 0")
        return value

    def number(self, field: str) -> float | None:
        """Return a number, or None if there is none."""
        value = self.values.get(field)
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise self.wrong(field, "a number")
        return value

    def choice(self, field: str, *choices: str) -> str:
        """Return one of the words, the first by default; capitals do not matter."""
        value = self.text(field, choices[0]).lower()
        if value not in choices:
            raise self.wrong(field, f"one of {', '.join(map(repr, choices))}")
        return value

    def items(self, field: str) -> list[Any]:
        """Return a list, which is not empty.

        Raises
        ------
        ServiceError
            With status 400 for an empty one.
        """
        value = self.values.get(field)
        if not isinstance(value, list):
            raise self.wrong(field, "a list")
        if not value:
            raise ServiceError("Empty", f"`{self.path}{field}` cannot be empty")
        return value

    def texts(self, field: str) -> list[str]:
        """Return a list of strings, which is not empty."""
        value = self.items(field)
        for i, one in enumerate(value):
            if not isinstance(one, str):
                raise self.wrong_item(field, i, one, "a string")
        return value

    def text_or_texts(self, field: str) -> tuple[list[str], bool]:
        """Return strings, and whether it was a single one."""
        value = self.values.get(field)
        if isinstance(value, str):
            return [value], True
        if not isinstance(value, list):
            raise self.wrong(field, "a string or a list of strings")
        return self.texts(field), False

    def inputs(self, field: str) -> tuple[list[Any], bool]:
        """Return strings and lists of token ids, and whether it was a single one."""
        value = self.values.get(field)
        if isinstance(value, str):
            return [value], True
        if not isinstance(value, list):
            raise self.wrong(field, "a string, a list of token ids, or a list of these")
        value = self.items(field)
        if _is_id(value[0]):
            _require_ids(self, field, value)
            return [value], True
        for i, one in enumerate(value):
            if isinstance(one, list) and one:
                _require_ids(self, field, one)
            elif isinstance(one, list):
                raise ServiceError("Empty", f"`{self.path}{field}` {i} cannot be empty")
            elif not isinstance(one, str):
                raise self.wrong_item(field, i, one, "a string or a list of token ids")
        return value, False

    def ids(self, field: str) -> tuple[list[list[int]], bool]:
        """Return lists of token ids, and whether it was a single one."""
        value = self.items(field)
        if not isinstance(value[0], list):
            _require_ids(self, field, value)
            return [value], True
        for i, one in enumerate(value):
            if not isinstance(one, list):
                raise self.wrong_item(field, i, one, "a list of token ids")
            _require_ids(self, field, one)
        return value, False

    def wrong_item(self, field: str, i: int, value: Any, expected: str) -> ServiceError:
        """Return the error for an item of a list."""
        return ServiceError("Validation", f"`{self.path}{field}` {i} must be {expected}: got {_name(value)}")


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_ids(body: Body, field: str, values: list[Any]) -> None:
    for value in values:
        if not _is_id(value) or not 0 <= value < 2**32:
            raise ServiceError("Validation", f"`{body.path}{field}`: a token id must be an integer from 0 to 2³² - 1: "
                               f"got {_name(value)}")  # fmt: skip


def _name(value: Any) -> str:
    """Return a value's type by JSON's name, and numbers and words themselves."""
    if isinstance(value, (bool, int, float)) or value is None:
        return orjson.dumps(value).decode()
    if isinstance(value, str):
        shown = value if len(value) <= 40 else value[:39] + "…"
        return f"the string {shown!r}"
    return "a list" if isinstance(value, list) else "an object"
