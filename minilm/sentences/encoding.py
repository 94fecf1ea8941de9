"""The computation of one call of `SentenceTransformer.encode`: from texts to tokens, and from a pack to results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Array, array_namespace
from ..packing import Pack, Tokens
from ..vectors.quantization import quantize_embeddings
from .modules import Dense, Normalize, Pooling, Transformer
from .processing import prompt_length, tokenize, with_prompt

OUTPUT_VALUES = ("sentence_embedding", "token_embeddings", None)


@dataclass
class Encoding:
    """The model's modules, the settings of a call, and what they compute.

    Attributes
    ----------
    transformer, pooling, steps
        The modules of the model, in their order.
    max_seq_length
        Longer texts are cut to so many tokens. None: nothing is cut.
    prompt
        The text that goes before every input.
    output_value
        One of `OUTPUT_VALUES`.
    precision
        One of `minilm.vectors.quantization.PRECISIONS`. The results of a pack are quantized for ``"binary"`` and
        ``"ubinary"``. For ``"int8"`` and ``"uint8"`` they stay float32, since these need the ranges of all vectors.
    normalize_embeddings
        Whether the vectors are brought to length 1.
    dimension
        How many components are kept.
    strategy
        Which text of a pair is cut.
    on_lost
        Called with how many tokens each of the texts lost that were tokenized just now.
    """

    transformer: Transformer
    pooling: Pooling
    steps: tuple[Dense | Normalize, ...]
    max_seq_length: int | None
    prompt: str
    output_value: str | None
    precision: str
    normalize_embeddings: bool
    dimension: int
    strategy: str = "longest_first"
    on_lost: Callable[[np.ndarray], None] | None = None

    def __post_init__(self) -> None:
        if self.output_value not in OUTPUT_VALUES:
            known = ", ".join(map(repr, OUTPUT_VALUES))
            raise ValueError(f"output_value must be one of {known}, got {self.output_value!r}")
        if self.output_value != "sentence_embedding" and self.precision != "float32":
            raise ValueError("precision is for output_value='sentence_embedding'")

    def tokenize(self, texts: Sequence[Any]) -> tuple[list[Tokens], np.ndarray]:
        """Return the tokens of the texts and pairs, and how many each of them lost to truncation."""
        prompted = with_prompt(self.prompt, texts)
        tokens, lost = tokenize(self.transformer.tokenizer, prompted, self.max_seq_length, self.strategy)
        if self.on_lost is not None:
            self.on_lost(lost)
        return tokens, lost

    def compute(self, pack: Pack) -> Any:
        """Return a result for each text of the pack, on the host."""
        model = self.transformer.model
        hidden_states = model.forward_packed(pack)
        if self.output_value == "token_embeddings":
            return self._per_text(pack, hidden_states)
        vectors = self.vectors(pack, hidden_states)[:, : self.dimension]
        if self.output_value is None:
            return self._features(pack, hidden_states, vectors)
        if self.normalize_embeddings:
            vectors = model.backend.operations.normalize(vectors)
        rows: Any = model.backend.to_numpy(vectors)
        if self.precision.endswith("binary"):
            rows = quantize_embeddings(rows, self.precision)
        return rows

    def vectors(self, pack: Pack, hidden_states: Array) -> Array:
        """Token vectors [total_tokens, hidden] → text vectors [texts, components], on the backend."""
        backend = self.transformer.model.backend
        skip = self._prompt_tokens if self.prompt and not self.pooling.include_prompt else 0
        pooled = []
        for run in pack.runs:
            mask = np.ones((run.texts, run.tokens), np.int64)
            mask[:, :skip] = 0
            pooled.append(self.pooling(run.of(hidden_states), backend.from_numpy(mask), backend.operations))
        vectors = pooled[0] if len(pooled) == 1 else array_namespace(hidden_states).concat(pooled)
        for step in self.steps:
            vectors = step(vectors, backend.operations)
        return vectors

    @cached_property
    def _prompt_tokens(self) -> int:
        """How many tokens the prompt and [CLS] have at the start of each text."""
        return prompt_length(self.transformer.tokenizer, self.prompt, self.max_seq_length)

    def _per_text(self, pack: Pack, hidden_states: Array) -> list[np.ndarray]:
        """Token vectors [total_tokens, hidden] → one array [tokens, hidden] for each text."""
        host = self.transformer.model.backend.to_numpy(hidden_states)
        return [tokens for run in pack.runs for tokens in run.of(host)]

    def _features(self, pack: Pack, hidden_states: Array, vectors: Array) -> list[dict[str, Any]]:
        """Return a dict for each text: its ids, mask, token vectors and vector, under sentence-transformers' names."""
        host = self.transformer.model.backend.to_numpy(vectors)
        prompt: dict[str, Any] = {"prompt_length": self._prompt_tokens} if self.prompt else {}
        return [
            {
                "input_ids": text.input_ids,
                "token_type_ids": text.token_type_ids,
                "attention_mask": np.ones_like(text.input_ids),
                "modality": "text",
                **prompt,
                "token_embeddings": token_embeddings,
                "sentence_embedding": vector,
            }
            for text, token_embeddings, vector in zip(
                pack.texts(), self._per_text(pack, hidden_states), host, strict=True
            )
        ]
