"""The tokenizer: Hugging Face's call and ids, input checks, files, and threads."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from minilm import AutoTokenizer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.lengths import NO_MAX_LENGTH, kept_lengths
from minilm.tokenizing.tokenizer import Tokenizer

TEXT = (
    "the Quick BROWN fox, jumps! unbelievably Ünïcödé 你好世界 мир 🙂 [MASK] [SEP] [PAD] don't e-mail@x.org a.b/c?d=1 "
    "xylophone \x00 \u200b \ufeff 한국어 עברית हिन्दी \u0301 A\u0301 E\u0301 é İstanbul ß ſ Ⅳ ½ ﬁ \ue000 \uffff"
)
WORDS = [*TEXT.split(" "), "\t", "\n", "x" * 120, "\u2028"]


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    return AutoTokenizer.from_pretrained(model_dir)


@pytest.fixture
def folder(tmp_path: Path, model_dir: Path) -> Path:
    """A checkpoint's folder with the real vocabulary and nothing else of a tokenizer."""
    (tmp_path / "vocab.txt").write_bytes((model_dir / "vocab.txt").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def random_text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.choice([0, 1, 2, 5, 12, 30])))


# ---- the call --------------------------------------------------------------------------------------------------------


def test_neither_truncation_nor_padding_is_taken_from_the_file(tokenizer: Tokenizer) -> None:
    encoded = tokenizer(["word " * 200, "word"])  # tokenizer.json says: cut to 128, and pad to 128
    assert [len(ids) for ids in encoded["input_ids"]] == [202, 3]


def test_one_text_is_flat_and_many_are_not(tokenizer: Tokenizer) -> None:
    one = tokenizer("a word")
    assert one == {"input_ids": [101, 1037, 2773, 102], "token_type_ids": [0] * 4, "attention_mask": [1] * 4}
    assert tokenizer(["a word"])["input_ids"] == [one["input_ids"]]
    assert one.input_ids == one["input_ids"]
    assert one.tokens() == ["[CLS]", "a", "word", "[SEP]"]
    arrays = tokenizer("a word", return_tensors="np")
    assert (arrays["input_ids"].shape, arrays["input_ids"].dtype) == ((1, 4), np.int64)
    assert arrays.tokens(0) == one.tokens()


def test_empty_and_blank_texts_are_valid(tokenizer: Tokenizer) -> None:
    assert tokenizer(["", " \n\t"])["input_ids"] == [[101, 102], [101, 102]]
    assert tokenizer([], padding=True, return_tensors="np")["input_ids"].shape == (0, 0)
    assert tokenizer("a", "")["input_ids"] == tokenizer(["a"], [""])["input_ids"][0] == [101, 1037, 102, 102]


def test_padding_and_truncation(tokenizer: Tokenizer) -> None:
    texts = ["a b c d e f", "a"]
    assert tokenizer(texts, padding=True)["attention_mask"] == [[1] * 8, [1] * 3 + [0] * 5]
    assert [len(ids) for ids in tokenizer(texts, padding="max_length", max_length=10)["input_ids"]] == [10, 10]
    assert [len(ids) for ids in tokenizer(texts, padding="max_length")["input_ids"]] == [512, 512]
    assert [len(ids) for ids in tokenizer(texts, max_length=5)["input_ids"]] == [5, 3]
    assert len(tokenizer("a " * 600, truncation=True)["input_ids"]) == tokenizer.model_max_length == 512
    pair = tokenizer("a b c d e f", "g h", truncation="only_first", max_length=8)
    assert pair["token_type_ids"] == [0] * 5 + [1] * 3
    assert pair.tokens() == ["[CLS]", "a", "b", "c", "[SEP]", "g", "h", "[SEP]"]
    assert tokenizer("a b", "c", add_special_tokens=False).tokens() == ["a", "b", "c"]
    assert list(tokenizer("a", return_token_type_ids=False, return_attention_mask=False)) == ["input_ids"]


def test_encode_packed_counts_what_is_lost(tokenizer: Tokenizer) -> None:
    texts = ["a b c", "", "a b c d e f g"] * 200  # more than one chunk
    tokens, lost = tokenizer.encode_packed(texts, 6)
    assert lost.tolist() == [0, 0, 3] * 200
    expected = tokenizer(texts, truncation=True, max_length=6)
    assert [text.input_ids.tolist() for text in tokens] == expected["input_ids"]
    assert [text.token_type_ids.tolist() for text in tokens] == expected["token_type_ids"]
    tokens, lost = tokenizer.encode_packed(["a b c d", "a"], 7, text_pairs=["e f", "g h i j"])
    assert lost.tolist() == [2, 1]
    assert tokenizer.convert_ids_to_tokens(tokens[1].input_ids) == ["[CLS]", "a", "[SEP]", "g", "h", "i", "[SEP]"]
    expected = tokenizer(["a b c d", "a"], ["e f", "g h i j"], truncation=True, max_length=7)
    assert [text.input_ids.tolist() for text in tokens] == expected["input_ids"]
    assert [text.token_type_ids.tolist() for text in tokens] == expected["token_type_ids"]
    assert {array.dtype for text in tokens for array in text} == {np.dtype(np.int64)}
    assert len(tokenizer.encode_packed(["a " * 700])[0][0].input_ids) == 702


def test_decoding(tokenizer: Tokenizer) -> None:
    ids = tokenizer("Unbelievably, it works!")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] unbelievably, it works! [SEP]"
    assert tokenizer.batch_decode([np.array(ids)] * 2, skip_special_tokens=True) == ["unbelievably, it works!"] * 2
    assert tokenizer.convert_tokens_to_ids(["[CLS]", "no such token", "works"]) == [101, 100, 2573]
    assert tokenizer.convert_ids_to_tokens(103) == tokenizer.mask_token == "[MASK]"
    special = tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    assert (*special, tokenizer.mask_token_id) == (0, 100, 101, 102, 103)
    assert tokenizer.vocab_size == len(tokenizer) == len(tokenizer.get_vocab()) == 30522
    for wrong in (30522, -1):
        with pytest.raises(ValueError, match=f"{wrong}.*30522"):
            tokenizer.decode([101, wrong])


def test_threads_with_different_settings_do_not_disturb_each_other(tokenizer: Tokenizer) -> None:
    texts = ["some words of a text " * n for n in range(1, 12)]
    settings = [{"padding": pad, "truncation": True, "max_length": n} for pad in (True, False) for n in (4, 9, 40)]
    alone = [tokenizer(texts, **setting) for setting in settings]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            assert list(pool.map(lambda setting: tokenizer(texts, **setting), settings)) == alone


def test_it_pickles(tokenizer: Tokenizer) -> None:
    encoded = tokenizer("a word")
    for copy in (pickle.loads(pickle.dumps(tokenizer))("a word"), pickle.loads(pickle.dumps(encoded))):
        assert copy == encoded
        assert copy.tokens() == encoded.tokens()


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, float("nan"), 7, b"bytes", ["nested"], ("a", "pair")])
def test_what_is_not_a_string_is_named_by_its_index(tokenizer: Tokenizer, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"text 2\b"):
        tokenizer(["a", "b", wrong])
    with pytest.raises(TypeError, match=r"text_pair 1\b"):
        tokenizer(["a", "b"], ["c", wrong])
    with pytest.raises(TypeError, match=r"text 300\b"):
        tokenizer.encode_packed(["a"] * 300 + [wrong])


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", {"a": "b"}])
def test_what_holds_no_texts_is_refused(tokenizer: Tokenizer, wrong: Any) -> None:
    with pytest.raises(TypeError, match="text"):
        tokenizer(wrong)


def test_lone_surrogates_are_named_and_nuls_are_cleaned_away(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"text 1.*surrogate"):
        tokenizer(["a", "b \ud800 c"])
    assert tokenizer("a\x00b")["input_ids"] == tokenizer("ab")["input_ids"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": "always"}, "padding.*always"),
        ({"truncation": "sometimes"}, "truncation.*sometimes"),
        ({"return_tensors": "pt"}, "return_tensors.*'pt'"),
        ({"truncation": True, "max_length": 1}, "max_length 1"),
        ({"return_tensors": "np"}, "padding=True"),
        ({"text_pair": ["c"]}, "2 texts.*1 text pairs"),
        ({"text_pair": ["c", "d"], "truncation": "only_first", "max_length": 4}, "text 0.*only_first"),
        ({"truncation": "only_second", "max_length": 3}, "text 1.*only_second"),
    ],
)
def test_wrong_settings(tokenizer: Tokenizer, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer(["a", "b b"], **settings)


def test_a_max_length_without_effect_is_said(tokenizer: Tokenizer) -> None:
    with pytest.warns(UserWarning, match="max_length"):
        tokenizer(["a", "b b"], padding=True, max_length=2)
    with pytest.raises(TypeError, match="max_length"):
        tokenizer("a", max_length="9")


# ---- files -----------------------------------------------------------------------------------------------------------


def test_from_a_vocabulary_alone(folder: Path, tokenizer: Tokenizer) -> None:
    built = AutoTokenizer.from_pretrained(folder)
    assert built.model_max_length == NO_MAX_LENGTH
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(50)]
    assert built(texts, texts[::-1]) == tokenizer(texts, texts[::-1])


def test_cased_and_chinese_settings(folder: Path) -> None:
    with (folder / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("é\n世界\n")
    config = {"do_lower_case": False, "tokenize_chinese_chars": False, "model_max_length": 7}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "mask_token": {"content": "the"}}))
    built = AutoTokenizer.from_pretrained(folder)
    assert built.tokenize("The é the 世界") == ["[UNK]", "é", "the", "世界"]
    assert (built.model_max_length, built.mask_token_id) == (7, 1996)
    (folder / "tokenizer_config.json").write_text("{}")
    assert AutoTokenizer.from_pretrained(folder).tokenize("The é the 世界") == ["the", "e", "the", "世", "[UNK]"]


def test_the_config_wins_over_the_file(folder: Path, model_dir: Path) -> None:
    (folder / "tokenizer.json").write_bytes((model_dir / "tokenizer.json").read_bytes())
    assert AutoTokenizer.from_pretrained(folder).tokenize("The") == ["the"]
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert AutoTokenizer.from_pretrained(folder).tokenize("The") == ["[UNK]"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json"),
        ("tokenizer.json", '{"model": {"type": "WordPiece"}}', "tokenizer.json"),
        ("vocab.txt", "no\nspecial\ntokens\n", "vocab.txt.*unk_token"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json"),
        ("tokenizer_config.json", '{"padding_side": "up"}', "tokenizer_config.json.*padding_side"),
        ("tokenizer_config.json", '{"model_max_length": -1}', "tokenizer_config.json.*model_max_length"),
        ("tokenizer_config.json", '{"do_lower_case": "yes"}', "tokenizer_config.json.*do_lower_case"),
        ("tokenizer_config.json", '{"cls_token": {}}', "tokenizer_config.json.*content"),
    ],
)
def test_a_corrupted_file_is_named(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        AutoTokenizer.from_pretrained(folder)


def test_a_post_processor_that_makes_the_library_panic(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rust = word_piece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3})
    broken = json.loads(rust.to_str())
    broken["post_processor"]["special_tokens"] = {}
    (folder / "tokenizer.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        AutoTokenizer.from_pretrained(folder)
    capfd.readouterr()  # the panic's own message


def test_a_thousand_mutated_files_load_right_or_are_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "word"])}
    original = word_piece(vocab).to_str().encode()
    rng = random.Random(0)
    loaded = 0
    for _ in range(1000):
        mutated = bytearray(original)
        place = rng.randrange(len(original))
        mutated[place : place + rng.randrange(3)] = bytes(rng.choices(b'{}[]",:09-eE \xff', k=rng.randrange(3)))
        (folder / "tokenizer.json").write_bytes(mutated)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except ValueError as error:
            assert "tokenizer.json" in str(error)
        else:
            loaded += 1
            tokenizer(["a word", "ab [MASK]"], ["", "unknown"], truncation=True, max_length=5)
    assert 0 < loaded < 1000
    capfd.readouterr()


# ---- against transformers --------------------------------------------------------------------------------------------


def test_truncation_of_pairs_is_the_librarys() -> None:
    vocab = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4}
    rust = word_piece(vocab)
    for strategy in ("longest_first", "only_first", "only_second"):
        for room in range(1, 9):
            rust.enable_truncation(room + 3, strategy=strategy)
            for first, second in itertools.product(range(7), repeat=2):
                try:
                    ids = rust.encode("a " * first, "b " * second).ids
                except Exception:  # the library's word for: all of that text would go
                    with pytest.raises(ValueError, match=strategy):
                        kept_lengths(first, second, room, strategy)
                else:
                    assert kept_lengths(first, second, room, strategy) == (ids.count(3), ids.count(4))


@pytest.mark.parity
def test_ids_are_those_of_transformers(tokenizer: Tokenizer, model_dir: Path) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(model_dir)
    assert (tokenizer.vocab_size, tokenizer.model_max_length) == (theirs.vocab_size, theirs.model_max_length)
    rng = random.Random(0)
    refused = 0
    for _ in range(600):
        count = rng.randint(1, 4)
        text: Any = [random_text(rng) for _ in range(count)]
        pair: Any = [random_text(rng) for _ in range(count)] if rng.random() < 0.6 else None
        if rng.random() < 0.3:  # one text; transformers takes an empty second text for none there, but not in a batch
            text, pair = text[0], pair[0] or None if pair else None
        settings = {
            "padding": rng.choice([False, True, "longest", "max_length"]),
            "truncation": rng.choice([None, False, True, "longest_first", "only_first", "only_second"]),
            "max_length": rng.choice([3, 4, 5, 8, 9, 16, 17, 40]),
            "add_special_tokens": rng.random() < 0.8,
            "return_token_type_ids": rng.random() < 0.9,
            "return_attention_mask": rng.random() < 0.9,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both say that max_length has no effect
            try:
                expected = dict(theirs(text, pair, **settings))
            except Exception:
                refused += 1
                with pytest.raises(ValueError, match="text"):
                    tokenizer(text, pair, **settings)
            else:
                assert tokenizer(text, pair, **settings) == expected, settings
    assert refused < 200


@pytest.mark.parity
@pytest.mark.parametrize("lower", [None, True, False])
@pytest.mark.parametrize("accents", ["unsaid", None, True, False])
@pytest.mark.parametrize("chinese", [None, False])
def test_built_from_a_vocabulary_as_transformers_does(folder: Path, lower: Any, accents: Any, chinese: Any) -> None:
    import transformers

    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "tokenize_chinese_chars": chinese}
    config = {name: value for name, value in config.items() if value is not None}
    if accents != "unsaid":
        config["strip_accents"] = accents
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with (folder / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("Quick\nBROWN\nÜnïcödé\n你好世界\n")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(30)]
    expected = theirs(texts)["input_ids"]
    assert ours(texts)["input_ids"] == expected
    for ids in expected:
        for skip in (False, True):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert ours.tokenize(texts[2], texts[3]) == theirs.tokenize(texts[2], texts[3])


@pytest.mark.parity
def test_spaces_are_cleaned_up_as_in_transformers(folder: Path) -> None:
    import transformers

    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "clean_up_tokenization_spaces": True})
    )
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = ours("i don't , we 've ' s . a 'm ! they 're 'it' ?")["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids)


def test_a_tokenizer_of_another_kind(tmp_path: Path) -> None:
    rust = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain = Tokenizer(rust)  # no special tokens at all
    assert plain("a b c", "b")["input_ids"] == [1, 2, 0, 2]
    assert plain("a b c", "b")["token_type_ids"] == rust.encode("a b c", "b").type_ids
    with pytest.raises(ValueError, match="pad"):
        plain(["a", "a b"], padding=True)
