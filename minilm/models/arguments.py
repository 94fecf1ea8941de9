"""Arguments of transformers: those that change nothing here are taken, the others are refused by their names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np


class _Argument(NamedTuple):
    """The values that have no effect, None for all; and what to do instead of any other."""

    harmless: tuple[Any, ...] | None
    hint: str = "leave it out"


_ANY = _Argument(None)
_NEVER = _Argument((None, False))
_NO_8_BIT = _Argument((None, False), "backend='int8' computes with 8-bit integers")
_ONE_DEVICE = _Argument((None, False), "a model lies on one device as a whole, device='cuda:0' for example")

_WHEN_LOADING: dict[str, _Argument] = {
    # how files are read and downloaded: the values that come out are the same
    **dict.fromkeys(("trust_remote_code", "code_revision", "weights_only", "low_cpu_mem_usage", "tqdm_class"), _ANY),
    **dict.fromkeys(("resume_download", "_fast_init", "_commit_hash", "_from_auto", "_from_pipeline"), _ANY),
    "use_safetensors": _Argument((None, True), "safetensors are read where there are any; they hold the same values"),
    "disable_mmap": _Argument((None, False), "weights are mapped from their file"),
    "force_download": _Argument((None, False), "delete the file from the Hub's cache"),
    "proxies": _Argument((None, {}), "set HTTPS_PROXY in the environment"),
    "attn_implementation": _Argument(
        (None, "eager", "sdpa"), "there is one attention, with the values of 'eager' and 'sdpa'"
    ),
    # where arrays lie
    **dict.fromkeys(("max_memory", "offload_folder", "offload_state_dict", "offload_buffers"), _ONE_DEVICE),
    **dict.fromkeys(("tp_plan", "tp_size", "device_mesh", "distributed_config"), _ONE_DEVICE),
    # other weights than the file's
    **dict.fromkeys(("load_in_8bit", "load_in_4bit", "quantization_config"), _NO_8_BIT),
    "ignore_mismatched_sizes": _Argument((None, False), "every array must have the shape that the config gives it"),
    "state_dict": _Argument((None,), "the class itself takes arrays: BertModel(params, config)"),
    **dict.fromkeys(("adapter_name", "adapter_kwargs"), _Argument((None, {}), "merge adapters into their base model")),
    **dict.fromkeys(("from_tf", "from_flax", "gguf_file", "variant", "key_mapping"), _NEVER),
    **dict.fromkeys(("output_loading_info", "generation_config", "fusion_config", "mirror"), _NEVER),
    **dict.fromkeys(("experts_implementation", "use_kernels", "kernel_config", "allow_all_kernels"), _NEVER),
    # settings of config.json that a text's vectors do not depend on
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), _ANY),
    **dict.fromkeys(("use_cache", "initializer_range", "gradient_checkpointing", "finetuning_task"), _ANY),
}
_NO_TRAINING = "models are trained with minilm.fit"
_IN_A_CALL: dict[str, _Argument] = {
    "inputs_embeds": _Argument((None,), "give input_ids"),
    "head_mask": _Argument((None,), "all heads compute"),
    **dict.fromkeys(("labels", "next_sentence_label"), _Argument((None,), f"there is no loss here: {_NO_TRAINING}")),
    **dict.fromkeys(
        ("encoder_hidden_states", "encoder_attention_mask", "past_key_values"),
        _Argument((None,), "this is an encoder alone"),
    ),
    "use_cache": _ANY,
}


def take_harmless(arguments: Mapping[str, Any], known: Mapping[str, _Argument]) -> dict[str, Any]:
    """Return the arguments that are not ``known``; of those that are, raise a `ValueError` if one has an effect."""
    others = {}
    for name, value in arguments.items():
        if name not in known:
            others[name] = value
            continue
        harmless, hint = known[name]
        if harmless is not None and not any(
            value is one or (type(value) is type(one) and value == one) for one in harmless
        ):
            raise ValueError(f"{name}={value!r} is not implemented: {hint}")
    return others


def read_loading_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `from_pretrained` was given without what has no effect; the rest are values of ``config.json``.

    ``label2id`` becomes ``id2label``.

    Raises
    ------
    ValueError
        For an argument of transformers that would have an effect, and is not implemented.
    """
    others = take_harmless(arguments, _WHEN_LOADING)
    label2id = others.pop("label2id", None)
    if label2id is not None:
        by_number = {int(number): label for label, number in label2id.items()}
        given = others.setdefault("id2label", by_number)
        if {int(number): label for number, label in given.items()} != by_number:
            raise ValueError(f"id2label and label2id do not agree: {given!r} and {label2id!r}")
    return others


def check_call_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for an argument of transformers' calls that has an effect, a `TypeError` for others."""
    if unknown := list(take_harmless(arguments, _IN_A_CALL)):
        raise TypeError(
            f"unexpected argument {unknown[0]!r}; a model is called with input_ids, attention_mask, token_type_ids, "
            "position_ids, output_hidden_states, output_attentions, return_dict"
        )


def as_dtype(dtype: Any, torch_dtype: Any = None) -> str | None:
    """Return a dtype by NumPy's name: of ``"float32"``, ``np.float32``, ``torch.float32``; None for None or "auto".

    ``torch_dtype`` is the older name of the same argument.

    Raises
    ------
    ValueError
        For one that no backend computes in.
    """
    found = [_dtype_name(one) for one in (dtype, torch_dtype) if one is not None and one != "auto"]
    if len(set(found)) > 1:
        raise ValueError(f"dtype and torch_dtype do not agree: {dtype!r} and {torch_dtype!r}")
    return found[0] if found else None


def _dtype_name(value: Any) -> str:
    name = str(value).removeprefix("torch.")
    with suppress(TypeError):  # bfloat16
        name = np.dtype(value if isinstance(value, (type, np.dtype)) else name).name
    if name not in ("float32", "float64"):
        raise ValueError(
            f"dtype {value!r} is not implemented: 'float32' or, with backend='numpy', 'float64'. "
            "Weights in half precision are read, and computed with in float32"
        )
    return name


def as_device(device: Any, device_map: Any = None) -> str | None:
    """Return a device by its name: of ``"cuda:0"``, a number of a GPU, ``torch.device``; None for None or "auto".

    ``device_map`` may be a device, or ``{"": device}``.

    Raises
    ------
    ValueError
        For a map that puts parts of a model on several devices.
    """
    if isinstance(device_map, Mapping):
        if set(device_map) != {""}:
            raise ValueError(f"device_map={device_map!r} is not implemented: {_ONE_DEVICE.hint}")
        device_map = device_map[""]
    found = [_device_name(one) for one in (device, device_map) if one is not None and str(one) != "auto"]
    if len(set(found)) > 1:
        raise ValueError(f"device and device_map do not agree: {device!r} and {device_map!r}")
    return found[0] if found else None


def _device_name(value: Any) -> str:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f"cuda:{value}" if value >= 0 else "cpu"  # a pipeline of transformers calls the CPU -1
    return str(value)
