"""The methods of ``torch.nn.Module`` that scripts for inference call, and what they come to here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, html_table, summary
from ..backends import Backend
from ..config import BertConfig
from ..loading.families import FAMILIES, Family
from ..parameters import Params, flatten
from .arguments import as_device, as_dtype

if TYPE_CHECKING:
    from typing_extensions import Self

_SETTABLE = ("config", "params", "backend", "raw_config")


class Device(str):
    """The name of a device, which is equal to PyTorch's object for the same device.

    >>> Device("cuda:1").type, Device("cuda:1").index, Device("cpu").index, Device("cpu") == "cpu"
    ('cuda', 1, None, True)
    """

    __slots__ = ()

    @property
    def type(self) -> str:
        """The kind of device: ``"cpu"`` or ``"cuda"``."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The number among devices of this kind; None where none is given."""
        number = self.partition(":")[2]
        return int(number) if number else None

    def __eq__(self, other: object) -> bool:
        return str(self) == (str(other) if type(other).__name__ == "device" else other)

    def __hash__(self) -> int:
        return super().__hash__()


class Placed:
    """What computes on one device, in one dtype, and is always ready for inference, as PyTorch sees it.

    A device and a dtype are chosen once, when a model is loaded. The methods that would change them return the model
    where nothing is to be changed, and raise a `ValueError` where something is.
    """

    if TYPE_CHECKING:

        @property
        def backend(self) -> Backend:
            """The backend: the operations, and the device that they compute on."""

    @property
    def device(self) -> Device:
        """Where the model computes: ``"cpu"``, ``"cuda"`` or, say, ``"cuda:1"``."""
        return Device(self.backend.device)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters and of the results."""
        return np.dtype(self.backend.dtype)

    @property
    def training(self) -> bool:
        """Always False: there is no dropout here."""
        return False

    def to(self, *args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Self:
        """Return this model, if it is on the device and of the dtype that are asked for.

        Raises
        ------
        ValueError
            If it is not; the message says how to load it so.
        """
        for value in args:
            if str(value).startswith("torch.") or isinstance(value, (type, np.dtype)):
                dtype = value
            else:
                device = value
        asked = as_device(device)
        if asked not in (None, self.device, f"{self.device}:0"):
            raise ValueError(f"the model is on {self.device!r}: load it with device={asked!r} to have it there")
        if as_dtype(dtype) not in (None, self.backend.dtype):
            raise ValueError(f"the model is {self.dtype}: load it with dtype={as_dtype(dtype)!r} to have it so")
        return self

    def cpu(self) -> Self:
        """Return this model, if it is on the CPU; see `to`."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Return this model, if it is on the GPU; see `to`."""
        if device is None and self.device.startswith("cuda"):
            return self
        return self.to("cuda" if device is None else device)

    def float(self) -> Self:
        """Return this model, if it is float32; see `to`."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Return this model, if it is float64; see `to`."""
        return self.to(dtype="float64")

    def half(self) -> Self:
        """Raise a `ValueError`: nothing here computes in half precision."""
        return self.to(dtype="float16")

    def bfloat16(self) -> Self:
        """Raise a `ValueError`: nothing here computes in half precision."""
        return self.to(dtype="bfloat16")

    def eval(self) -> Self:
        """Return this model: it is always ready for inference."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Return this model if ``mode`` is False, else raise a `ValueError`: `minilm.fit` trains."""
        if mode:
            raise ValueError("a model is not trained in place: minilm.fit(model, pairs) returns a trained copy")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Return this model if ``requires_grad`` is False, else raise a `ValueError`, as `train` does."""
        return self.train(requires_grad)


@dataclass(frozen=True, repr=False)
class Embedding:
    """A table of vectors, a row for each id.

    Attributes
    ----------
    weight
        The table [ids, components], where the model's arrays are.
    """

    weight: Array

    def __repr__(self) -> str:
        return f"Embedding({summary(self.weight)})"

    @property
    def num_embeddings(self) -> int:
        """How many rows the table has."""
        return int(self.weight.shape[0])

    @property
    def embedding_dim(self) -> int:
        """How many components a row has."""
        return int(self.weight.shape[1])

    def __call__(self, input_ids: Any) -> Array:
        """Ids, of any shape → their rows [..., components]."""
        return self.weight[input_ids]


class Module(Placed):
    """A model as PyTorch sees one: `Placed`, and with named parameters."""

    config: BertConfig
    backend: Backend
    params: Params

    @classmethod
    def modules(cls, family: Family) -> Mapping[str, str]:
        """What the modules are called in a checkpoint of the family, by BERT's names."""
        return family.modules

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in _SETTABLE:
            raise AttributeError(f"{name!r} is not a setting of a model; what can be set is {', '.join(_SETTABLE)}")
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # type checkers shall miss what is not there

        def __getattr__(self, name: str) -> Any:  # only called for what is not there
            public = ", ".join(known for known in dir(type(self)) if not known.startswith("_"))
            raise AttributeError(f"a {type(self).__name__} has no {name!r}; it has {', '.join(_SETTABLE)}, {public}")

    def _facts(self) -> dict[str, str]:
        """What there is to say of the model: sizes, and what computes it."""
        arrays = {id(array): array for _, array in flatten(self.params)}  # ALBERT's layers share theirs
        count = sum(math.prod(array.shape) for array in arrays.values())
        return {
            "layers": str(self.config.num_hidden_layers),
            "hidden": str(self.config.hidden_size),
            "heads": str(self.config.num_attention_heads),
            "vocabulary": f"{self.config.vocab_size:,}",
            "parameters": f"{count / 1e6:.1f} million",
            "backend": f"{self.backend.name}, {self.backend.dtype}",
        }

    def __repr__(self) -> str:
        facts = self._facts()
        return (
            f"{type(self).__name__}({facts['layers']} layers, hidden {facts['hidden']}, {facts['heads']} heads, "
            f"vocabulary {facts['vocabulary']}; {facts['parameters']} parameters; {facts['backend']})"
        )

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._facts().items())

    def __call__(self, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network on a padded batch."""
        raise NotImplementedError

    def forward(self, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network on a padded batch: the call, by its name in PyTorch."""
        return self(input_ids, *args, **kwargs)

    @property
    def base_model_prefix(self) -> str:
        """What stands before the encoder's keys in a checkpoint with a head: ``"bert"``, ``"roberta"``, …."""
        return FAMILIES[self.config.model_type].prefix.rstrip(".")

    @property
    def base_model(self) -> Module:
        """The encoder alone, without a head: this model, where there is none. The parameters are shared."""
        return self

    def get_input_embeddings(self) -> Embedding:
        """Return the table of the words' vectors, before positions and token types are added."""
        encoder = self.params.get("bert", self.params)
        return Embedding(encoder["embeddings"]["word_embeddings"]["weight"])

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters by the keys that a checkpoint of the model's family has for them."""
        family = FAMILIES[self.config.model_type]
        return family.tensors(dict(flatten(self.params)), self.config, self.modules(family))

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield the items of the `state_dict`."""
        yield from self.state_dict().items()

    def parameters(self) -> Iterator[Array]:
        """Yield the arrays of the `state_dict`."""
        yield from self.state_dict().values()

    def get_memory_footprint(self) -> int:
        """Return how many bytes the parameters take."""
        return sum(int(np.prod(array.shape)) for array in self.parameters()) * self.dtype.itemsize

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return how many numbers the parameters have, without those of the embeddings' tables if so asked.

        Every parameter can be trained.
        """
        names = self.state_dict().items()
        return sum(
            int(np.prod(array.shape))
            for name, array in names
            if not (exclude_embeddings and name.endswith("_embeddings.weight"))
        )
