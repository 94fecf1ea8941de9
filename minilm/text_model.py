"""What `SentenceTransformer` and `CrossEncoder` share: a transformer, its limits, prompts, and the run over packs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .backends import Backend
from .batching import PACK_TOKENS, Pack, Tokens, in_packs
from .inputs import Truncation, choose_prompt, with_progress
from .modules import Transformer
from .threads import available_cores


class TextModel:
    """A transformer and how it is used.

    Parameters
    ----------
    transformer
        The model and its tokenizer.
    prompts, default_prompt_name
        Texts to put before the inputs, by name, and the one for calls that name none.
    threads
        How many packs are computed side by side; None: one for each core, but on a GPU one in all.
    truncation
        ``"silent"``, ``"warn"`` or ``"error"``.
    """

    def __init__(
        self,
        transformer: Transformer,
        prompts: Mapping[str, str],
        default_prompt_name: str | None,
        threads: int | None,
        truncation: str,
    ) -> None:
        self.transformer = transformer
        self.max_seq_length = transformer.max_seq_length or transformer.model.config.max_position_embeddings
        self.prompts = dict(prompts)
        self.default_prompt_name = default_prompt_name
        self._choose_prompt(None, None)  # raises for a default that is not there
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ValueError(f"threads must be a positive integer or None, got {threads!r}")
        on_gpu = self.backend.pack_tokens is not None
        self.threads = threads or (1 if on_gpu else available_cores())
        self.truncation = Truncation.check_mode(truncation)
        params = transformer.model.params
        norm = params.get("bert", params)["embeddings"]["LayerNorm"]["weight"]
        self._dtype = self.backend.to_numpy(norm).dtype  # of the results, as of the parameters

    @property
    def tokenizer(self) -> Any:
        """The `minilm.loading.tokenizer.Tokenizer`."""
        return self.transformer.tokenizer

    @property
    def backend(self) -> Backend:
        """The engine."""
        return self.transformer.model.backend

    @property
    def max_seq_length(self) -> int:
        """How many tokens are read, special ones included; at most as many as the model has positions."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        positions = self.transformer.model.config.max_position_embeddings
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 2 <= value <= positions:
            raise ValueError(f"max_seq_length must be from 2 to the model's {positions} positions, got {value!r}")
        self._max_seq_length = int(value)

    def _choose_prompt(self, prompt_name: str | None, prompt: str | None) -> str:
        return choose_prompt(self.prompts, self.default_prompt_name, prompt_name, prompt)

    def _in_packs(
        self,
        inputs: Iterable[Any],
        count: int | None,
        tokenize: Callable[[list[Any]], tuple[list[Tokens], np.ndarray]],
        compute: Callable[[Pack], Sequence[Any]],
        batch_size: int,
        show_progress_bar: bool | None,
    ) -> tuple[Iterator[tuple[np.ndarray, Sequence[Any]]], Truncation]:
        """Set up the run: an iterator over ``(rows, results)``, and the count of what is cut, complete at its end."""
        truncation = Truncation(self.truncation, self.max_seq_length)

        def tokenize_and_count(batch: list[Any]) -> list[Tokens]:
            tokens, lost = tokenize(batch)
            truncation.add(lost)
            return tokens

        def compute_on_device(pack: Pack) -> Sequence[Any]:
            with self.backend.on_device():
                return compute(pack)

        pack_tokens = self.backend.pack_tokens
        packs = in_packs(
            inputs,
            tokenize_and_count,
            compute_on_device,
            threads=self.threads,
            max_tokens=PACK_TOKENS if pack_tokens is None else pack_tokens(self.transformer.model.config),
            max_texts=batch_size,
        )
        return with_progress(packs, count, show_progress_bar), truncation
