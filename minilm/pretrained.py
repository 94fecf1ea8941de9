"""What all models share: loading, the checks at the edge, and the encoder in either layout.

A model is parameters, a config and a backend. It checks ids once, on the host, runs the network in the layout asked
for, and hands NumPy arrays back for NumPy arrays in; arrays that already live on the backend stay there.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from . import bert
from .backends import Backend, get_backend
from .batching import Pack
from .config import BertConfig
from .functional import Array
from .parameters import Params, Shapes, check_params, flatten


@dataclass(frozen=True)
class ModelOutput:
    """What a model returns: fields by name, by key, or by place among those that are not None."""

    def to_tuple(self) -> tuple:
        """Return the fields that are not None, in order."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(value for value in values if value is not None)

    def __getitem__(self, key: int | slice | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())


class PreTrainedModel:
    """Parameters, a config and a backend.

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

    def __init__(self, params: Params, config: BertConfig, backend: str | Backend | None = None) -> None:
        check_params(params, self.shapes(config), self.optional)
        self.config = config
        self.backend = get_backend(backend, dtype=str(next(array.dtype for _, array in flatten(params))))
        self.params = self.backend.place(params)
        self._source: tuple[str | Path, dict[str, Any]] | None = None  # what `from_pretrained` was called with

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
        **config_values: Any,
    ) -> Any:
        """Load a checkpoint.

        Parameters
        ----------
        name_or_path
            A folder, or a name such as ``"sentence-transformers/all-MiniLM-L6-v2"``, which
            `minilm.loading.hub.find_files` looks up.
        backend, device
            With which functions to compute, and where: see `minilm.backends.get_backend`.
        dtype
            ``"float32"``, or ``"float64"`` for an arbiter between float32 engines.
        revision, token, cache_dir, local_files_only
            As in `minilm.loading.hub.find_files`.
        **config_values
            Replace values of ``config.json``, for example ``num_labels=2`` where it names no labels.

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
        config = dataclasses.replace(BertConfig.from_json(files["config.json"]), **config_values)
        params = load_params(files, cls.shapes(config), optional=cls.optional, dtype=dtype)
        model = cls(params, config, get_backend(backend, device=device, dtype=dtype))
        computing = {"backend": model.backend.name, "device": device, "dtype": dtype}
        model._source = name_or_path, {**computing, **where, **config_values}
        return model

    def __reduce__(self) -> tuple:
        """Pickle a loaded model by its name, so that another process maps the same file instead of copying weights.

        The Hub's token stays out of the pickle; by then the files are in the cache.
        """
        if self._source is not None:
            name_or_path, settings = self._source
            return _load_again, (type(self), name_or_path, {**settings, "token": None})
        return type(self), (self.params, self.config, self.backend.name)

    # ---- the encoder, in either layout -------------------------------------------------------------------------------

    @property
    def encoder_params(self) -> Params:
        """The subtree of `minilm.bert`: ``bert`` where a head stands beside it, otherwise the whole tree."""
        return self.params.get("bert", self.params)

    def run_padded(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> tuple[list[Array], list[Array]]:
        """Check a batch [batch, tokens] and run the encoder on it.

        Returns the hidden states, all of them or the last alone, and the attention probabilities, all of them or none:
        arrays of the backend.
        """
        inputs = (input_ids, attention_mask, token_type_ids, position_ids)
        on_host = [x if x is None else _to_host(x, self.backend) for x in inputs]
        ids, mask, types, positions = map(self.backend.from_numpy, check_padded(self.config, *on_host))
        params, config, ops = self.encoder_params, self.config, self.backend.operations
        like = params["embeddings"]["LayerNorm"]["weight"]
        attention = bert.padded_attention(mask, like, config.num_attention_heads, ops)
        states: deque[Array] = deque(maxlen=None if output_hidden_states else 1)
        attentions: list[Array] = []
        for state, probabilities in bert.bert(params, ids, types, positions, attention, config, ops):
            states.append(state)
            if output_attentions and probabilities is not None:
                attentions.append(probabilities)
        return list(states), attentions

    def run_packed(self, pack: Pack) -> Array:
        """Check a pack and run the encoder on it: the last hidden states [total_tokens, hidden], on the backend."""
        check_ids(pack.input_ids, pack.token_type_ids, pack.position_ids, self.config)
        ids, types, positions = map(self.backend.from_numpy, (pack.input_ids, pack.token_type_ids, pack.position_ids))
        params, config, ops = self.encoder_params, self.config, self.backend.operations
        attention = bert.packed_attention(pack.runs, config.num_attention_heads, ops)
        states = bert.bert(params, ids, types, positions, attention, config, ops)
        return deque(states, maxlen=1)[0][0]

    def returned(self, value: Any, like: Any) -> Any:
        """Bring a result, or several, to where the input ``like`` came from."""
        if isinstance(value, (list, tuple)):
            return tuple(self.returned(one, like) for one in value)
        return self.backend.to_numpy(value) if _is_on_host(like) else value


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
    shape, limit = input_ids.shape, config.max_position_embeddings
    if shape[1] > limit and position_ids is None:
        raise ValueError(
            f"input_ids has {shape[1]} tokens, but the model has {limit} positions: "
            f"tokenize with truncation=True, max_length={limit}"
        )
    mask = np.ones(shape, dtype=np.int64) if attention_mask is None else attention_mask
    types = np.zeros(shape, dtype=np.int64) if token_type_ids is None else token_type_ids
    positions = np.arange(shape[1])[None, :] if position_ids is None else position_ids
    if mask.shape != shape:
        raise ValueError(f"attention_mask has the shape {mask.shape}, but input_ids has {shape}")
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"attention_mask must be numbers, 1 where a token counts, got {mask.dtype}")
    if not np.all((mask == 0) | (mask == 1)):
        wrong = mask[(mask != 0) & (mask != 1)][0]
        raise ValueError(f"attention_mask must be 1 where a token counts and 0 where not, but it has {wrong}")
    if positions.shape == (1, shape[1]):  # one row of positions for all texts, as transformers takes it
        positions = np.ascontiguousarray(np.broadcast_to(positions, shape))
    check_ids(input_ids, types, positions, config)
    return input_ids, mask, types, positions


def check_ids(input_ids: np.ndarray, token_type_ids: np.ndarray, position_ids: np.ndarray, config: BertConfig) -> None:
    """Raise unless every id has a row in its table: a compiled kernel does not look."""
    for name, ids, limit in (
        ("input_ids", input_ids, config.vocab_size),
        ("token_type_ids", token_type_ids, config.type_vocab_size),
        ("position_ids", position_ids, config.max_position_embeddings),
    ):
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers, got {ids.dtype}")
        if ids.shape != input_ids.shape:
            raise ValueError(f"{name} has the shape {ids.shape}, but input_ids has {input_ids.shape}")
        if ids.size and not 0 <= (wrong := int(ids.min()) if ids.min() < 0 else int(ids.max())) < limit:
            raise ValueError(f"{name} has {wrong}, but its table has the rows 0 to {limit - 1}")


def _is_on_host(x: Any) -> bool:
    return isinstance(x, (np.ndarray, list, tuple))


def _to_host(x: Any, backend: Backend) -> np.ndarray:
    return np.asarray(x) if _is_on_host(x) else backend.to_numpy(x)


def _load_again(cls: type[PreTrainedModel], name_or_path: str | Path, settings: dict[str, Any]) -> PreTrainedModel:
    return cls.from_pretrained(name_or_path, **settings)
