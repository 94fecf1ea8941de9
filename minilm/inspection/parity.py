"""Parity, sublayer by sublayer: this package, PyTorch and any port, against the same network in float64.

Two float32 implementations never agree to the last digit, and neither is exact. So both are compared with an arbiter:
the reference operations on float64 copies of the same parameters. This shows how large float32 rounding is in each
sublayer. A mistake is much larger, from the first sublayer on that it touches.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..sentences.sentence_transformer import SentenceTransformer
from .trace import watch

TEXTS = (  # of three lengths, so that two of them are padded
    "This is an example sentence",
    "Each sentence is converted to a vector of the same size, however long it is.",
    "Short.",
)
INPUTS = ("input_ids", "token_type_ids", "attention_mask")
OURS, TORCH, BETWEEN, FILE = "ours", "torch", "ours - torch", "file"

# A sublayer is called wrong if its relative difference exceeds WRONG times the one that float32 rounding makes there.
# Correct float32 implementations are within a factor of 2. The mildest of the usual mistakes, GELU by tanh, makes a
# factor of hundreds.
WRONG = 16.0
DOUBTFUL = 4.0  # times: more than rounding makes as a rule; the table says so, and a mistake may begin there
ROUNDING = (2.0**-24, 2.0**-19)  # bounds of what counts as rounding, as a relative difference

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """How far one column is from another in a sublayer, padding left out.

    Attributes
    ----------
    largest
        ``max |x - y|``.
    relative
        ``‖x - y‖₂ / ‖arbiter‖₂``. Infinite where a number is not finite.
    dtype
        The type of the column's numbers.
    """

    largest: float
    relative: float
    dtype: str = "float32"


@dataclass(frozen=True)
class Sublayer:
    """A row of the table.

    Attributes
    ----------
    name
        As the checkpoint calls it; ``"sentence_embedding"`` is the text's vector.
    scale
        ``max |arbiter|``.
    differences
        By column: ``"ours"``, ``"torch"`` and ``"file"`` against the arbiter, and ``"ours - torch"``. A sublayer that a
        file lacks has no difference in that column.
    """

    name: str
    scale: float
    differences: Mapping[str, Difference]

    @property
    def rounding(self) -> float:
        """The relative difference that float32 rounding makes here: the smallest of those measured."""
        least, most = ROUNDING
        measured = (self.differences[column].relative for column in (OURS, TORCH) if column in self.differences)
        return max(least, min(most, *measured))

    def times_rounding(self, column: str) -> float:
        """Return the relative difference as a multiple of the one that rounding makes; 0 if there is none."""
        difference = self.differences.get(column)
        return 0.0 if difference is None else difference.relative / self.rounding

    def is_wrong(self, column: str) -> bool:
        """Whether the column is further from the arbiter than rounding explains."""
        return not self.times_rounding(column) <= WRONG  # nor is what is no number


@dataclass(frozen=True)
class Parity:
    """The table, in the order of the network; as a string, with what follows from it."""

    sublayers: tuple[Sublayer, ...]
    what: str = "sublayer"  # what a row is

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that any sublayer has, in a fixed order."""
        found = {column for sublayer in self.sublayers for column in sublayer.differences}
        return tuple(column for column in (OURS, TORCH, BETWEEN, FILE) if column in found)

    def first_wrong(self, column: str) -> str | None:
        """The first sublayer where the column is further from the arbiter than rounding explains, or None."""
        return next((sublayer.name for sublayer in self.sublayers if sublayer.is_wrong(column)), None)

    @property
    def verdict(self) -> str:
        """What follows from the table, a paragraph for each column: what is wrong first, then the port, then we."""
        order = sorted(self.columns, key=lambda column: (self.first_wrong(column) is None, column != FILE))
        return "\n".join(self._verdict(column) for column in order)

    def __str__(self) -> str:
        width = max(len(sublayer.name) for sublayer in self.sublayers)
        lines = [
            f"{'':{width}}  {'largest':>9}  " + "  ".join(f"{column:^17}" for column in self.columns),
            f"{self.what:{width}}  {'|float64|':>9}" + f"  {'max abs':>8} {'relative':>8}" * len(self.columns),
        ]
        for sublayer in self.sublayers:
            cells = [_cell(sublayer.differences.get(column)) for column in self.columns]
            wrong = [column for column in self.columns if self.first_wrong(column) == sublayer.name]
            mark = f"  ← {', '.join(wrong)}: the first that rounding does not explain" if wrong else ""
            lines.append(f"{sublayer.name:{width}}  {sublayer.scale:9.3g}  {'  '.join(cells)}{mark}")
        return "\n".join([self.verdict, "", *lines])

    def _verdict(self, column: str) -> str:
        """Say of a column whether it is right, or from where on it is wrong; then how much of it was compared."""
        rows = [sublayer for sublayer in self.sublayers if column in sublayer.differences]
        largest = max(rows, key=lambda sublayer: sublayer.differences[column].largest)
        most = f"at most {largest.differences[column].largest:.1e} apart, in {largest.name}"
        if column == BETWEEN:
            return f"{column}: {most}"
        missing = [sublayer.name for sublayer in self.sublayers if column not in sublayer.differences]
        compared = f"{len(rows)} of {len(self.sublayers)} {self.what}s compared"
        first = next((sublayer for sublayer in rows if sublayer.is_wrong(column)), None)
        if first is None:
            told = f"{column}: right, rounding explains all differences{' that were compared' if missing else ''}"
            lines = [told, f"  {compared}; {most}"]
        else:
            relative = first.differences[column].relative
            by = f"by {relative:.1e} where rounding makes {first.rounding:.1e}"
            by = by if math.isfinite(relative) else "which holds NaN or infinity"
            lines = [f"{column}: wrong from {first.name} on, {by}", f"  {compared}; {self._before(first, column)}"]
        fine = rows if first is None else rows[: rows.index(first)]
        doubtful = max(fine, key=lambda sublayer: sublayer.times_rounding(column), default=None)
        if doubtful is not None and (times := doubtful.times_rounding(column)) > DOUBTFUL:
            lines.append(
                f"  look at {doubtful.name}: {times:.0f} times what rounding makes (wrong from {WRONG:.0f} on)"
            )
        if missing:
            lines.append(f"  missing: {len(missing)}, {_some(missing)}")
        other = Counter(sublayer.differences[column].dtype for sublayer in rows)
        del other["float32"]
        lines += [f"  in {dtype}, not float32: {count} of them" for dtype, count in sorted(other.items())]
        return "\n".join(lines)

    def _before(self, first: Sublayer, column: str) -> str:
        """Say what is known of what stands before a column's first wrong sublayer: it may be right, or missing."""
        before = self.sublayers[: self.sublayers.index(first)]
        right = [i for i, sublayer in enumerate(before) if column in sublayer.differences]
        missing = before[right[-1] + 1 if right else 0 :]
        suspects = [sublayer.name for sublayer in missing if sublayer.name != "pooler"]  # of which nothing is made
        if suspects:
            return f"the mistake may also be in what is missing just before it: {_some(suspects)}"
        return f"the {len(right)} before it are right" if len(right) > 1 else (
            "the one before it is right" if right else "it is the first of all"
        )  # fmt: skip


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])}, … {names[-1]}"


def _cell(difference: Difference | None) -> str:
    return f"{'–':>8} {'–':>8}" if difference is None else f"{difference.largest:8.1e} {difference.relative:8.1e}"


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(
    name_or_path: str | os.PathLike[str],
    texts: Sequence[str] = TEXTS,
    *,
    backend: str | None = None,
    device: str | None = None,
    against: str | os.PathLike[str] | None = None,
    **where: Any,
) -> Parity:
    """Run a model in float32 and in float64, in PyTorch where that is installed, and compare every sublayer.

    Parameters
    ----------
    name_or_path, where
        The model and how it is found, see `minilm.SentenceTransformer`.
    texts
        What to run it on, as one padded batch. Texts of different lengths show mistakes with padding.
    backend, device
        What computes the column ``ours``.
    against
        An ``.npz`` with the intermediate results of a port for the same texts: arrays under the names that the table
        has, of the shapes that `save_intermediates` writes, or with the kept tokens alone, [total_tokens, hidden]. Not
        all need be there.

    Raises
    ------
    ValueError
        If ``against`` holds unknown names, shapes that do not fit, or was made from other ids.
    """
    arbiter, encoded = _load(name_or_path, texts, dtype="float64", backend="numpy", **where)
    ours, _ = _load(name_or_path, texts, backend=backend, device=device, **where)
    expected = intermediates(arbiter, encoded)
    columns: dict[str, Values] = {OURS: intermediates(ours, encoded)}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        columns[TORCH] = torch_intermediates(arbiter, encoded, expected, model_folder(name_or_path, **where))
    if against is not None:
        columns[FILE] = read_intermediates(against, expected, encoded)
    return compare(expected, columns, encoded["attention_mask"])


def compare(
    arbiter: Values, columns: Mapping[str, Values], attention_mask: np.ndarray, what: str = "sublayer"
) -> Parity:
    """Compare every column with the arbiter, sublayer by sublayer, at the tokens that the mask keeps."""
    kept = np.asarray(attention_mask) != 0

    def rows() -> Iterator[Sublayer]:
        for name, array in arbiter.items():
            exact = _kept(array, kept)
            found = {column: _kept(values[name], kept) for column, values in columns.items() if name in values}
            differences = {
                column: dataclasses.replace(_difference(x, exact, exact), dtype=str(columns[column][name].dtype))
                for column, x in found.items()
            }
            if OURS in found and TORCH in found:
                differences[BETWEEN] = _difference(found[OURS], found[TORCH], exact)
            yield Sublayer(name, float(np.abs(exact).max()), differences)

    return Parity(tuple(rows()), what)


def _kept(x: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The rows of tokens that count, [batch, tokens, …] → [total_tokens, …]; what has no tokens stays whole."""
    x = np.asarray(x, np.float64)
    return x[kept] if x.shape[:2] == kept.shape else x


def _difference(x: np.ndarray, y: np.ndarray, exact: np.ndarray) -> Difference:
    error = x - y
    if not np.isfinite(error).all():
        return Difference(math.inf, math.inf)
    return Difference(float(np.abs(error).max()), float(np.linalg.norm(error) / np.linalg.norm(exact)))


def _load(
    name_or_path: Any, texts: Sequence[str], **settings: Any
) -> tuple[SentenceTransformer, dict[str, np.ndarray]]:
    model = SentenceTransformer(name_or_path, **settings)
    encoded = model.tokenize(list(texts))
    return model, {name: np.asarray(encoded[name]) for name in INPUTS}


# ---- intermediate results --------------------------------------------------------------------------------------------


def intermediates(model: SentenceTransformer, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the model on a padded batch and return the result of every sublayer, in the order of the network.

    Parameters
    ----------
    model
        The model.
    encoded
        What its ``tokenize`` returns: ``input_ids`` and so on, [batch, tokens].
    """
    network = model.transformer.model
    watched, record = watch(network, arrays=True)
    output = watched(**encoded)
    values = {step.name: network.backend.to_numpy(step.arrays["output"]) for step in record}
    values["sentence_embedding"] = _sentence_embedding(model, output.last_hidden_state, encoded)
    return values


def _sentence_embedding(
    model: SentenceTransformer, hidden_states: np.ndarray, encoded: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Do what stands on the network: pooling and the steps after it, [batch, tokens, hidden] → [batch, components]."""
    backend, ops = model.backend, model.backend.operations
    vectors = model.pooling(backend.from_numpy(hidden_states), backend.from_numpy(encoded["attention_mask"]), ops)
    for step in model.steps:
        vectors = step(vectors, ops)
    return backend.to_numpy(vectors)


def torch_intermediates(
    model: SentenceTransformer, encoded: Mapping[str, np.ndarray], names: Iterable[str], folder: Path
) -> dict[str, np.ndarray]:
    """Run transformers' BertModel in float32 and return the outputs of its modules of these names.

    The sentence embedding is pooled by ``model`` from PyTorch's hidden states.
    """
    import torch
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = BertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    values: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            values[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        return hook

    modules = dict(network.named_modules())
    for name in names:
        if name in modules:
            modules[name].register_forward_hook(keep(name))
    with torch.no_grad():
        output = network(**{name: torch.from_numpy(x) for name, x in encoded.items()})
    values["sentence_embedding"] = _sentence_embedding(model, output.last_hidden_state.numpy(), encoded)
    return values


def model_folder(name_or_path: Any, cache_folder: Any = None, **where: Any) -> Path:
    """The folder of the transformer's own files, which transformers reads by itself."""
    from ..loading.hub import find_files

    files = find_files(name_or_path, cache_dir=cache_folder, **where)
    files.get("model.safetensors") or files["pytorch_model.bin"]  # so that it is there
    return files["config.json"].parent


def save_intermediates(
    file: str | os.PathLike[str],
    name_or_path: str | os.PathLike[str],
    texts: Sequence[str] = TEXTS,
    *,
    dtype: str = "float64",
    **settings: Any,
) -> dict[str, np.ndarray]:
    """Write the ids and the result of every sublayer to an ``.npz``, for a port to be compared with elsewhere.

    Parameters
    ----------
    file
        Where to write.
    name_or_path, settings
        The model, see `minilm.SentenceTransformer`.
    texts
        What to run it on.
    dtype
        ``"float64"``, the arbiter, or ``"float32"``.

    Returns
    -------
    dict of str to array
        What was written: the ids under the names `INPUTS`, then the results in the order of the network.
    """
    model, encoded = _load(name_or_path, texts, dtype=dtype, **settings)
    values: dict[str, Any] = {**encoded, **intermediates(model, encoded)}
    with open(file, "wb") as stream:
        np.savez(stream, **values)
    return values


def read_intermediates(
    file: str | os.PathLike[str], expected: Values, encoded: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Read the intermediate results of a port; raise a `ValueError` that says what does not fit."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            values = dict(archive.items())
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{file} is not an .npz of arrays: write it with numpy.savez(file, **arrays)") from error
    for name in [name for name in INPUTS if name in values]:
        if not np.array_equal(values.pop(name), encoded[name]):
            raise ValueError(f"{file}: {name} differs from what the texts give: it was made from other texts")
    unknown = [name for name in values if name not in expected]
    if unknown or not values:
        known = ", ".join(list(expected)[:9])
        raise ValueError(f"{file}: unknown names {_some(unknown) or '(the file is empty)'}; known: {known}, …")
    total = int(np.count_nonzero(encoded["attention_mask"]))
    for name, x in values.items():
        shape = expected[name].shape
        shapes = [shape, (total, *shape[2:])] if len(shape) == 3 else [shape]
        if x.shape not in shapes:
            raise ValueError(f"{file}: {name} has the shape {x.shape}, expected {' or '.join(map(str, shapes))}")
        if x.dtype.kind != "f":
            raise ValueError(f"{file}: {name} has the dtype {x.dtype}, expected floating-point numbers")
    return values
