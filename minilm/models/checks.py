"""Checks of what a model is called with, and what stands in for what is left out: ids, masks, types, positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import BertConfig


def check_padded(
    config: BertConfig,
    input_ids: Any,
    attention_mask: np.ndarray | None = None,
    token_type_ids: np.ndarray | None = None,
    position_ids: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Check a padded batch and fill in what is None; return ids, mask, types and positions, each [batch, tokens].

    Raises
    ------
    ValueError
        For an id without a row in its table, shapes that differ, or more tokens than positions; with both numbers.
    TypeError
        For ids that are not integers.
    """
    if np.ndim(input_ids) != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"input_ids must be [batch, tokens], tokens at least 1, got the shape {np.shape(input_ids)}")
    shape, limit = input_ids.shape, config.max_tokens
    if shape[1] > limit and position_ids is None:
        raise ValueError(
            f"input_ids has {shape[1]} tokens, but the model has {limit} positions: "
            f"tokenize with truncation=True, max_length={limit}"
        )
    mask = np.ones(shape, dtype=np.int64) if attention_mask is None else attention_mask
    types = np.zeros(shape, dtype=np.int64) if token_type_ids is None else token_type_ids
    if position_ids is None:
        places = np.broadcast_to(np.arange(shape[1]), shape)
        positions = text_positions(input_ids.reshape(-1), places.reshape(-1), config).reshape(shape)
    else:
        positions = position_ids
    if mask.shape != shape:
        raise ValueError(f"attention_mask has the shape {mask.shape}, but input_ids has {shape}")
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"attention_mask must be numbers, 1 where a token counts, got {mask.dtype}")
    if not np.all((mask == 0) | (mask == 1)):
        wrong = mask[(mask != 0) & (mask != 1)][0]
        raise ValueError(f"attention_mask must be 1 where a token counts and 0 where not, but it has {wrong}")
    if positions.shape == (1, shape[1]):  # one row of positions for all texts, as transformers takes it
        positions = np.broadcast_to(positions, shape)
    input_ids, types, positions = check_ids(input_ids, types, positions, config)
    return input_ids, np.require(mask, mask.dtype.newbyteorder("="), ["C", "A"]), types, positions


def check_ids(
    input_ids: np.ndarray, token_type_ids: np.ndarray, position_ids: np.ndarray, config: BertConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check that every id has a row in its table, and return the ids as int64: compiled kernels check neither."""
    if config.type_vocab_size == 0:
        token_type_ids = np.zeros(input_ids.shape, np.int64)
    checked = []
    for name, ids, limit in (
        ("input_ids", input_ids, config.vocab_size),
        ("token_type_ids", token_type_ids, max(config.type_vocab_size, 1)),
        ("position_ids", position_ids, config.max_position_embeddings),
    ):
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers, got {ids.dtype}")
        if ids.shape != input_ids.shape:
            raise ValueError(f"{name} has the shape {ids.shape}, but input_ids has {input_ids.shape}")
        native = np.asarray(ids, np.int64)
        if native.size and native.view(np.uint64).max() >= limit:  # a negative id is a large unsigned number
            wrong = ids[(ids < 0) | (ids >= limit)].flat[0]
            raise ValueError(f"{name} has {wrong}, but its table has the rows 0 to {limit - 1}")
        checked.append(native)
    return checked[0], checked[1], checked[2]


def text_positions(input_ids: np.ndarray, places: np.ndarray, config: BertConfig) -> np.ndarray:
    """Return the position of each token, from its place in its text: 0, 1, 2, …; all int arrays [tokens].

    Texts may lie end to end. `minilm.config.BertConfig` says what ``first_position`` means for padding.
    """
    first = config.first_position
    if first == 0:
        return places
    counts = input_ids != first - 1
    if counts.all():
        return places + first
    before = np.cumsum(counts) - counts  # how many tokens count from the first text's start to here
    start = np.arange(len(places)) - places
    return np.where(counts, before - before[start] + first, first - 1)
