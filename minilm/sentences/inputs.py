"""Inputs and outputs of the classes that take texts: checks, prompts, truncation, progress, results in order."""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import numpy as np

from ..arrays import as_tensor
from ..config import check_count
from ..tokenizing.lengths import MOST_LOST
from ..tokenizing.texts import check_batch, check_text, shorten

logger: logging.Logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])
Packs = Iterable[tuple[np.ndarray, Sequence[Any]]]  # what `running.in_packs` yields: rows and their results


def as_texts(inputs: Any) -> tuple[Iterator[Any], int | None]:
    """Return an iterator over the texts, and their number, None if it is not known before the end.

    Inputs with a length are checked at once, before any work is done; those of an iterator when they are read.

    Parameters
    ----------
    inputs
        A sequence, a NumPy array [texts] or [pairs, 2], a pandas Series or an iterable, of strings, of pairs of them
        (lists or tuples), which become tuples, and of ``{"text": string}``.

    Raises
    ------
    TypeError, ValueError
        As `check_text`, naming the index.
    """
    check_batch(inputs, "a string or an iterable of strings")
    if getattr(inputs, "ndim", 1) != 1 and not (isinstance(inputs, np.ndarray) and inputs.shape[1:] == (2,)):
        raise TypeError(
            f"expected one dimension of strings, or pairs [pairs, 2], got {type(inputs).__name__} of shape "
            f"{inputs.shape}"
        )
    checked = (_check_text_or_pair(one, i) for i, one in enumerate(_items(inputs)))
    if not hasattr(inputs, "__len__"):
        return checked, None
    texts = list(checked)
    return iter(texts), len(texts)


def as_pairs(inputs: Any) -> tuple[Iterator[tuple[str, str]], int | None]:
    """Return an iterator over the pairs of texts, and their number, None if it is not known before the end.

    Parameters
    ----------
    inputs
        A sequence or an iterable of pairs (lists, tuples, rows of an array) of strings.

    Raises
    ------
    TypeError, ValueError
        As `check_text`, naming the index of the pair and the place in it.
    """
    check_batch(inputs, "a pair of strings or an iterable of pairs")
    checked = (_check_pair(pair, i) for i, pair in enumerate(_items(inputs)))
    if not hasattr(inputs, "__len__"):
        return checked, None
    pairs = list(checked)
    return iter(pairs), len(pairs)


def is_single(inputs: Any) -> bool:
    """Whether this is one text, or one pair of texts as a tuple, and not many."""
    return isinstance(inputs, str) or (
        isinstance(inputs, tuple) and len(inputs) == 2 and all(isinstance(text, str) for text in inputs)
    )


def _check_text_or_pair(one: Any, i: int) -> Any:
    if isinstance(one, str):
        return check_text(one, f"input {i}")
    if isinstance(one, Mapping) and set(one) == {"text"}:  # sentence-transformers' way to name a modality
        return _check_text_or_pair(one["text"], i)
    if isinstance(one, (list, tuple)):
        return _check_pair(one, i)
    return check_text(one, f"input {i}")


def _check_pair(pair: Any, i: int) -> tuple[str, str]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise TypeError(f"input {i}: expected a pair of strings, got {type(pair).__name__} {shorten(pair)}")
    return check_text(pair[0], f"input {i}[0]"), check_text(pair[1], f"input {i}[1]")


def _items(inputs: Any) -> Iterable[Any]:
    items: Iterable[Any] = inputs.tolist() if hasattr(inputs, "tolist") else inputs  # arrays and Series: Python strings
    return items


def choose_prompt(
    prompts: Mapping[str, str | None], default_prompt_name: str | None, prompt_name: str | None, prompt: str | None
) -> str:
    """Return the text to put before every input: ``prompt`` itself, else the one named, else the default, else none."""
    if prompt is not None:
        if prompt_name is not None:
            logger.warning("prompt and prompt_name are both given: prompt_name %r is ignored", prompt_name)
        return check_text(prompt, "prompt")
    name = prompt_name if prompt_name is not None else default_prompt_name
    if name is None:
        return ""
    if name not in prompts:
        raise ValueError(f"prompt name {name!r} is unknown; known: {', '.join(map(repr, prompts)) or 'none'}")
    text = prompts[name]
    return "" if text is None else check_text(text, f"prompt {name!r}")


def check_call(batch_size: int, convert_to_tensor: bool) -> None:
    """Check before the work that the packs have a size, and that there are tensors if they are asked for."""
    check_count("batch_size", batch_size)
    if convert_to_tensor:
        as_tensor(0)  # raises if PyTorch is not installed


def as_asked(results: Any, single: bool, convert_to_numpy: bool, convert_to_tensor: bool) -> Any:
    """Return results, or the only one of a ``single`` input, in the form that a call asks for.

    Parameters
    ----------
    results
        An array with a row for each input, or a list of arrays, or of dicts of them.
    single
        Whether there is one input, not a list with one.
    convert_to_numpy
        Whether arrays are wanted. If neither they are nor tensors: a list of tensors, one for each input, as
        sentence-transformers has it; where PyTorch is not installed, a list of arrays.
    convert_to_tensor
        Whether tensors of PyTorch are wanted, on the CPU; this wins.

    Raises
    ------
    ImportError
        If tensors are asked for, and PyTorch is not installed.
    """
    wanted = results[0] if single else results
    if convert_to_tensor:
        return _as_tensors(wanted)
    if convert_to_numpy:
        return wanted
    with suppress(ImportError):
        return _as_tensors(wanted) if single else [_as_tensors(one) for one in results]
    return wanted if single else list(results)


def _as_tensors(result: Any) -> Any:
    if isinstance(result, list):
        return [_as_tensors(one) for one in result]
    if isinstance(result, dict):
        return {name: as_tensor(x) if isinstance(x, np.ndarray) else x for name, x in result.items()}
    return as_tensor(result)


def also_named(**old_names: str) -> Callable[[Function], Function]:
    """Decorate a function: its arguments may also be given by the names of earlier sentence-transformers versions."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old, new in old_names.items():
                if old in kwargs and new not in kwargs:
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast(Function, call)

    return decorate


def taken_without_effect(**reasons: str) -> Callable[[Function], Function]:
    """Decorate a function: it takes arguments of earlier sentence-transformers versions that have no effect any more.

    The log says so, at level warning.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in reasons.keys() & kwargs.keys():
                del kwargs[name]
                logger.warning("%s of %s has no effect: %s", name, function.__qualname__, reasons[name])
            return function(*args, **kwargs)

        return cast(Function, call)

    return decorate


class Truncation:
    """Counts what truncation cuts, and reports it once for all texts of a call.

    Parameters
    ----------
    mode
        One of ``"silent"``, ``"warn"``, ``"error"``.
    max_length
        How many tokens a text may have.
    """

    MODES = ("silent", "warn", "error")

    def __init__(self, mode: str, max_length: int) -> None:
        self.mode: str = self.check_mode(mode)
        self.max_length: int = max_length
        self.seen: int = 0
        self.texts: int = 0
        self.tokens: int = 0
        self._or_more: str = ""  # a text can have lost more tokens than were counted

    @classmethod
    def check_mode(cls, mode: str) -> str:
        """Return ``mode``; raise a `ValueError` if it is none of `MODES`."""
        if mode not in cls.MODES:
            raise ValueError(f"truncation must be one of {', '.join(map(repr, cls.MODES))}, got {mode!r}")
        return mode

    def add(self, lost: np.ndarray) -> None:
        """Count the tokens that each of the next texts lost; in mode ``"error"`` raise a `ValueError` if any did.

        Of each text at most `minilm.tokenizing.lengths.MOST_LOST` are counted.
        """
        start = self.seen
        self.seen += len(lost)
        if not lost.any():
            return
        if self.mode == "error":
            i = int(np.flatnonzero(lost)[0])
            more = " or more" if lost[i] >= MOST_LOST else ""
            raise ValueError(
                f"input {start + i} has {self.max_length + int(lost[i])} tokens{more}, but {self.max_length} fit; "
                "shorten it, raise max_seq_length, or pass truncation='warn' or 'silent'"
            )
        self.texts += int(np.count_nonzero(lost))
        self.tokens += int(lost.sum())
        if lost.max() >= MOST_LOST:
            self._or_more = " or more"

    def merge(self, other: Truncation) -> None:
        """Add what was cut elsewhere of texts of the same call."""
        self.seen = max(self.seen, other.seen)
        self.texts += other.texts
        self.tokens += other.tokens

    def report(self) -> None:
        """Warn, in the mode ``"warn"``, if anything was lost; the warning points at the first caller outside minilm."""
        if self.mode != "warn" or not self.texts:
            return
        stacklevel, frame = 1, sys._getframe(1)
        package = __name__.partition(".")[0]
        while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            stacklevel, frame = stacklevel + 1, frame.f_back
        warnings.warn(
            f"{self.texts} of {self.seen} inputs have more than {self.max_length} tokens and lost {self.tokens} "
            f"tokens{self._or_more} (truncation='silent' does not warn, truncation='error' refuses such inputs)",
            stacklevel=stacklevel + 1,
        )


def with_progress(packs: Packs, total: int | None, show: bool | None) -> Iterator[tuple[np.ndarray, Sequence[Any]]]:
    """Pass the packs on, with a progress bar on stderr if ``show``.

    None shows the bar if the logger is at level INFO or DEBUG. Without a stderr, as under ``pythonw``, there is no bar.
    """
    if show is None:
        show = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
    if not show or sys.stderr is None:
        yield from packs
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="text", desc="Batches") as bar:
        for rows, results in packs:
            yield rows, results
            bar.update(len(rows))


def in_order(packs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the results of all packs as one array, in the order of the inputs; ``packs`` is not empty."""
    first = packs[0][1]
    results = np.empty((sum(len(rows) for rows, _ in packs), *first.shape[1:]), first.dtype)
    for rows, values in packs:
        results[rows] = values
    return results


def gather_list(packs: Packs) -> list[Any]:
    """Return the results in the order of the inputs."""
    results: dict[int, Any] = {}
    for rows, values in packs:
        results.update(zip(rows.tolist(), values, strict=True))
    return [results[row] for row in range(len(results))]


def gather_array(packs: Packs, count: int | None, width: int, dtype: Any, out: np.ndarray | None = None) -> np.ndarray:
    """Return the results as the rows of one array [texts, width], in the order of the inputs.

    Parameters
    ----------
    packs
        Rows and their vectors, in any order.
    count
        The number of rows, None if it is not known before the end.
    width, dtype
        Of every vector.
    out
        An array or memmap to write into, of exactly ``count`` rows if that is known, else of as many or more; the rows
        that were filled are returned.
    """
    if out is not None:
        _check_out(out, count, width, dtype)
    array = np.empty((4096 if count is None else count, width), dtype) if out is None else out
    filled = 0
    for rows, vectors in packs:
        needed = int(rows.max()) + 1
        if needed > len(array):
            if out is not None:
                raise ValueError(f"out has {len(out)} rows, but there are more inputs than that")
            array.resize((max(needed, 2 * len(array)), width), refcheck=False)  # grows in place if possible
        array[rows] = vectors
        filled += len(rows)
    if out is None:
        array.resize((filled, width), refcheck=False)
    return array if filled == len(array) else array[:filled]


def _check_out(out: np.ndarray, count: int | None, width: int, dtype: Any) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array or memmap, got {type(out).__name__}")
    if out.dtype != dtype:
        raise ValueError(f"out has dtype {out.dtype}, but the results have {np.dtype(dtype)}")
    if out.ndim != 2 or out.shape[1] != width or (count is not None and out.shape[0] != count):
        rows = "rows" if count is None else count
        raise ValueError(f"out has shape {out.shape}, but the results have ({rows}, {width})")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
