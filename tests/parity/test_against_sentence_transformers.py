"""Live against sentence-transformers: the same texts through both, on the real checkpoint and on random ones."""

from __future__ import annotations

import inspect
import json
import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.sentence_transformer import SentenceTransformer
from minilm.vectors import search, similarity
from minilm.vectors.quantization import PRECISIONS, quantize_embeddings

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # the other package's own
]

SENTENCES = """
This is an example sentence
Each sentence is converted
The quick brown fox jumps over the lazy dog.
HELLO WORLD, isn't it?! (yes — it is…)
Ünïcödé naïveté café œuvre ÆSIR straße İstanbul ıgdır
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι.
Все люди рождаются свободными и равными в своём достоинстве и правах.
Усі люди народжуються вільними і рівними у своїй гідності та правах.
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.
تمام ابنای بشر آزاد به دنیا می‌آیند
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা নিয়ে জন্মগ্রহণ করে।
மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.
ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులు.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์
ມະນຸດເກີດມາມີສິດເສລີພາບ
လူတိုင်းသည် တူညီ လွတ်လပ်သော
ყველა ადამიანი იბადება თავისუფალი
Բոլոր մարդիկ ծնվում են ազատ ու հավասար
人人生而自由，在尊严和权利上一律平等。
人人生而自由﹐在尊嚴和權利上一律平等。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
カタカナ ｶﾀｶﾅ ひらがな 漢字
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
모든 인간은
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm
የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።
ᎠᏂᎦᏓ ᎤᏂᏍᏆᏂᎪᏙᏗ
𝔊𝔬𝔱𝔥𝔦𝔠 𝕕𝕠𝕦𝕓𝕝𝕖 𝒮𝒸𝓇𝒾𝓅𝓉 ᶠᵘˡˡ ｗｉｄｔｈ
😀 😂🤣 👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☃ ☎️ 1️⃣
I ❤️ NY 🗽!!! so much 😭😭😭
https://www.example.com/path/to/page?query=value&other=%20%2F#fragment
mailto:someone@example.org ftp://10.0.0.1:21/~user/file_name-v2.tar.gz
C:\\Users\\name\\Documents\\file.txt /usr/local/lib/python3/site-packages
for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; } // dot product
SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name HAVING COUNT(*) > 1;
def f(x): return {k: v for k, v in x.items() if v is not None}
<div class="a b"><p>Some &amp; text</p><!-- comment --></div>
{"key": [1, 2.5, -3e10, null, true], "nested": {"a": "b\\n"}}
$E = mc^2$ and \\frac{\\partial f}{\\partial x} = \\sum_{i=1}^{n} \\alpha_i
∀x ∈ ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∫₀¹ x² dx = ⅓
1234567890 3.14159 1,000,000.00 +49 (0)30 123456 2024-02-29T23:59:60Z 0xDEADBEEF
[CLS] [SEP] [MASK] [PAD] [UNK] are special, [cls] is not
a.b,c;d:e!f?g'h"i(j)k[l]m{n}o/p\\q|r-s_t+u=v*w&x^y%z$#@~`<>
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft
e\u0301 vs \u00e9, A\u030a vs \u00c5, \u1100\u1161\u11a8 vs \uac01, ﬁ ﬂ ﬀ
zero\u200bwidth \u200d joiner \ufeff bom \u00ad soft-hyphen \u2028 line \u00a0 nbsp \u3000 wide
control \x00 \x01 \x07 \x1b[31m \x7f \x85 \ufffd \U0010fffd chars
tab\tseparated\tvalues\r\nand\nlines
""".strip("\n").split("\n")


def varied_texts() -> list[str]:
    """At least 500 texts of what ships with Python: every script that Unicode names, prose, code, up to 2,000 words."""
    from pydoc_data.topics import topics

    rng = random.Random(0)
    texts = ["", " ", "\n", ".", "a", "\x00", *SENTENCES]
    scripts: dict[str, list[str]] = {}
    for code in range(0x20, 0x1FBFF):
        name = unicodedata.name(chr(code), "")
        if name:
            scripts.setdefault(name.split(" ")[0], []).append(chr(code))
    for characters in scripts.values():  # from LATIN to LINEAR and EMOJI-like symbols, a text of each
        if len(characters) >= 60:
            words = ("".join(rng.choices(characters, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 12)))
            texts.append(" ".join(words))
    documents = [topics[name] for name in sorted(topics)]
    words = " ".join(documents).split()
    for count in (*range(1, 100, 4), *range(100, 260, 20), 300, 500, 1000, 2000):
        start = rng.randrange(len(words) - count)
        texts.append(" ".join(words[start : start + count]))
    for module in (inspect, json, random):
        source = inspect.getsource(module).split("\n\n")
        texts += rng.sample(source, 20)
    lines = [line.strip() for document in documents for line in document.split("\n") if len(line.strip()) > 20]
    texts += rng.sample(lines, max(0, 520 - len(texts)))
    return texts


@pytest.fixture(scope="module")
def texts() -> list[str]:
    result = varied_texts()
    assert len(result) >= 500
    return result


def close(ours: np.ndarray, theirs: np.ndarray, atol: float = 1e-6) -> bool:
    """Whether arrays are equal in shape, and in value within ``atol``, or a part of it of values above 1."""
    return ours.shape == theirs.shape and bool((abs(ours - theirs) <= atol * np.maximum(1, abs(theirs))).all())


@dataclass(frozen=True)
class Both:
    """The same model in both packages."""

    ours: SentenceTransformer
    theirs: Any


@pytest.fixture(scope="module")
def real(model_dir: Path) -> Iterator[Both]:
    import sentence_transformers
    import torch

    threads = torch.get_num_threads()
    theirs = sentence_transformers.SentenceTransformer(str(model_dir), device="cpu")
    yield Both(SentenceTransformer(model_dir, truncation="silent"), theirs)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vectors(real: Both, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ours and theirs of all texts."""
    return real.ours.encode(texts), real.theirs.encode(texts)


# ---- the real checkpoint ---------------------------------------------------------------------------------------------


def test_vectors_of_varied_texts(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    ours, theirs = vectors
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert abs(ours - theirs).max() <= 1e-6


def test_token_ids_of_varied_texts(real: Both, texts: list[str]) -> None:
    tokens, _ = real.ours.tokenizer.encode_packed(texts, real.ours.max_seq_length)
    for text, ours in zip(texts, tokens, strict=True):
        assert ours.input_ids.tolist() == real.theirs.preprocess([text])["input_ids"][0].tolist(), text


def test_a_text_has_one_vector_alone_in_any_batch_in_any_order(
    real: Both, texts: list[str], vectors: tuple[np.ndarray, np.ndarray]
) -> None:
    chosen = random.Random(1).sample(range(len(texts)), 40)
    alone = np.array([real.ours.encode(texts[i]) for i in chosen])
    assert abs(alone - vectors[0][chosen]).max() <= 1e-6
    shuffled = real.ours.encode([texts[i] for i in chosen], batch_size=3)
    assert abs(shuffled - vectors[0][chosen]).max() <= 1e-6


def test_what_encode_can_be_asked_for(real: Both, texts: list[str]) -> None:
    some = texts[:40]
    for settings in (
        {"normalize_embeddings": True, "truncate_dim": 100},
        {"truncate_dim": 7},
        {"prompt": "query: "},
        {"batch_size": 5},
    ):
        ours, theirs = real.ours.encode(some, **settings), real.theirs.encode(some, **settings)
        longer = 2 if len(settings) == 2 else 1  # components that are cut and stretched to length 1 carry larger errors
        assert ours.shape == theirs.shape and abs(ours - theirs).max() <= 1e-6 * longer
    ours, theirs = (model.encode(some, output_value="token_embeddings") for model in (real.ours, real.theirs))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == tuple(b.shape) and abs(a - b.numpy()).max() <= 1e-5
    one, same = real.ours.encode(some[6]), real.theirs.encode(some[6])
    assert one.shape == same.shape and one.dtype == same.dtype and abs(one - same).max() <= 1e-6
    assert real.ours.max_seq_length == real.theirs.max_seq_length
    assert real.ours.get_embedding_dimension() == real.theirs.get_embedding_dimension()
    assert real.ours.prompts == real.theirs.prompts


def test_similarities(real: Both, vectors: tuple[np.ndarray, np.ndarray]) -> None:
    from sentence_transformers.util import SimilarityFunction

    a, b = vectors[1][:30], vectors[1][30:60]
    exact = a.astype(np.float64), b.astype(np.float64)  # in float32 PyTorch loses half the digits of a small distance
    for name, (every, pairwise) in similarity.SIMILARITIES.items():
        assert close(every(a, b), SimilarityFunction.to_similarity_fn(name)(*exact).numpy(), 5e-6)
        assert close(pairwise(a, b), SimilarityFunction.to_similarity_pairwise_fn(name)(*exact).numpy(), 5e-6)
    assert real.ours.similarity_fn_name == real.theirs.similarity_fn_name
    assert close(real.ours.similarity(a, b[0]), real.theirs.similarity(a, b[0]).numpy())


def test_quantization(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    from sentence_transformers.util import quantize_embeddings as quantize

    floats = vectors[1]
    for precision in PRECISIONS:
        ours, theirs = quantize_embeddings(floats, precision), quantize(floats, precision)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    ranges = np.stack([floats.min(axis=0), floats.max(axis=0)]) / 2
    for settings in ({"ranges": ranges}, {"calibration_embeddings": floats[::3]}):
        np.testing.assert_array_equal(
            quantize_embeddings(floats[:5], "int8", **settings), quantize(floats[:5], "int8", **settings)
        )


def test_encoding_to_fewer_bits(real: Both, texts: list[str]) -> None:
    some = texts[6:46]
    for precision in ("uint8", "binary"):
        ours, theirs = real.ours.encode(some, precision=precision), real.theirs.encode(some, precision=precision)
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours != theirs).mean() < 1e-2  # within 1e-6 of a border between two levels, either may be right


@pytest.fixture
def groups() -> np.ndarray:
    """150 vectors in 9 loose groups, no two pairs of them nearly as alike as each other."""
    rng = np.random.default_rng(5)
    centers = rng.normal(size=(9, 24))
    return (centers[rng.integers(9, size=150)] + 0.5 * rng.normal(size=(150, 24))).astype(np.float32)


def test_semantic_search(groups: np.ndarray) -> None:
    from sentence_transformers import util

    for settings in ({}, {"top_k": 40, "query_chunk_size": 7, "corpus_chunk_size": 30}, {"top_k": 999}):
        ours, theirs = (
            find(groups[:30], groups, **settings) for find in (search.semantic_search, util.semantic_search)
        )
        for hits, others in zip(ours, theirs, strict=True):
            assert [list(hit) for hit in hits] == [list(hit) for hit in others]
            assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in others]
            np.testing.assert_allclose([h["score"] for h in hits], [h["score"] for h in others], rtol=0, atol=1e-6)
    ours, theirs = (
        [[hit["corpus_id"] for hit in hits] for hits in find(groups[:30], groups, score_function=score)]
        for find, score in ((search.semantic_search, search.dot_score), (util.semantic_search, util.dot_score))
    )
    assert ours == theirs


def test_paraphrase_mining(groups: np.ndarray) -> None:
    import torch
    from sentence_transformers import util

    for settings in ({}, {"top_k": 3, "max_pairs": 100}, {"query_chunk_size": 20, "corpus_chunk_size": 33, "top_k": 5}):
        ours = search.paraphrase_mining_embeddings(groups, **settings)
        theirs = util.paraphrase_mining_embeddings(torch.from_numpy(groups), **settings)
        assert {(i, j) for _, i, j in ours} == {(i, j) for _, i, j in theirs} and len(ours) == len(theirs)
        np.testing.assert_allclose([row[0] for row in ours], [row[0] for row in theirs], rtol=0, atol=1e-6)


def test_community_detection(groups: np.ndarray) -> None:
    from sentence_transformers import util

    for settings in ({}, {"threshold": 0.6}, {"threshold": 0.85, "min_community_size": 2, "batch_size": 40}):
        found = search.community_detection(groups, **settings)
        assert found == util.community_detection(groups, **settings)
        assert len(found) >= 3


# ---- random models ---------------------------------------------------------------------------------------------------


def save_random_bert(folder: Path, model_dir: Path, *, seed: int = 0, labels: int | None = None, **shape: Any) -> Path:
    """Save a random BERT of that shape with 1,000 pieces of the real vocabulary."""
    import torch
    import transformers

    folder.mkdir(exist_ok=True)
    pieces = (model_dir / "vocab.txt").read_text(encoding="utf-8").split("\n")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces[999:1994]]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=shape["max_position_embeddings"])
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(vocab), initializer_range=0.5 / shape["hidden_size"] ** 0.5, **shape
    )
    if labels is not None:
        config.num_labels = labels
        model = transformers.BertForSequenceClassification(config)
    else:
        model = transformers.BertModel(config)
    for name, parameter in model.named_parameters():  # as initialized, biases and LayerNorms would hide mistakes
        if name.endswith("bias") or "LayerNorm" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.1)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 50,
}
MODES = [
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
    ("cls", "mean"),
    ("max", "lasttoken", "mean"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    return save_random_bert(tmp_path_factory.mktemp("tiny") / "bert", model_dir, **TINY)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling_mode(mode: Any, include_prompt: bool, tiny: Path, tmp_path: Path, texts: list[str]) -> None:
    import sentence_transformers
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(str(tiny)), Pooling(24, mode, include_prompt=include_prompt)]
    sentence_transformers.SentenceTransformer(
        modules=modules, device="cpu", prompts={"query": "what is the answer to: "}
    ).save(str(tmp_path))
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    ours = SentenceTransformer(tmp_path, truncation="silent")
    exact = SentenceTransformer(tmp_path, dtype="float64", truncation="silent")  # rounding adds up in no comparison
    for encode in ("encode", "encode_query", "encode_document"):
        expected = getattr(exact, encode)(texts[:40])
        assert close(getattr(theirs, encode)(texts[:40]), expected)
        assert close(getattr(ours, encode)(texts[:40]), expected)
    expected = exact(exact.preprocess(texts[:40], prompt="query: "))["sentence_embedding"]
    found = theirs(theirs.preprocess(texts[:40], prompt="query: "))["sentence_embedding"].detach().numpy()
    assert close(found, expected)


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid"])
def test_dense_modules(activation: str, tiny: Path, tmp_path: Path, texts: list[str]) -> None:
    import sentence_transformers
    import torch
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    function = getattr(torch.nn, activation)()
    modules = [
        Transformer(str(tiny)),
        Pooling(24),
        Dense(24, 10, activation_function=function),
        Dense(10, 10, bias=False, activation_function=function, use_residual=True),
        Dense(10, 7, activation_function=function, use_residual=True),
    ]
    if activation == "Tanh":
        modules.append(Normalize())
    torch.manual_seed(1)
    theirs = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="euclidean")
    theirs.save(str(tmp_path))
    ours = SentenceTransformer(tmp_path, truncation="silent")
    assert close(ours.encode(texts[:40]), theirs.encode(texts[:40]))
    assert ours.similarity_fn_name == "euclidean" and ours.get_embedding_dimension() == 7


def test_a_folder_without_modules_json(tiny: Path, texts: list[str]) -> None:
    import sentence_transformers

    theirs = sentence_transformers.SentenceTransformer(str(tiny), device="cpu")
    ours = SentenceTransformer(tiny, truncation="silent")
    assert close(ours.encode(texts[:40]), theirs.encode(texts[:40]))
    assert ours.max_seq_length == theirs.max_seq_length


# ---- cross-encoders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [1, 3])
def test_cross_encoders(labels: int, tmp_path: Path, model_dir: Path, texts: list[str]) -> None:
    import sentence_transformers
    import torch

    shape = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 1536}
    folder = save_random_bert(tmp_path / "bert", model_dir, labels=labels, max_position_embeddings=128, **shape)
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    ours = CrossEncoder(folder, truncation="silent")
    assert ours.max_seq_length == theirs.max_seq_length and ours.num_labels == theirs.num_labels == labels
    rng = random.Random(2)
    pairs = [(rng.choice(texts[:60] if i % 2 else texts), rng.choice(texts)) for i in range(200)]
    raw, expected = ours.predict(pairs), theirs.predict(pairs)
    assert raw.dtype == expected.dtype and close(raw, expected, 1e-5)
    assert close(ours.predict(pairs, apply_softmax=True), theirs.predict(pairs, apply_softmax=True), 1e-5)
    logits = ours.predict(pairs[:50], activation_fn=lambda x: x)
    assert close(logits, theirs.predict(pairs[:50], activation_fn=torch.nn.Identity()), 1e-5)
    assert np.shape(ours.predict(pairs[0])) == np.shape(theirs.predict(pairs[0]))
    if labels == 1:
        documents = list(dict.fromkeys(second for _, second in pairs[:60]))
        settings = {"return_documents": True, "top_k": 30}
        ranked, others = (model.rank(texts[7], documents, **settings) for model in (ours, theirs))
        assert [(hit["corpus_id"], hit["text"]) for hit in ranked] == [
            (hit["corpus_id"], hit["text"]) for hit in others
        ]
        np.testing.assert_allclose([h["score"] for h in ranked], [h["score"] for h in others], rtol=0, atol=1e-5)
        assert [list(hit) for hit in ranked] == [list(hit) for hit in others]
    theirs.save(str(tmp_path / "saved"))
    saved = CrossEncoder(tmp_path / "saved", truncation="silent")
    assert close(saved.predict(pairs[:20], prompt="a: "), theirs.predict(pairs[:20], prompt="a: "), 1e-5)


# ---- the common models, by their shape -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """What is public of a model: its shape, and the steps after the transformer."""

    name: str
    hidden: int
    heads: int
    intermediate: int
    pooling: str = "mean"
    normalize: bool = True
    max_seq_length: int = 512
    prompts: tuple[tuple[str, str], ...] = ()


RETRIEVAL = "Represent this sentence for searching relevant passages: "
PUBLISHED = [
    Published("sentence-transformers/all-MiniLM-L12-v2", 384, 12, 1536, max_seq_length=128),
    Published("sentence-transformers/multi-qa-MiniLM-L6-cos-v1", 384, 12, 1536),
    Published("sentence-transformers/paraphrase-MiniLM-L6-v2", 384, 12, 1536, normalize=False, max_seq_length=128),
    Published("sentence-transformers/paraphrase-MiniLM-L3-v2", 384, 12, 1536, normalize=False, max_seq_length=128),
    Published("BAAI/bge-small-en-v1.5", 384, 12, 1536, "cls"),
    Published("BAAI/bge-base-en-v1.5", 768, 12, 3072, "cls"),
    Published("BAAI/bge-large-en-v1.5", 1024, 16, 4096, "cls"),
    Published("BAAI/bge-small-zh-v1.5", 512, 8, 2048, "cls"),
    Published("intfloat/e5-small-v2", 384, 12, 1536),
    Published("intfloat/e5-base-v2", 768, 12, 3072),
    Published("thenlper/gte-small", 384, 12, 1536),
    Published("thenlper/gte-base", 768, 12, 3072),
    Published("mixedbread-ai/mxbai-embed-large-v1", 1024, 16, 4096, "cls", False, 512, (("query", RETRIEVAL),)),
    Published("Snowflake/snowflake-arctic-embed-xs", 384, 12, 1536, "cls", True, 512, (("query", RETRIEVAL),)),
    Published("Snowflake/snowflake-arctic-embed-s", 384, 12, 1536, "cls", True, 512, (("query", RETRIEVAL),)),
    Published("Snowflake/snowflake-arctic-embed-m", 768, 12, 3072, "cls", True, 512, (("query", RETRIEVAL),)),
]


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_models_of_the_common_shapes(model: Published, tmp_path: Path, model_dir: Path, texts: list[str]) -> None:
    """Random weights in one layer of the model's width: what is tried is the shape and the steps, not the weights."""
    import sentence_transformers
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    shape = {
        "hidden_size": model.hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": model.heads,
        "intermediate_size": model.intermediate,
        "max_position_embeddings": 512,
    }
    folder = save_random_bert(tmp_path / "bert", model_dir, **shape)
    modules = [Transformer(str(folder), max_seq_length=model.max_seq_length), Pooling(model.hidden, model.pooling)]
    theirs = sentence_transformers.SentenceTransformer(
        modules=[*modules, *([Normalize()] if model.normalize else [])], device="cpu", prompts=dict(model.prompts)
    )
    theirs.save(str(tmp_path / "saved"))
    ours = SentenceTransformer(tmp_path / "saved", truncation="silent")
    assert ours.max_seq_length == model.max_seq_length
    assert ours.prompts == theirs.prompts
    chosen = [*texts[6:14], max(texts, key=len)]
    for encode in ("encode", "encode_query"):
        expected = getattr(theirs, encode)(chosen)
        scale = max(1, abs(expected).max())  # vectors that are not normalized have components of up to 4
        assert close(getattr(ours, encode)(chosen) / scale, expected / scale)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompt": "query: "},
        {"processing_kwargs": {"text": {"max_length": 9}}},
        {"processing_kwargs": {"text": {"max_length": 12, "truncation": "only_first"}, "common": {"padding": True}}},
    ],
)
def test_pairs_and_where_a_call_cuts(settings: dict[str, Any], tiny: Path) -> None:
    from sentence_transformers import SentenceTransformer as Theirs

    ours, theirs = SentenceTransformer(tiny, truncation="silent"), Theirs(str(tiny), device="cpu")
    long = "the quick brown fox jumps over the lazy dog"
    inputs: list[Any] = [(long, "a cat"), ["a", "b"], (f"{long} {long}", "some more"), {"text": ("one", "two")}]
    assert close(ours.encode(inputs, **settings), theirs.encode(inputs, **settings))
    if "only_first" not in str(settings):
        inputs += [long, {"text": "some text"}]
        assert close(ours.encode(inputs, **settings), theirs.encode(inputs, **settings))
    listed, expected = (model.encode(inputs, convert_to_numpy=False, **settings) for model in (ours, theirs))
    assert [type(one) for one in listed] == [type(one) for one in expected]


def test_where_a_call_cuts_pairs(tmp_path: Path, model_dir: Path) -> None:
    from sentence_transformers import CrossEncoder as Theirs

    shape = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    folder = save_random_bert(tmp_path / "cross", model_dir, labels=1, max_position_embeddings=64, **shape)
    ours, theirs = CrossEncoder(folder, truncation="silent"), Theirs(str(folder), device="cpu")
    pairs = [("the quick brown fox", "jumps over the lazy dog " * 4), ("a", "b")]
    for strategy in ("longest_first", "only_second"):
        settings = {"processing_kwargs": {"text": {"max_length": 14, "truncation": strategy}}}
        assert close(ours.predict(pairs, **settings), theirs.predict(pairs, **settings))
