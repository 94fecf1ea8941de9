"""Long texts in pieces: cut where no token, and nothing that the tokenizer looks at, reaches across.

The library keeps some 100 bytes for each token of a text. A piece needs them for a few thousand tokens at a time, and
what truncation would take away need not be tokenized at all.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import tokenizers

from .failures import raise_if_not_the_librarys
from .pipeline import describe

PIECE = 1 << 15  # characters; longer texts are cut to pieces of this size or a little more

# Letters and digits that every normalizer treats one by one: no marks, nothing that a space is made of.
_LETTERS = "0-9A-Za-zÀ-ɏΈ-ϿЀ-ҁҊ-ԯא-ת가-힣"
_BETWEEN_WORDS = re.compile(f"(?<=[{_LETTERS}]) (?=[{_LETTERS}])")
_SPACES = r"[ \n\r\t]"
_IDEOGRAPHS = "[一-鿿]"  # BERT's normalizer puts spaces around each
_MARKS = string.punctuation + "。，、！？"  # BERT's pre-tokenizer makes a word of each

# Normalizers that treat a character by itself, or with the marks after it; first those that keep white space.
_KEEP_SPACES = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
_LOCAL = {*_KEEP_SPACES, "Precompiled"}
_QUOTES = ({"String": "``"}, {"String": "''"})
# Pre-tokenizers that cut at white space, and drop it.
_DROP_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}


class Pieces:
    """Cuts the long texts of one tokenizer.

    Parameters
    ----------
    rust
        The tokenizer, complete.
    """

    def __init__(self, rust: tokenizers.Tokenizer) -> None:
        self._rust = rust

    @cached_property
    def _cuts(self) -> re.Pattern[str] | None:
        return find_cuts(self._rust)

    def of(self, text: str, size: int | None = None) -> Iterator[str]:
        """Yield the pieces of a text, each of ``size`` characters or a little more; their tokens are the text's.

        A text that has no safe place for a cut, or whose tokenizer is of a kind that is not known here, stays whole.
        """
        size, start = size or PIECE, 0
        while len(text) - start > size:
            found = None if self._cuts is None else self._cuts.search(text, start + size)
            if found is None or found.start() == len(text):
                break
            yield text[start : found.start()]
            start = found.start()
        yield text[start:]

    def start(self, text: str, enough: int) -> str:
        """Return so many pieces from the start of a text that they have ``enough`` tokens."""
        tokens = length = 0
        for piece in self.of(text):
            try:
                (encoding,) = self._rust.encode_batch_fast([piece], add_special_tokens=False)
            except BaseException as error:  # a panic; the text as a whole fails again, and the error says which it is
                raise_if_not_the_librarys(error)
                return text
            tokens += len(encoding)
            length += len(piece)
            if tokens >= enough:
                break
        return text[:length]


def find_cuts(rust: tokenizers.Tokenizer) -> re.Pattern[str] | None:
    """Return the pattern before whose matches a text can be cut, so that the pieces have the tokens of the whole.

    Returns
    -------
    pattern or None
        None for a tokenizer that has a step which is not known to stop there.
    """
    if getattr(rust.model, "dropout", None):
        return None
    normalizers = _steps(describe(rust.normalizer), "normalizers")
    pre_tokenizers = _steps(describe(rust.pre_tokenizer), "pretokenizers")
    added = list(rust.get_added_tokens_decoder().values())
    forms = [form for token in added for form in (token.content, _normalized(rust, token.content))]
    if not pre_tokenizers or not all(map(_is_local, normalizers)) or any(map(_has_space, forms)):
        return None
    first, *others = pre_tokenizers
    if first["type"] in _DROP_SPACES and all(map(_is_inside_words, others)):
        if [first["type"], *(step["type"] for step in normalizers)] == ["BertPreTokenizer", "BertNormalizer"]:
            is_whole = normalizers[0]["handle_chinese_chars"] and not any(token.single_word for token in added)
            return _anywhere(forms) if is_whole else re.compile(_SPACES)
        if all(step["type"] in _KEEP_SPACES for step in normalizers):
            return re.compile(_SPACES)
    elif others or not (first.get("use_regex") if first["type"] == "ByteLevel" else _is_split(first)):
        return None
    # Here a space belongs to the word after it, so an added token may not take it away.
    takes = any((token.lstrip or token.rstrip) for token in added if _ends_in_letters(rust, token.content))
    return None if takes else _BETWEEN_WORDS


def _anywhere(forms: list[str]) -> re.Pattern[str]:
    """Return where BERT's tokenizer ends a word: at spaces, ideographs, and punctuation that no added token has."""
    inside = set().union(*forms)
    free = "".join(mark for mark in _MARKS if mark not in inside)
    twice = [re.escape(mark) for mark in _MARKS if mark in inside and not any(mark * 2 in form for form in forms)]
    doubled = [f"(?<={mark})(?={mark})" for mark in twice]
    return re.compile("|".join([_SPACES, f"(?={_IDEOGRAPHS})", f"(?<=[{re.escape(free)}])", *doubled]))


def _normalized(rust: tokenizers.Tokenizer, text: str) -> str:
    return text if rust.normalizer is None else str(rust.normalizer.normalize_str(text))


def _has_space(form: str) -> bool:
    return not form or re.search(r"\s", form) is not None


def _ends_in_letters(rust: tokenizers.Tokenizer, content: str) -> bool:
    return any(form[end].isalnum() for form in (content, _normalized(rust, content)) for end in (0, -1))


def _steps(description: dict[str, Any] | None, parts: str) -> list[dict[str, Any]]:
    """Return the steps of a sequence, sequences inside it resolved, or the only step, or none."""
    if description is None:
        return []
    if description["type"] != "Sequence":
        return [description]
    return [step for part in description[parts] for step in _steps(part, parts)]


def _is_local(step: dict[str, Any]) -> bool:
    """Whether a normalizer does at a single space between letters, and on either side of it, what it does in pieces."""
    if step["type"] == "Replace":
        return step["pattern"] in _QUOTES or (step["pattern"] == {"Regex": " {2,}"} and step["content"] == " ")
    return step["type"] in _LOCAL


def _is_inside_words(step: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer treats each word by itself, wherever the word stands."""
    if step["type"] == "Metaspace":
        return bool(step["prepend_scheme"] != "first")
    return step["type"] in {*_DROP_SPACES, "Punctuation", "Digits"}


def _is_split(step: dict[str, Any]) -> bool:
    """Whether this is the Metaspace that cuts before every space."""
    return bool(step["type"] == "Metaspace" and step.get("split", True))


def in_batches(texts: Iterable[str], max_texts: int, max_characters: int) -> Iterator[list[str]]:
    """Yield the texts in lists of at most so many texts, and characters; a longer text is alone in its list."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == max_texts or characters + len(text) > max_characters):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch
