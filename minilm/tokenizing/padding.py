"""Padding of what was tokenized before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .batch_encoding import BatchEncoding, as_array, check_tensor_type
from .lengths import Lengths

# What stands in padding, beside the id of the padding token.
_PADDING = {"attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}


def pad_inputs(
    encoded: Any, lengths: Lengths, side: str, pad_id: int | None, with_mask: bool, return_tensors: Any
) -> BatchEncoding:
    """Pad one input, a mapping of many, or a list of mappings; see `minilm.tokenizing.tokenizer.Tokenizer.pad`."""
    as_arrays = check_tensor_type(return_tensors, "return_tensors") is not None
    if not isinstance(encoded, Mapping):
        inputs = list(encoded)
        if not inputs or not all(isinstance(one, Mapping) for one in inputs):
            raise TypeError(f"expected what a tokenizer returns, or a list of such, got {type(encoded).__name__}")
        encoded = {name: [one[name] for one in inputs] for name in inputs[0]}
    if "input_ids" not in encoded:
        raise ValueError(f"there is no input_ids to pad, only {', '.join(map(repr, encoded))}")
    values = {name: value for name, value in encoded.items() if with_mask or name != "attention_mask"}
    ids = values["input_ids"]
    if len(ids) == 0:
        return BatchEncoding(values | ({"attention_mask": []} if with_mask else {}))
    as_arrays |= isinstance(ids, np.ndarray) or any(isinstance(row, np.ndarray) for row in ids)
    is_one = np.ndim(ids[0]) == 0
    values = {name: _as_lists(value) for name, value in values.items()}
    rows = [values["input_ids"]] if is_one else values["input_ids"]
    if with_mask and "attention_mask" not in values:
        mask = [[1] * len(row) for row in rows]
        values["attention_mask"] = mask[0] if is_one else mask
    for name, value in values.items():
        if not is_one and len(value) != len(rows):
            raise ValueError(f"{name} is of {len(value)} inputs, and input_ids of {len(rows)}")
    width = lengths.width([len(row) for row in rows])
    for name, fill in (_PADDING | {"input_ids": pad_id}).items():
        if name in values:
            padded = [_pad(row, width, fill, side) for row in ([values[name]] if is_one else values[name])]
            values[name] = padded[0] if is_one else padded
    if as_arrays:
        return BatchEncoding({name: as_array(value) for name, value in values.items()})
    return BatchEncoding(values)


def _pad(row: list[int], width: int, fill: int | None, side: str) -> list[int]:
    padding = [fill or 0] * (width - len(row))
    return padding + row if side == "left" else row + padding


def _as_lists(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_as_lists(one) for one in value] if isinstance(value, (list, tuple)) else value
