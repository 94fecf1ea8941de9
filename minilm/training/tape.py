"""The tape: a table of operations that records each call, and walks back over the record for gradients.

The network does not change for it. A `Tape` takes the place of the table that the network calls. It hands each
primitive on to another table, keeps what the primitive's rule in `minilm.training.vjps` will need, and wraps the result
into a `Recorded` array. Compositions come apart into primitives by themselves, as they are written on ``self``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..arrays import Array, array_namespace
from ..operations import OPERATIONS, REFERENCE, Operations
from .gradients import Gradients, Slice, dense, total
from .vjps import VectorJacobianProducts

PRIMITIVES = tuple(name for name in OPERATIONS if hasattr(VectorJacobianProducts, name))
_SIGNATURES = {name: inspect.signature(getattr(REFERENCE, name)) for name in PRIMITIVES}


class Recorded:
    """The result of a recorded operation. Operations take it; beside them it can be sliced, reshaped, concatenated.

    All else raises a `TypeError`, since there is no rule to go back by.
    """

    def __init__(self, tape: Tape, value: Array) -> None:
        self.value: Array = value
        self.key: object = object()  # stands for the array without keeping it alive
        self._tape: Tape = tape
        self.shape: tuple[int, ...] = value.shape
        self.ndim: int = len(value.shape)
        self.dtype: Any = value.dtype
        self.device: Any = value.device

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self._tape.namespace

    def __getitem__(self, key: Any) -> Recorded:
        return self._tape.note(self.value[key], {"x": self}, lambda gradient: {"x": Slice(key, gradient, self.shape)})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_no_rule(f".{name}"))


def _no_rule(what: str) -> str:
    return (
        f"{what} of a recorded array: there is no vector-Jacobian product for it. Call an operation of the table "
        f"({', '.join(PRIMITIVES)}), slice, reshape or concat; or write a rule into minilm.training.vjps"
    )


def _refusing(name: str) -> Callable[..., Any]:
    def operator(*_: Any) -> Any:
        raise TypeError(_no_rule(name))

    return operator


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "lt", "le", "gt", "ge"):
    setattr(Recorded, f"__{_name}__", _refusing(f"__{_name}__"))
    setattr(Recorded, f"__r{_name}__", _refusing(f"__{_name}__"))
for _name in ("neg", "abs", "float", "iter", "array"):
    setattr(Recorded, f"__{_name}__", _refusing(f"__{_name}__"))


class _Namespace:
    """What `array_namespace` answers for recorded arrays: the structural steps, and an error for anything else."""

    def reshape(self, x: Recorded, shape: tuple[int, ...]) -> Recorded:
        """The gradient takes the old shape back."""
        xp, old = array_namespace(x.value), x.shape
        return x._tape.note(xp.reshape(x.value, shape), {"x": x}, lambda gradient: {"x": xp.reshape(gradient, old)})

    def concat(self, arrays: Iterable[Recorded], axis: int = 0) -> Recorded:
        """Each part gets its part of the gradient."""
        parts = dict(enumerate(arrays))
        lengths, skipped = [part.shape[axis] for part in parts.values()], (slice(None),) * (axis % parts[0].ndim)

        def rule(gradient: Array) -> dict[int, Array]:
            ends = [sum(lengths[: i + 1]) for i in parts]
            return {i: gradient[(*skipped, slice(ends[i] - lengths[i], ends[i]), ...)] for i in parts}

        value = array_namespace(parts[0].value).concat([part.value for part in parts.values()], axis=axis)
        return parts[0]._tape.note(value, parts, rule)

    def take(self, x: Recorded, indices: Array, axis: int = 0) -> Recorded:
        """Rows of a matrix are looked up like those of a table of embeddings."""
        recorded: Recorded = x._tape.embedding(indices, x)
        return recorded

    def __getattr__(self, name: str) -> Any:
        raise TypeError(_no_rule(f"{name}()"))


class Tape(Operations):
    """A table that records: ``operations`` do the work of the forward pass, ``rules`` that of the backward pass.

    Examples
    --------
    >>> import numpy as np
    >>> tape, x, weight = Tape(), np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])
    >>> y = tape.linear(x, weight)
    >>> gradients = tape.backward(y, np.array([[1.0, 0.0]]))  # of the loss y[0, 0]
    >>> gradients[x].tolist(), gradients[weight].tolist()
    ([[3.0, 4.0]], [[1.0, 2.0], [0.0, 0.0]])
    """

    def __init__(self, operations: Operations = REFERENCE, rules: VectorJacobianProducts | None = None) -> None:
        self.operations: Operations = operations
        self.rules: VectorJacobianProducts = rules or VectorJacobianProducts()
        self.namespace: _Namespace = _Namespace()
        self._steps: list[
            tuple[Any, dict[Any, Any], Callable[..., Any]]
        ] = []  # the result's key, the arguments, the rule
        for name in PRIMITIVES:
            setattr(self, name, functools.partial(self._call, name))

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        bound = _SIGNATURES[name].bind(*args, **kwargs)
        bound.apply_defaults()
        result = getattr(self.operations, name)(**{key: _value(x) for key, x in bound.arguments.items()})
        if isinstance(result, tuple):  # an attention's probabilities are not differentiated
            return self.record(name, result[0], bound.arguments), *result[1:]
        return self.record(name, result, bound.arguments)

    def record(self, name: str, output: Array, arguments: Mapping[str, Any]) -> Recorded:
        """Note down an operation by the name of its rule. What the rule does not ask for is not kept."""
        rule = getattr(self.rules, name)
        needed = {
            key: _value(arguments[key]) for key in _parameters(getattr(type(self.rules), name)) if key in arguments
        }
        return self.note(output, arguments, lambda gradient: rule(gradient, **needed))

    def note(self, output: Array, arguments: Mapping[Any, Any], rule: Callable[..., Any]) -> Recorded:
        """Note down a step: ``rule`` makes of its gradient those of its arguments, by their names."""
        recorded = Recorded(self, output)
        sources = {name: x.key if isinstance(x, Recorded) else x for name, x in arguments.items()}
        self._steps.append((recorded.key, sources, rule))
        return recorded

    def backward(
        self, output: Recorded, gradient: Array, into: Gradients | None = None, also: Iterable[Recorded] = ()
    ) -> Gradients:
        """Walk back from ``output``, with ``∂L/∂output``, and return the gradients of all arrays that it came from.

        They are added to those that ``into`` has from earlier passes. The gradients of results on the way are dropped,
        but for those in ``also``. The record is used up, and gives its memory free as the walk goes on.
        """
        if tuple(gradient.shape) != tuple(output.shape):
            raise ValueError(f"the gradient has the shape {tuple(gradient.shape)}, the output {tuple(output.shape)}")
        found, wanted = Gradients() if into is None else into, {recorded.key: recorded for recorded in also}
        pending: dict[Any, list[Any]] = {output.key: [gradient]}  # what has arrived for a result so far
        while self._steps:
            key, sources, rule = self._steps.pop()
            if key not in pending:
                continue  # the output does not depend on it
            arrived = dense(total(pending.pop(key)))
            if key in wanted:
                found.add(wanted[key], arrived)
            for name, part in rule(arrived).items():
                source = sources[name]
                if type(source) is object:
                    pending.setdefault(source, []).append(part)
                elif source is not None:
                    found.add(source, part)
        return found


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Recorded) else x


@functools.cache
def _parameters(rule: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(rule).parameters)
