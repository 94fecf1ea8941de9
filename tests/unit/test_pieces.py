"""Long texts in pieces: the tokens are those of the whole text, whatever the tokenizer and wherever the cuts are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from minilm import AutoTokenizer
from minilm.tokenizing import tokenizer as tokenizer_module
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.pieces import PIECE, Pieces, find_cuts, in_batches
from minilm.tokenizing.tokenizer import MOST_LOST, Tokenizer

LETTERS = "abcdeéïß世界мир"
ALPHABET = [
    *LETTERS, *" \n\r\t.,;!?-_'`<>[]#。，、▁Ġ🙂", "\u00a0", "\u0301", "\u0338", "\u3099", "\u200d", "\x00", "\x1c",
    "\x85", "\u2028", "\u0345", "ﬁ", "½", "İ", "Ϊ", "  ", " a", "b ", "<m>", "[MASK]", "ab", "xa", "''", "abc. d",
]  # fmt: skip


def rust_of(model: str, normalizer: object, pre_tokenizer: object) -> tokenizers.Tokenizer:
    pieces = ["[UNK]", *dict.fromkeys(LETTERS + "xABC.,-▁Ġ"), "ab", "▁a", "▁ab", "Ġa", "Ġb"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    vocab |= {f"##{piece}": len(vocab) + i for i, piece in enumerate(pieces)}
    rust = tokenizers.Tokenizer(
        models.Unigram([(piece, -1.0 - i / 9) for i, piece in enumerate(pieces)], 0)
        if model == "unigram"
        else models.BPE(dict(vocab), [("▁", "a"), ("Ġ", "a"), ("Ġ", "b"), ("a", "b")], unk_token="[UNK]")
        if model == "bpe"
        else models.WordPiece(dict(vocab), unk_token="[UNK]")
    )
    if normalizer is not None:
        rust.normalizer = normalizer
    rust.pre_tokenizer = pre_tokenizer
    return rust


def chain(*steps: object) -> object:
    return normalizers.Sequence(list(steps))


def spaces(*steps: object) -> object:
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), *steps])


QUOTES, RUNS = normalizers.Replace("``", '"'), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
BERT, BYTES, META = pre_tokenizers.BertPreTokenizer, pre_tokenizers.ByteLevel, pre_tokenizers.Metaspace
KNOWN: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "bert": lambda: rust_of("word", normalizers.BertNormalizer(), BERT()),
    "bert cased": lambda: rust_of("word", normalizers.BertNormalizer(lowercase=False), BERT()),
    "bert, ideographs": lambda: rust_of("word", normalizers.BertNormalizer(handle_chinese_chars=False), BERT()),
    "bert, NFKC": lambda: rust_of("word", chain(normalizers.NFKC(), normalizers.Lowercase()), BERT()),
    "words": lambda: rust_of("word", chain(normalizers.NFD(), normalizers.StripAccents()), pre_tokenizers.Whitespace()),
    "digits": lambda: rust_of("word", normalizers.NFC(), spaces(pre_tokenizers.Digits(), pre_tokenizers.Punctuation())),
    "roberta": lambda: rust_of("bpe", None, BYTES(add_prefix_space=False)),
    "roberta, prefix": lambda: rust_of("bpe", normalizers.NFC(), BYTES(add_prefix_space=True)),
    "xlm-roberta": lambda: rust_of("unigram", chain(normalizers.NFKC(), RUNS), META()),
    "xlm-roberta, split": lambda: rust_of("unigram", normalizers.NFKC(), spaces(META())),
    "albert": lambda: rust_of("unigram", chain(QUOTES, normalizers.NFKD(), normalizers.Lowercase()), META()),
    "metaspace, first": lambda: rust_of("unigram", None, META(prepend_scheme="first")),
    "metaspace, never": lambda: rust_of("bpe", None, META(prepend_scheme="never")),
}


def ids(rust: tokenizers.Tokenizer, text: str) -> list[int]:
    return list(rust.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("added", [False, True])
def test_the_tokens_are_those_of_the_whole(kind: str, added: bool) -> None:
    rng, cuts = random.Random(kind), 0
    for _ in range(8):
        rust = KNOWN[kind]()
        rust.add_special_tokens([AddedToken("<m>", lstrip=True, normalized=False), "[MASK]"])
        if added:
            flags = {name: rng.random() < 0.5 for name in ("lstrip", "rstrip", "single_word", "normalized")}
            rust.add_tokens([AddedToken(rng.choice(["xa", "é", "世", "--", "a.", "Ab", "<b>"]), **flags)])
        pieces = Pieces(rust)
        assert added or find_cuts(rust) is not None
        for _ in range(25):
            text = "".join(rng.choices(ALPHABET, k=rng.choice([5, 30, 200])))
            parts = list(pieces.of(text, rng.choice([1, 2, 9, 40])))
            assert "".join(parts) == text
            assert [i for part in parts for i in ids(rust, part)] == ids(rust, text)
            cuts += len(parts) - 1
    assert cuts > 40


@pytest.mark.parametrize(
    "rust",
    [
        rust_of("unigram", normalizers.Strip(), META()),
        rust_of("unigram", normalizers.Prepend("▁"), META()),
        rust_of("unigram", None, META(split=False)),
        rust_of("bpe", None, BYTES(use_regex=False)),
        rust_of("bpe", None, pre_tokenizers.Split(tokenizers.Regex("b"), "isolated")),
        rust_of("word", normalizers.Replace(" ", "a"), BERT()),
        rust_of("word", None, pre_tokenizers.UnicodeScripts()),
        rust_of("word", None, pre_tokenizers.Punctuation()),
    ],
)
def test_other_kinds_stay_whole(rust: tokenizers.Tokenizer) -> None:
    assert find_cuts(rust) is None
    assert list(Pieces(rust).of("a b c d", 1)) == ["a b c d"]


def test_an_added_token_that_a_cut_could_split_keeps_texts_whole() -> None:
    for token in (AddedToken("a b"), AddedToken("世", normalized=True)):  # BERT's normalizer puts spaces around the 世
        rust = KNOWN["bert"]()
        rust.add_tokens([token])
        assert find_cuts(rust) is None
    rust = KNOWN["roberta"]()
    rust.add_tokens([AddedToken("ab", rstrip=True)])  # takes the space, which the piece would begin with
    assert find_cuts(rust) is None


# ---- the tokenizer ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tokenizer() -> Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc", "."]
    return Tokenizer(word_piece({piece: i for i, piece in enumerate(pieces)}))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [2, 3, 50, None])
def test_long_texts(tokenizer: Tokenizer, side: str, max_length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.tokenizing.pieces.PIECE", 40)
    monkeypatch.setattr(tokenizer_module, "PIECE", 40)
    monkeypatch.setattr(tokenizer_module, "MOST_LOST", 30)
    tokenizer.truncation_side = side
    rng = random.Random(max_length)
    texts = [" ".join(rng.choices(["a", "b", "c", "ab", "."], k=rng.choice([1, 20, 300]))) for _ in range(20)]
    whole = [tokenizer(text)["input_ids"] for text in texts]
    tokens, lost = tokenizer.encode_packed(texts, max_length)
    expected = whole
    if max_length is not None:
        expected = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    assert [text.input_ids.tolist() for text in tokens] == expected
    assert lost.tolist() == [min(30, len(a) - len(b)) for a, b in zip(whole, expected, strict=True)]
    pairs, lost = tokenizer.encode_packed(texts, max_length and max_length + 1, text_pairs=texts[::-1])
    if max_length is not None:
        both = tokenizer(texts, texts[::-1], truncation=True, max_length=max_length + 1)["input_ids"]
        assert [text.input_ids.tolist() for text in pairs] == both


def test_the_rest_of_a_long_text_is_not_tokenized(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    split = Tokenizer._split

    def count(self: Tokenizer, texts: list[str], *args: object, **options: object) -> object:
        seen.append(sum(map(len, texts)))
        return split(self, texts, *args, **options)

    monkeypatch.setattr(Tokenizer, "_split", count)
    (tokens,), lost = tokenizer.encode_packed(["a b. " * 400_000], 9)
    assert tokens.input_ids.tolist() == [2, 5, 6, 8, 5, 6, 8, 5, 3]
    assert lost.tolist() == [MOST_LOST]
    assert sum(seen) < 2 * PIECE
    seen.clear()
    tokenizer.encode_packed(["a" * 3000] * 500, 9)
    assert max(seen) <= tokenizer_module.CHUNK_CHARACTERS
    assert len(seen) < 10


@pytest.mark.parametrize("kind", KNOWN)
def test_a_call_does_not_tokenize_the_rest_either(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, tokenizer = random.Random(kind), Tokenizer(KNOWN[kind]())
    texts = ["".join(rng.choices(ALPHABET, k=rng.choice([1, 60, 900]))) for _ in range(30)]
    wanted = {"return_offsets_mapping": True, "return_length": True, "truncation": True}
    for side in ("right", "left"):
        for max_length in (1, 7, 64, 150):
            settings = {**wanted, "max_length": max_length, "truncation_side": side}
            whole = tokenizer(texts, **settings)
            with monkeypatch.context() as patch:
                patch.setattr("minilm.tokenizing.pieces.PIECE", 40)
                patch.setattr("minilm.tokenizing.inputs.PIECE", 40)
                assert dict(tokenizer(texts, **settings)) == dict(whole)


def test_how_much_of_a_long_text_a_call_tokenizes(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    split = Tokenizer._split

    def count(self: Tokenizer, texts: list[str], *args: object, **options: object) -> object:
        seen.append(sum(map(len, texts)))
        return split(self, texts, *args, **options)

    def piece_by_piece(self: Pieces, text: str) -> Iterator[str]:
        for piece in of(self, text):
            seen.append(len(piece))
            yield piece

    of = Pieces.of
    monkeypatch.setattr(Pieces, "of", piece_by_piece)
    monkeypatch.setattr(Tokenizer, "_split", count)
    long = "a b. " * 400_000
    encoded = tokenizer([long, "c"], truncation=True, max_length=9, return_offsets_mapping=True)
    assert encoded["input_ids"] == [[2, 5, 6, 8, 5, 6, 8, 5, 3], [2, 7, 3]] and sum(seen) < 3 * PIECE
    assert encoded["offset_mapping"][0][-2] == (10, 11)
    for settings in ({}, {"truncation": True, "max_length": 9, "return_overflowing_tokens": True}):
        seen.clear()
        tokenizer(long, **settings)
        assert sum(seen) == len(long)


def test_errors_name_the_text(tokenizer: Tokenizer) -> None:
    long = "a " * PIECE
    with pytest.raises(TypeError, match="text 3: expected a string, got int"):
        tokenizer.encode_packed([long, "a", long, 7], 9)
    with pytest.raises(ValueError, match="text 2: character 65536 is the lone surrogate"):
        tokenizer.encode_packed([long, "a", long + "\ud800"], 9)


def test_batches() -> None:
    texts = ["a" * n for n in (3, 3, 5, 1, 1, 1, 20, 1)]
    assert [list(map(len, batch)) for batch in in_batches(texts, 3, 8)] == [[3, 3], [5, 1, 1], [1], [20], [1]]
    assert list(in_batches([], 3, 8)) == []


def test_the_real_tokenizer_is_of_a_known_kind(model_dir: object) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    text = "Unbelievably, 世界的 naïve [MASK] e-mail@x.org! " * 3000
    (tokens,), _ = tokenizer.encode_packed([text])
    assert len(list(tokenizer._pieces.of(text))) > 3
    np.testing.assert_array_equal(tokens.input_ids, tokenizer(text)["input_ids"])
