"""Hugging Face's models: the same names, calls and outputs, around the functions of `minilm.bert` and `minilm.heads`.

A model is parameters, a config and a backend. It checks ids once, on the host, runs the network in the layout asked
for, and hands NumPy arrays back for NumPy arrays in; arrays that already live on the backend stay there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from . import bert, parameters
from .backends import Backend, get_backend
from .batching import Pack
from .config import BertConfig
from .functional import Array
from .parameters import Shapes


@dataclass(frozen=True)
class ModelOutput:
    """What a model returns: fields by name, by key, or by place among those that are not None."""

    def to_tuple(self) -> tuple:
        """The fields that are not None, in order."""
        return tuple(value for f in fields(self) if (value := getattr(self, f.name)) is not None)

    def __getitem__(self, key: int | slice | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())


@dataclass(frozen=True)
class BertOutput(ModelOutput):
    """What `BertModel` returns.

    Attributes
    ----------
    last_hidden_state
        [batch, tokens, hidden].
    pooler_output
        [batch, hidden]; None for a checkpoint without a pooler.
    hidden_states
        After the embeddings and after every layer, each [batch, tokens, hidden]; None unless asked for.
    attentions
        Of every layer, each [batch, heads, queries, keys]; None unless asked for.
    """

    last_hidden_state: Array
    pooler_output: Array | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


def check_ids(
    input_ids: np.ndarray, token_type_ids: np.ndarray | None, position_ids: np.ndarray | None, config: BertConfig
) -> None:
    """Raise unless every id has a row in its table: a compiled kernel does not look."""
    for name, ids, limit, table in (
        ("input_ids", input_ids, config.vocab_size, "vocab_size"),
        ("token_type_ids", token_type_ids, config.type_vocab_size, "type_vocab_size"),
        ("position_ids", position_ids, config.max_position_embeddings, "max_position_embeddings"),
    ):
        if ids is None or ids.size == 0:
            continue
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers, got {ids.dtype}")
        if ids.shape != input_ids.shape:
            raise ValueError(f"{name} has the shape {ids.shape}, but input_ids has {input_ids.shape}")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= limit:
            raise ValueError(f"{name} has the id {low if low < 0 else high}, but {table} is {limit}")


class PreTrainedModel:
    """What all models share: parameters, config, backend, loading, and the checks at the edge.

    Parameters
    ----------
    params
        The tree of parameters: NumPy arrays of one dtype under the names of the checkpoint, split at the dots.
    config
        The configuration that belongs to them.
    backend
        A `minilm.backends.Backend` or its name; None picks the default.

    Raises
    ------
    ValueError
        If a parameter is missing, unknown, or not of the shape that the config gives it.
    """

    optional: ClassVar[frozenset[str]] = frozenset()  # parameters that a checkpoint may lack

    def __init__(self, params: Mapping[str, Any], config: BertConfig, backend: str | Backend | None = None) -> None:
        parameters.check_params(params, self.shapes(config), self.optional)
        dtype = str(next(array.dtype for _, array in parameters.flatten(params)))
        self.config = config
        self.backend = get_backend(backend, dtype=dtype)
        self.params = self.backend.place(params)
        self._pretrained: tuple[Any, ...] | None = None  # how to load it again, for pickling by name

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        backend: str | Backend | None = None,
        device: str | None = None,
        dtype: str = "float32",
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Any:
        """Load a checkpoint: a folder, or a name as `minilm.loading.hub.find_files` looks it up.

        Parameters
        ----------
        name_or_path
            A folder, or a name on the Hub such as ``"sentence-transformers/all-MiniLM-L6-v2"``.
        backend, device
            Where and with which functions to compute, see `minilm.backends.get_backend`.
        dtype
            ``"float32"``, or ``"float64"`` for an arbiter between float32 engines.
        revision, token, cache_dir, local_files_only
            As in `minilm.loading.hub.find_files`.

        Raises
        ------
        FileNotFoundError
            If the checkpoint, or a file of it, is not found.
        ValueError
            If a file is corrupted, or describes a model that this network does not implement.
        """
        from .loading.checkpoint import load_params
        from .loading.hub import find_files

        where: dict[str, Any] = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        files = find_files(name_or_path, **where)
        config = BertConfig.from_json(files["config.json"])
        params = load_params(files, cls.shapes(config), optional=cls.optional, dtype=dtype)
        model = cls(params, config, get_backend(backend, device=device, dtype=dtype))
        model._pretrained = (cls, name_or_path, {"backend": backend, "device": device, "dtype": dtype, **where})
        return model

    def __reduce__(self) -> tuple:
        """Pickle a loaded model by its name, so that another process maps the same file instead of copying weights."""
        if self._pretrained is not None:
            return _from_pretrained, self._pretrained
        return type(self), (self.params, self.config, self.backend.name)

    # ---- the network, in either layout -------------------------------------------------------------------------------

    @property
    def _bert_params(self) -> Mapping[str, Any]:
        """The encoder's subtree: all of it in `BertModel`, ``bert`` beside a head."""
        return self.params.get("bert", self.params)

    def _padded(
        self, input_ids: Any, attention_mask: Any, token_type_ids: Any, position_ids: Any, keep: bool
    ) -> tuple[list[Array], list[Array]]:
        """Check the input [batch, tokens], run the network; return hidden states (all, or the last) and attentions."""
        ops, config = self.backend.operations, self.config
        ids, mask, types, positions = (
            None if x is None else _on_host(x, self.backend)
            for x in (input_ids, attention_mask, token_type_ids, position_ids)
        )
        if ids is None or ids.ndim != 2:
            raise ValueError(f"input_ids must be [batch, tokens], got the shape {None if ids is None else ids.shape}")
        if ids.shape[1] > config.max_position_embeddings:
            raise ValueError(
                f"input_ids has {ids.shape[1]} tokens, but the model has {config.max_position_embeddings} positions: "
                "tokenize with truncation=True"
            )
        if mask is not None and mask.shape != ids.shape:
            raise ValueError(f"attention_mask has the shape {mask.shape}, but input_ids has {ids.shape}")
        if mask is not None and mask.dtype.kind not in "iubf":
            raise TypeError(f"attention_mask must be numbers, 1 where a token counts, got {mask.dtype}")
        if positions is not None:
            positions = np.broadcast_to(positions, ids.shape)
        check_ids(ids, types, positions, config)
        place = self.backend.from_numpy
        ids_, mask_, types_, positions_ = (
            place(np.ascontiguousarray(x))
            for x in (
                ids,
                np.ones(ids.shape, dtype=np.int64) if mask is None else mask,
                np.zeros(ids.shape, dtype=np.int64) if types is None else types,
                np.broadcast_to(np.arange(ids.shape[1]), ids.shape) if positions is None else positions,
            )
        )
        params = self._bert_params
        attention = bert.padded_attention(
            mask_, like=params["embeddings"]["LayerNorm"]["weight"], num_heads=config.num_attention_heads, ops=ops
        )
        states: list[Array] = []
        attentions: list[Array] = []
        for state, probabilities in bert.bert(params, ids_, types_, positions_, attention, config, ops):
            states = [*states, state] if keep else [state]
            if keep and probabilities is not None:
                attentions.append(probabilities)
        return states, attentions

    def _packed(self, pack: Pack) -> Array:
        """Check a pack, run the network; return the last hidden states [total_tokens, hidden]."""
        check_ids(pack.input_ids, pack.token_type_ids, pack.position_ids, self.config)
        ops, place = self.backend.operations, self.backend.from_numpy
        attention = bert.packed_attention(pack.runs, self.config.num_attention_heads, ops)
        ids = place(pack.input_ids), place(pack.token_type_ids), place(pack.position_ids)
        states: deque[tuple[Array, None]] = deque(
            bert.bert(self._bert_params, *ids, attention, self.config, ops), maxlen=1
        )
        return states[0][0]

    def _returned(self, like: Any, value: Any) -> Any:
        """Bring a result, or a tuple of them, to where the input came from."""
        if value is None or not (isinstance(like, (np.ndarray, list, tuple))):
            return value
        if isinstance(value, (list, tuple)):
            return tuple(self._returned(like, v) for v in value)
        return self.backend.to_numpy(value)


class BertModel(PreTrainedModel):
    """BERT's encoder.

    Examples
    --------
    >>> config = BertConfig(
    ...     vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6
    ... )
    >>> params = {}
    >>> for name, shape in BertModel.shapes(config).items():
    ...     *path, leaf = name.split(".")
    ...     node = params
    ...     for part in path:
    ...         node = node.setdefault(part, {})
    ...     node[leaf] = np.ones(shape, np.float32)
    >>> output = BertModel(params, config)(np.array([[2, 5, 3]]))
    >>> output.last_hidden_state.shape, output.pooler_output.shape
    ((1, 3, 4), (1, 4))
    """

    optional = frozenset(parameters.POOLER)

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape; the pooler's may be absent."""
        return parameters.bert(config)

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BertOutput:
        """Run the network on a padded batch.

        Parameters
        ----------
        input_ids
            Integers [batch, tokens].
        attention_mask
            [batch, tokens], 1 where a token counts and 0 where it is padding; None for all ones.
        token_type_ids
            Integers [batch, tokens], 0 in the first text and 1 in the second; None for all zeros.
        position_ids
            Integers [batch, tokens]; None for 0, 1, 2, …
        output_hidden_states, output_attentions
            Whether the output has those of every layer.

        Raises
        ------
        ValueError
            For an id without a row in its table, shapes that differ, or more tokens than positions.
        TypeError
            For ids that are not integers.
        """
        keep = output_hidden_states or output_attentions
        states, attentions = self._padded(input_ids, attention_mask, token_type_ids, position_ids, keep)
        pooled = None
        if "pooler" in self.params:
            pooled = bert.pooler(self.params["pooler"], states[-1], self.backend.operations)
        return BertOutput(
            last_hidden_state=self._returned(input_ids, states[-1]),
            pooler_output=self._returned(input_ids, pooled),
            hidden_states=self._returned(input_ids, tuple(states)) if output_hidden_states else None,
            attentions=self._returned(input_ids, tuple(attentions)) if output_attentions else None,
        )

    def forward_packed(self, pack: Pack) -> Array:
        """Run the network on a pack: the last hidden states [total_tokens, hidden], on the backend."""
        return self._packed(pack)


AutoModel = BertModel


def _on_host(x: Any, backend: Backend) -> np.ndarray:
    return np.asarray(x) if isinstance(x, (np.ndarray, list, tuple)) else backend.to_numpy(x)


def _from_pretrained(cls: type[PreTrainedModel], name_or_path: str | Path, settings: dict[str, Any]) -> PreTrainedModel:
    return cls.from_pretrained(name_or_path, **settings)
