"""A table that wraps another one and records every operation: its name in the network, shapes, time and arrays.

The network does not know that it is watched. An operation's name comes from the weights that it was given: they are the
model's own arrays, whose names in the checkpoint are known.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..models import PreTrainedModel
from ..operations import OPERATIONS, REFERENCE, Operations
from ..parameters import Params, flatten
from ..sentences.text_model import TextModel

Shape = tuple[int, ...]
Model = TextModel | PreTrainedModel


@dataclass(frozen=True, repr=False)
class TracedOperation:
    """One call of an operation.

    Attributes
    ----------
    name
        Where in the network, as the checkpoint calls it: ``"encoder.layer.3.attention.self.query"``. What fuses a
        product with what follows bears the name of the module around both: ``"encoder.layer.3.intermediate"``.
    operation
        Which one: ``"linear"``, ``"attention"``, …
    inputs
        Shapes of the arrays that it took, by parameter.
    output
        Shape of what it returned; of an attention, of the context.
    dtype
        Of what it returned.
    seconds
        How long it took.
    flops
        Multiplications and additions in its matrix products; the elementwise work is left out.
    arrays
        If asked for, the arrays themselves: what it took, by parameter, and what it returned as ``"output"``, with an
        attention's ``"probabilities"``. Otherwise empty.
    """

    name: str
    operation: str
    inputs: Mapping[str, Shape]
    output: Shape
    dtype: str
    seconds: float
    flops: int
    arrays: Mapping[str, Array] = dataclasses.field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        inputs = ", ".join(f"{name} {list(shape)}" for name, shape in self.inputs.items())
        took = f"{1e6 * self.seconds:,.0f} µs"
        return f"{self.name}: {self.operation}({inputs}) → {list(self.output)} {self.dtype}, {took}"


class TracingOperations(Operations):
    """A table that passes every call on to another one, and records it.

    Parameters
    ----------
    backend
        The backend whose operations do the work.
    params
        The model's parameters as the backend has placed them: operations are named by them.
    arrays
        Whether to keep every operation's arrays, too. That is all intermediate results of every forward pass.

    Attributes
    ----------
    record
        The calls so far, in order.
    """

    def __init__(self, backend: Backend, params: Params, *, arrays: bool = False) -> None:
        self.record: list[TracedOperation] = []
        self._backend, self._keep_arrays = backend, arrays
        self._names: dict[int, deque[str]] = {}  # several for an array that layers share: they take turns
        for name, array in flatten(params):
            self._names.setdefault(id(array), deque()).append(name)
        for operation in OPERATIONS:
            if operation != "linears":  # recorded as the products that it is made of
                setattr(self, operation, functools.partial(self._call, operation))

    def _call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self._backend.operations, operation)
        self._backend.synchronize()
        start = time.perf_counter()
        result = function(*args, **kwargs)
        self._backend.synchronize()
        seconds = time.perf_counter() - start

        arguments = inspect.signature(getattr(REFERENCE, operation)).bind(*args, **kwargs).arguments
        taken = {name: value for name, value in arguments.items() if hasattr(value, "shape")}
        weights = [self._next_name(array) for array in taken.values() if id(array) in self._names]
        output, probabilities = result if isinstance(result, tuple) else (result, None)
        returned = {"output": output} if probabilities is None else {"output": output, "probabilities": probabilities}
        self.record.append(
            TracedOperation(
                name=_name(operation, weights, self.record),
                operation=operation,
                inputs={name: tuple(array.shape) for name, array in taken.items()},
                output=tuple(output.shape),
                dtype=str(output.dtype),
                seconds=seconds,
                flops=_flops(operation, taken),
                arrays={**taken, **returned} if self._keep_arrays else {},
            )
        )
        return result

    def _next_name(self, array: Array) -> str:
        names = self._names[id(array)]
        names.rotate(-1)
        return names[-1]


def _name(operation: str, weights: list[str], record: list[TracedOperation]) -> str:
    """The module that holds all of the operation's weights, or of an attention, the one around the operation before."""
    if not weights and operation != "attention":
        return operation  # of what stands on the network
    if not weights:
        before = record[-1]
        return before.name if before.operation == operation else before.name.rpartition(".")[0]
    modules = [name.split(".")[:-1] for name in weights]
    path = [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*modules, strict=False))]
    path = path or modules[-1]  # a weight tied to another module's, as a masked-LM decoder's: the bias is its own
    return ".".join(path[:-1] if operation == "linear_activation" else path)


def _flops(operation: str, taken: Mapping[str, Array]) -> int:
    """Two for each weight that each row meets; in attention two products of [tokens, tokens] and [tokens, hidden]."""
    if operation == "attention":
        numbers: int = math.prod(taken["query"].shape)
        return 4 * numbers * int(taken["key"].shape[1])
    if operation.startswith("linear"):
        numbers = math.prod(taken["x"].shape)
        return 2 * numbers * int(taken["weight"].shape[0])
    return 0


def trace(model: Model, inputs: Any, *, arrays: bool = False) -> list[TracedOperation]:
    """Run a model and return every operation of the network, in order.

    Parameters
    ----------
    model
        A `SentenceTransformer`, a `CrossEncoder` or a `TextClassifier`; or a `BertModel` or another model of
        `minilm.models`.
    inputs
        For the first three what ``encode`` or ``predict`` takes: a text or a pair, or many, which run packed, without
        padding. For the others what a tokenizer returns: a mapping with ``input_ids`` [batch, tokens] and so on, which
        runs padded.
    arrays
        Whether every operation keeps the arrays that it took and returned.

    Examples
    --------
    >>> import minilm
    >>> model = minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> operations = minilm.trace(model, "This is an example sentence")
    >>> [operation.name for operation in operations[:4]]
    ['embeddings', 'encoder.layer.0.attention.self.query', 'encoder.layer.0.attention.self.key', \
'encoder.layer.0.attention.self.value']
    >>> operations[1].inputs["x"], operations[1].output, operations[1].dtype
    ((7, 384), (7, 384), 'float32')
    """
    watched, record = watch(model, arrays)
    _run(watched, inputs)
    return record


def _run(model: Any, inputs: Any) -> None:
    if isinstance(model, TextModel):
        model.run(inputs)
    elif isinstance(inputs, Mapping):
        model(**inputs)
    else:
        expected = f"a {type(model).__name__} takes a mapping with input_ids and so on, as a tokenizer returns it"
        raise TypeError(f"{expected}; got {type(inputs).__name__}")


def network_of(model: Model) -> PreTrainedModel:
    """Return the network of a model that takes texts; a network itself as it is."""
    return model.transformer.model if isinstance(model, TextModel) else model


def watch(model: Model, arrays: bool = False) -> tuple[Any, list[TracedOperation]]:
    """Return the model with a table that records, and the record, which is filled while the model runs."""
    network = network_of(model)
    operations = TracingOperations(network.backend, network.params, arrays=arrays)
    watched = model.with_operations(operations)
    if isinstance(watched, TextModel):
        watched.threads = 1  # operations in order
    return watched, operations.record


# ---- where the time goes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """All calls of one operation, summed over the layers: a row of `profile`.

    Attributes
    ----------
    name
        Its name with the layer left open: ``"encoder.layer.N.attention.self"``.
    calls, seconds, flops
        How often, how long, how many multiplications and additions in matrix products.
    share
        Of the whole time, 0 to 1.
    """

    name: str
    calls: int
    seconds: float
    flops: int
    share: float


def profile(model: Model, inputs: Any, *, repeat: int = 5) -> list[Share]:
    """Return where the time of a forward pass goes, on one thread: the operations, then whatever is around them.

    The inputs run once to warm up, then ``repeat`` times; the numbers are those of one run on average. The last row,
    ``"(around the network)"``, is all the rest: the tokenizer and packing.
    """
    watched, record = watch(model)
    _run(watched, inputs)
    record.clear()
    start = time.perf_counter()
    for _ in range(repeat):
        _run(watched, inputs)
    total = (time.perf_counter() - start) / repeat

    sums: dict[str, list[TracedOperation]] = {}
    for operation in record:
        name = ".".join("N" if part.isdigit() else part for part in operation.name.split("."))
        sums.setdefault(name, []).append(operation)

    def rows() -> Iterator[Share]:
        for name, calls in sums.items():
            seconds = sum(call.seconds for call in calls) / repeat
            flops = sum(call.flops for call in calls) // repeat
            yield Share(name, len(calls) // repeat, seconds, flops, seconds / total)

    shares = list(rows())
    rest = total - sum(share.seconds for share in shares)
    return [*shares, Share("(around the network)", 1, rest, 0, rest / total)]


def format_profile(shares: list[Share]) -> str:
    """Return the table of a `profile` as text, with a line for the sum."""
    width = max(len(share.name) for share in shares)
    lines = [f"{'operation':<{width}}  {'calls':>5}  {'ms':>9}  {'share':>6}  {'GFLOP/s':>7}"]
    seconds, flops = (sum(getattr(share, name) for share in shares) for name in ("seconds", "flops"))
    for share in [*shares, Share("total", sum(s.calls for s in shares), seconds, flops, 1.0)]:
        rate = f"{share.flops / share.seconds / 1e9:7.1f}" if share.flops else ""
        milliseconds = f"{1e3 * share.seconds:9.3f}"
        lines.append(f"{share.name:<{width}}  {share.calls:>5}  {milliseconds}  {share.share:>6.1%}  {rate}".rstrip())
    return "\n".join(lines)
