"""Objects show themselves on a line, and as a table in notebooks: what they are and their shapes, not their numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from click.testing import CliRunner

from minilm import AutoModel, AutoTokenizer, Index, SentenceTransformer, pipeline, trace
from minilm.cli import main
from minilm.models.outputs import BertModelOutput, HeadOutput
from minilm.sentences.modules import Dense
from minilm.tokenizing.wordpiece import WordPieceTokenizer


def table(shown: Any) -> dict[str, str]:
    """The rows of an object's table in a notebook, by their names, and its title."""
    html = shown._repr_html_()
    assert len(html) < 1000
    root = ElementTree.fromstring(html)  # fails where a text is not escaped
    rows = {row.findtext("th"): row.findtext("td") for row in root.iter("tr")}
    return {"title": root.findtext("caption"), **rows}


def test_models(model_dir: Path) -> None:
    model = AutoModel.from_pretrained(model_dir, backend="numpy")
    said = "BertModel(6 layers, hidden 384, 12 heads, vocabulary 30,522; 22.7 million parameters; numpy, float32)"
    assert repr(model) == said
    assert model.num_parameters() == 22_713_216
    sentences = SentenceTransformer(model_dir, backend="numpy")
    assert repr(sentences) == f"SentenceTransformer({said}, max_seq_length=256)"
    packed = repr(AutoModel.from_pretrained(model_dir, backend="numba"))  # whose matrices are laid out anew
    assert packed == said.replace("numpy", "numba")
    rows = {"layers": "6", "hidden": "384", "heads": "12", "vocabulary": "30,522", "parameters": "22.7 million"}
    rows["backend"] = "numpy, float32"
    assert table(model) == {"title": "BertModel", **rows}
    assert table(sentences) == {"title": "SentenceTransformer", **rows, "max_seq_length": "256 tokens"}
    pipe = pipeline("feature-extraction", model=str(model_dir), backend="numpy")
    assert repr(pipe) == f"FeatureExtractionPipeline({said})"


def test_one_number_of_parameters_everywhere(model_dir: Path) -> None:
    """`minilm info`, what models show, and the notebooks' text."""
    said = CliRunner().invoke(main, ["info", "--model", str(model_dir)]).output
    (told,) = re.findall(r"([\d.]+) million parameters", said)
    model = AutoModel.from_pretrained(model_dir)
    assert table(model)["parameters"] == f"{told} million" == f"{model.num_parameters() / 1e6:.1f} million"
    folder = Path(__file__).parents[2] / "notebooks"
    texts = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file())
    counts = re.findall(r"\b(2\d[.\d]*) million (?:parameters|numbers)", texts)
    assert len(counts) >= 6 and set(counts) == {told}


def test_outputs() -> None:
    states = np.zeros((2, 3, 4), np.float32)
    output = BertModelOutput(states, None, (states, states, states), (np.zeros((2, 1, 3, 3)),))
    assert repr(output) == (
        "BertModelOutput(last_hidden_state: float32 [2, 3, 4], hidden_states: 3 × float32 [2, 3, 4], "
        "attentions: 1 × float64 [2, 1, 3, 3])"
    )
    assert repr(HeadOutput(np.zeros((2, 5)))) == "HeadOutput(logits: float64 [2, 5])"
    assert table(output) == {
        "title": "BertModelOutput",
        "last_hidden_state": "float32 [2, 3, 4]",
        "hidden_states": "3 × float32 [2, 3, 4]",
        "attentions": "1 × float64 [2, 1, 3, 3]",
    }


def test_encodings(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    lists = tokenizer("hi")
    assert repr(lists) == (
        f"BatchEncoding(input_ids: {lists['input_ids']}, token_type_ids: [0, 0, 0], attention_mask: [1, 1, 1])"
    )
    arrays = tokenizer(["hi", "a cat"], padding=True, return_tensors="np")
    names = ("input_ids", "token_type_ids", "attention_mask")
    assert repr(arrays) == f"BatchEncoding({', '.join(f'{name}: int64 [2, 4]' for name in names)})"
    assert table(arrays) == {
        "title": "BatchEncoding",
        **dict.fromkeys(names, "int64 [2, 4]"),
        "tokens of the first": "[CLS] hi [SEP] [PAD]",
    }


def test_long_encodings_are_short_and_texts_are_escaped(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    long = tokenizer("<b>&amp; " * 30)
    names = ("input_ids", "token_type_ids", "attention_mask")
    assert repr(long) == f"BatchEncoding({', '.join(f'{name}: list [182]' for name in names)})"
    assert table(long)["tokens"] == "[CLS] " + "< b > & amp ; " * 2 + "< b > …"
    many = tokenizer(["a cat"] * 30 + ["hi"])
    assert repr(many).startswith("BatchEncoding(input_ids: list [31, 3 to 4], ")


def test_tokenizers(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    special = "[UNK] [SEP] [PAD] [CLS] [MASK]"
    shown = f"Tokenizer(name: {model_dir}, vocabulary: 30,522 tokens, reads: 512 tokens, special tokens: {special})"
    assert repr(tokenizer) == shown
    rows = {"name": str(model_dir), "vocabulary": "30,522 tokens", "reads": "512 tokens", "special tokens": special}
    assert table(tokenizer) == {"title": "Tokenizer", **rows}
    readable = WordPieceTokenizer(tokenizer.get_vocab())
    assert repr(readable).startswith("WordPieceTokenizer(clean_text=True") and len(repr(readable)) < 400


def test_parts(model_dir: Path) -> None:
    model = SentenceTransformer(model_dir, backend="numpy")
    assert repr(model.transformer.model.get_input_embeddings()) == "Embedding(float32 [30522, 384])"
    first = trace(model, "hi")[0]
    assert repr(first) == f"<{first}>" and len(repr(first)) < 300 and "\n" not in repr(first)
    linear = {"weight": np.zeros((8, 384), np.float32), "bias": np.zeros(8, np.float32)}
    shown = repr(Dense({"linear": linear}))
    assert shown.startswith("Dense(activation=<function tanh") and shown.endswith("use_residual=False)")


def test_backends(model_dir: Path) -> None:
    backend = AutoModel.from_pretrained(model_dir, backend="numpy").backend
    assert repr(backend) == "Backend(name='numpy', operations=Operations(), dtype='float32', device='cpu')"


def test_an_index(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "a.txt").write_text("A cat may stay.\n")
    with Index(tmp_path / "x.db", model_dir, loading={"backend": "numpy"}) as index:
        index.update(tmp_path / "a.txt")
        assert repr(index) == f"Index('{tmp_path}/x.db': 1 files, 1 passages)"
    assert repr(index) == f"Index('{tmp_path}/x.db': closed)"
