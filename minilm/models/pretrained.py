"""What all models share: loading, the checks at the edge, and the encoder in either layout.

A model is parameters, a config and a backend. It checks ids once, on the host, runs the network in the layout asked
for, and hands NumPy arrays back for NumPy arrays in; arrays that already live on the backend stay there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np

from .. import bert
from ..arrays import Array
from ..backends import Backend, get_backend, on_device
from ..config import BertConfig
from ..loading.checkpoint import Checkpoint, read_config, replace_values
from ..loading.families import FAMILIES
from ..loading.hub import ModelFiles, find_files
from ..loading.json_files import read_json
from ..loading.saving import config_dict, new_folder, write_json, write_tensors
from ..loading.tensors import CheckpointError, MappedFile, mapped_file
from ..operations import Operations
from ..packing import Pack
from ..parameters import Params, Shapes, check_params, flatten, is_lookup_table, unflatten
from .arguments import as_device, as_dtype, read_loading_arguments
from .checks import check_ids, check_padded, text_positions
from .module import Module
from .outputs import ModelOutput
from .relative_attention import relative_attention_bias

if TYPE_CHECKING:
    from typing_extensions import Self


Output = TypeVar("Output", bound=ModelOutput)


class PreTrainedModel(Module):
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
    classifier: ClassVar[str | None] = None  # the module whose rows are labels

    def __init__(self, params: Params, config: BertConfig, backend: str | Backend | None = None) -> None:
        check_params(params, self.shapes(config), self.optional)
        dtype = str(next(array.dtype for _, array in flatten(params)))
        if not isinstance(backend, Backend):
            backend = get_backend(backend, dtype=dtype)
        elif backend.dtype != dtype:
            raise ValueError(f"the parameters are {dtype}, but the backend {backend.name!r} is for {backend.dtype}")
        self.config: BertConfig = config
        self.backend: Backend = backend
        self.params: Params = _place(params, backend)
        files = (mapped_file(array) for _, array in flatten(self.params))
        self._mapped: set[MappedFile] = {file for file in files if file is not None}
        self._source: tuple[ModelFiles, dict[str, Any]] | None = None  # what `from_files` was called with
        self._operations: Operations | None = None  # a table that is not the backend's own
        self.raw_config: dict[str, Any] = {}  # the whole config.json, of which `config` has what inference reads

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        backend: str | Backend | None = None,
        device: Any = None,
        device_map: Any = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        revision: str | None = None,
        token: str | bool | None = None,
        use_auth_token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        config: BertConfig | None = None,
        strict: bool = True,
        **settings: Any,
    ) -> Self:
        """Load a checkpoint by its name, of any family in `minilm.loading.families.FAMILIES`.

        Parameters
        ----------
        pretrained_model_name_or_path
            A folder, or a name such as ``"sentence-transformers/all-MiniLM-L6-v2"``, which
            `minilm.loading.hub.find_files` looks up.
        backend
            With which functions to compute: see `minilm.backends.get_backend`.
        device, device_map
            Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, the number of a GPU; ``"auto"``, like None, leaves it
            to the backend.
        dtype, torch_dtype
            ``"float32"``, the default, or ``"float64"`` for an arbiter between float32 backends; ``"auto"``, like
            None, is the default. NumPy's and PyTorch's own objects will do.
        revision, token, cache_dir, local_files_only
            As in `minilm.loading.hub.find_files`; ``use_auth_token`` is an older name of ``token``.
        subfolder
            The folder of the checkpoint that has the model's files.
        config
            What to take in place of ``config.json``.
        strict
            Whether keys of the checkpoint that no model has are an error. If not, the log names them.
        **settings
            Values that replace those of ``config.json``, for example ``problem_type="regression"`` or
            ``output_hidden_states=True``. For `BertModel` also ``add_pooling_layer=False``, which leaves the pooler
            out. Arguments of transformers that change no number, such as ``attn_implementation="sdpa"`` and
            ``trust_remote_code=True``, are accepted and have no effect.

        Raises
        ------
        FileNotFoundError
            If the checkpoint, or a file of it, is not found.
        TypeError
            For an argument that there is not.
        ValueError
            If a file is corrupted, or describes a model that this network does not implement, and for an argument of
            transformers that is not implemented.
        """
        if config is not None and not isinstance(config, BertConfig):
            raise TypeError(f"config must be a minilm.BertConfig, got {type(config).__name__}")
        settings = read_loading_arguments(settings)
        backend = get_backend(backend, device=as_device(device, device_map), dtype=as_dtype(dtype, torch_dtype))
        files = find_files(
            pretrained_model_name_or_path,
            revision=revision,
            token=use_auth_token if token is None else token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        ).subfolder(subfolder.strip("/"))
        return cls.from_files(files, backend, config=config, strict=strict, **settings)

    @classmethod
    def from_files(
        cls,
        files: ModelFiles,
        backend: str | Backend | None = None,
        *,
        config: BertConfig | None = None,
        strict: bool = True,
        **config_values: Any,
    ) -> Self:
        """Load a checkpoint whose files are found: see `from_pretrained`.

        Parameters
        ----------
        files
            From `minilm.loading.hub.find_files`.
        backend
            A `minilm.backends.Backend` or its name; None picks the default.
        config, strict, **config_values
            As in `from_pretrained`.
        """
        backend = backend if isinstance(backend, Backend) else get_backend(backend)
        given = {"config": config, "strict": strict, **config_values}
        leave_out = cls._left_out(config_values)
        raw = {**read_json(files["config.json"]), **config_values} if config is None else config_values
        config = read_config(files, **config_values) if config is None else replace_values(config, **config_values)
        family = FAMILIES[config.model_type]
        modules, checkpoint = cls.modules(family), Checkpoint(files)
        if cls.classifier is not None:
            config = _with_labels(config, checkpoint, modules.get(cls.classifier, cls.classifier))
        shapes = {name: shape for name, shape in cls.shapes(config).items() if name not in leave_out}
        keys = family.keys(shapes, config, modules)
        params = checkpoint.load(shapes, keys, optional=cls.optional, dtype=backend.dtype, strict=strict)
        model = cls(params, config, backend)
        model._source, model.raw_config = (files, given), raw
        return model

    @classmethod
    def _left_out(cls, settings: dict[str, Any]) -> frozenset[str]:
        """Take out of the settings those that say which parameters not to load; return these parameters' names."""
        return frozenset()

    @property
    def name_or_path(self) -> str:
        """The checkpoint's name, or its folder; empty for a model that was not loaded."""
        return "" if self._source is None else self._source[0].name

    def with_operations(self, operations: Operations) -> Self:
        """Return this model as it computes with another table of operations. The parameters are shared."""
        backend = dataclasses.replace(self.backend, operations=operations, place=lambda placed: placed)
        model = type(self)(self.params, self.config, backend)
        model._source, model.raw_config = self._source, self.raw_config
        model._operations = operations
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a loaded model by its name, so that another process maps the same file instead of copying weights.

        The Hub's access token is left out of the pickle; by then the files are in the cache.
        """
        if self._source is not None:
            files, settings = self._source
            computing = {"name": self.backend.name, "device": self.backend.device, "dtype": self.backend.dtype}
            return _load_again, (type(self), files, computing, settings, self._operations)
        return _from_params, (type(self), self.params, self.config, self.backend.name, self._operations)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json``, which `from_pretrained` and transformers load.

        Parameters
        ----------
        folder
            A new folder, or one whose files of these names are replaced.

        Raises
        ------
        OSError
            If something cannot be written. The folder is as it was then.
        """
        with new_folder(folder) as new:
            self.write_files(new)

    def write_files(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` into a folder that is there."""
        self._check_files()
        tensors = {key: self.backend.to_numpy(x) for key, x in self.named_parameters()}
        write_tensors(folder / "model.safetensors", tensors)
        architecture = type(self).__name__.replace("Bert", FAMILIES[self.config.model_type].class_name, 1)
        values = config_dict(self.config, self.raw_config, architecture, self.backend.dtype)
        write_json(folder / "config.json", values)

    def _check_files(self) -> None:
        """Raise a `RuntimeError` if a file that parameters are read from was changed."""
        for file in self._mapped:
            file.check()

    # ---- the encoder, in either layout -------------------------------------------------------------------------------

    @property
    def encoder_params(self) -> Params:
        """The subtree of `minilm.bert`: ``bert`` where a head stands beside it, otherwise the whole tree."""
        params: Params = self.params.get("bert", self.params)
        return params

    @property
    def _bias(self) -> bert.Bias | None:
        """What is added to the attention scores of a text, by its number of tokens; None for most families."""
        if self.config.relative_attention_num_buckets == 0:
            return None
        table = self.encoder_params["encoder"]["relative_attention_bias"]["weight"]
        return functools.partial(relative_attention_bias, table, backend=self.backend)

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
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
        }
        on_host = [x if x is None else _to_host(name, x, self.backend) for name, x in inputs.items()]
        ids, mask, types, positions = map(self.backend.from_numpy, check_padded(self.config, *on_host))
        self._check_files()
        params, config, ops = self.encoder_params, self.config, self.backend.operations
        attention = bert.padded_attention(mask, config.num_attention_heads, ops, self._bias)
        states: deque[Array] = deque(maxlen=None if output_hidden_states else 1)
        attentions: list[Array] = []
        for state, probabilities in bert.bert(params, ids, types, positions, attention, config, ops):
            states.append(state)
            if output_attentions and probabilities is not None:
                attentions.append(probabilities)
        return list(states), attentions

    def run_packed(self, pack: Pack) -> Array:
        """Check a pack and run the encoder on it: the last hidden states [total_tokens, hidden], on the backend."""
        positions = text_positions(pack.input_ids, pack.position_ids, self.config)
        checked = check_ids(pack.input_ids, pack.token_type_ids, positions, self.config)
        ids, types, positions = map(self.backend.from_numpy, checked)
        self._check_files()
        params, config, ops = self.encoder_params, self.config, self.backend.operations
        attention = bert.packed_attention(pack.runs, config.num_attention_heads, ops, self._bias)
        states = bert.bert(params, ids, types, positions, attention, config, ops)
        return deque(states, maxlen=1)[0][0]

    @on_device
    def forward_packed(self, pack: Pack) -> Array:
        """Run the model on a pack: the last hidden states [total_tokens, hidden], on the backend."""
        return self.run_packed(pack)

    def _wanted(self, states: bool | None, attentions: bool | None) -> tuple[bool, bool]:
        """Say whether a call returns the states and the attentions of every layer: what it asks for, or the config."""
        config = self.config
        return (
            config.output_hidden_states if states is None else states,
            config.output_attentions if attentions is None else attentions,
        )

    def _as_asked(self, output: Output, return_dict: bool | None) -> Output:
        """Return the output, or its values as a tuple, whose type is not told: what a call asks for, or the config."""
        named = self.config.return_dict if return_dict is None else return_dict
        return output if named else cast(Output, output.to_tuple())

    def returned(self, value: Any, like: Any) -> Any:
        """Bring a result, or several, to where the input ``like`` came from."""
        if isinstance(value, (list, tuple)):
            return tuple(self.returned(one, like) for one in value)
        return self.backend.to_numpy(value) if _is_on_host(like) else value


def _is_on_host(x: Any) -> bool:
    return isinstance(x, (np.ndarray, list, tuple))


def _to_host(name: str, x: Any, backend: Backend) -> np.ndarray:
    try:
        return np.asarray(x) if _is_on_host(x) else backend.to_numpy(x)
    except ValueError as error:
        raise ValueError(f"{name} must be [batch, tokens], with equally many tokens in each row: {error}") from None


def _load_again(
    cls: type[PreTrainedModel],
    files: ModelFiles,
    computing: dict[str, Any],
    settings: dict[str, Any],
    operations: Operations | None,
) -> PreTrainedModel:
    model = cls.from_files(files, get_backend(**computing), **settings)
    return model if operations is None else model.with_operations(operations)


def _from_params(
    cls: type[PreTrainedModel], params: Params, config: BertConfig, backend: str, operations: Operations | None
) -> PreTrainedModel:
    model = cls(params, config, backend)
    return model if operations is None else model.with_operations(operations)


def _with_labels(config: BertConfig, checkpoint: Checkpoint, classifier: str) -> BertConfig:
    """Count the labels by the rows of the classifier, where the config has neither their names nor their number.

    transformers leaves both out of ``config.json`` where there are two labels.

    Raises
    ------
    CheckpointError
        If the checkpoint has no such classifier.
    """
    weight = checkpoint.tensors.get(f"{classifier}.weight")
    if weight is None or weight.array.ndim != 2:
        made_as = f", made as {', '.join(config.architectures)}" if config.architectures else ""
        raise CheckpointError(
            f"{checkpoint.path} has no classifier of this kind (no {classifier}.weight [labels, hidden]){made_as}: "
            "load a model that was fine-tuned with one, or the encoder alone with AutoModel"
        )
    if not config.id2label and config.num_labels is None:
        config = dataclasses.replace(config, num_labels=weight.array.shape[0])
    return dataclasses.replace(config, id2label=dict(enumerate(config.labels)))


def _place(params: Params, backend: Backend) -> Params:
    """Put parameters on the backend; an array with several names, as ALBERT's layers have, only once."""
    named = dict(flatten(params))
    owners: dict[tuple[int, bool], str] = {}
    owner_of = {name: owners.setdefault((id(array), is_lookup_table(name)), name) for name, array in named.items()}
    if len(owners) == len(named):
        return backend.place(params)
    placed = dict(flatten(backend.place(unflatten({name: named[name] for name in owners.values()}))))
    return unflatten({name: placed[owner] for name, owner in owner_of.items()})
