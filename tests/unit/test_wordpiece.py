"""The tokenizer that can be read gives what its twin in Rust gives: ids, offsets, and what each step makes of a text.

``pytest -m slow`` takes all 1,112,064 code points and 100,000 texts; the suite takes a sample in which every kind of
character is, and every edge of every range.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers.normalizers import BertNormalizer

from minilm.loading.hub import find_files
from minilm.tokenizing import characters
from minilm.tokenizing.added_tokens import AddedToken
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer, tokenizer_from_files
from minilm.tokenizing.wordpiece import (
    WordPieceTokenizer,
    clean,
    decompose,
    lower,
    space_cjk,
    split,
    strip_accents,
    word_pieces,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS_OF_17 = frozenset("\ua7ce\ua7d2\ua7d4" + "".join(map(chr, range(0x16EA0, 0x16EB9))))
CODE_POINTS = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
if BertNormalizer().normalize_str("\ua7ce") == "\ua7ce":  # tokenizers before 0.23: Unicode 16.0 in lower()
    CODE_POINTS = [character for character in CODE_POINTS if character not in LETTERS_OF_17]


def kinds(character: str) -> tuple[Any, ...]:
    """Everything that the tokenizer asks about a character, in Python's Unicode and in the library's."""
    return (
        unicodedata.category(character),
        characters.category(character),
        characters.combining_class(character) > 0,
        unicodedata.combining(character) > 0,
        len(characters.decomposed(character)),
        characters.lowered(character) != character,
        characters.is_cjk(character),
        characters.is_space(character),
    )


@functools.cache
def sample() -> tuple[str, ...]:
    """Every code point where the kind changes, its two neighbours, and one in 199 of all others."""
    chosen, last = set(range(0, len(CODE_POINTS), 199)), None
    for i, character in enumerate(CODE_POINTS):
        kind = kinds(character)
        if kind != last:
            chosen |= {i - 1, i, i + 1}
        last = kind
    return tuple(CODE_POINTS[i] for i in sorted(chosen) if 0 <= i < len(CODE_POINTS))


def tokens_of(rust: tokenizers.Tokenizer, text: str, special: bool = True) -> list[tuple[int, int, int]]:
    encoding = rust.encode(text, add_special_tokens=special)
    return [(token_id, *span) for token_id, span in zip(encoding.ids, encoding.offsets, strict=True)]


def read(tokenizer: WordPieceTokenizer, text: str) -> list[tuple[int, int, int]]:
    return [token[1:] for token in tokenizer.encode(text)]


def letters_of(texts: Iterable[str], **settings: Any) -> tuple[tokenizers.Tokenizer, WordPieceTokenizer]:
    """Both tokenizers, with each letter of the cleaned texts as a piece: any slip in any letter is seen."""
    normalizer = BertNormalizer(**settings)
    letters = sorted(set().union(*map(normalizer.normalize_str, texts)))
    pieces = dict.fromkeys([*SPECIAL, *letters, *("##" + letter for letter in letters)])
    vocab = {piece: i for i, piece in enumerate(pieces)}
    rust = word_piece(vocab)
    rust.normalizer = normalizer
    return rust, WordPieceTokenizer(vocab, **settings)


def assert_same(rust: tokenizers.Tokenizer, tokenizer: WordPieceTokenizer, texts: Iterable[str]) -> None:
    for text in texts:
        expected, found = tokens_of(rust, text), read(tokenizer, text)
        if expected != found:
            shortest = next((c for c in text.split(" ") if tokens_of(rust, c) != read(tokenizer, c)), text)
            assert (ascii(shortest), read(tokenizer, shortest)) == (ascii(shortest), tokens_of(rust, shortest))
            assert found == expected, ascii(text)


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@pytest.fixture(scope="module")
def real(model_dir: Path) -> tuple[tokenizers.Tokenizer, WordPieceTokenizer]:
    files = find_files(str(model_dir))
    rust = tokenizers.Tokenizer.from_file(str(files["tokenizer.json"]))
    rust.no_truncation()
    rust.no_padding()
    return rust, WordPieceTokenizer.from_files(files)


# ---- every code point ------------------------------------------------------------------------------------------------


def compare_code_points(points: Sequence[str], real: tuple[tokenizers.Tokenizer, WordPieceTokenizer]) -> None:
    """Alone, inside of a word, and before a letter; the pieces are the real ones, and then single letters."""
    for chunk in chunks(points, 512):
        texts = [" ".join(form.format(c) for c in chunk if c not in "{}") for form in ("{}", "a{}b", "{}a")]
        assert_same(*real, texts)
        assert_same(*letters_of(texts), texts)
        cased = {"lowercase": False, "strip_accents": False, "handle_chinese_chars": False}
        assert_same(*letters_of(texts[1:2], **cased, clean_text=False), texts[1:2])


def test_a_sample_of_all_code_points(real: Any) -> None:
    assert 5_000 < len(sample()) < 20_000
    compare_code_points(sample(), real)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(17), ids="plane{}".format)
def test_all_code_points(part: int, real: Any) -> None:
    compare_code_points([c for c in CODE_POINTS if ord(c) >> 16 == part], real)


def compare_steps(points: Iterable[str]) -> None:
    off = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    steps = {"clean_text": clean, "handle_chinese_chars": space_cjk, "strip_accents": strip_accents, "lowercase": lower}
    twins = [(BertNormalizer(**{**off, name: True}), step) for name, step in steps.items()]
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    for point in points:
        text = f"a{point}b"
        for twin, step in twins:
            assert step(text) == twin.normalize_str(text), (ascii(point), step)
        assert split(text) == [word for word, _ in splitter.pre_tokenize_str(text)], ascii(point)


def test_each_step_alone_in_a_sample() -> None:
    compare_steps(sample())


@pytest.mark.slow
def test_each_step_alone_for_all_code_points() -> None:
    compare_steps(CODE_POINTS)


BESIDE = ["\U0001d165", "\u302e", "\u0334", "\u0345", "\u0323", "\u0301\u1dfa"]  # low, middle and high; some stay


def test_marks_are_sorted_alike() -> None:
    marks = [c for c in CODE_POINTS if unicodedata.combining(c) or unicodedata.decomposition(c) or kinds(c)[2]]
    marks = [c for c in marks if unicodedata.category(c)[0] != "L"]
    texts = [" ".join(f"a{mark}{other} é{other}{mark}" for other in BESIDE) for mark in marks]
    for chunk in chunks(texts, 128):
        assert_same(*letters_of(chunk), chunk)


@pytest.mark.slow
def test_all_code_points_are_sorted_alike() -> None:
    twin = tokenizers.normalizers.NFD()
    for point in CODE_POINTS:
        text = " ".join(f"a{point}{other} é{other}{point}" for other in BESIDE[::2])
        assert "".join(decompose(text)) == twin.normalize_str(text), ascii(point)


# ---- texts -----------------------------------------------------------------------------------------------------------

WORDS = [
    *("the", "Quick", "BROWN", "fox,", "unbelievably", "Ünïcödé", "naïve", "你好世界", "мир", "Σίσυφος", "🙂", "don't"),
    *("e-mail@x.org", "a.b/c?d=1", "xylophone", "한국어", "हिन्दी", "עברית", "İstanbul", "ß", "ſ", "Ⅳ", "½", "ﬁ"),
    *("A\u0301", "E\u0323\u0302", "[MASK]", "[SEP]", "[PAD]", "[CLS]", "[UNK]", "[mask]", "[MASK", "[[MASK]]", "##ing"),
]
GLUE = ["", "", " ", " ", " ", "\t", "\n", "\u2028", "\u3000", "\x1c", "\x00", "\u200b", "-", "'", "[MASK]", "\ufffd"]


def fuzzed(number: int, seed: int) -> Iterator[str]:
    """Words, any characters, and runs of marks, with and without something between them."""
    rng = random.Random(seed)
    marks = [c for c in CODE_POINTS if unicodedata.combining(c) or characters.category(c) == "Mn"]
    odd = sample()
    for _ in range(number):
        parts = []
        for _ in range(rng.choice([0, 1, 2, 3, 5, 9, 20])):
            kind = rng.random()
            if kind < 0.5:
                parts.append(rng.choice(WORDS))
            elif kind < 0.65:
                parts.append("".join(rng.choices(odd, k=rng.randint(1, 4))))
            elif kind < 0.75:
                parts.append(rng.choice("aeouAEOU가각東") + "".join(rng.choices(marks, k=rng.randint(1, 5))))
            elif kind < 0.95:
                parts.append("".join(rng.choices("abcdefghijklmnoprstuwzABC019.,", k=rng.randint(1, 9))))
            else:
                parts.append(rng.choice("aé") * rng.choice([99, 100, 101, 102]))
            parts.append(rng.choice(GLUE))
        yield "".join(parts)


def compare_texts(number: int, seed: int, real: tuple[tokenizers.Tokenizer, WordPieceTokenizer]) -> None:
    texts = list(fuzzed(number, seed))
    assert_same(*real, texts)
    for i, chunk in enumerate(chunks(texts, 256)):
        settings = SETTINGS[i % len(SETTINGS)]
        assert_same(*letters_of(chunk, **settings), chunk)


NAMES = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
SETTINGS = [
    dict(zip(NAMES, values, strict=True))
    for values in itertools.product((True, False), (True, False), (None, True, False), (True, False))
]


def test_fuzzed_texts_in_all_settings(real: Any) -> None:
    compare_texts(5_000, 0, real)


@pytest.mark.parametrize(
    "settings", SETTINGS, ids=lambda settings: "-".join(str(value)[0] for value in settings.values())
)
def test_each_setting_acts(settings: dict[str, Any]) -> None:
    texts = list(fuzzed(40, 1))
    assert_same(*letters_of(texts, **settings), texts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_a_hundred_thousand_fuzzed_texts(seed: int, real: Any) -> None:
    compare_texts(10_000, seed, real)


def test_a_word_is_given_up_after_a_hundred_characters(real: Any) -> None:
    texts = ["a" * 100, "a" * 101, "é" * 100, "é" * 101, "e\u0301" * 100, "東" * 101, "a" * 101 + "."]
    assert_same(*real, texts)
    assert len(read(real[1], texts[0])) > 3 == len(read(real[1], texts[1]))
    assert word_pieces("aaa", {"aa": 0, "##a": 1}, max_chars=3) == ["aa", "##a"]
    assert word_pieces("aaa", {"aa": 0, "##a": 1}, max_chars=2) == ["[UNK]"]


# ---- tokens in the text itself ---------------------------------------------------------------------------------------


def test_special_tokens_in_a_text(real: Any) -> None:
    tokenizer = real[1]
    assert [token.token for token in tokenizer.encode("a[MASK]b [mask]")] == (
        ["[CLS]", "a", "[MASK]", "b", "[", "mask", "]", "[SEP]"]
    )
    assert tokenizer.encode("a [MASK]")[2] == ("[MASK]", 103, 2, 8)


@pytest.mark.parametrize("flags", list(itertools.product((False, True), repeat=5)))
def test_added_tokens_with_all_flags(flags: tuple[bool, ...]) -> None:
    rust, _ = letters_of(["abcdefghijklmnopqrstuvwxyz é[]!<>x 東"])
    single_word, lstrip, rstrip, normalized, split_special = flags
    rust.normalizer = BertNormalizer()
    added = [
        ("<X>", True), ("<x>y", True), ("Éx", False), ("!", False), ("a b", False), (" c", False), ("東", False)
    ]  # fmt: skip
    made = [
        tokenizers.AddedToken(
            content, single_word=single_word, lstrip=lstrip, rstrip=rstrip, normalized=normalized, special=special
        )
        for content, special in added
    ]
    rust.add_tokens(made)
    rust.encode_special_tokens = split_special
    tokenizer = WordPieceTokenizer.from_tokenizer(Tokenizer(rust))
    rng = random.Random(2)
    parts = [content for content, _ in added]
    parts += ["é", "a", "b", " ", "  ", "\t", "\u200d", "_", "ⓐ", "<X", "E\u0301x", "\x1c"]
    for _ in range(300):
        text = "".join(rng.choices(parts, k=rng.randint(1, 9)))
        assert [token[1:] for token in tokenizer.steps(text).tokens] == tokens_of(rust, text, special=False), text


def compare_word_characters(points: Sequence[str]) -> None:
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    rust.add_tokens([tokenizers.AddedToken("xyz", single_word=True, normalized=False)])
    found = rust.encode_batch_fast([f"xyz{character}" for character in points], add_special_tokens=False)
    theirs = {character for character, encoding in zip(points, found, strict=True) if 1 not in encoding.ids}
    ours = set(filter(characters.is_word, points))
    assert {character for character in theirs - ours if unicodedata.category(character) != "Cn"} == set()
    if unicodedata.unidata_version <= "16.0.0":  # a later Python has letters that the library does not have yet
        assert ours - theirs == set()


def test_what_a_word_character_is() -> None:
    """Equal for the letters that this Python has; those of a later Unicode are none to it."""
    compare_word_characters(sample())


@pytest.mark.slow
def test_what_a_word_character_is_for_all_code_points() -> None:
    compare_word_characters(CODE_POINTS)


# ---- where it comes from ---------------------------------------------------------------------------------------------


def test_it_reads_the_same_files(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "vocab.txt").write_bytes((model_dir / "vocab.txt").read_bytes())
    texts = [*fuzzed(200, 3), "Ünïcödé CASED 東京"]
    for settings in ({}, {"do_lower_case": False}, {"do_lower_case": True, "strip_accents": False},
                     {"tokenize_chinese_chars": False}):  # fmt: skip
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        files = find_files(str(tmp_path))
        tokenizer, read_one = tokenizer_from_files(files), WordPieceTokenizer.from_files(files)
        assert [[token.id for token in read_one.encode(text)] for text in texts] == tokenizer(texts)["input_ids"]
        assert read_one.lowercase == settings.get("do_lower_case", True)


def test_what_is_not_berts_is_refused(tmp_path: Path) -> None:
    rust = word_piece({piece: i for i, piece in enumerate([*SPECIAL, "a"])})
    rust.normalizer = tokenizers.normalizers.NFC()
    with pytest.raises(ValueError, match="BertNormalizer, BertPreTokenizer, WordPiece; this one is NFC, Bert"):
        WordPieceTokenizer.from_tokenizer(Tokenizer(rust))


def test_a_vocabulary_without_a_special_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unk_token '\[UNK\]' is not among the vocabulary's 1 piece"):
        WordPieceTokenizer({"a": 0})
    with pytest.raises(ValueError, match=r"token '\[SEP\]' is not among"):
        WordPieceTokenizer({"[UNK]": 0, "[CLS]": 1})


@pytest.mark.parametrize(("text", "error"), [(None, TypeError), (b"a", TypeError), ("a\ud800", ValueError)])
def test_bad_texts_are_refused(text: Any, error: type[Exception], real: Any) -> None:
    with pytest.raises(error, match=r"^text: "):
        real[1].encode(text)


def test_the_steps_of_a_text() -> None:
    pieces = [*SPECIAL, "new", "##er", "<x>"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    added = [AddedToken("<X>", 7, normalized=True, special=False), AddedToken("[MASK]", 4)]
    steps = WordPieceTokenizer(vocab, added_tokens=added).steps("NÉWer\t[MASK]<X>")
    assert steps.stages == {
        "clean": "NÉWer [MASK]<X>",
        "space_cjk": "NÉWer [MASK]<X>",
        "strip_accents": "NEWer [MASK]<X>",
        "lower": "newer [MASK]<x>",
    }
    assert steps.words == [("newer", 0, 5), ("[MASK]", 6, 12), ("<x>", 12, 15)]
    assert steps.tokens == [("new", 5, 0, 3), ("##er", 6, 3, 5), ("[MASK]", 4, 6, 12), ("<X>", 7, 12, 15)]
