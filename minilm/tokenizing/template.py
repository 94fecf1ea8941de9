"""Around the tokens of one text, or of a pair: the special tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        """Read the post-processor of a tokenizer from what it makes of short texts, one or two.

        Raises
        ------
        ValueError
            If it does anything but put special tokens around the texts.
        """

        def encode(first: str, second: str) -> tokenizers.Encoding:
            return rust.encode(first, second if pair else None)

        def bare(text: str) -> list[int]:
            return rust.encode(text, add_special_tokens=False).ids

        probe = encode("a", "a")
        if set(probe.sequence_ids) - {None} != ({0, 1} if pair else {0}):
            raise ValueError("the tokenizer finds nothing in the text 'a', or loses a text of a pair")
        # (id, type) before, in A, between, in B, after: the even parts are special tokens, the odd ones texts
        parts: list[list[tuple[int, int]]] = [[], [], [], [], []]
        part = 0
        for token_id, type_id, sequence in zip(probe.ids, probe.type_ids, probe.sequence_ids, strict=True):
            part = part + part % 2 if sequence is None else 2 * sequence + 1
            parts[part].append((token_id, type_id))
        if not pair:  # what follows the only text is the end
            parts[2], parts[4] = [], parts[2]
        ids = [tuple(token_id for token_id, _ in part) for part in parts]
        types = [tuple(type_id for _, type_id in part) for part in parts]
        type_a, type_b = types[1][0], types[3][0] if pair else 0
        template = cls(ids[0], ids[2], ids[4], (types[0], type_a, types[2], type_b, types[4]))
        for first, second in (("a", "a"), ("", ""), ("a a a", "a a"), ("", "a")):
            expected = encode(first, second)
            read = template.fill(bare(first), bare(second) if pair else [], True)
            if read != (expected.ids, expected.type_ids):
                raise ValueError(
                    "the post-processor does more than put special tokens around texts: of "
                    f"{(first, second) if pair else first!r} it makes {expected.ids} with token types "
                    f"{expected.type_ids}, and {read[0]} with {read[1]} was expected"
                )
        return template

    @property
    def special_tokens(self) -> int:
        """How many tokens the template adds."""
        return len(self.before) + len(self.between) + len(self.after)

    @cached_property
    def is_of_zeros(self) -> bool:
        """Whether every token type is 0."""
        before, type_a, between, type_b, after = self.types
        return not any((*before, type_a, *between, type_b, *after))

    def fill(self, first: list[int], second: list[int], special: bool) -> tuple[list[int], list[int]]:
        """Lay out ids and token types of one text (``second`` is empty then) or of two."""
        types = self.token_types(len(first), len(second), special)
        if not special:
            return first + second, types
        return [*self.before, *first, *self.between, *second, *self.after], types

    def token_types(self, first: int, second: int, special: bool) -> list[int]:
        """Lay out the token types around and of so many tokens of one text or of two."""
        before, type_a, between, type_b, after = self.types
        if not special:
            return [type_a] * first + [type_b] * second
        return [*before, *([type_a] * first), *between, *([type_b] * second), *after]

    def types_of(self, encoding: tokenizers.Encoding, special: bool, padding_side: str) -> list[int]:
        """Return the token types of an input, 0 for its padding.

        The library's own are wrong in what overflows, where a text keeps the type that it had before the
        post-processor.
        """
        if self.is_of_zeros:
            return [0] * len(encoding)
        sequences = encoding.sequence_ids
        types = self.token_types(sequences.count(0), sequences.count(1), special)
        padding = [0] * (len(sequences) - len(types))
        return padding + types if padding_side == "left" else types + padding
