"""The special tokens around one text or a pair of texts, and how truncation shares the room between the two."""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers


@dataclass(frozen=True)
class Template:
    """The special tokens around one text, ``before A after``, or around two, ``before A between B after``.

    ``types`` are the token types of the five parts.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]

    @classmethod
    def of(cls, rust: tokenizers.Tokenizer, pair: bool) -> Template:
        """Learn the template from what the tokenizer's own post-processor makes of the text "a"."""
        encoding = rust.encode("a", "a" if pair else None, add_special_tokens=True)
        if set(encoding.sequence_ids) - {None} != ({0, 1} if pair else {0}):
            raise ValueError("the tokenizer finds nothing in the text 'a', or loses a text of a pair")
        # (id, type) before, in A, between, in B, after: the even parts are special tokens, the odd ones texts
        parts: list[list[tuple[int, int]]] = [[], [], [], [], []]
        part = 0
        for token_id, type_id, sequence in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            part = part + part % 2 if sequence is None else 2 * sequence + 1
            parts[part].append((token_id, type_id))
        if not pair:  # what follows the only text is the end
            parts[2], parts[4] = [], parts[2]
        ids = [tuple(token_id for token_id, _ in part) for part in parts]
        types = [tuple(type_id for _, type_id in part) for part in parts]
        type_a, type_b = types[1][0], types[3][0] if pair else 0
        return cls(ids[0], ids[2], ids[4], (types[0], type_a, types[2], type_b, types[4]))

    @property
    def special_tokens(self) -> int:
        """How many tokens the template adds."""
        return len(self.before) + len(self.between) + len(self.after)

    def fill(self, first: list[int], second: list[int], special: bool) -> tuple[list[int], list[int]]:
        """Lay out ids and token types of one text (``second`` is empty then) or of two."""
        before, type_a, between, type_b, after = self.types
        types_a, types_b = [type_a] * len(first), [type_b] * len(second)
        if not special:
            return first + second, types_a + types_b
        return (
            [*self.before, *first, *self.between, *second, *self.after],
            [*before, *types_a, *between, *types_b, *after],
        )


def kept_lengths(first: int, second: int, room: int, strategy: str) -> tuple[int, int]:
    """How many tokens of each text stay when both together may have ``room``, as the ``tokenizers`` library has it.

    ``longest_first`` takes from the longer text until both are equally long, then from both in turn, so that an odd
    token stays with the longer one; ``only_first`` and ``only_second`` take from that text, but never all of it.

    >>> kept_lengths(3, 9, 10, "longest_first"), kept_lengths(8, 9, 11, "longest_first")
    ((3, 7), (5, 6))
    """
    excess = first + second - room
    if excess <= 0:
        return first, second
    if room == 0:
        return 0, 0
    if strategy == "longest_first":
        half = room // 2
        shorter = min(first, second, half)
        return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
    cut, other = (first, second) if strategy == "only_first" else (second, first)
    if cut <= excess:
        raise ValueError(
            f"truncation={strategy!r} would take {excess} of that text's {cut} tokens, and never takes all: "
            "use 'longest_first' or a larger max_length"
        )
    return (cut - excess, other) if strategy == "only_first" else (other, cut - excess)
