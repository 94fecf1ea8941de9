"""From text to ids, to be read: BERT's tokenizer in Python. `minilm` itself runs its twin in Rust, ``tokenizers``.

A text goes through these steps, top to bottom: `clean`, `space_cjk`, `strip_accents`, `lower`, `split`, `word_pieces`.
The first four each turn a text into a text. All but `strip_accents` look at one character at a time, so they can be
given one character at a time as well. That is how `WordPieceTokenizer` knows the offsets: a text is a list of strings
there, and string i holds whatever has become of character i.

The source is Devlin's ``tokenization.py``; where the two differ, this does what the Rust library does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from .added_tokens import AddedToken, find_added
from .characters import combining_class, decomposed, is_cjk, is_control, is_mark, is_punctuation, is_space, lowered
from .texts import check_text

if TYPE_CHECKING:
    from ..loading.hub import ModelFiles
    from .tokenizer import Tokenizer

SPECIAL_TOKENS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")


def clean(text: str) -> str:
    r"""White space → a space; control characters and U+FFFD (� for what could not be decoded) → nothing.

    >>> clean("one\ttwo\n\x00three")
    'one two three'
    """
    kept = (character for character in text if not is_control(character) and character != "\ufffd")
    return "".join(" " if is_space(character) else character for character in kept)


def space_cjk(text: str) -> str:
    """Chinese character → the same, between two spaces.

    >>> space_cjk("東京タワー")
    ' 東  京 タワー'
    """
    return "".join(f" {character} " if is_cjk(character) else character for character in text)


def strip_accents(text: str) -> str:
    """Letter with accents → letter: decompose (NFD), then leave out the marks (Mn).

    >>> strip_accents("Crème brûlée")
    'Creme brulee'
    """
    return _without_marks("".join(decompose(text)))


def _without_marks(text: str) -> str:
    return "".join(character for character in text if not is_mark(character))


def decompose(parts: Iterable[str]) -> list[str]:
    """Letter with accents → letter, accents (NFD). The accents of a letter are sorted by where they sit.

    Sorting may carry an accent from one part into the next. Places are counted as in Rust: the first character that one
    decomposes into takes the next place of an old character, and the others stay with what they then follow.

    >>> [len(part) for part in decompose("né")]
    [1, 2]
    """
    parts = list(parts)
    places = (place for place, part in enumerate(parts) for _ in part)
    letters = ((letter, i == 0) for part in parts for old in part for i, letter in enumerate(decomposed(old)))
    result, place = [""] * len(parts), 0
    for _, run in groupby(letters, key=lambda pair: combining_class(pair[0]) > 0):
        for letter, is_first in sorted(run, key=lambda pair: combining_class(pair[0])):  # equals keep their order
            place = next(places) if is_first else place
            result[place] += letter
    return result


def lower(text: str) -> str:
    """Capital letter → small letter.

    >>> lower("COVID-19")
    'covid-19'
    """
    return "".join(map(lowered, text))


def split(text: str) -> list[str]:
    """Text → words: cut at white space, which goes, and around every punctuation character, which stays.

    >>> split("don't stop!")
    ['don', "'", 't', 'stop', '!']
    """
    return [text[start:end] for start, end in word_spans(text)]


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each word of `split` starts and ends in the text.

    >>> list(word_spans("so, what"))
    [(0, 2), (2, 3), (4, 8)]
    """
    start = 0
    for i, character in enumerate(text):
        if is_space(character) or is_punctuation(character):
            if start < i:
                yield start, i
            if not is_space(character):
                yield i, i + 1
            start = i + 1
    if start < len(text):
        yield start, len(text)


def word_pieces(
    word: str, vocab: Mapping[str, int], unk_token: str = "[UNK]", prefix: str = "##", max_chars: int = 100
) -> list[str]:
    """Word → pieces: the longest in the vocabulary that the word starts with, then the same for the rest, and so on.

    Pieces after the first are in the vocabulary with ``prefix``. If at some place nothing fits, or the word has more
    than ``max_chars`` characters, the whole word is ``unk_token``.

    >>> word_pieces("newest", {"new": 0, "##e": 1, "##est": 2}), word_pieces("old", {"o": 0})
    (['new', '##est'], ['[UNK]'])
    """
    if len(word) > max_chars:
        return [unk_token]
    pieces, start = [], 0
    while start < len(word):
        before = prefix if start > 0 else ""
        ends = range(len(word), start, -1)  # the longest first
        end = next((end for end in ends if before + word[start:end] in vocab), None)
        if end is None:
            return [unk_token]
        pieces.append(before + word[start:end])
        start = end
    return pieces


# ---- the whole way, with special tokens and offsets ------------------------------------------------------------------


class Word(NamedTuple):
    """A word after cleaning; ``start`` and ``end`` are where it stands in the original text, in characters."""

    word: str
    start: int
    end: int


class Token(NamedTuple):
    """A piece, its id, and where it stands in the original text; (0, 0) for what was added at the ends."""

    token: str
    id: int
    start: int
    end: int


class Steps(NamedTuple):
    """All stages of one text: what each of the cleaning steps made of it, by the step's name; words; tokens."""

    stages: dict[str, str]
    words: list[Word]
    tokens: list[Token]


@dataclass(frozen=True)
class WordPieceTokenizer:
    """BERT's tokenizer: the functions of this module in a row.

    Parameters
    ----------
    vocab
        Piece → id.
    clean_text, handle_chinese_chars, strip_accents, lowercase
        Which of the cleaning steps there are. ``strip_accents`` None: if ``lowercase`` is set.
    unk_token, continuing_subword_prefix, max_input_chars_per_word
        As in `word_pieces`.
    before, after
        What stands around a text.
    added_tokens
        None for those of BERT's five special tokens that are in the vocabulary.
    split_special_tokens
        Special tokens that are written in a text are words like any other.

    Raises
    ------
    ValueError
        If ``unk_token``, or a token of ``before`` or ``after``, has no id.

    Examples
    --------
    >>> pieces = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "new", "##er", "ideas"]
    >>> tokenizer = WordPieceTokenizer({piece: i for i, piece in enumerate(pieces)})
    >>> [token.token for token in tokenizer.encode("Newer [MASK]!")]
    ['[CLS]', 'new', '##er', '[MASK]', '[UNK]', '[SEP]']
    >>> tokenizer.encode("Newer")[2]
    Token(token='##er', id=5, start=3, end=5)
    """

    vocab: Mapping[str, int] = field(repr=False)
    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True
    unk_token: str = "[UNK]"
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100
    before: Sequence[str] = ("[CLS]",)
    after: Sequence[str] = ("[SEP]",)
    added_tokens: Sequence[AddedToken] | None = field(default=None, repr=False)
    split_special_tokens: bool = False

    def __post_init__(self) -> None:
        if self.added_tokens is None:
            found = [AddedToken(token, self.vocab[token]) for token in SPECIAL_TOKENS if token in self.vocab]
            object.__setattr__(self, "added_tokens", found)
        if self.unk_token not in self.vocab:
            raise ValueError(f"the unk_token {self.unk_token!r} is not among the vocabulary's {len(self.vocab)} pieces")
        for token in (*self.before, *self.after):
            self.token_to_id(token)

    @classmethod
    def from_files(cls, files: ModelFiles) -> WordPieceTokenizer:
        """Build it from a checkpoint's files, as `minilm.tokenizing.tokenizer.tokenizer_from_files` reads them."""
        from .tokenizer import tokenizer_from_files

        return cls.from_tokenizer(tokenizer_from_files(files))

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> WordPieceTokenizer:
        """Build the one that gives what a `Tokenizer` gives; a `ValueError` if that is not BERT's kind."""
        rust, template = tokenizer._rust, tokenizer._single
        content = json.loads(rust.to_str())
        model, normalizer = content["model"], content["normalizer"]
        kinds = [part and part["type"] for part in (normalizer, content["pre_tokenizer"], model)]
        if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"]:
            found = ", ".join(str(kind or "nothing") for kind in kinds)
            raise ValueError(
                "only BERT's tokenizer can be followed step by step: BertNormalizer, BertPreTokenizer, WordPiece; "
                f"this one is {found}"
            )
        settings = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
        return cls(
            model["vocab"],
            **{name: normalizer[name] for name in settings},
            unk_token=model["unk_token"],
            continuing_subword_prefix=model["continuing_subword_prefix"],
            max_input_chars_per_word=model["max_input_chars_per_word"],
            before=tokenizer.convert_ids_to_tokens(template.before),
            after=tokenizer.convert_ids_to_tokens(template.after),
            added_tokens=[AddedToken(**added) for added in content["added_tokens"]],
            split_special_tokens=rust.encode_special_tokens,
        )

    def token_to_id(self, token: str) -> int:
        """Return the id of a piece or an added token; a `ValueError` if there is none."""
        added = {added.content: added.id for added in self.added_tokens or ()}
        if token not in self.vocab and token not in added:
            raise ValueError(f"the token {token!r} is not among the vocabulary's {len(self.vocab)} pieces")
        return self.vocab[token] if token in self.vocab else added[token]

    def encode(self, text: str) -> list[Token]:
        """Turn a text into its tokens, those around it included.

        Raises
        ------
        TypeError, ValueError
            If it is not a string, or has a lone surrogate.
        """
        before = [Token(token, self.token_to_id(token), 0, 0) for token in self.before]
        after = [Token(token, self.token_to_id(token), 0, 0) for token in self.after]
        return [*before, *self.steps(text).tokens, *after]

    def stages(self, text: str) -> dict[str, list[str]]:
        r"""Run the cleaning steps; each gives a list of strings, which stand for the characters of the text.

        >>> tokenizer = WordPieceTokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, handle_chinese_chars=False)
        >>> tokenizer.stages("É\t")
        {'clean': ['É', ' '], 'strip_accents': ['E', ' '], 'lower': ['e', ' ']}
        """
        parts, stages = list(text), {}
        if self.clean_text:
            parts = stages["clean"] = [clean(part) for part in parts]
        if self.handle_chinese_chars:
            parts = stages["space_cjk"] = [space_cjk(part) for part in parts]
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            parts = stages["strip_accents"] = [_without_marks(part) for part in decompose(parts)]
        if self.lowercase:
            stages["lower"] = [lower(part) for part in parts]
        return stages

    def normalize(self, text: str) -> str:
        """Return a text as the last of the cleaning steps leaves it."""
        return "".join([text, *map("".join, self.stages(text).values())][-1])

    def steps(self, text: str) -> Steps:
        """Turn a text into its tokens and keep all that lies on the way; without the tokens around it."""
        check_text(text, "text")
        steps = Steps(dict.fromkeys(self.stages(""), ""), [], [])
        for start, end, added in self._find_added(text, normalized=False):
            if added is None:
                self._add_normalized(text[start:end], start, steps)
            else:
                self._add_token(added, Word(text[start:end], start, end), steps)
                for name in steps.stages:
                    steps.stages[name] += text[start:end]
        return steps

    def _add_normalized(self, text: str, offset: int, steps: Steps) -> None:
        """Add what lies between two added tokens; it begins at ``offset``."""
        parts = list(text)
        for name, parts in self.stages(text).items():
            steps.stages[name] += "".join(parts)
        normalized = "".join(parts)
        places = [place for place, part in enumerate(parts, offset) for _ in part]
        for start, end, added in self._find_added(normalized, normalized=True):
            if added is not None:
                self._add_token(added, Word(normalized[start:end], places[start], places[end - 1] + 1), steps)
                continue
            for first, last in word_spans(normalized[start:end]):
                self._add_word(normalized[start + first : start + last], places[start + first : start + last], steps)

    def _add_token(self, added: AddedToken, word: Word, steps: Steps) -> None:
        steps.words.append(word)
        steps.tokens.append(Token(added.content, added.id, word.start, word.end))

    def _add_word(self, word: str, places: Sequence[int], steps: Steps) -> None:
        """Add a word and its pieces; ``places`` says of which original character each of its characters is."""
        steps.words.append(Word(word, places[0], places[-1] + 1))
        prefix = self.continuing_subword_prefix
        pieces = word_pieces(word, self.vocab, self.unk_token, prefix, self.max_input_chars_per_word)
        end = 0
        for i, piece in enumerate(pieces):
            start, end = end, end + len(piece) - len(prefix) * (i > 0)
            if len(pieces) == 1:  # [UNK] is as long as its word
                end = len(word)
            steps.tokens.append(Token(piece, self.vocab[piece], places[start], places[end - 1] + 1))

    def _find_added(self, text: str, normalized: bool) -> Iterator[tuple[int, int, AddedToken | None]]:
        """Find the added tokens whose flag ``normalized`` is so."""
        tokens = [added for added in self.added_tokens or () if added.normalized == normalized]
        forms = [self.normalize(added.content) if normalized else added.content for added in tokens]
        return find_added(text, dict(zip(forms, tokens, strict=True)), self.split_special_tokens)
