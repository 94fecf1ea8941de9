"""`SentenceTransformer`: what goes in, what comes out, and what is refused, on a tiny random model."""

from __future__ import annotations

import json
import pickle
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from minilm.config import BertConfig
from minilm.functional import mean_pooling, normalize
from minilm.inspection.trace import profile, trace
from minilm.models import BertModel
from minilm.sentences.inputs import gather_array
from minilm.sentences.modules import Normalize, Pooling, Transformer
from minilm.sentences.sentence_transformer import SentenceTransformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer
from minilm.vectors.similarity import SimilarityFunction

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(ord("a") + i) for i in range(26)]
VOCAB = [*SPECIAL, *LETTERS, "##s", "query", ":", "一", "é", "."]
assert len(VOCAB) == 37


@pytest.fixture
def transformer(tiny_config: BertConfig, random_params: Callable[..., Any]) -> Transformer:
    model = BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config)
    return Transformer(model, Tokenizer(word_piece({piece: i for i, piece in enumerate(VOCAB)})))


@pytest.fixture
def model(transformer: Transformer) -> SentenceTransformer:
    return SentenceTransformer(modules=[transformer, Pooling(), Normalize()], threads=2, truncation="error")


@pytest.fixture
def texts() -> list[str]:
    """23 texts of 0 to 9 letters, in no order of length."""
    rng = random.Random(0)
    return [" ".join(rng.choices(LETTERS, k=rng.randrange(10))) for _ in range(23)]


def by_hand(model: SentenceTransformer, text: str) -> np.ndarray:
    """One text through the padded face of the model, as the model card has it."""
    encoded = model.tokenizer([text], truncation=True, max_length=model.max_seq_length, return_tensors="np")
    states = model.transformer.model(**encoded).last_hidden_state
    return normalize(mean_pooling(states, encoded["attention_mask"]))[0]


# ---- what goes in and what comes out ---------------------------------------------------------------------------------


def test_every_text_gets_its_own_vector_in_order(model: SentenceTransformer, texts: list[str]) -> None:
    vectors = model.encode(texts)
    assert vectors.shape == (23, 12) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [by_hand(model, text) for text in texts], rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_neither_batch_nor_threads_nor_order_matter(
    model: SentenceTransformer, texts: list[str], batch_size: int, threads: int
) -> None:
    vectors = model.encode(texts)
    model.threads = threads
    order = random.Random(1).sample(range(23), 23)
    again = model.encode([texts[i] for i in order], batch_size=batch_size)
    np.testing.assert_allclose(again, vectors[order], rtol=0, atol=1e-6)


def test_batch_size_is_the_most_texts_in_a_pack(
    model: SentenceTransformer, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, forward = [], BertModel.forward_packed
    monkeypatch.setattr(
        BertModel, "forward_packed", lambda self, pack: sizes.append(len(pack.rows)) or forward(self, pack)
    )
    model.threads = 1
    model.encode(texts, batch_size=5)
    assert max(sizes) == 5 and sum(sizes) == 23
    sizes.clear()
    model.encode(texts)
    assert sizes == [23]


@pytest.mark.parametrize(
    "container",
    [
        tuple,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        pd.Series,
        lambda texts: pd.Series(texts, index=range(100, 123)),
        lambda texts: pd.Series(texts, dtype="string"),
        iter,
        lambda texts: (text for text in texts),
    ],
)
def test_any_container_of_strings(
    container: Callable[[list[str]], Any], model: SentenceTransformer, texts: list[str]
) -> None:
    np.testing.assert_array_equal(model.encode(container(texts)), model.encode(texts))


def test_one_string_gives_one_vector(model: SentenceTransformer) -> None:
    assert model.encode("a b").shape == (12,)
    assert model.encode(np.str_("a b")).shape == (12,)
    np.testing.assert_allclose(model.encode("a b"), model.encode(["c", "a b"])[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("nothing", [[], (), np.array([]), iter([])])
def test_no_texts_give_no_vectors(nothing: Any, model: SentenceTransformer) -> None:
    vectors = model.encode(nothing)
    assert vectors.shape == (0, 12) and vectors.dtype == np.float32
    assert model.encode([], output_value="token_embeddings") == []


def test_blank_texts_are_texts(model: SentenceTransformer) -> None:
    vectors = model.encode(["", " \n\t", "a"])
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-7)
    np.testing.assert_allclose(vectors[0], by_hand(model, ""), rtol=0, atol=1e-6)
    assert abs(vectors[0] - vectors[2]).max() > 0.01


def test_token_embeddings_have_no_padding(model: SentenceTransformer, texts: list[str]) -> None:
    tokens = model.encode(texts, output_value="token_embeddings")
    assert [len(states) for states in tokens] == model.token_count(texts).tolist()
    np.testing.assert_allclose(
        [normalize(states.mean(axis=0)) for states in tokens], model.encode(texts), rtol=0, atol=1e-6
    )


def test_all_features_of_a_text(model: SentenceTransformer, texts: list[str]) -> None:
    features = model.encode(texts, output_value=None, truncate_dim=5)
    np.testing.assert_array_equal([f["sentence_embedding"] for f in features], model.encode(texts, truncate_dim=5))
    for text, f, states in zip(texts, features, model.encode(texts, output_value="token_embeddings"), strict=True):
        assert f["input_ids"].tolist() == model.tokenizer(text)["input_ids"]
        assert f["attention_mask"].tolist() == [1] * len(f["input_ids"])
        assert not f["token_type_ids"].any() and len(f["token_type_ids"]) == len(f["input_ids"])
        np.testing.assert_array_equal(f["token_embeddings"], states)
    assert model.encode("a", output_value=None).keys() == features[0].keys()


def test_components_are_cut_before_they_are_normalized(model: SentenceTransformer, texts: list[str]) -> None:
    full = model.encode(texts)
    np.testing.assert_array_equal(model.encode(texts, truncate_dim=5), full[:, :5])
    np.testing.assert_array_equal(model.encode(texts, truncate_dim=99), full)
    cut = model.encode(texts, truncate_dim=5, normalize_embeddings=True)
    np.testing.assert_allclose(cut, normalize(full[:, :5].astype(np.float64)), rtol=0, atol=1e-7)
    model.truncate_dim = 7
    assert model.get_embedding_dimension() == model.get_sentence_embedding_dimension() == 7
    assert model.encode(texts).shape == (23, 7) and model.encode("a", truncate_dim=9).shape == (9,)


def test_precisions(model: SentenceTransformer, texts: list[str]) -> None:
    vectors = model.encode(texts)
    bits = model.encode(texts, precision="ubinary")
    assert bits.dtype == np.uint8 and bits.shape == (23, 2)
    np.testing.assert_array_equal(np.unpackbits(bits, axis=1)[:, :12], vectors > 0)
    signed = model.encode(texts, precision="binary")
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int) + 128, bits)
    levels = model.encode(texts, precision="uint8")
    assert levels.dtype == np.uint8 and levels.min() == 0 and levels.max() == 255
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    assert abs(low + (levels + 0.5) * (high - low) / 255 - vectors).max() < ((high - low) / 255).max()
    np.testing.assert_array_equal(model.encode(texts, precision="int8").astype(int) + 128, levels)
    assert model.encode([], precision="int8").shape == (0, 12)
    np.testing.assert_array_equal(model.encode(texts, precision=None), vectors)
    with pytest.raises(ValueError, match="ranges need several vectors"):
        model.encode("a", precision="uint8")


def test_list_of_vectors_where_asked_for(model: SentenceTransformer, texts: list[str]) -> None:
    vectors = model.encode(texts, convert_to_numpy=False)
    assert isinstance(vectors, list)
    np.testing.assert_array_equal([np.asarray(vector) for vector in vectors], model.encode(texts))


def test_float64_model_gives_float64(tiny_config: BertConfig, random_params: Callable[..., Any]) -> None:
    tree = random_params(BertModel.shapes(tiny_config))
    wide = json.loads(json.dumps(tree, default=lambda array: array.tolist()), object_hook=_as_float64)
    tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(VOCAB)}))
    models = [
        SentenceTransformer(modules=[Transformer(BertModel(params, tiny_config), tokenizer), Pooling()])
        for params in (tree, wide)
    ]
    vectors = [model.encode(["a b", "c"]) for model in models]
    assert [array.dtype for array in vectors] == [np.float32, np.float64]
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-5)
    assert abs(vectors[0] - vectors[1]).max() > 0


def _as_float64(node: dict[str, Any]) -> dict[str, Any]:
    return {name: np.array(value) if isinstance(value, list) else value for name, value in node.items()}


# ---- writing into an array -------------------------------------------------------------------------------------------


def test_results_stream_into_an_array(model: SentenceTransformer, texts: list[str], tmp_path: Path) -> None:
    out = np.lib.format.open_memmap(tmp_path / "vectors.npy", mode="w+", dtype=np.float32, shape=(23, 12))
    assert model.encode(texts, out=out) is out
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), model.encode(texts))
    bits = np.zeros((23, 2), np.uint8)
    model.encode(iter(texts), out=bits, precision="ubinary")
    np.testing.assert_array_equal(bits, model.encode(texts, precision="ubinary"))


def test_an_iterator_may_fill_a_part_of_the_array(model: SentenceTransformer, texts: list[str]) -> None:
    out = np.full((30, 12), 9, np.float32)
    filled = model.encode(iter(texts), out=out)
    np.testing.assert_array_equal(filled, model.encode(texts))
    assert filled.base is out and (out[23:] == 9).all()


def test_an_array_of_unknown_length_grows() -> None:
    order = np.random.default_rng(0).permutation(10_000)
    packs = ((rows, rows[:, None] * np.ones(3, np.float32)) for rows in np.split(order, 100))
    array = gather_array(packs, None, 3, np.float32)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.repeat(np.arange(10_000, dtype=np.float32)[:, None], 3, axis=1))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((22, 12), np.float32), r"shape \(22, 12\).*\(23, 12\)"),
        (np.empty((23, 13), np.float32), r"\(23, 13\)"),
        (np.empty(276, np.float32), r"\(276,\)"),
        (np.empty((23, 12), np.float64), "float64.*float32"),
        (np.broadcast_to(np.float32(0), (23, 12)), "read-only"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    out: np.ndarray, message: str, model: SentenceTransformer, texts: list[str]
) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(texts, out=out)


def test_an_array_is_refused_where_it_cannot_be_written_as_it_comes(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="2 rows, but there are more"):
        model.encode(iter("abc"), out=np.empty((2, 12), np.float32))
    with pytest.raises(ValueError, match="int8 needs the ranges"):
        model.encode(["a"], out=np.empty((1, 12), np.int8), precision="int8")
    with pytest.raises(ValueError, match=r"(out|precision) is for"):
        model.encode(["a"], out=np.empty((1, 12), np.float32), output_value="token_embeddings")
    with pytest.raises(TypeError, match="out must be a NumPy array or memmap, got list"):
        model.encode(["a"], out=[[0.0] * 12])  # type: ignore[arg-type]


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [None, float("nan"), np.nan, pd.NA, 3, b"bytes", ["nested"], ("a", "b", "c"), {"image": "a"}, {"text": 3}],
    ids=repr,
)
@pytest.mark.parametrize("container", [list, iter, pd.Series])
def test_what_is_no_string_is_named_by_its_index(container: Any, bad: Any, model: SentenceTransformer) -> None:
    with pytest.raises(TypeError, match=r"input 2: expected a (pair of strings|string), got") as error:
        model.encode(container(["a", "", bad, "b"]))
    assert ("missing value" in str(error.value)) == (np.ndim(bad) == 0 and pd.isna(bad) is True)


def test_nothing_is_computed_before_a_list_is_checked(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BertModel, "forward_packed", lambda *_: pytest.fail("computed"))
    with pytest.raises(TypeError, match="input 9000"):
        model.encode(["a"] * 9000 + [None])


@pytest.mark.parametrize("bad", [None, 3, b"a b", {"a": 1}, {"a", "b"}, np.array([["a"]]), pd.DataFrame({"t": ["a"]})])
def test_what_holds_no_texts_is_refused(bad: Any, model: SentenceTransformer) -> None:
    with pytest.raises(TypeError, match="expected"):
        model.encode(bad)


def test_lone_surrogates_are_named_and_nul_is_a_character(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match=r"input 1: character 2 is the lone surrogate '\\ud800'"):
        model.encode(["a", "é \ud800"])
    np.testing.assert_array_equal(model.encode("a\x00"), model.encode("a"))  # BERT's cleaning drops it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"output_value": "tokens"}, "output_value must be one of"),
        ({"precision": "int4"}, "precision must be one of"),
        ({"truncate_dim": 0}, "truncate_dim must be an integer of at least 1"),
        ({"device": "cuda"}, "the model is on .cpu.: the device is chosen once"),
        ({"prompt_name": "question"}, "prompt name 'question' is unknown; known: 'query', 'document'"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, Any], message: str, model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(["a"], **settings)


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_are_put_before_the_texts(transformer: Transformer) -> None:
    modules = [transformer, Pooling()]
    model = SentenceTransformer(modules=modules, prompts={"query": "query: ", "passage": "s "})
    plain = SentenceTransformer(modules=modules)
    assert model.prompts == {"query": "query: ", "document": "", "passage": "s "}
    expected = plain.encode(["query: a", "query: b c"])
    for vectors in (
        model.encode(["a", "b c"], prompt="query: "),
        model.encode(["a", "b c"], prompt_name="query"),
        model.encode(["a", "b c"], prompt="query: ", prompt_name="passage"),
        model.encode_query(["a", "b c"]),
        model.encode_document(["a", "b c"], prompt_name="query"),
        model.encode_document(["a", "b c"], prompt="query: "),
    ):
        np.testing.assert_array_equal(vectors, expected)
    np.testing.assert_array_equal(model.encode(["a", "b c"]), plain.encode(["a", "b c"]))
    np.testing.assert_array_equal(model.encode_document(["a"]), plain.encode(["a"]))
    assert model.token_count("a", prompt_name="query") == plain.token_count("query: a") == 5


def test_the_default_prompt(transformer: Transformer) -> None:
    modules = [transformer, Pooling()]
    model = SentenceTransformer(modules=modules, prompts={"passage": "s "}, default_prompt_name="passage")
    plain = SentenceTransformer(modules=modules)
    np.testing.assert_array_equal(model.encode(["a"]), plain.encode(["s a"]))
    np.testing.assert_array_equal(model.encode(["a"], prompt=""), plain.encode(["a"]))
    np.testing.assert_array_equal(model.encode_query(["a"]), plain.encode(["a"]))
    assert model.token_count(["a"]).tolist() == [4]
    with pytest.raises(ValueError, match="'missing' is unknown"):
        SentenceTransformer(modules=modules, default_prompt_name="missing")


def test_a_prompt_that_is_none_and_prompts_without_a_query(transformer: Transformer) -> None:
    modules = [transformer, Pooling()]
    plain = SentenceTransformer(modules=modules)
    model = SentenceTransformer(modules=modules, prompts={"query": None})  # type: ignore[dict-item]
    np.testing.assert_array_equal(model.encode_query(["a"]), plain.encode(["a"]))
    model.prompts = {"passage": "s "}
    np.testing.assert_array_equal(model.encode_query(["a"]), plain.encode(["a"]))
    np.testing.assert_array_equal(model.encode_document(["a"]), plain.encode(["s a"]))


def test_a_prompt_can_be_left_out_of_the_pooling(transformer: Transformer) -> None:
    model = SentenceTransformer(modules=[transformer, Pooling(include_prompt=False)])
    states = model.encode(["query: a b"], output_value="token_embeddings")[0]
    np.testing.assert_allclose(model.encode("a b", prompt="query: "), states[3:].mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.encode("query: a b"), states.mean(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_call_leaves_the_prompt_out_of_the_pooling_as_encode_does(
    include_prompt: bool, side: str, transformer: Transformer
) -> None:
    model = SentenceTransformer(modules=[transformer, Pooling(include_prompt=include_prompt)])
    model.tokenizer.padding_side = side
    features = model.preprocess(["a b c", "d"], prompt="query: ")
    assert features["prompt_length"] == 3  # [CLS] among them
    out = model(features)
    if side == "right":  # on the left, padding moves the positions
        vectors = model.encode(["a b c", "d"], prompt="query: ")
        np.testing.assert_allclose(out["sentence_embedding"], vectors, rtol=0, atol=1e-6)
    for vector, states, mask in zip(
        out["sentence_embedding"], out["token_embeddings"], features["attention_mask"], strict=True
    ):
        of_text = states[mask == 1][0 if include_prompt else 3 :]
        np.testing.assert_allclose(vector, of_text.mean(axis=0), rtol=0, atol=1e-6)
    assert "prompt_length" not in model.preprocess(["a"])


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_truncation_warns_once_with_the_numbers(transformer: Transformer) -> None:
    model = SentenceTransformer(modules=[transformer, Pooling()], threads=2)
    assert model.max_seq_length == 11  # the positions that there are
    long, longer = "a " * 10, "b " * 16
    with pytest.warns(UserWarning, match="2 of 3 inputs have more than 11 tokens and lost 8 tokens") as caught:
        vectors = model.encode([long, "c", longer])
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(vectors, model.encode(["a " * 9, "c", "b " * 9]), rtol=0, atol=1e-6)
        model.truncation = "silent"
        np.testing.assert_allclose(vectors, model.encode([long, "c", longer]), rtol=0, atol=1e-6)
        np.testing.assert_allclose(vectors[0], model.encode_query(long), rtol=0, atol=1e-6)


def test_of_very_long_texts_not_every_lost_token_is_counted(transformer: Transformer) -> None:
    model = SentenceTransformer(modules=[transformer, Pooling()])
    with pytest.warns(UserWarning, match="1 of 2 inputs have more than 11 tokens and lost 10000 tokens or more"):
        vectors = model.encode(["a " * 100_000, "c"])
    np.testing.assert_allclose(vectors, model.encode(["a " * 9, "c"]), rtol=0, atol=1e-6)
    model.truncation = "error"
    with pytest.raises(ValueError, match="input 1 has 10011 tokens or more, but 11 fit"):
        model.encode(["c", "a " * 100_000])


def test_the_warning_points_at_the_first_caller_outside_of_the_package(transformer: Transformer) -> None:
    """Through every frame of minilm, and no further; a package whose name only begins alike is a caller."""
    model = SentenceTransformer(modules=[transformer, Pooling()])
    classes = {"model": model, "texts": ["a " * 10], "trace": trace, "profile": profile}
    for call in (
        "model.encode(texts)",
        "model.encode_query(texts)",
        "model.encode_document(sentences=texts)",
        "list(model.encode_chunks(texts))",
        "trace(model, texts)",
        "profile(model, texts, repeat=1)",
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code = compile(f"\n\n{call}", "caller.py", "exec")
            exec(code, {**classes, "__name__": "minilm_tools.run", "__package__": "minilm_tools"})
        assert {(warning.filename, warning.lineno) for warning in caught} == {("caller.py", 3)}, call


def test_truncation_can_be_an_error(model: SentenceTransformer) -> None:
    assert model.encode("a " * 9).shape == (12,)
    with pytest.raises(ValueError, match="input 1 has 12 tokens, but 11 fit"):
        model.encode(["c", "a " * 10])
    with pytest.raises(ValueError, match="truncation must be one of"):
        SentenceTransformer(modules=[model.transformer, model.pooling], truncation="loud")
    with pytest.raises(ValueError, match="truncation must be one of"):
        model.truncation = "loud"
    with pytest.raises(ValueError, match="threads must be an integer of at least 1, got 0"):
        SentenceTransformer(modules=[model.transformer, model.pooling], threads=0)


def test_max_seq_length_has_limits(model: SentenceTransformer) -> None:
    model.max_seq_length = 4
    with pytest.raises(ValueError, match="input 0 has 5 tokens, but 4 fit"):
        model.encode(["a b c"])
    assert model.tokenize(["a b c", "d"])["input_ids"].tolist() == [[2, 5, 6, 3], [2, 8, 3, 0]]
    for bad in (12, 1, -1, 4.0, True, None):
        with pytest.raises(ValueError, match="max_seq_length must be from 2 to the model's 11 positions"):
            model.max_seq_length = bad  # type: ignore[assignment]


def test_token_count(model: SentenceTransformer) -> None:
    assert model.token_count("") == 2
    assert model.token_count("as " * 40) == 82
    counts = model.token_count(["", "a b", "as " * 40])
    assert counts.tolist() == [2, 4, 82] and counts.dtype == np.int64
    assert model.token_count([]).shape == (0,)
    with pytest.raises(TypeError, match="input 1"):
        model.token_count(["a", None])


# ---- the edges -------------------------------------------------------------------------------------------------------


def test_pickled_and_back(model: SentenceTransformer, texts: list[str]) -> None:
    model.max_seq_length, model.truncate_dim, model.similarity_fn_name = 9, 7, "dot"
    model.truncation = "silent"
    again = pickle.loads(pickle.dumps(model))
    assert (again.max_seq_length, again.truncate_dim, again.similarity_fn_name) == (9, 7, "dot")
    np.testing.assert_array_equal(again.encode(texts), model.encode(texts))


def test_a_loaded_model_is_pickled_by_name(model_dir: Path) -> None:
    model = SentenceTransformer(model_dir)
    data = pickle.dumps(model)
    assert len(data) < 2_000_000  # the tokenizer, not the 91 MB of weights
    np.testing.assert_array_equal(pickle.loads(data).encode("a text"), model.encode("a text"))


def test_progress_shows_where_asked_for(model: SentenceTransformer, capsys: pytest.CaptureFixture[str]) -> None:
    model.encode(["a", "b"])
    assert capsys.readouterr() == ("", "")
    model.encode(["a", "b"], show_progress_bar=True)
    captured = capsys.readouterr()
    assert "2/2" in captured.err and captured.out == ""
    model.encode(iter("ab"), show_progress_bar=True)
    assert "2text" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["stderr", "stdout"])
def test_progress_without_a_standard_stream(
    closed: str, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under pythonw, or when a shell closed it."""
    expected = model.encode(["a", "b"])
    monkeypatch.setattr(sys, closed, None)
    np.testing.assert_array_equal(model.encode(["a", "b"], show_progress_bar=True), expected)


def test_similarity_is_the_one_that_is_named(model: SentenceTransformer) -> None:
    a, b = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [6.0, 8.0]])
    expected = {
        "cosine": [[0.8, 1.0], [0.0, 0.6]],
        "dot": [[8.0, 50.0], [0.0, 6.0]],
        "euclidean": [[-(13**0.5), -5.0], [-(5**0.5), -(89**0.5)]],
        "manhattan": [[-5.0, -7.0], [-3.0, -13.0]],
    }
    assert model.similarity_fn_name == "cosine"
    for name, scores in expected.items():
        model.similarity_fn_name = name
        np.testing.assert_allclose(model.similarity(a, b), scores, rtol=0, atol=1e-12)
        np.testing.assert_allclose(model.similarity_pairwise(a, b), np.diag(scores), rtol=0, atol=1e-12)
        np.testing.assert_allclose(model.similarity(a[0], b), scores[:1], rtol=0, atol=1e-12)
    model.similarity_fn_name = SimilarityFunction.DOT_PRODUCT
    assert model.similarity_fn_name == "dot"
    with pytest.raises(ValueError, match="similarity_fn_name must be one of"):
        model.similarity_fn_name = "euclid"


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_packed_bits_have_no_similarity_here(precision: str, model: SentenceTransformer, texts: list[str]) -> None:
    bits, levels = model.encode(texts, precision=precision), model.encode(texts, precision="int8")
    for compare in (model.similarity, model.similarity_pairwise):
        with pytest.raises(ValueError, match=r"2 bytes are the packed bits of 12 components.*semantic_search_faiss"):
            compare(bits, bits)
        assert np.isfinite(compare(levels, levels)).all()


# ---- from files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, tiny_config: BertConfig, random_params: Callable[..., Any]) -> Path:
    """A checkpoint of a bare encoder, without anything of sentence-transformers."""
    tree = random_params(BertModel.shapes(tiny_config))
    write_safetensors(tmp_path / "model.safetensors", tree)
    write_json(
        tmp_path / "config.json",
        {
            "model_type": "bert",
            "vocab_size": 37,
            "hidden_size": 12,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 20,
            "max_position_embeddings": 11,
        },
    )
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    return tmp_path


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_safetensors(path: Path, tree: dict[str, Any]) -> None:
    def flatten(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    save_file(dict(flatten(tree, "")), path)


def write_modules(folder: Path, *types: str) -> None:
    names = [kind.rpartition(".")[2] for kind in types]
    entries = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": kind}
        for i, (kind, name) in enumerate(zip(types, names, strict=True))
    ]
    write_json(folder / "modules.json", entries)


def test_a_bare_encoder_gets_mean_pooling(folder: Path) -> None:
    model = SentenceTransformer(folder)
    assert model.max_seq_length == 11 and model.pooling == Pooling(("mean",)) and model.steps == ()
    states = model.encode("a b", output_value="token_embeddings")
    np.testing.assert_allclose(model.encode("a b"), states.mean(axis=0), rtol=0, atol=1e-6)


def test_a_model_with_everything(folder: Path) -> None:
    write_modules(
        folder,
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.models.Dense",
        "sentence_transformers.models.Normalize",
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 7, "do_lower_case": False})
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": ["cls", "max"], "include_prompt": False})
    write_json(
        folder / "2_Dense/config.json",
        {
            "in_features": 24,
            "out_features": 5,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(5, 24)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense/model.safetensors")
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": "query: "},
            "default_prompt_name": "query",
            "similarity_fn_name": "dot",
            "truncate_dim": 4,
        },
    )
    model = SentenceTransformer(folder)
    assert (model.max_seq_length, model.similarity_fn_name, model.get_embedding_dimension()) == (7, "dot", 4)
    assert model.prompts == {"query": "query: ", "document": ""} and model.default_prompt_name == "query"
    states = model.encode("a b", output_value="token_embeddings", prompt_name="query")[3:]
    x = np.concatenate([states[0], states.max(axis=0)]) @ weight.T + bias
    np.testing.assert_allclose(model.encode("a b"), normalize(x)[:4], rtol=0, atol=1e-6)
    override = SentenceTransformer(folder, prompts={"query": "s "}, similarity_fn_name="cosine", truncate_dim=3)
    assert (override.prompts["query"], override.similarity_fn_name, override.truncate_dim) == ("s ", "cosine", 3)


def test_pooling_flags_of_the_old_format(folder: Path) -> None:
    types = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
    write_modules(folder, *types)
    for flags, modes in [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("max", "mean")),
        ({"pooling_mode_lasttoken": True, "pooling_mode_weightedmean_tokens": True}, ("weightedmean", "lasttoken")),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({"pooling_mode_cls_token": False}, ("mean",)),
    ]:
        write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": 12, **flags})
        assert SentenceTransformer(folder).pooling.modes == modes


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["Transformer", "Pooling", "CNN"], "module 'sentence_transformers.models.CNN' is not implemented"),
        (["Transformer"], "expected a Transformer, a Pooling"),
        (["Transformer", "Normalize", "Pooling"], "expected a Transformer, a Pooling.*got Transformer, Normalize"),
    ],
)
def test_other_modules_are_named(types: list[str], message: str, folder: Path) -> None:
    write_modules(folder, *(f"sentence_transformers.models.{name}" for name in types))
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "mean"})
    write_json(folder / "2_Pooling/config.json", {"pooling_mode": "mean"})
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(folder)


def test_foreign_code_and_other_kinds_of_models_are_refused(folder: Path) -> None:
    write_modules(folder, "custom_module.Transformer")
    with pytest.raises(ValueError, match=r"modules.json: module 'custom_module.Transformer' is not implemented"):
        SentenceTransformer(folder)
    (folder / "modules.json").unlink()
    write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder"})
    with pytest.raises(ValueError, match="this is a SparseEncoder, not a SentenceTransformer"):
        SentenceTransformer(folder)


def test_a_dense_module_is_checked(folder: Path) -> None:
    types = ["Transformer", "Pooling", "Dense"]
    write_modules(folder, *(f"sentence_transformers.models.{name}" for name in types))
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "mean"})
    config = {"in_features": 12, "out_features": 5, "bias": False}
    weight = np.ones((5, 12), np.float32)
    save_file({"linear.weight": weight}, folder / "2_Dense.safetensors")
    for change, tensors, message in [
        ({}, {"linear.weight": weight[:4]}, "linear.weight"),
        ({"bias": True}, {"linear.weight": weight}, "linear.bias"),
        ({"in_features": 11}, {"linear.weight": weight[:, :11].copy()}, "takes 11 components, but 12 come"),
        ({"activation_function": "os.system"}, {"linear.weight": weight}, "activation 'os.system' is not implemented"),
        ({"module_input_name": "token_embeddings"}, {"linear.weight": weight}, "only 'sentence_embedding'"),
    ]:
        write_json(folder / "2_Dense/config.json", {**config, **change})
        save_file(tensors, folder / "2_Dense/model.safetensors")
        with pytest.raises(ValueError, match=message):
            SentenceTransformer(folder)
    write_json(folder / "2_Dense/config.json", config)
    save_file({"linear.weight": weight}, folder / "2_Dense/model.safetensors")
    assert SentenceTransformer(folder).encode("a").shape == (5,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query_length", 32),
        ("document_length", 180),
        ("query_expansion", {"strategy": "fixed", "length": 32}),
        ("processing_kwargs", {"text": {"max_length": 9}}),
        ("transformer_task", "fill-mask"),
    ],
)
def test_settings_of_the_transformer_that_would_act_are_refused(name: str, value: Any, folder: Path) -> None:
    harmless = {"query_length": None, "query_expansion": None, "processing_kwargs": {}, "unpad_inputs": None,
                "transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}  # fmt: skip
    path = folder / "sentence_bert_config.json"
    write_json(path, harmless)
    assert SentenceTransformer(folder).max_seq_length == 11
    write_json(path, {**harmless, name: value})
    with pytest.raises(ValueError, match=f"sentence_bert_config.json: {name} is "):
        SentenceTransformer(folder)


@pytest.mark.parametrize("number", range(6))
def test_damaged_configs_are_read_or_refused(number: int, folder: Path) -> None:
    """Whatever stands in these files, no other error comes out."""
    types = ["Transformer", "Pooling", "Dense", "Normalize"]
    write_modules(folder, *(f"sentence_transformers.models.{name}" for name in types))
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": True})
    write_json(folder / "2_Dense/config.json", {"in_features": 12, "out_features": 5, "bias": False})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "a"}, "truncate_dim": 4})
    write_json(folder / "3_Normalize/config.json", {"module_input_name": "sentence_embedding"})
    save_file({"linear.weight": np.ones((5, 12), np.float32)}, folder / "2_Dense/model.safetensors")
    assert SentenceTransformer(folder).encode("a").shape == (4,)
    path = sorted(path for path in folder.rglob("*.json") if path.name != "config.json" or path.parent != folder)[
        number
    ]
    text, rng, refused = path.read_text(encoding="utf-8"), random.Random(number), 0
    values = ["null", "3", '"x"', "[]", "{}", "true", "[3]", "-1"]
    for _ in range(40):
        start = rng.randrange(len(text))
        if rng.random() < 0.5:
            mutated = text[:start] + rng.choice('0"{}[],:x') + text[start + 1 :]
        else:
            colon = text.find(":", start)
            mutated = (
                text[: colon + 1] + rng.choice(values) + text[text.find(",", colon) :] if colon > 0 else "[" * 9999
            )
        path.write_text(mutated, encoding="utf-8")
        try:
            SentenceTransformer(folder).encode("a")
        except (ValueError, FileNotFoundError):
            refused += 1
    assert refused > 5


def test_the_real_model_gives_the_published_vectors(model_dir: Path) -> None:
    model = SentenceTransformer(model_dir)
    vectors = model.encode(["This is an example sentence", "Each sentence is converted"])
    known = [
        [0.0676569, 0.0634959, 0.0487132, 0.0793050, 0.0374480, 0.0026528],
        [0.0864386, 0.1027627, 0.0053946, 0.0020444, -0.0099634, 0.0253855],
    ]
    np.testing.assert_allclose(vectors[:, :6], known, rtol=0, atol=1e-6)
    assert model.max_seq_length == 256 and model.get_embedding_dimension() == 384
