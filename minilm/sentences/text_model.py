"""`TextModel`, the base of the classes that take texts: a transformer, its limits, prompts, and the run over packs."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..backends import Backend, get_backend
from ..backends.threads import default_threads
from ..loading.hub import ModelFiles, find_files
from ..loading.saving import new_folder
from ..operations import Operations
from ..packing import Pack, Tokens
from ..tokenizing.tokenizer import Tokenizer
from .inputs import Truncation, check_count, choose_prompt, in_order, with_progress
from .modules import Transformer
from .running import PACK_TOKENS, WINDOW_TEXTS, in_packs
from .saving import write_transformer

if TYPE_CHECKING:
    from typing_extensions import Self


Tokenize = Callable[[list[Any]], tuple[list[Tokens], np.ndarray]]  # inputs → tokens of each, and how many it lost
Compute = Callable[[Pack], Sequence[Any]]  # a pack → a result for each of its texts


def read_or_given(
    model_name_or_path: str | os.PathLike[str] | None,
    modules: Sequence[Any] | None,
    read: Callable[[ModelFiles, Backend], tuple[Mapping[str, Any], Sequence[Any]]],
    *,
    cache_folder: str | os.PathLike[str] | None,
    revision: str | None,
    local_files_only: bool,
    token: str | bool | None,
    backend: str | Backend | None,
    device: str | None,
    dtype: str | None,
) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return the config and the modules of a model.

    Parameters
    ----------
    model_name_or_path
        Where ``read`` finds both.
    modules
        Instead of a name: the modules themselves; the config is empty then.
    read
        Reads the config and the modules from the model's files.
    cache_folder, revision, local_files_only, token, backend, device, dtype
        How a model is found, and what it computes with; for a name only.

    Raises
    ------
    ValueError
        If both a name and modules are given, or neither, or modules together with settings for a name.
    """
    if (model_name_or_path is None) == (modules is None):
        raise ValueError("give either the name of a model, or its modules")
    if modules is not None:
        settings = {
            "cache_folder": cache_folder, "revision": revision, "local_files_only": local_files_only, "token": token,
            "backend": backend, "device": device, "dtype": dtype,
        }  # fmt: skip
        if given := [name for name, value in settings.items() if value]:
            raise ValueError(f"{', '.join(given)}: only for a model that is loaded by its name, not for modules")
        return {}, modules
    files = find_files(
        cast("str | os.PathLike[str]", model_name_or_path),
        revision=revision,
        token=token,
        cache_dir=cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
        local_files_only=local_files_only,
    )
    return read(files, get_backend(backend, device=device, dtype=dtype))


class TextModel:
    """A transformer and how it is used.

    Parameters
    ----------
    transformer
        The network and its tokenizer.
    prompts, default_prompt_name, threads, truncation
        As in `minilm.SentenceTransformer`.
    """

    def __init__(
        self,
        transformer: Transformer,
        *,
        prompts: Mapping[str, str],
        default_prompt_name: str | None,
        threads: int | None,
        truncation: str,
    ) -> None:
        self.transformer: Transformer = transformer
        self.max_seq_length = transformer.max_seq_length or transformer.model.config.max_tokens
        self.prompts: dict[str, str] = dict(prompts)
        self.default_prompt_name: str | None = default_prompt_name
        self._choose_prompt(None, None)  # raises if there is no prompt of the default name
        self.threads = threads
        self.truncation: str = Truncation.check_mode(truncation)

    def run(self, inputs: Any) -> Any:
        """Return the results for one input, or for many: what `encode` or `predict` returns, without a progress bar."""
        raise NotImplementedError

    def with_operations(self, operations: Operations) -> Self:
        """Return a copy of this model that computes with another table of operations. The parameters are shared."""
        other = copy.copy(self)
        other.transformer = replace(self.transformer, model=self.transformer.model.with_operations(operations))
        return other

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model, its tokenizer and its settings, which minilm, transformers and sentence-transformers load.

        Parameters
        ----------
        folder
            A new folder, or one whose files of these names are replaced.

        Raises
        ------
        OSError
            If something cannot be written. The folder is as it was then.
        ValueError
            If a setting, such as an activation of one's own, cannot be written down.
        """
        with new_folder(folder) as new:
            self._write_files(new)

    save = save_pretrained

    def _write_files(self, folder: Path) -> None:
        """Write what the constructor reads."""
        write_transformer(folder, self.transformer, self.max_seq_length)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return self.transformer.tokenizer

    @property
    def backend(self) -> Backend:
        """The backend: the operations, and the device that they compute on."""
        return self.transformer.model.backend

    @property
    def max_seq_length(self) -> int:
        """How many tokens are read, special ones included; at most as many as the model has positions."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        positions = self.transformer.model.config.max_tokens
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 2 <= value <= positions:
            raise ValueError(f"max_seq_length must be from 2 to the model's {positions} positions, got {value!r}")
        self._max_seq_length = int(value)

    @property
    def threads(self) -> int:
        """How many packs are computed side by side.

        By default as many as `minilm.backends.threads.default_threads` says at the time; one on a GPU. Set it to None
        for the default.
        """
        if self._threads is not None:
            return self._threads
        return default_threads() if self.backend.pack_tokens is None else 1

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._threads: int | None = None if value is None else check_count("threads", value)

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
            with np.errstate(under="ignore"), self.backend.on_device():
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
