"""Against what transformers on PyTorch computed, recorded by ``tests/golden/record.py``: no PyTorch needed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.record import LABELS, SENTENCES, TEXTS, TINY

import minilm
from minilm import models
from minilm.config import BertConfig
from minilm.parameters import unflatten

GOLDEN = Path(__file__).parents[1] / "golden"
ENGINES = ["numpy", "numba"]


@pytest.fixture(scope="module")
def tiny() -> dict[str, dict[str, np.ndarray]]:
    """The arrays of tiny.npz: batch, parameters, outputs."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    with np.load(GOLDEN / "tiny.npz") as arrays:
        for key in arrays:
            part, name = key.split(":")
            parts.setdefault(part, {})[name] = arrays[key]
    return parts


def load(kind: str, tiny: dict[str, dict[str, np.ndarray]], engine: str) -> Any:
    """Build the model of that kind from the recorded parameters."""
    cls, config = getattr(models, kind), BertConfig(**TINY, num_labels=LABELS)
    prefix = "bert." if kind == "BertModel" else ""
    recorded = tiny["parameters"]
    found = {name: recorded.get(f"{kind}/{name}", recorded.get(prefix + name)) for name in cls.shapes(config)}
    return cls(unflatten({name: array for name, array in found.items() if array is not None}), config, engine)


RECORDED = json.loads((GOLDEN / "tokens.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one['settings']}{', pairs' * one['pairs']}")
def test_token_ids(one: dict[str, Any], model_dir: Path) -> None:
    tokenizer = minilm.AutoTokenizer.from_pretrained(model_dir)
    encoded = tokenizer(TEXTS, TEXTS[::-1] if one["pairs"] else None, **one["settings"])
    assert encoded == {name: one[name] for name in ("input_ids", "token_type_ids", "attention_mask")}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_cards_vectors(engine: str, model_dir: Path) -> None:
    tokenizer = minilm.AutoTokenizer.from_pretrained(model_dir)
    model = minilm.AutoModel.from_pretrained(model_dir, backend=engine)
    encoded = tokenizer(SENTENCES, padding=True, truncation=True, return_tensors="np")
    vectors = minilm.normalize(minilm.mean_pooling(model(**encoded)[0], encoded["attention_mask"]))
    pair = model(**tokenizer(SENTENCES, ["Short.", ""], padding=True, return_tensors="np"))
    with np.load(GOLDEN / "vectors.npz") as golden:
        np.testing.assert_allclose(vectors, golden["vectors"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(pair.pooler_output, golden["pooler_output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_state_of_a_tiny_model(engine: str, tiny: dict[str, dict[str, np.ndarray]]) -> None:
    model = load("BertModel", tiny, engine)
    output = model(**tiny["batch"], output_hidden_states=True, output_attentions=True)
    found = {f"hidden_states/{n}": state for n, state in enumerate(output.hidden_states)}
    found |= {f"attentions/{n}": attention for n, attention in enumerate(output.attentions)}
    found["pooler_output"] = output.pooler_output
    assert set(found) == {name for name in tiny["outputs"] if not name.startswith("logits")}
    for name, array in found.items():
        tolerance = 1e-6 if name.startswith("attentions") else 1e-5
        np.testing.assert_allclose(array, tiny["outputs"][name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "kind",
    ["BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification", "BertForNextSentencePrediction"],
)
def test_logits_of_every_head(kind: str, engine: str, tiny: dict[str, dict[str, np.ndarray]]) -> None:
    logits = load(kind, tiny, engine)(**tiny["batch"]).logits
    np.testing.assert_allclose(logits, tiny["outputs"][f"logits/{kind}"], rtol=0, atol=1e-5)
