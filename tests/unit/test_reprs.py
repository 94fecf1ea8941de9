"""Objects show themselves on a line: what they are and their shapes, not their numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minilm import AutoModel, AutoTokenizer, SentenceTransformer
from minilm.models.outputs import BertModelOutput, HeadOutput


def test_models(model_dir: Path) -> None:
    model = AutoModel.from_pretrained(model_dir, backend="numpy")
    said = "BertModel(6 layers, hidden 384, 12 heads, vocabulary 30,522; 22.7 million parameters; numpy, float32)"
    assert repr(model) == said
    assert model.num_parameters() == 22_713_216
    sentences = SentenceTransformer(model_dir, backend="numpy")
    assert repr(sentences) == f"SentenceTransformer({said}, max_seq_length=256)"
    packed = repr(AutoModel.from_pretrained(model_dir, backend="numba"))  # whose matrices are laid out anew
    assert packed == said.replace("numpy", "numba")


def test_outputs() -> None:
    states = np.zeros((2, 3, 4), np.float32)
    output = BertModelOutput(states, None, (states, states, states), (np.zeros((2, 1, 3, 3)),))
    assert repr(output) == (
        "BertModelOutput(last_hidden_state: float32 [2, 3, 4], hidden_states: 3 × float32 [2, 3, 4], "
        "attentions: 1 × float64 [2, 1, 3, 3])"
    )
    assert repr(HeadOutput(np.zeros((2, 5)))) == "HeadOutput(logits: float64 [2, 5])"


def test_encodings(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    lists = tokenizer("hi")
    assert repr(lists) == (
        f"BatchEncoding(input_ids: {lists['input_ids']}, token_type_ids: [0, 0, 0], attention_mask: [1, 1, 1])"
    )
    arrays = tokenizer(["hi", "a cat"], padding=True, return_tensors="np")
    names = ("input_ids", "token_type_ids", "attention_mask")
    assert repr(arrays) == f"BatchEncoding({', '.join(f'{name}: int64 [2, 4]' for name in names)})"
    assert "\n" not in repr(tokenizer) and len(repr(tokenizer)) < 400
