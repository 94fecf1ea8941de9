"""What scripts ask of a model beside vectors and scores: its modules, its settings, its place, its parameters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..arrays import Array
from ..backends import Backend
from ..config import BertConfig
from ..loading.saving import new_folder
from ..models import PreTrainedModel
from ..models.module import Placed
from ..parameters import flatten
from ..tokenizing.tokenizer import Tokenizer
from .model_card import ModelCardData
from .modules import Dense, Transformer

_REASONS: dict[str, tuple[str, ...]] = {  # why methods of sentence-transformers' classes are not here
    "minilm.fit(model, pairs) trains, and returns a trained copy": (
        "fit", "old_fit", "smart_batching_collate", "smart_batching_collate_text_only", "gradient_checkpointing_enable",
        "zero_grad", "get_sentence_features",
    ),
    "adapters are not implemented: merge them into the weights, then load these": (
        "active_adapter", "active_adapters", "add_adapter", "check_peft_compatible_model", "delete_adapter",
        "disable_adapters", "enable_adapters", "get_adapter_state_dict", "has_peft_compatible_model", "load_adapter",
        "set_adapter",
    ),
    "save_pretrained writes a folder, which huggingface_hub.upload_folder uploads": ("push_to_hub", "save_to_hub"),
    "models are not merged here": ("merge",),
    "predict takes pairs of texts": ("forward",),
    "leave it out: the kernels are compiled already": ("compile",),
    "leave it out: nothing is in half precision": ("set_keep_in_fp32_modules",),
    "leave it out: a model lies on one device, from the start": ("clear_placement_cache", "to_empty"),
    "leave it out: the processes of a pool map the same file": ("share_memory",),
    "the constructor and save_pretrained read and write parameters": ("load_state_dict",),
    "modules= of the constructor takes modules": ("add_module", "append", "extend", "insert", "pop"),
    "it is of torch.nn.Module, and there is none here": (
        "T_destination", "apply", "buffers", "call_super_init", "dump_patches", "extra_repr", "get_buffer",
        "get_extra_state", "get_parameter", "get_submodule", "ipu", "modules", "mtia", "named_buffers",
        "named_modules", "register_backward_hook", "register_buffer", "register_forward_hook",
        "register_forward_pre_hook", "register_full_backward_hook", "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook", "register_module",
        "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook", "set_extra_state",
        "set_submodule", "smart_apply", "type", "xpu",
    ),
}  # fmt: skip
_REFUSED = {name: reason for reason, names in _REASONS.items() for name in names}


class ModuleFace(Placed):
    """A sequence of modules, the first of them a transformer; with settings that act, or raise."""

    settings: ClassVar[tuple[str, ...]] = ("transformer", "model_card_data")  # beside properties
    model_card_data_class: ClassVar[type] = ModelCardData
    default_huggingface_organization: ClassVar[str | None] = None  # of names on the Hub without an owner
    transformer: Transformer
    model_card_data: Any

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what has an effect; anything else, such as a misspelt setting, is an `AttributeError`.

        Classes of one's own that derive from those of minilm may have attributes of their own.
        """
        ours = type(self).__module__.partition(".")[0] == __name__.partition(".")[0]
        if ours and not name.startswith("_") and name not in self.settings and not hasattr(type(self), name):
            raise AttributeError(f"{name!r} is not a setting of a {type(self).__name__}; {self._settable()}")
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # type checkers shall miss what is not there

        def __getattr__(self, name: str) -> Any:  # only called for what is not there
            if name in _REFUSED:
                raise AttributeError(f"a {type(self).__name__} has no {name!r}: {_REFUSED[name]}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _settable(self) -> str:
        properties = [
            name for name in dir(type(self)) if getattr(getattr(type(self), name, None), "fset", None) is not None
        ]
        return f"what can be set is {', '.join(sorted({*properties, *self.settings}))}"

    # ---- modules -----------------------------------------------------------------------------------------------------

    @property
    def _sequence(self) -> tuple[Any, ...]:
        """The modules, in their order."""
        return (self.transformer,)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the modules, in their order."""
        return iter(self._sequence)

    def __len__(self) -> int:
        return len(self._sequence)

    def __getitem__(self, index: int) -> Any:
        """Return a module by its place: ``model[0]`` is the `minilm.sentences.modules.Transformer`."""
        return self._sequence[index]

    def children(self) -> Iterator[Any]:
        """Iterate over the modules, in their order."""
        return iter(self)

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """Yield the modules by their names: their numbers."""
        yield from ((str(i), module) for i, module in enumerate(self))

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters of all modules, by the keys that sentence-transformers has for them."""
        found = {f"0.model.{name}": array for name, array in self.transformer.model.state_dict().items()}
        for number, module in self.named_children():
            if isinstance(module, Dense):
                found.update((f"{number}.{name}", array) for name, array in flatten(module.params))
        return found

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield the items of the `state_dict`."""
        yield from self.state_dict().items()

    def parameters(self) -> Iterator[Array]:
        """Yield the arrays of the `state_dict`."""
        yield from self.state_dict().values()

    @property
    def transformers_model(self) -> PreTrainedModel:
        """The network: a `minilm.AutoModel`, or a `minilm.AutoModelForSequenceClassification`."""
        return self.transformer.model

    @property
    def config(self) -> BertConfig:
        """The config of the network."""
        return self.transformer.model.config

    @property
    def backend(self) -> Backend:
        """The backend: the operations, and the device that they compute on."""
        return self.transformer.model.backend

    def get_backend(self) -> str:
        """Return the name of the backend."""
        return self.backend.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return self.transformer.tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Tokenizer) -> None:
        if not isinstance(value, Tokenizer):
            raise TypeError(f"tokenizer must come from minilm.AutoTokenizer.from_pretrained, got {value!r:.60}")
        self.transformer = replace(self.transformer, tokenizer=value)

    @property
    def processor(self) -> Tokenizer:
        """The tokenizer, by its name in sentence-transformers since version 5.3."""
        return self.tokenizer

    @property
    def modalities(self) -> list[str]:
        """What the model reads: ``["text"]``."""
        return ["text"]

    def supports(self, modality: str | tuple[str, ...]) -> bool:
        """Whether the model reads this: ``"text"`` alone."""
        return modality in self.modalities

    def get_model_kwargs(self) -> list[str]:
        """Return the arguments that a call passes on to modules: there are none."""
        return []

    def get_max_seq_length(self) -> int:
        """Return `max_seq_length`."""
        return self.max_seq_length

    @property
    def max_seq_length(self) -> int:
        """How many tokens are read, special ones included; at most as many as the model has positions."""
        return self.transformer.max_seq_length or self.config.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        positions = self.config.max_tokens
        if isinstance(value, bool) or not isinstance(value, Integral) or not 2 <= value <= positions:
            raise ValueError(f"max_seq_length must be from 2 to the model's {positions} positions, got {value!r}")
        self.transformer = replace(self.transformer, max_seq_length=int(value))

    def evaluate(self, evaluator: Any, output_path: str | os.PathLike[str] | None = None) -> Any:
        """Call an evaluator of sentence-transformers, or any ``evaluator(model, output_path)``, with this model.

        Parameters
        ----------
        evaluator
            It calls `encode` or `predict`, and returns what it measured.
        output_path
            A folder for what it writes, which is made.
        """
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)
        return evaluator(self, None if output_path is None else os.fspath(output_path))

    # ---- files -------------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: Sequence[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model, its tokenizer and its settings, which minilm, transformers and sentence-transformers load.

        Parameters
        ----------
        path
            A new folder, or one whose files of these names are replaced.
        model_name
            The name by which the README.md loads the model; by default that of `model_card_data`.
        create_model_card
            Whether there is a README.md.
        train_datasets, safe_serialization
            For sentence-transformers' sake: None, and True.

        Raises
        ------
        OSError
            If something cannot be written. The folder is as it was then.
        ValueError
            If a setting, such as an activation of one's own, cannot be written down.
        """
        if not safe_serialization:
            raise ValueError("safe_serialization=False is not implemented: weights are written as safetensors")
        if train_datasets:
            raise ValueError("train_datasets is not implemented: write them into the README.md")
        with new_folder(path) as new:
            self._write_files(new)
            if create_model_card:
                (new / "README.md").write_text(self._card(model_name), encoding="utf-8")

    save = save_pretrained

    def _write_files(self, folder: Path) -> None:
        """Write what the constructor reads."""
        raise NotImplementedError

    def _card(self, model_name: str | None) -> str:
        """Return the text of the README.md, in which the model is loaded by this name."""
        raise NotImplementedError
