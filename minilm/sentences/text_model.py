"""`TextModel`, the base of the classes that take texts: a transformer, its limits, and the run over packs."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import html_table
from ..backends.threads import default_threads
from ..config import check_count
from ..operations import Operations
from ..packing import Pack, Tokens
from .arguments import Found, Loading
from .inputs import Truncation, in_order, with_progress
from .model_card import ModelCardData, card
from .module_face import ModuleFace
from .modules import Transformer
from .pools import Packs, WorkerPool
from .running import PACK_TOKENS, WINDOW_TEXTS, in_packs
from .saving import write_transformer

if TYPE_CHECKING:
    from typing_extensions import Self


Tokenize = Callable[[list[Any]], tuple[list[Tokens], np.ndarray]]  # inputs → tokens of each, and how many it lost
Compute = Callable[[Pack], Sequence[Any]]  # a pack → a result for each of its texts


def read_or_given(
    model_name_or_path: str | os.PathLike[str] | None,
    modules: Sequence[Any] | None,
    loading: Loading,
    read: Callable[[Found], tuple[Mapping[str, Any], Sequence[Any]]],
) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return the config and the modules of a model.

    Parameters
    ----------
    model_name_or_path
        Where ``read`` finds both.
    modules
        Instead of a name: the modules themselves; the config is empty then.
    loading
        How a model is found, and what it computes with; for a name only.
    read
        Reads the config and the modules from the model's files.

    Raises
    ------
    ValueError
        If both a name and modules are given, or neither, or modules together with settings for a name.
    """
    if modules is not None and model_name_or_path is None:
        loading.refuse()
        return {}, modules
    if modules is not None or model_name_or_path is None:
        raise ValueError("give either the name of a model, or its modules")
    return read(loading.find(model_name_or_path))


class TextModel(ModuleFace):
    """A transformer and how it is used.

    Parameters
    ----------
    transformer
        The network and its tokenizer.
    threads, truncation, model_card_data
        As in `minilm.SentenceTransformer`.
    """

    def __init__(
        self,
        transformer: Transformer,
        *,
        threads: int | None,
        truncation: str,
        model_card_data: Any = None,
    ) -> None:
        self.transformer = transformer
        self.max_seq_length = self.max_seq_length  # raises if the transformer's own does not fit
        self.threads = threads
        self.truncation = truncation
        self.model_card_data: Any = ModelCardData() if model_card_data is None else model_card_data
        self._name_base_model()

    def _name_base_model(self) -> None:
        """Say in the card's data which model of the Hub this is, unless they name one."""
        source, data = self.transformer.model._source, self.model_card_data
        if source is not None and source[0].revision is not None and getattr(data, "base_model", "unknown") is None:
            data.base_model, data.base_model_revision = source[0].name, source[0].revision

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transformer.model!r}, max_seq_length={self.max_seq_length})"

    def _repr_html_(self) -> str:
        facts = self.transformer.model._facts() | {"max_seq_length": f"{self.max_seq_length} tokens"}
        return html_table(type(self).__name__, facts.items())

    def run(self, inputs: Any) -> Any:
        """Return the results for one input, or for many: what `encode` or `predict` returns, without a progress bar."""
        raise NotImplementedError

    def with_operations(self, operations: Operations) -> Self:
        """Return a copy of this model that computes with another table of operations. The parameters are shared."""
        other = copy.copy(self)
        other.transformer = replace(self.transformer, model=self.transformer.model.with_operations(operations))
        return other

    def _write_files(self, folder: Path) -> None:
        write_transformer(folder, self.transformer, self.max_seq_length)

    def _card(self, model_name: str | None) -> str:
        return card(
            self.model_card_data,
            model_name,
            kind=type(self).__name__,
            task="text-classification",
            tag="text-classification",
            title="A classifier of texts",
            what=f"Texts are cut at {self.max_seq_length} tokens.",
            example='print(model.predict(["One text", "Another text"]))',
        )

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

    @property
    def truncation(self) -> str:
        """What happens to texts of more tokens than `max_seq_length`: ``"warn"``, ``"silent"`` or ``"error"``."""
        return self._truncation

    @truncation.setter
    def truncation(self, value: str) -> None:
        self._truncation: str = Truncation.check_mode(value)

    # ---- processes ---------------------------------------------------------------------------------------------------

    def start_multi_process_pool(self, target_devices: Sequence[Any] | None = None) -> WorkerPool:
        """Start processes that compute the same numbers side by side, for ``pool=`` of the calls on this model.

        A model uses all cores in one process already. So the default, and a single device, start no process.

        Parameters
        ----------
        target_devices
            One for each process, all of them the model's own: ``["cpu"] * 4``.

        Raises
        ------
        ValueError
            For another device than the model's.
        RuntimeError
            If a process ends before it is ready.
        """
        devices = [] if target_devices is None else list(target_devices)
        for device in devices:
            self.check_device(device)
        return WorkerPool(self, self._worker(max(1, self.threads // max(1, len(devices)))), len(devices))

    def _worker(self, threads: int) -> Self:
        """Return the copy of this model that a process gets."""
        worker = copy.copy(self)
        worker.threads = threads
        return worker

    @staticmethod
    def stop_multi_process_pool(pool: WorkerPool) -> None:
        """End the processes of a pool; a second time does nothing."""
        pool.stop()

    def check_device(self, device: Any) -> None:
        """Raise a `ValueError` if the model is on another device."""
        if str(device) != self.backend.device:
            raise ValueError(
                f"device={device!r}, but the model is on {self.backend.device!r}: the device is chosen once, when the "
                "model is loaded"
            )

    def compute_chunk(self, inputs: list[Any], first: int, settings: Mapping[str, Any]) -> tuple[Packs, Truncation]:
        """Return the rows of the inputs, counted from ``first``, with their results; and what truncation cut."""
        more = dict(settings)
        self.truncation, batch_size = more.pop("truncation"), more.pop("batch_size")
        steps, limit = self._steps(**more), more["max_seq_length"]
        packs, truncation = self._in_packs(iter(inputs), len(inputs), *steps, batch_size, False, limit)
        truncation.seen = first
        return [(rows + first, results) for rows, results in packs], truncation

    def _steps(self, **settings: Any) -> tuple[Tokenize, Compute]:
        """Return the functions from inputs to tokens, and from a pack to results, for the settings of a call."""
        raise NotImplementedError

    def _run(
        self,
        inputs: Iterator[Any],
        count: int | None,
        settings: Mapping[str, Any],
        batch_size: int,
        show_progress_bar: bool | None,
        workers: WorkerPool | None,
        chunk_size: int | None,
    ) -> tuple[Iterator[tuple[np.ndarray, Sequence[Any]]], Truncation]:
        """Do what `_in_packs` does, here or in the processes of a pool."""
        limit = settings["max_seq_length"]
        if workers is None:
            return self._in_packs(inputs, count, *self._steps(**settings), batch_size, show_progress_bar, limit)
        truncation = Truncation(self.truncation, limit or self.max_seq_length)
        more = {"truncation": self.truncation, "batch_size": batch_size}
        packs = workers.packs(inputs, count, chunk_size, {**settings, **more}, truncation)
        return with_progress(packs, count, show_progress_bar), truncation

    # ---- the run -----------------------------------------------------------------------------------------------------

    def _in_packs(
        self,
        inputs: Iterable[Any],
        count: int | None,
        tokenize: Tokenize,
        compute: Compute,
        batch_size: int,
        show_progress_bar: bool | None,
        limit: int | None,
        *,
        window: int = WINDOW_TEXTS,
        read_ahead: bool = False,
    ) -> tuple[Iterator[tuple[np.ndarray, Sequence[Any]]], Truncation]:
        """Return an iterator over ``(rows, results)``, and the count of truncated texts, complete at its end.

        ``limit`` is how many tokens ``tokenize`` leaves of a text; None for a limit that it does not keep.
        """
        truncation = Truncation(self.truncation, limit or self.max_seq_length)

        def tokenize_and_count(batch: list[Any]) -> list[Tokens]:
            tokens, lost = tokenize(batch)
            if limit is None:  # nothing was cut
                self._check_positions(tokens, truncation.seen)
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
            read_ahead=read_ahead or count is not None,
        )
        return with_progress(packs, count, show_progress_bar), truncation

    def _check_positions(self, tokens: list[Tokens], start: int) -> None:
        """Raise a `ValueError` for an input of more tokens than the model has positions."""
        positions = self.config.max_tokens
        for i, one in enumerate(tokens, start):
            if len(one.input_ids) > positions:
                raise ValueError(
                    f"input {i} has {len(one.input_ids)} tokens, but the model has {positions} positions: leave "
                    "truncation=False out, or shorten the input"
                )

    def _in_chunks(
        self,
        inputs: Iterable[Any],
        count: int | None,
        tokenize: Tokenize,
        compute: Compute,
        batch_size: int,
        show_progress_bar: bool | None,
        size: int,
        read_ahead: bool,
    ) -> Iterator[tuple[list[Any], np.ndarray]]:
        """Run over the inputs as one run; yield ``size`` of them at a time with their results, in their order."""
        read: deque[Any] = deque()

        def remembered() -> Iterator[Any]:
            for one in inputs:
                read.append(one)
                yield one

        steps, limit = (tokenize, compute), self.max_seq_length
        packs, truncation = self._in_packs(
            remembered(), count, *steps, batch_size, show_progress_bar, limit, window=size, read_ahead=read_ahead
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
