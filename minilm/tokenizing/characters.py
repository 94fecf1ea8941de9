"""Kinds of characters, exactly as BERT's tokenizer in the ``tokenizers`` library tells them apart.

Python's `unicodedata` and the library look at different versions of Unicode: Python at 13.0 (3.10) to 16.0 (3.14), the
library's crates at 8.0 (``unicode_categories``), 9.0 (``unicode-normalization-alignments``) and 17.0 (lower case, from
Rust itself; 16.0 before tokenizers 0.23). The tables below are the whole difference, found by asking the library about
every code point. They say the same on every Python.
"""

from __future__ import annotations

import string
import unicodedata
from bisect import bisect_right


def _ranges(text: str) -> list[int]:
    """Read ``"first-last first-last …"`` in hexadecimal: [first, last + 1, first, last + 1, …]."""
    pairs = (part.partition("-") for part in text.split())
    return [bound for first, _, last in pairs for bound in (int(first, 16), int(last or first, 16) + 1)]


def _within(character: str, ranges: list[int]) -> bool:
    return bisect_right(ranges, ord(character)) % 2 == 1


# Marks, punctuation and control characters that came after Unicode 8.0: to the library they are of no category. So that
# the ranges are few, they run on over characters of which neither category is asked for: letters, digits, symbols.
_AFTER_8 = _ranges(
    "5C8-5C9 61D 7FD 890-8E2 9FD-9FE A76 AFA-AFF B53-B55 C04-C3C C77 C84 D00 D3B-D3C D81 EBA ECE 180F-1886 1ABF-1AF0 "
    "1B4E-1B4F 1B7D-1B7F 1DF6-1DFB 2E43-2E63 A82C A8C5 A8FF A9BD 10D24-10F89 11070-11074 110C2-110CD 111CF 1123E-11241 "
    "1133B 113BB-1145E 11660-1166C 116B9 1182F-11FFF 12FF1-1612F 16D6D-16F4F 16FE2-16FE4 1CF00-1D128 1D25B-1D25C "
    "1E000-1E6F5 1E944-1E95F"
)
# Characters that Unicode has moved to another category since 8.0; here they stay what they were.
_MOVED = {
    "\u166d": "Po",  # CANADIAN SYLLABICS CHI SIGN, a symbol since 12.0
    "\u1734": "Mn",  # HANUNOO SIGN PAMUDPOD, a spacing mark since 14.0
    "\U000111c9": "Po",  # SHARADA SANDHI MARK, a mark since 11.0
    "\U0001171e": "Mn",  # AHOM CONSONANT SIGN MEDIAL RA, a spacing mark since 16.0
}
# Characters that came after Unicode 9.0, or were given a combining class since: to the library they do not decompose,
# and they stay where they stand. Here, too, the ranges run on over characters that do neither anyway.
_AFTER_9 = _ranges(
    "5C8-5C9 7FD 897-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1AF0 1DF6-1DFA A82C 105C9-105E4 10D24-10F85 11070 1133B "
    "11383-113D0 1145E 11839-11A99 11D42-1612F 16D68-16FF1 1D127-1D128 1D250-1D281 1E08F-1E6F5"
)
# Letters whose lower case came after Unicode 13.0, which is Python 3.10's: code points, and how far it is.
_LATER_LOWER_CASE = {
    chr(point): chr(point + distance)
    for points, distance in (
        ([0x1C89], 1),  # Cyrillic, 16.0
        ([0x2C2F], 0x30),  # Glagolitic, 14.0
        ([0xA7C0, *range(0xA7CC, 0xA7DB, 2)], 1),  # Latin, 14.0 to 17.0
        ([0xA7CB], 0x264 - 0xA7CB),  # Latin ram's horns, 16.0
        ([0xA7DC], 0x19B - 0xA7DC),  # Latin lambda with stroke, 16.0
        ([*range(0x10570, 0x1057B), *range(0x1057C, 0x1058B)], 0x27),  # Vithkuqi, 14.0
        ([*range(0x1058C, 0x10593), *range(0x10594, 0x10596)], 0x27),
        (range(0x10D50, 0x10D66), 0x20),  # Garay, 16.0
        (range(0x16EA0, 0x16EB9), 0x1B),  # Beria Erfe, 17.0
    )
    for point in points
}
# The ideographs that get spaces around them. 2B920 is written 2B820 in Devlin's code: the library's own slip, kept.
_CJK = _ranges("3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B73F 2B740-2B81F 2B920-2CEAF 2F800-2FA1F")
_CIRCLED = _ranges("24B6-24E9 1F130-1F149 1F150-1F169 1F170-1F189")  # symbols that are alphabetic all the same


def category(character: str) -> str:
    r"""Return the general category in Unicode 8.0, such as "Mn"; "Cn" for marks, punctuation and controls since.

    >>> category("é"), category("!"), category("\u0301")
    ('Ll', 'Po', 'Mn')
    """
    if character in _MOVED:
        return _MOVED[character]
    return "Cn" if _within(character, _AFTER_8) else unicodedata.category(character)


def is_space(character: str) -> bool:
    """Unicode's White_Space. Python's `str.isspace` also takes the separators U+001C to U+001F for it."""
    return character.isspace() and not "\x1c" <= character <= "\x1f"


def is_control(character: str) -> bool:
    """Control, format and private characters (Cc, Cf, Co), but for tab and the ends of lines."""
    return category(character) in ("Cc", "Cf", "Co") and character not in "\t\n\r"


def is_mark(character: str) -> bool:
    """A mark that takes no room of its own (Mn): an accent, and the vowel signs of many scripts."""
    return category(character) == "Mn"


def is_punctuation(character: str) -> bool:
    """Punctuation (P…), and the symbols of ASCII, such as $ and +."""
    return character in string.punctuation or category(character).startswith("P")


def is_cjk(character: str) -> bool:
    """A Chinese character, as used in Japanese and Korean too; not kana, not hangul."""
    return _within(character, _CJK)


def is_word(character: str) -> bool:
    r"""What ``\w`` matches in Rust: letters, marks, digits, connectors and joiners.

    Letters since Unicode 14.0 count on a Python that has them: from 3.14 on they are those of the library.
    """
    kind = unicodedata.category(character)
    return kind[0] in "LM" or kind in ("Nl", "Nd", "Pc") or character in "\u200c\u200d" or _within(character, _CIRCLED)


def decomposed(character: str) -> str:
    """Return what a character is made of (NFD): a letter and its accents, a Korean syllable's letters, or itself."""
    return character if _within(character, _AFTER_9) else unicodedata.normalize("NFD", character)


def combining_class(character: str) -> int:
    """Where a mark sits on its letter, a number by which marks are sorted; 0 for what is no such mark."""
    return 0 if _within(character, _AFTER_9) else unicodedata.combining(character)


def lowered(character: str) -> str:
    """Return a character's lower case, without a look at its neighbours: "Σ" is "σ" at the end of a word, too."""
    return _LATER_LOWER_CASE.get(character) or character.lower()
