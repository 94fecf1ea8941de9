"""What the classes that take texts share: a transformer, its limits, prompts, and the run over packs."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..backends import Backend, get_backend
from ..backends.threads import available_cores
from ..loading.hub import ModelFiles, find_files
from ..operations import Operations
from ..packing import Pack, Tokens
from ..tokenizing.tokenizer import Tokenizer
from .inputs import Truncation, check_count, choose_prompt, in_order, with_progress
from .modules import Transformer
from .running import PACK_TOKENS, WINDOW_TEXTS, in_packs

if TYPE_CHECKING:
    from typing_extensions import Self


Tokenize = Callable[[list[Any]], tuple[list[Tokens], np.ndarray]]  # inputs → tokens of each, and how many it lost
Compute = Callable[[Pack], Sequence[Any]]  # a pack → a result for each of its texts


class TextModel:
    """A transformer and how it is used.

    The parameters are those of `minilm.SentenceTransformer`.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None,
        modules: Sequence[Any] | None,
        *,
        prompts: Mapping[str, str] | None,
        default_prompt_name: str | None,
        cache_folder: str | os.PathLike[str] | None,
        revision: str | None,
        local_files_only: bool,
        token: str | bool | None,
        backend: str | Backend | None,
        device: str | None,
        dtype: str | None,
        threads: int | None,
        truncation: str,
    ) -> None:
        loading = {
            "cache_folder": cache_folder, "revision": revision, "local_files_only": local_files_only, "token": token,
            "backend": backend, "device": device, "dtype": dtype,
        }  # fmt: skip
        if (model_name_or_path is None) == (modules is None):
            raise ValueError("give either the name of a model, or its modules")
        self._config: Mapping[str, Any] = {}
        if model_name_or_path is not None:
            files = find_files(
                self._full_name(model_name_or_path),
                revision=revision,
                token=token,
                cache_dir=cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
                local_files_only=local_files_only,
            )
            self._config = self._read_config(files)
            modules = self._load_modules(files, get_backend(backend, device=device, dtype=dtype))
        elif given := [name for name, value in loading.items() if value]:
            raise ValueError(f"{', '.join(given)}: for a model that is loaded by name; the modules bring their own")
        self.transformer: Transformer = self._check_modules(modules or ())
        self.max_seq_length = self.transformer.max_seq_length or self.transformer.model.config.max_position_embeddings
        self.prompts: dict[str, str] = {**self.default_prompts, **self._config.get("prompts", {}), **(prompts or {})}
        self.default_prompt_name: str | None = default_prompt_name or self._config.get("default_prompt_name")
        self._choose_prompt(None, None)  # raises for a default that is not there
        self.threads: int = available_cores() if threads is None else check_count("threads", threads)
        if threads is None and self.backend.pack_tokens is not None:  # a GPU computes one pack at a time
            self.threads = 1
        self.truncation: str = Truncation.check_mode(truncation)

    # ---- what kinds of models differ in ------------------------------------------------------------------------------

    default_prompts: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    def _full_name(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
        """Return the name with its owner."""
        return name

    @staticmethod
    def _read_config(files: ModelFiles) -> Mapping[str, Any]:
        """Read the settings of the model beside those of its modules."""
        raise NotImplementedError

    @staticmethod
    def _load_modules(files: ModelFiles, backend: Backend) -> Sequence[Any]:
        """Load what `_check_modules` takes."""
        raise NotImplementedError

    def _check_modules(self, modules: Sequence[Any]) -> Transformer:
        """Keep the modules and return the transformer among them; raise a `ValueError` if they are of other kinds."""
        raise NotImplementedError

    # ---- what they share ---------------------------------------------------------------------------------------------

    def with_operations(self, operations: Operations) -> Self:
        """Return this model as it computes with another table of operations. Everything else is shared."""
        other = copy.copy(self)
        other.transformer = replace(self.transformer, model=self.transformer.model.with_operations(operations))
        return other

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into tokens."""
        return self.transformer.tokenizer

    @property
    def backend(self) -> Backend:
        """What computes, and where."""
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
        tokenize: Tokenize,
        compute: Compute,
        batch_size: int,
        show_progress_bar: bool | None,
        window: int = WINDOW_TEXTS,
    ) -> tuple[Iterator[tuple[np.ndarray, Sequence[Any]]], Truncation]:
        """Return an iterator over ``(rows, results)``, and the count of truncated texts, complete at its end."""
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
            window=window,
        )
        return with_progress(packs, count, show_progress_bar), truncation

    def _in_chunks(
        self,
        inputs: Iterable[Any],
        count: int | None,
        tokenize: Tokenize,
        compute: Compute,
        batch_size: int,
        show_progress_bar: bool | None,
        size: int,
    ) -> Iterator[tuple[list[Any], np.ndarray]]:
        """Run over the inputs as one run; yield ``size`` of them at a time with their results, in their order.

        The next chunk is tokenized and computed while the caller works on this one.
        """
        read: deque[Any] = deque()

        def remembered() -> Iterator[Any]:
            for one in inputs:
                read.append(one)
                yield one

        packs, truncation = self._in_packs(
            remembered(), count, tokenize, compute, batch_size, show_progress_bar, window=size
        )
        start, parts = 0, list[tuple[np.ndarray, np.ndarray]]()
        for rows, results in packs:  # a chunk is a window of `in_packs`, which is finished before the next one begins
            parts.append((rows - start, np.asarray(results)))
            if sum(len(rows) for rows, _ in parts) == size:
                yield [read.popleft() for _ in range(size)], in_order(parts)
                start, parts = start + size, []
        if parts:
            yield list(read), in_order(parts)
        truncation.report()
