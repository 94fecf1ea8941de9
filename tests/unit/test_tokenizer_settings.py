"""The tokenizer's settings, its files, and what it refuses: nothing is taken and then ignored."""

from __future__ import annotations

import inspect
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

import minilm
from minilm import AutoTokenizer, BertTokenizer, BertTokenizerFast
from minilm.tokenizing.batch_encoding import BatchEncoding, CharSpan, TokenSpan
from minilm.tokenizing.config import SETTINGS, TokenizerConfig
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "new", "##er", "ideas", "世", "e"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(word_piece({piece: i for i, piece in enumerate(PIECES)}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path


def write(folder: Path, **files: Any) -> None:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def write_tokenizer(folder: Path, **parts: Any) -> None:
    """Write ``tokenizer.json`` of the vocabulary, with other parts where they are given."""
    whole = json.loads(word_piece({piece: i for i, piece in enumerate(PIECES)}).to_str())
    write(folder, tokenizer=whole | parts)


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_setting_acts(tokenizer: Tokenizer) -> None:
    texts = ["a b c new", "a"]
    acts: dict[str, tuple[Any, Any]] = {
        "model_max_length": (4, lambda: tokenizer(texts, truncation=True)["input_ids"]),
        "padding_side": ("left", lambda: tokenizer(texts, padding=True)["input_ids"]),
        "truncation_side": ("left", lambda: tokenizer.encode_packed(texts, 4)[0][0].input_ids.tolist()),
        "model_input_names": (["input_ids"], lambda: list(tokenizer("a"))),
        "clean_up_tokenization_spaces": (True, lambda: tokenizer.decode(tokenizer.convert_tokens_to_ids(["a", "b"]))),
        "pad_token": ("[MASK]", lambda: tokenizer(texts, padding=True)["input_ids"]),
        "pad_token_id": (5, lambda: tokenizer(texts, padding=True)["input_ids"]),
        "unk_token": ("a", lambda: tokenizer.convert_tokens_to_ids("nothing")),
    }
    for name in ("bos", "eos", "unk", "sep", "cls", "mask"):
        for setting, value in ((f"{name}_token", "e"), (f"{name}_token_id", 12)):
            acts.setdefault(setting, (value, lambda: tokenizer.all_special_ids))
    settings = [
        name for name, found in inspect.getmembers(Tokenizer) if isinstance(found, property) and found.fset is not None
    ]
    assert sorted(acts) == sorted(settings)
    for name, (value, effect) in acts.items():
        before, old = effect(), getattr(tokenizer, name)
        setattr(tokenizer, name, value)
        assert getattr(tokenizer, name) == value
        if name != "clean_up_tokenization_spaces":  # see below
            assert effect() != before, name
        setattr(tokenizer, name, old)
        assert effect() == before


def test_spaces_before_punctuation() -> None:
    tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate([*PIECES, "'", "s"])}))
    ids = tokenizer.convert_tokens_to_ids(["a", "'", "s"])
    assert tokenizer.decode(ids) == "a ' s"
    tokenizer.clean_up_tokenization_spaces = True
    assert tokenizer.decode(ids) == "a's"
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "a ' s"


@pytest.mark.parametrize(
    "name", ["paddingside", "pad_tok", "max_length", "_pad_token", "vocab_size", "decode", "name_or_path"]
)
def test_what_is_no_setting_is_refused_and_named(tokenizer: Tokenizer, name: str) -> None:
    for change in (lambda: setattr(tokenizer, name, "x"), lambda: delattr(tokenizer, name)):
        with pytest.raises(AttributeError, match=rf"'{name}'.*model_max_length.*padding_side"):
            change()
    if not hasattr(Tokenizer, name):
        with pytest.raises(AttributeError, match=rf"'{name}'.*padding_side"):
            getattr(tokenizer, name)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("model_max_length", 0, ValueError),
        ("model_max_length", "9", TypeError),
        ("model_max_length", True, TypeError),
        ("padding_side", "top", ValueError),
        ("truncation_side", None, ValueError),
        ("pad_token", "no such token", ValueError),
        ("pad_token", 3, ValueError),
        ("mask_token_id", 99, ValueError),
        ("model_input_names", ["token_type_ids"], ValueError),
        ("model_input_names", ["input_ids", "bbox"], ValueError),
        ("clean_up_tokenization_spaces", "yes", ValueError),
    ],
)
def test_a_setting_that_cannot_be(tokenizer: Tokenizer, name: str, value: Any, error: type[Exception]) -> None:
    before = getattr(tokenizer, name)
    with pytest.raises(error, match="99" if name == "mask_token_id" else name):
        setattr(tokenizer, name, value)
    assert getattr(tokenizer, name) == before


def test_numpy_integers_are_integers(tokenizer: Tokenizer) -> None:
    tokenizer.model_max_length = np.int64(4)
    assert tokenizer("a b c a", truncation=True) == tokenizer("a b c a", max_length=np.int32(4))
    tokenizer.model_max_length = 1e30
    assert len(tokenizer("a b c a", truncation=True)["input_ids"]) == 6


def test_a_tokenizer_without_padding(tokenizer: Tokenizer) -> None:
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None
    for pad in (lambda: tokenizer(["a"], padding=True), lambda: tokenizer.pad({"input_ids": [1]})):
        with pytest.raises(ValueError, match=r"pad_token is None.*Set tokenizer.pad_token"):
            pad()


def test_sides_of_one_call(tokenizer: Tokenizer) -> None:
    encoded = tokenizer(
        ["a b c", "a"], padding=True, truncation=True, max_length=4, padding_side="left", truncation_side="left"
    )
    assert encoded["input_ids"] == [[2, 6, 7, 3], [0, 2, 5, 3]]
    assert encoded["attention_mask"] == [[1] * 4, [0, 1, 1, 1]]
    assert (tokenizer.padding_side, tokenizer.truncation_side) == ("right", "right")
    for name in ("padding_side", "truncation_side"):
        with pytest.raises(ValueError, match=name):
            tokenizer("a", **{name: "middle"})


def test_settings_travel(tokenizer: Tokenizer) -> None:
    tokenizer.padding_side, tokenizer.pad_token, tokenizer.model_max_length = "left", "[MASK]", 5
    copy = pickle.loads(pickle.dumps(tokenizer))
    arguments = {"padding": True, "truncation": True}
    assert copy(["a b c a b c", "a"], **arguments) == tokenizer(["a b c a b c", "a"], **arguments)


def test_threads_with_different_calls(tokenizer: Tokenizer) -> None:
    texts = ["a b c new ideas newer " * n for n in range(1, 9)]
    calls = [
        {"padding": pad, "truncation": True, "max_length": n, "padding_side": side, "return_offsets_mapping": True}
        for pad in (True, False)
        for n in (4, 9, 40)
        for side in ("left", "right")
    ]
    alone = [tokenizer(texts, **call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            assert list(pool.map(lambda call: tokenizer(texts, **call), calls)) == alone


# ---- the call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pair", "words", "message"),
    [
        (["a", ("b", "c")], None, False, "text 1"),
        ([("a", "b"), "c"], None, False, "text 1.*pair"),
        ([("a", "b"), ("a", None)], None, False, "text 1.*pair"),
        ([["a"]], None, False, "text 0"),
        ("a b", None, True, "words in lists"),
        (["a b", ["c"]], None, True, "text 0, word 1"),
        ([["a"], "b"], None, True, "text 1.*list of words"),
        ([["a", 3]], None, True, "text 0, word 1"),
        ("a", ["b"], False, "both be one text"),
        (["a"], "b", True, "text_pair"),
    ],
)
def test_texts_that_are_none(tokenizer: Tokenizer, text: Any, pair: Any, words: bool, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tokenizer(text, pair, is_split_into_words=words)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"stride": -1}, ValueError, "stride.*at least 0"),
        ({"stride": 2, "max_length": 4, "truncation": True}, ValueError, "text 0: stride 2.*2 tokens"),
        ({"pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of"),
        ({"pad_to_multiple_of": 4, "padding": True, "truncation": True, "max_length": 6}, ValueError, "multiple"),
        ({"max_length": -1}, ValueError, "max_length"),
        ({"max_length": 4.5}, TypeError, "max_length"),
        ({"padding": 1}, ValueError, "padding"),
        ({"return_tensors": "pt"}, ValueError, "'pt'.*NumPy"),
        ({"return_tensor": "np"}, TypeError, "return_tensor"),
        ({"text_target": "a"}, TypeError, "text_target"),
    ],
)
def test_arguments_that_cannot_be(tokenizer: Tokenizer, settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tokenizer("a b c", **settings)


def test_enumerations_stand_for_their_values(tokenizer: Tokenizer) -> None:
    import enum

    Kind = enum.Enum("Kind", {"LONGEST": "longest", "FIRST": "only_first", "NUMPY": "np"})
    arguments = {"padding": Kind.LONGEST, "truncation": Kind.FIRST, "max_length": 4, "return_tensors": Kind.NUMPY}
    assert tokenizer(["a b c", "a"], **arguments)["input_ids"].tolist() == [[2, 5, 6, 3], [2, 5, 3, 0]]


def test_a_text_on_which_the_library_panics(capfd: pytest.CaptureFixture[str]) -> None:
    rust = word_piece({piece: i for i, piece in enumerate(PIECES)})
    rust.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("(a+)+b"), "isolated")
    tokenizer = Tokenizer(rust)
    fatal = "a" * 40 + "c"
    for call in (tokenizer, tokenizer.encode_packed):
        with pytest.raises(ValueError, match="text 2: the tokenizer fails on 'aaaa"):
            call(["a", "b", fatal])
    with pytest.raises(ValueError, match="text_pair 300:"):
        tokenizer.encode_packed(["a"] * 301, text_pairs=["b"] * 300 + [fatal])
    assert tokenizer("a")["input_ids"] == [2, 5, 3]
    capfd.readouterr()  # the panic's own message


def test_offsets_and_words(tokenizer: Tokenizer) -> None:
    encoded = tokenizer("Newer  ideas", "b", return_offsets_mapping=True, return_special_tokens_mask=True)
    assert encoded.tokens() == ["[CLS]", "new", "##er", "ideas", "[SEP]", "b", "[SEP]"]
    assert encoded["offset_mapping"] == [(0, 0), (0, 3), (3, 5), (7, 12), (0, 0), (0, 1), (0, 0)]
    assert encoded["special_tokens_mask"] == [1, 0, 0, 0, 1, 0, 1]
    assert encoded.word_ids() == [None, 0, 0, 1, None, 0, None]
    assert encoded.sequence_ids() == [None, 0, 0, 0, None, 1, None]
    assert (encoded.char_to_token(4), encoded.char_to_token(5), encoded.char_to_token(0, sequence_index=1)) == (
        2,
        None,
        5,
    )
    assert encoded.token_to_chars(3) == CharSpan(7, 12)
    assert encoded.token_to_chars(0) is None
    assert encoded.word_to_tokens(0) == TokenSpan(1, 3)
    assert encoded.word_to_chars(0, 1) == CharSpan(7, 12)
    assert encoded.char_to_word(0, 8) == 1
    assert encoded.token_to_word(0, -2) == encoded.token_to_word(0, 5) == 0
    assert encoded.token_to_sequence(5) == 1


def test_overflow_with_a_stride(tokenizer: Tokenizer) -> None:
    encoded = tokenizer(
        ["a b c a b", "c"], max_length=5, stride=1, truncation=True, return_overflowing_tokens=True, padding=True
    )
    assert encoded["input_ids"] == [[2, 5, 6, 7, 3], [2, 7, 5, 6, 3], [2, 7, 3, 0, 0]]
    assert encoded["overflow_to_sample_mapping"] == [0, 0, 1]
    pair = tokenizer("a", "b c a b", max_length=6, truncation="only_second", return_overflowing_tokens=True)
    assert pair["input_ids"] == [[2, 5, 3, 6, 7, 3], [2, 5, 3, 5, 6, 3]]
    assert pair["token_type_ids"] == [[0, 0, 0, 1, 1, 1]] * 2


def test_what_a_call_returns(tokenizer: Tokenizer) -> None:
    encoded = tokenizer(["a b", "c"], padding=True)
    assert encoded.data == encoded == dict(encoded)
    assert list(encoded) == list(encoded.keys()) == ["input_ids", "token_type_ids", "attention_mask"]
    assert encoded[0].ids == encoded["input_ids"][0] == encoded.encodings[0].ids
    assert encoded.is_fast and encoded.n_sequences == 1
    for device in ("cpu", "cuda", "cuda:1"):
        assert encoded.to(device) is encoded
    for device in ("mps", "float16", 0, "cuda:x"):
        with pytest.raises(ValueError, match=r"device.*cpu"):
            encoded.to(device)
    with pytest.raises(ValueError, match="'pt'"):
        encoded.convert_to_tensors("pt")
    assert encoded.convert_to_tensors("np")["input_ids"].dtype == np.int64
    with pytest.raises(AttributeError, match=r"encoded\['input_ids'\]"):
        encoded.input_ids = []
    with pytest.raises(AttributeError, match=r"'input_id'.*attention_mask"):
        encoded.input_id  # noqa: B018
    copy = pickle.loads(pickle.dumps(encoded))
    assert copy.word_ids(0) == encoded.word_ids(0)
    bare = BatchEncoding({"input_ids": [1, 2]})
    assert bare[:1] == {"input_ids": [1]}
    for ask in (lambda: bare.tokens(), lambda: bare.char_to_token(0)):
        with pytest.raises(ValueError, match="no record of the texts"):
            ask()
    with pytest.raises(KeyError, match="input_ids"):
        bare[0]


def test_padding_what_cannot_be_padded(tokenizer: Tokenizer) -> None:
    for wrong, error, message in (
        ({"ids": [1]}, ValueError, "input_ids.*'ids'"),
        ([[1, 2]], TypeError, "list"),
        ([], TypeError, "list"),
        ({"input_ids": [[1], [2]], "labels": [0]}, ValueError, "labels is of 1 inputs"),
    ):
        with pytest.raises(error, match=message):
            tokenizer.pad(wrong)
    assert tokenizer.pad([{"input_ids": [1], "labels": 7}, {"input_ids": [1, 2], "labels": 8}])["labels"] == [7, 8]
    assert "attention_mask" not in tokenizer.pad(tokenizer("a"), return_attention_mask=False)


def test_special_tokens_around_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.build_inputs_with_special_tokens([5], [6, 7]) == [2, 5, 3, 6, 7, 3]
    assert tokenizer.create_token_type_ids_from_sequences([5], [6, 7]) == [0, 0, 0, 1, 1, 1]
    assert tokenizer.get_special_tokens_mask([5], [6, 7]) == [1, 0, 1, 0, 0, 1]
    assert tokenizer.get_special_tokens_mask([2, 5, 3], already_has_special_tokens=True) == [1, 0, 1]
    with pytest.raises(ValueError, match="token_ids_1"):
        tokenizer.get_special_tokens_mask([2, 5, 3], [5], already_has_special_tokens=True)
    assert (tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(True)) == (2, 3)
    with pytest.raises(TypeError, match="many texts"):
        tokenizer.batch_encode_plus("a")


# ---- by name ---------------------------------------------------------------------------------------------------------


def test_arguments_of_from_pretrained(folder: Path) -> None:
    harmless = {"use_fast": False, "trust_remote_code": True, "force_download": False, "config": None, "proxies": None}
    plain = AutoTokenizer.from_pretrained(folder)
    told = AutoTokenizer.from_pretrained(
        folder, **harmless, model_max_length=7, padding_side="left", do_lower_case=False
    )
    assert (told.model_max_length, told.padding_side) == (7, "left")
    assert (plain.tokenize("A"), told.tokenize("A")) == (["a"], ["[UNK]"])
    with pytest.raises(TypeError, match=r"'use_fats'.*model_max_length"):
        AutoTokenizer.from_pretrained(folder, use_fats=True)
    with pytest.raises(ValueError, match="force_download=True"):
        AutoTokenizer.from_pretrained(folder, force_download=True)
    with pytest.raises(ValueError, match=r"^padding_side"):
        AutoTokenizer.from_pretrained(folder, padding_side="top")
    with pytest.raises(TypeError, match="from_pretrained"):
        AutoTokenizer(folder)
    for setting in ({"keep_accents": True}, {"add_prefix_space": True}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            AutoTokenizer.from_pretrained(folder, **setting)
    parent = folder.parent
    assert AutoTokenizer.from_pretrained(parent, subfolder=folder.name)("a b") == plain("a b")
    assert plain.name_or_path == str(folder)
    assert {"minilm.BertTokenizer", "minilm.BertTokenizerFast"} <= {f"minilm.{name}" for name in minilm.__all__}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_file_is_read(folder: Path, name: str) -> None:
    """A value that cannot be is refused: so none is passed over."""
    wrong: Any = 7 if "special_tokens" in name else {"no": 1}
    with pytest.raises(ValueError, match=name.replace("additional", "extra")):
        AutoTokenizer.from_pretrained(folder, **{name: wrong})


@pytest.mark.parametrize("kind", [BertTokenizer, BertTokenizerFast])
def test_bert_by_name(folder: Path, kind: Any, tmp_path: Path) -> None:
    write(folder, tokenizer_config={"tokenizer_class": "DistilBertTokenizer"})
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(folder)("a")
    assert kind.from_pretrained(folder)("a") == {
        "input_ids": [2, 5, 3],
        "token_type_ids": [0] * 3,
        "attention_mask": [1] * 3,
    }
    rust = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    rust.save(str(folder / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"not a BertTokenizer: its model is BPE, not WordPiece"):
        kind.from_pretrained(folder)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
def test_a_class_that_is_not_implemented(folder: Path, fast: bool) -> None:
    if fast:
        write_tokenizer(folder)
    write(folder, tokenizer_config={"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(ValueError, match=r"tokenizer_config.json: .*BertJapaneseTokenizer.*MeCab.*transformers"):
        AutoTokenizer.from_pretrained(folder)
    write(folder, tokenizer_config={"tokenizer_class": 7})
    with pytest.raises(ValueError, match=r"tokenizer_config.json.*tokenizer_class.*7"):
        AutoTokenizer.from_pretrained(folder)
    write(folder, tokenizer_config={"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}})
    with pytest.raises(ValueError, match=r"tokenizer_config.json.*own.Tokenizer.*no code"):
        AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("names", "config", "message"),
    [
        (["sentencepiece.bpe.model"], {}, "no tokenizer.json.*has sentencepiece.bpe.model.*save_pretrained"),
        (
            ["spiece.model"],
            {"tokenizer_class": "AlbertTokenizer"},
            "has spiece.model.*AlbertTokenizer.*save_pretrained",
        ),
        (["vocab.json", "merges.txt"], {"tokenizer_class": "GPT2Tokenizer"}, "has vocab.json.*GPT2Tokenizer"),
        (["vocab.json"], {"tokenizer_class": "RobertaTokenizer"}, "merges.txt"),
        (["vocab.txt"], {"tokenizer_class": "SomeTokenizer"}, "has vocab.txt.*SomeTokenizer"),
        ([], {}, "no file tokenizer.json or vocab.txt"),
    ],
)
def test_folders_without_a_file_to_read(tmp_path: Path, names: list[str], config: Any, message: str) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    write(tmp_path, tokenizer_config=config)
    with pytest.raises(FileNotFoundError, match=message):
        AutoTokenizer.from_pretrained(tmp_path)


def test_merges_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}')
    write(tmp_path, tokenizer_config={"tokenizer_class": "RobertaTokenizer"})
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    assert AutoTokenizer.from_pretrained(tmp_path)("ab")["input_ids"] == [0, 4, 1]
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(ValueError, match=r"merges.txt"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("setting", "steps", "text", "pieces"),
    [
        ({"do_lower_case": False}, [normalizers.NFC(), normalizers.BertNormalizer()], "A", ["[UNK]"]),
        ({"do_lower_case": True}, [normalizers.BertNormalizer(lowercase=False)], "A", ["a"]),
        ({"strip_accents": False}, [normalizers.BertNormalizer()], "é", ["[UNK]"]),
        ({"tokenize_chinese_chars": False}, [normalizers.BertNormalizer()], "世世", ["[UNK]"]),
        ({"do_lower_case": True}, [normalizers.NFC(), normalizers.Lowercase()], "A", ["a"]),
        ({"strip_accents": True}, [normalizers.NFD(), normalizers.StripAccents()], "é", ["e"]),
    ],
)
def test_settings_act_inside_a_sequence(folder: Path, setting: Any, steps: Any, text: str, pieces: list[str]) -> None:
    normalizer = json.loads(normalizers.Sequence(steps).__getstate__())
    write_tokenizer(folder, normalizer=normalizer)
    write(folder, tokenizer_config=setting)
    assert AutoTokenizer.from_pretrained(folder).tokenize(text) == pieces


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        ({"do_lower_case": False}, [normalizers.Lowercase()]),
        ({"do_lower_case": True}, [normalizers.NFC()]),
        ({"strip_accents": True}, [normalizers.NFC()]),
        ({"tokenize_chinese_chars": True}, [normalizers.NFC()]),
    ],
)
def test_settings_that_cannot_act_are_refused(folder: Path, setting: Any, steps: Any) -> None:
    write_tokenizer(folder, normalizer=json.loads(normalizers.Sequence(steps).__getstate__()))
    write(folder, tokenizer_config=setting)
    with pytest.raises(ValueError, match=rf"tokenizer.json.*{next(iter(setting))}.*BertNormalizer"):
        AutoTokenizer.from_pretrained(folder)


def test_settings_of_other_kinds(tmp_path: Path) -> None:
    """BERT's settings beside another kind of tokenizer have no effect in files, and are refused when asked for."""
    rust = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("A", -1.0)], 0))
    rust.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    rust.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, tokenizer_config={"do_lower_case": False, "strip_accents": False, "tokenizer_class": "XTokenizer"})
    assert AutoTokenizer.from_pretrained(tmp_path).tokenize("A") == ["a"]
    for setting in ({"do_lower_case": False}, {"strip_accents": False}, {"add_prefix_space": False}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            AutoTokenizer.from_pretrained(tmp_path, **setting)
    assert AutoTokenizer.from_pretrained(tmp_path, do_lower_case=True).tokenize("A") == ["a"]
    for setting in ({"do_lower_case": False}, {"keep_accents": True}):  # ALBERT has them
        albert = {"tokenizer_class": "AlbertTokenizer", "cls_token": "a", "sep_token": "A"}
        write(tmp_path, tokenizer_config=albert | setting)
        with pytest.raises(ValueError, match=next(iter(setting))):
            AutoTokenizer.from_pretrained(tmp_path)
        write(tmp_path, tokenizer_config=albert | {name: not value for name, value in setting.items()})
        assert AutoTokenizer.from_pretrained(tmp_path).tokenize("á") == ["a"]


def test_an_added_token_with_another_id(folder: Path) -> None:
    write(folder, added_tokens={"[LINK]": len(PIECES) + 1})
    with pytest.raises(ValueError, match=rf"vocab.txt.*\[LINK\].*{len(PIECES) + 1}.*{len(PIECES)}"):
        AutoTokenizer.from_pretrained(folder)


def test_a_post_processor_of_its_own(folder: Path) -> None:
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    for single, pair in (
        ("[CLS] $A [SEP]", "[CLS] $B [SEP] $A [SEP]"),  # the other way round
        ("$A [SEP] $A", "$A [SEP] $B"),  # twice
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B $B [SEP]"),
    ):
        processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=marks)
        write_tokenizer(folder, post_processor=json.loads(processor.__getstate__()))
        with pytest.raises(ValueError, match=r"tokenizer.json.*the post-processor"):
            AutoTokenizer.from_pretrained(folder)


def test_saving_and_reading_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.padding_side, tokenizer.model_max_length, tokenizer.pad_token = "left", 6, "[MASK]"
    written = tokenizer.save_pretrained(tmp_path / "new" / "folder")
    again = AutoTokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert [Path(path).name for path in written] == ["tokenizer.json", "tokenizer_config.json"]
    arguments = {"padding": True, "truncation": True, "return_offsets_mapping": True}
    texts = ["a b c NEWER ideas [MASK]", "é 世", ""]
    assert again(texts, texts[::-1], **arguments) == tokenizer(texts, texts[::-1], **arguments)
    for name, found in inspect.getmembers(Tokenizer):
        if isinstance(found, property) and name != "name_or_path":
            assert getattr(again, name) == getattr(tokenizer, name), name
    assert BertTokenizer.from_pretrained(tmp_path / "new" / "folder")(texts) == again(texts)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pad_token": "[" * 1001}, "pad_token: a token of 1001 characters"),
        ({"extra_special_tokens": [{"content": "x" * 1001}]}, "a special token: a token of 1001 characters"),
        ({"added_tokens_decoder": {"9": {"content": "x" * 1001}}}, "added_tokens_decoder: a token of 1001"),
        ({"added_tokens_decoder": {"9": {"special": True}}}, "added_tokens_decoder must be a string"),
        ({"mask_token": {"special": True}}, "mask_token must be a string"),
        ({"cls_token": 3}, "cls_token must be a string"),
    ],
)
def test_tokens_that_are_no_tokens(values: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TokenizerConfig.from_dict(values)
