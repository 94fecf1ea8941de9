"""Live against transformers and sentence-transformers: random models of every family, their heads, their tokenizers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models as pieces, normalizers, pre_tokenizers, trainers

import minilm
from minilm import models
from minilm.functional import ACTIVATIONS
from minilm.loading.families import FAMILIES
from minilm.packing import Tokens, make_pack

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # the other packages' own
]

BACKENDS = ["numpy", "numba"]
HEADS = {"Model": models.AutoModel, "ForMaskedLM": models.AutoModelForMaskedLM,
         "ForSequenceClassification": models.AutoModelForSequenceClassification,
         "ForTokenClassification": models.AutoModelForTokenClassification}  # fmt: skip
WITH_TOKEN_TYPES = ("roberta", "xlm-roberta", "camembert", "electra", "albert")


def settings(family: str, seed: int, **others: Any) -> dict[str, Any]:
    """A random configuration under transformers' names."""
    rng = np.random.default_rng(seed)
    heads = int(rng.integers(1, 5))
    values: dict[str, Any] = {
        "vocab_size": int(rng.integers(20, 60)),
        "hidden_size": heads * int(rng.integers(4, 9)),
        "num_hidden_layers": int(rng.integers(1, 5)),
        "num_attention_heads": heads,
        "intermediate_size": int(rng.integers(3, 40)),
        "max_position_embeddings": int(rng.integers(14, 25)),
        "hidden_act": sorted(ACTIVATIONS)[seed % len(ACTIVATIONS)],
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
    }
    if family in WITH_TOKEN_TYPES:
        values["type_vocab_size"] = int(rng.integers(1, 4))
    if family in ("roberta", "xlm-roberta", "camembert"):
        values["pad_token_id"] = int(rng.integers(0, 4))
    if family == "electra":
        values["embedding_size"] = values["hidden_size"] if seed % 3 == 0 else int(rng.integers(4, 20))
    if family == "albert":
        values["embedding_size"] = values["hidden_size"] if seed % 3 == 0 else int(rng.integers(4, 20))
        values["num_hidden_groups"] = int(rng.integers(1, values["num_hidden_layers"] + 1))
        values["inner_group_num"] = 1 + seed % 2
    if family == "distilbert":
        names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
                 "intermediate_size": "hidden_dim", "hidden_act": "activation"}  # fmt: skip
        values = {names.get(name, name): value for name, value in values.items() if name != "layer_norm_eps"}
    return values | others


def random_model(family: str, kind: str, seed: int, **others: Any) -> Any:
    """A model of transformers with random parameters."""
    import torch
    import transformers

    config_class = transformers.AutoConfig.for_model(family).__class__
    config = config_class(**settings(family, seed, **others), attn_implementation="eager")
    model = getattr(transformers, FAMILIES[family].class_name + kind)(config).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if parameter.ndim == 1 and "norm" in name.lower() and name.endswith("weight") else 0.0
            spread = 0.3 if parameter.ndim == 1 or "relative" in name else parameter.shape[1] ** -0.5
            parameter.copy_(torch.from_numpy(rng.normal(center, spread, tuple(parameter.shape))))
    return model


def random_batch(model: Any, family: str, seed: int) -> dict[str, np.ndarray]:
    """A padded batch, with padding inside of texts as well."""
    rng = np.random.default_rng(seed)
    config = model.config
    shape = batch, tokens = int(rng.integers(1, 5)), int(rng.integers(2, 11))
    lengths = np.append(rng.integers(1, tokens + 1, batch - 1), tokens)
    mask = np.arange(tokens) < lengths[:, None]
    ids = np.where(mask, rng.integers(0, config.vocab_size, shape), config.pad_token_id)
    inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if family in WITH_TOKEN_TYPES and seed % 2:
        inputs["token_type_ids"] = np.sort(rng.integers(0, config.type_vocab_size, shape), axis=1)
    return inputs


def run_torch(model: Any, batch: dict[str, np.ndarray]) -> Any:
    import torch

    with torch.no_grad():
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        return model(**tensors, output_hidden_states=True, output_attentions=True)


def assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    theirs = np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert np.max(np.abs(ours - theirs), initial=0) <= tolerance * max(1, np.max(np.abs(theirs), initial=0))


def packed(batch: dict[str, np.ndarray]) -> Any:
    types = batch.get("token_type_ids", np.zeros_like(batch["input_ids"]))
    rows = zip(batch["input_ids"], batch["attention_mask"], types, strict=True)
    texts = [Tokens(ids[mask == 1], kinds[mask == 1]) for ids, mask, kinds in rows]
    return make_pack(range(len(texts)), texts)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_random_models(family: str, kind: str, seed: int, tmp_path: Path) -> None:
    labels = {} if kind in ("Model", "ForMaskedLM") else {"num_labels": (1, 2, 7)[seed % 3]}
    theirs = random_model(family, kind, seed, tie_word_embeddings=seed % 2 == 0, **labels)
    theirs.save_pretrained(tmp_path)
    batch = random_batch(theirs, family, seed)
    expected = run_torch(theirs, batch)
    exact = run_torch(theirs.double(), batch).attentions
    for backend in BACKENDS:
        model = HEADS[kind].from_pretrained(tmp_path, backend=backend)
        output = model(**batch, output_hidden_states=True, output_attentions=True)
        assert len(output.hidden_states) == len(expected.hidden_states)
        for ours, other in zip(output.hidden_states, expected.hidden_states, strict=True):
            assert_close(ours, other, 1e-5)
        for ours, other, truth in zip(output.attentions, expected.attentions, exact, strict=True):
            assert (ours.shape, ours.dtype) == (tuple(other.shape), np.float32)
            assert np.max(np.abs(ours - truth.numpy()), initial=0) <= 1e-6  # PyTorch's own rounding is no error of ours
        assert_close(output[0], expected[0], 1e-5)
        if kind == "Model":
            pooled = getattr(expected, "pooler_output", None)
            assert (output.pooler_output is None) == (pooled is None)
            if pooled is not None:
                assert_close(output.pooler_output, pooled, 1e-5)
        alone = model.backend.to_numpy(model.forward_packed(packed(batch)))
        rows = output[0] if kind == "ForSequenceClassification" else output[0][batch["attention_mask"] == 1]
        assert_close(alone, rows, 1e-5)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_is_saved_loads_in_transformers(family: str, kind: str, tmp_path: Path) -> None:
    """Under the family's own keys and settings, each parameter once, with and without what was read before."""
    import transformers

    labels = {} if kind in ("Model", "ForMaskedLM") else {"num_labels": 3}
    theirs = random_model(family, kind, 4, **labels)
    theirs.save_pretrained(tmp_path / "theirs")
    batch = random_batch(theirs, family, 4)
    expected = run_torch(theirs, batch)[0]
    ours = HEADS[kind].from_pretrained(tmp_path / "theirs")
    made = type(ours)(ours.params, ours.config)
    for i, model in enumerate((ours, made)):
        model.save_pretrained(tmp_path / str(i))
        auto = getattr(transformers, "AutoModel" if kind == "Model" else f"AutoModel{kind}")
        again, info = auto.from_pretrained(tmp_path / str(i), output_loading_info=True, attn_implementation="eager")
        assert type(again) is type(theirs)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        np.testing.assert_array_equal(run_torch(again, batch)[0], expected)
        np.testing.assert_array_equal(HEADS[kind].from_pretrained(tmp_path / str(i))(**batch)[0], ours(**batch)[0])


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_encoder_of_a_model_with_a_head(family: str, kind: str, tmp_path: Path) -> None:
    """`base_model`, its name in the family's classes, and the table of words."""
    labels = {} if kind in ("Model", "ForMaskedLM") else {"num_labels": 3}
    theirs = random_model(family, kind, 5, **labels)
    theirs.save_pretrained(tmp_path)
    batch = random_batch(theirs, family, 5)
    expected = run_torch(theirs.base_model, batch)
    for backend in BACKENDS:
        ours = HEADS[kind].from_pretrained(tmp_path, backend=backend)
        assert ours.base_model_prefix == theirs.base_model_prefix
        encoders = [ours.base_model] if kind == "Model" else [ours.base_model, getattr(ours, ours.base_model_prefix)]
        for encoder in encoders:
            assert type(encoder).__name__ == "BertModel"
            output = encoder(**batch)
            assert_close(output.last_hidden_state, expected.last_hidden_state, 1e-5)
            pooled = getattr(expected, "pooler_output", None)
            assert (output.pooler_output is None) == (pooled is None)
            if pooled is not None:
                assert_close(output.pooler_output, pooled, 1e-5)
        table, other = ours.get_input_embeddings(), theirs.get_input_embeddings()
        assert (table.num_embeddings, table.embedding_dim) == (other.num_embeddings, other.embedding_dim)
        np.testing.assert_array_equal(table.weight, other.weight.detach().numpy())
        ids = batch["input_ids"]
        np.testing.assert_array_equal(table(ids), table.weight[ids])


@pytest.mark.parametrize("kind", ["Model", "ForSequenceClassification"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_config_is_read_and_written(family: str, kind: str, tmp_path: Path) -> None:
    import transformers

    import minilm

    labels = {"id2label": {0: "no", 1: "yes", 2: "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}}
    theirs = random_model(family, kind, 6, **({} if kind == "Model" else labels))
    theirs.save_pretrained(tmp_path / "theirs")
    config = minilm.BertConfig.from_pretrained(tmp_path / "theirs")
    config.save_pretrained(tmp_path / "ours")
    assert minilm.BertConfig.from_pretrained(tmp_path / "ours") == config
    again = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    assert type(again) is type(theirs.config) and again.architectures == theirs.config.architectures
    before, after = theirs.config.to_dict(), again.to_dict()
    read = set(FAMILIES[family].from_bert(config)) - {"num_labels"}
    assert {name for name in read if before.get(name) != after.get(name)} == set()
    assert again.id2label == theirs.config.id2label


# ---- sentence models: a tokenizer of the family's kind, trained here -------------------------------------------------

WORDS = " ".join(topics.values()).split()


def varied_texts(count: int = 100) -> list[str]:
    rng = random.Random(3)
    texts = ["", " ", ".", "a", "naïve café Straße İstanbul", "東京 人人生而自由", "😀 👍🏽 ☃", "tab\tand\nline"]
    texts += ["<s> </s> <pad> <mask> <unk>", "[CLS] [SEP] [MASK] [PAD] [UNK]", "<pad> in it <pad> twice", "x" * 300]
    while len(texts) < count:
        start = rng.randrange(len(WORDS) - 400)
        texts.append(" ".join(WORDS[start : start + rng.choice((1, 2, 5, 9, 14, 20, 33, 60, 200, 400))]))
    return texts


def trained(model: Any, trainer: Any, pre_tokenizer: Any, normalizer: Any = None) -> dict[str, Any]:
    """Train a tokenizer on the words of Python's own documentation; return its model as ``tokenizer.json`` has it."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([" ".join(WORDS[:20_000]), "naïve café Straße"], trainer)
    return json.loads(tokenizer.to_str())["model"]


def word_pieces(special: list[str]) -> dict[str, int]:
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    unknown = next(token for token in special if "unk" in token.lower())
    whole = trained(
        pieces.WordPiece(unk_token=unknown),
        trainer,
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
    )
    return whole["vocab"]


def unigram(special: list[str], unknown: str) -> list[tuple[str, float]]:
    trainer = trainers.UnigramTrainer(vocab_size=500, special_tokens=special, unk_token=unknown, show_progress=False)
    split = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return [(piece, score) for piece, score in trained(pieces.Unigram(), trainer, split)["vocab"]]


def byte_level() -> dict[str, Any]:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    model = trained(pieces.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TOKENIZERS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "roberta": ("RobertaTokenizer", byte_level),
    "xlm-roberta": ("XLMRobertaTokenizer", lambda: {"vocab": unigram(SPECIAL, "<unk>")}),
    "camembert": ("CamembertTokenizer", lambda: {"vocab": unigram(SPECIAL, "<unk>")}),
    "distilbert": ("DistilBertTokenizer", lambda: {"vocab": word_pieces(BERT_SPECIAL)}),
    "electra": ("ElectraTokenizer", lambda: {"vocab": word_pieces(BERT_SPECIAL)}),
    "albert": (
        "AlbertTokenizer",
        lambda: {"vocab": unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>")},
    ),
    "mpnet": ("MPNetTokenizer", lambda: {"vocab": word_pieces([*SPECIAL[:3], "[UNK]", "<mask>"])}),
}
SIZES = {
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_size": 48,
    "intermediate_size": 96,
}
DISTIL_SIZES = {"n_layers": 3, "n_heads": 4, "dim": 48, "hidden_dim": 96}


def save(family: str, kind: str, folder: Path, **others: Any) -> Path:
    """Save a random model with a tokenizer of its family."""
    import transformers

    name, train = TOKENIZERS[family]
    tokenizer = getattr(transformers, name)(**train(), model_max_length=128)
    tokenizer.save_pretrained(folder)
    if family == "albert":  # trained with token types, which transformers 5 leaves out unless the file says otherwise
        path = folder / "tokenizer_config.json"
        names = ["input_ids", "token_type_ids", "attention_mask"]
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": names}))
    sizes = {
        "distilbert": DISTIL_SIZES,
        "albert": {**SIZES, "num_hidden_groups": 1, "inner_group_num": 1},
    }.get(family, SIZES)
    after_padding = family in ("roberta", "xlm-roberta", "camembert", "mpnet")
    model = random_model(
        family,
        kind,
        seed=8,
        vocab_size=len(tokenizer),
        max_position_embeddings=130 if after_padding else 128,
        pad_token_id=tokenizer.pad_token_id,
        **{"activation" if family == "distilbert" else "hidden_act": "gelu"},
        **sizes,
        **others,
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", TOKENIZERS)
def test_sentence_models(family: str, tmp_path: Path) -> None:
    import sentence_transformers
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = save(family, "Model", tmp_path / "base")
    pooling = "cls" if family == "xlm-roberta" else "mean"
    theirs = sentence_transformers.SentenceTransformer(
        modules=[Transformer(str(folder)), Pooling(48, pooling), Normalize()], device="cpu"
    )
    theirs.save(str(tmp_path / "saved"))
    texts = varied_texts()
    for backend in BACKENDS:
        ours = minilm.SentenceTransformer(tmp_path / "saved", backend=backend, truncation="silent")
        assert ours.max_seq_length == theirs.max_seq_length == 128
        tokens, _ = ours.tokenizer.encode_packed(texts, ours.max_seq_length)
        for text, one in zip(texts, tokens, strict=True):
            assert one.input_ids.tolist() == theirs.preprocess([text])["input_ids"][0].tolist(), text
        assert_close(ours.encode(texts), theirs.encode(texts), 1e-6)


@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("family", TOKENIZERS)
def test_cross_encoders(family: str, labels: int, tmp_path: Path) -> None:
    import sentence_transformers

    folder = save(family, "ForSequenceClassification", tmp_path, num_labels=labels)
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu", num_labels=labels)
    texts = varied_texts()
    pairs = list(zip(texts[12:], reversed(texts[12:]), strict=True))
    for given in ({}, {"num_labels": labels}):
        ours = minilm.CrossEncoder(folder, truncation="silent", **given)
        assert ours.num_labels == labels
        assert_close(ours.predict(pairs), theirs.predict(pairs), 1e-5)
