"""By introspection: every public name and argument of transformers' classes is here, or it is refused by its name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import pytest

import minilm
from minilm import models
from minilm.loading.families import FAMILIES
from minilm.models import arguments
from minilm.models.outputs import ModelOutput
from minilm.tokenizing.auto import _WITHOUT_EFFECT
from minilm.tokenizing.batch_encoding import BatchEncoding
from minilm.tokenizing.config import SETTINGS
from minilm.tokenizing.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

# What transformers has and minilm has not, by what it is for. A name that belongs to none of these must be here.
NOT_FOR_INFERENCE = {
    "training": "checkpointing|require_grads|loss_function|init_weights|initialize_weights|gradient",
    "adapters": "adapter|peft",
    "several devices": "^(e|f|p|t)p_|_tp_|_pp_|fsdp|parallel|distribute|shard|plan|context|tp_size|should_save|barrier",
    "decoders": "decoder|generat|chat|response",
    "other weights, other files": "resize_|tie|tied|dequantize|dummy_inputs|^set_|push_to_hub|buffer|retrieve",
    "how transformers is built": "^is_|^can_|_class|^base_model_.p|input_modalities|main_input|model_tags|post_init|"
    "kernels|experts|compiled|init_context|attn_implementation|warn_if|auto_class|get_encoder|embeddings$",
    "changing a tokenizer": "^add_|train_new|update_post|set_truncation|convert_to_native|convert_added|slow",
    "files of older tokenizers": "vocab_files|save_vocabulary|chat_templates",
    "what stands under a tokenizer": "^backend_tokenizer$|^decoder$|^model$|SPECIAL_TOKENS|clean_up_tokenization$",
}


def public(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def unknown(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not any(re.search(words, name) for words in NOT_FOR_INFERENCE.values()))


def test_models() -> None:
    import torch
    import transformers

    theirs = public(transformers.PreTrainedModel) - public(torch.nn.Module)
    assert unknown(theirs - public(models.PreTrainedModel)) == []
    model = models.AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    for name in theirs - public(models.PreTrainedModel):
        with pytest.raises(AttributeError, match=f"a BertModel has no '{name}'; it has"):
            getattr(model, name)


def test_tokenizers() -> None:
    import transformers

    theirs, ours = public(transformers.PreTrainedTokenizerFast) - {"from_pretrained"}, public(Tokenizer)
    assert unknown(theirs - ours) == []
    tokenizer = minilm.AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    for name in theirs - ours:
        with pytest.raises(AttributeError, match=f"a tokenizer has no '{name}'; it has"):
            getattr(tokenizer, name)
    assert public(transformers.BatchEncoding) <= public(BatchEncoding)
    mapping = {name for name in public(transformers.utils.ModelOutput) if not hasattr(dict, name)} - {"move_to_end"}
    assert mapping | {"get", "items", "keys", "values"} <= public(ModelOutput)


@pytest.mark.parametrize("method", ["__call__", "encode", "pad", "decode", "batch_decode", "tokenize"])
def test_arguments_of_a_tokenizer(method: str) -> None:
    import transformers

    theirs = inspect.signature(getattr(transformers.PreTrainedTokenizerFast, method)).parameters
    ours = inspect.signature(getattr(Tokenizer, method)).parameters
    more = inspect.signature(Tokenizer.__call__).parameters if "settings" in ours else {}
    targets = {"text_target", "text_pair_target"}  # of models that translate
    assert set(theirs) - targets - {"kwargs", "tokenizer_kwargs"} <= {*ours, *more}
    tokenizer = minilm.AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    for name in targets & set(theirs):
        with pytest.raises(TypeError, match=name):
            getattr(tokenizer, method)("a", **{name: "b"})


def test_arguments_of_loading_a_tokenizer() -> None:
    import transformers

    base = transformers.PreTrainedTokenizerBase
    functions = transformers.AutoTokenizer.from_pretrained, base.from_pretrained, base._from_pretrained, base.__init__
    theirs = set().union(*map(arguments_read, functions)) - {"self", "cls", "inputs", "init_configuration"}
    ours = {*inspect.signature(minilm.AutoTokenizer.from_pretrained).parameters, *SETTINGS, *_WITHOUT_EFFECT}
    assert len(theirs & ours) >= 15
    for name in theirs - ours:
        with pytest.raises(TypeError, match=f"'{name}' is not a setting of a tokenizer; the settings are"):
            minilm.AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", **{name: "x"})


def arguments_read(function: Any) -> set[str]:
    """The parameters of a function of transformers, and what it takes out of its keyword arguments."""
    taken = re.findall(r'kwargs(?:\.pop|\.get|\.setdefault)?[(\[]\s*"(\w+)"', inspect.getsource(function))
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind not in kinds}
    return named | {name for name in taken if not name.startswith("_")}


def test_arguments_of_loading() -> None:
    import transformers
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    theirs = arguments_read(transformers.PreTrainedModel.from_pretrained)
    theirs |= arguments_read(_BaseAutoModelClass.from_pretrained)
    ours = set(inspect.signature(models.PreTrainedModel.from_pretrained).parameters)
    assert {"dtype", "device_map", "attn_implementation", "config", "subfolder"} <= theirs
    assert theirs - ours - set(arguments._WHEN_LOADING) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_of_a_call(family: str) -> None:
    import transformers

    ours = {*inspect.signature(models.BertModel.__call__).parameters, *arguments._IN_A_CALL}
    for kind in ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"):
        forward = getattr(transformers, FAMILIES[family].class_name + kind).forward
        assert set(inspect.signature(forward).parameters) - {"kwargs"} <= ours
