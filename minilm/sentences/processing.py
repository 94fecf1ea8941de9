"""From checked texts and pairs to tokens, cut where the model says, or the ``processing_kwargs`` of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..packing import Tokens
from ..tokenizing.lengths import Lengths
from ..tokenizing.tokenizer import Tokenizer

_OF_TEXT = ("max_length", "truncation", "padding", "pad_to_multiple_of")
_OF_OTHERS = ("audio", "image", "video", "chat_template")


def text_settings(processing_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of the tokenizer's call: those under ``"text"``, and those under ``"common"``, which win.

    Raises
    ------
    TypeError
        If they are not dicts in a dict.
    ValueError
        For anything that is not about text: no model here reads anything else.
    """
    if processing_kwargs is None:
        return {}
    groups = {"processing_kwargs": processing_kwargs}
    if isinstance(processing_kwargs, Mapping):
        groups |= processing_kwargs
    for name, settings in groups.items():
        if not isinstance(settings, Mapping):
            raise TypeError(
                f"{name}: expected settings by name, as in processing_kwargs={{'text': {{'max_length': 64}}}}, got "
                f"{settings!r:.60}"
            )
    other = [name for name, settings in processing_kwargs.items() if name in _OF_OTHERS and settings]
    unknown = [name for name in processing_kwargs if name not in ("text", "common", *_OF_OTHERS)]
    if other or unknown:
        raise ValueError(
            f"processing_kwargs has {(other + unknown)[0]!r}, but a model reads text alone: what there can be is "
            "'text' and 'common'"
        )
    return {**processing_kwargs.get("text", {}), **processing_kwargs.get("common", {})}


def where_to_cut(
    processing_kwargs: Mapping[str, Any] | None, max_seq_length: int, positions: int
) -> tuple[int | None, str]:
    """Return how many tokens of an input are read in a call, and which text of a pair loses the others.

    Parameters
    ----------
    processing_kwargs
        ``max_length`` and ``truncation`` act as in the tokenizer's call. ``padding`` and ``pad_to_multiple_of`` are
        checked, and change no result.
    max_seq_length
        The model's own limit, where the call has no ``max_length``.
    positions
        How many tokens the model can read at most.

    Returns
    -------
    max_length : int or None
        None: nothing is cut, and what is longer than ``positions`` is an error later.
    strategy : str
        ``"longest_first"``, ``"only_first"`` or ``"only_second"``.

    Raises
    ------
    TypeError, ValueError
        For settings that there are not, or that do not fit.

    Examples
    --------
    >>> where_to_cut(None, 256, 512), where_to_cut({"text": {"max_length": 64}}, 256, 512)
    ((256, 'longest_first'), (64, 'longest_first'))
    """
    settings = text_settings(processing_kwargs)
    if not settings:
        return max_seq_length, "longest_first"
    if unknown := [name for name in settings if name not in _OF_TEXT]:
        raise ValueError(
            f"processing_kwargs: {unknown[0]!r} is not implemented; what can be set for a call is {', '.join(_OF_TEXT)}"
        )
    lengths = Lengths.settle(
        settings.get("padding", True),
        settings.get("truncation", True),
        settings.get("max_length"),
        max_seq_length,
        settings.get("pad_to_multiple_of"),
    )
    if lengths.truncation is None or lengths.max_length is None:
        return None, "longest_first"
    if lengths.max_length > positions:
        raise ValueError(
            f"processing_kwargs: max_length is {lengths.max_length}, but the model has {positions} positions"
        )
    return lengths.max_length, lengths.truncation


def tokenize(
    tokenizer: Tokenizer, inputs: Sequence[Any], max_length: int | None, strategy: str = "longest_first"
) -> tuple[list[Tokens], np.ndarray]:
    """Return what `minilm.tokenizing.tokenizer.Tokenizer.encode_packed` makes of texts and pairs in one list."""
    pairs = [i for i, one in enumerate(inputs) if not isinstance(one, str)]
    if not pairs:
        return tokenizer.encode_packed(inputs, max_length, strategy=strategy)
    firsts, seconds = zip(*(inputs[i] for i in pairs), strict=True)
    tokens, lost = tokenizer.encode_packed(firsts, max_length, text_pairs=seconds, strategy=strategy)
    if len(pairs) == len(inputs):
        return tokens, lost
    of_pairs, texts = set(pairs), [i for i in range(len(inputs)) if isinstance(inputs[i], str)]
    other_tokens, other_lost = tokenizer.encode_packed([inputs[i] for i in texts], max_length, strategy=strategy)
    in_turn = iter(tokens), iter(other_tokens)
    all_lost = np.zeros(len(inputs), np.int64)
    all_lost[pairs], all_lost[texts] = lost, other_lost
    return [next(in_turn[i not in of_pairs]) for i in range(len(inputs))], all_lost


def with_prompt(prompt: str, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return texts with a prompt before each, and pairs with it before their first texts."""
    if not prompt:
        return inputs
    return [prompt + one if isinstance(one, str) else (prompt + one[0], one[1]) for one in inputs]


def prompt_length(tokenizer: Tokenizer, prompt: str, max_length: int | None) -> int:
    """Return how many tokens a prompt has at the start of a text, with what the tokenizer puts before it ([CLS])."""
    (tokens,), _ = tokenizer.encode_packed([prompt], max_length)
    ids = tokens.input_ids.tolist()
    ends_special = bool(ids) and ids[-1] in tokenizer.all_special_ids  # [SEP], which comes after the text
    return len(ids) - ends_special
