"""Models that take texts, to files: the folders that the package sentence-transformers reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..loading.saving import write_json, write_tensors
from ..parameters import flatten
from ..tokenizing.saving import write_tokenizer
from .modules import Dense, Pooling, Transformer, torch_activation_name


def write_transformer(folder: Path, transformer: Transformer, limit: int) -> None:
    """Write the network, its config and the tokenizer, which cuts at ``limit`` tokens."""
    transformer.model.write_files(folder)
    write_tokenizer(folder, transformer.tokenizer)
    path = folder / "tokenizer_config.json"
    write_json(path, {**_read(path), "model_max_length": limit})


def write_sentence_transformer(folder: Path, model: Any) -> None:
    """Write every module of a `SentenceTransformer`, and the list of them."""
    write_transformer(folder, model.transformer, model.max_seq_length)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": model.max_seq_length, "do_lower_case": False})
    modules: list[tuple[str, str]] = [("Transformer", "")]
    for i, step in enumerate((model.pooling, *model.steps), 1):
        kind = type(step).__name__
        path = folder / f"{i}_{kind}"
        path.mkdir()
        modules.append((kind, path.name))
        if isinstance(step, Pooling):
            write_json(path / "config.json", _pooling(step, model.transformer.model.config.hidden_size))
        elif isinstance(step, Dense):
            _write_dense(path, step, model.backend.to_numpy)
        else:
            write_json(path / "config.json", {})
    _write_modules(folder, modules)
    settings = {"similarity_fn_name": model.similarity_fn_name, "truncate_dim": model.truncate_dim}
    _write_settings(folder, model, "SentenceTransformer", {k: v for k, v in settings.items() if v is not None})


def write_cross_encoder(folder: Path, model: Any) -> None:
    """Write the network of a `CrossEncoder`, the tokenizer, and the activation that makes scores of logits."""
    write_transformer(folder, model.transformer, model.max_seq_length)
    config = folder / "config.json"
    activation = torch_activation_name(model.activation_fn)
    write_json(config, {**_read(config), "sentence_transformers": {"activation_fn": activation}})
    modality = {"text": {"method": "forward", "method_output_name": "logits"}}
    task = {"transformer_task": "sequence-classification", "modality_config": modality, "module_output_name": "scores"}
    write_json(folder / "sentence_bert_config.json", task)
    _write_modules(folder, [("Transformer", "")])
    _write_settings(folder, model, "CrossEncoder", {"activation_fn": activation})


def _read(path: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _pooling(pooling: Pooling, width: int) -> dict[str, Any]:
    modes = pooling.modes[0] if len(pooling.modes) == 1 else list(pooling.modes)
    return {"embedding_dimension": width, "pooling_mode": modes, "include_prompt": pooling.include_prompt}


def _write_dense(folder: Path, dense: Dense, to_numpy: Callable[[Any], Any]) -> None:
    tensors = {name: to_numpy(x) for name, x in flatten(dense.params)}
    rows, columns = tensors["linear.weight"].shape
    config = {
        "in_features": columns,
        "out_features": rows,
        "bias": "linear.bias" in tensors,
        "activation_function": torch_activation_name(dense.activation),
    }
    write_json(folder / "config.json", config | ({"use_residual": True} if dense.use_residual else {}))
    write_tensors(folder / "model.safetensors", tensors)


def _write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)


def _write_settings(folder: Path, model: Any, model_type: str, settings: Mapping[str, Any]) -> None:
    shared = {
        "model_type": model_type,
        "__version__": {"sentence_transformers": "5.0.0"},  # the layout of these files
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt_name,
    }
    write_json(folder / "config_sentence_transformers.json", {**shared, **settings})
