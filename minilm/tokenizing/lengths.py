"""How long the inputs of a call become: where texts are cut, and how far they are padded."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from typing import Any

import tokenizers

NO_MAX_LENGTH = int(1e30)  # what Hugging Face's tokenizers say when the checkpoint names no limit
MOST_LOST = 10_000  # so many tokens that truncation takes from a text are counted; the rest is not even tokenized

_PADDINGS = {False: None, True: "longest", "longest": "longest", "max_length": "max_length", "do_not_pad": None}
_STRATEGIES = {
    None: None,
    False: None,
    "do_not_truncate": None,
    True: "longest_first",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
}


@dataclass(frozen=True)
class Lengths:
    """What a call asks for, once it is settled.

    Attributes
    ----------
    padding
        ``"longest"``, ``"max_length"``, or None for no padding.
    truncation
        ``"longest_first"``, ``"only_first"``, ``"only_second"``, or None for no truncation.
    max_length
        In tokens, special tokens included; None where nothing is padded or cut to it.
    multiple
        Padded lengths are multiples of this number.
    stride
        How many tokens a part of a text shares with the part before.
    """

    padding: str | None = None
    truncation: str | None = None
    max_length: int | None = None
    multiple: int = 1
    stride: int = 0

    @classmethod
    def settle(
        cls,
        padding: Any,
        truncation: Any,
        max_length: Any,
        model_max_length: int,
        pad_to_multiple_of: Any = None,
        stride: Any = 0,
    ) -> Lengths:
        """Check the arguments of a call and settle them as transformers does.

        ``padding`` and ``truncation`` may be members of transformers' enumerations, too.
        """
        padding, truncation = getattr(padding, "value", padding), getattr(truncation, "value", truncation)
        if not _is_key(padding, _PADDINGS):
            raise ValueError(f"padding must be False, True, 'longest' or 'max_length', got {padding!r}")
        if not _is_key(truncation, _STRATEGIES):
            raise ValueError(
                f"truncation must be False, True, 'longest_first', 'only_first' or 'only_second', got {truncation!r}"
            )
        if max_length is not None:
            max_length = as_int(max_length, "max_length", least=0)
        multiple = 1 if pad_to_multiple_of is None else as_int(pad_to_multiple_of, "pad_to_multiple_of", least=1)
        stride = as_int(stride, "stride", least=0)
        pad, strategy = _PADDINGS[padding], _STRATEGIES[truncation]
        if max_length is not None and padding is False and truncation is None:
            strategy = "longest_first"
        if max_length is not None and pad == "longest" and strategy is None:
            warnings.warn(
                "max_length has no effect with padding=True and without truncation; "
                "pass truncation=True to cut to it, or padding='max_length' to pad to it",
                stacklevel=3,
            )
        if max_length is None and model_max_length < NO_MAX_LENGTH:
            max_length = model_max_length
        if max_length is None:  # there is nothing to pad or cut to, as with Hugging Face's
            return cls(None if pad == "max_length" else pad, None, None, multiple, stride)
        if pad and strategy and max_length % multiple:
            raise ValueError(
                f"max_length {max_length} is not a multiple of pad_to_multiple_of {multiple}, "
                "so a text that is cut could not be padded"
            )
        return cls(pad, strategy, max_length, multiple, stride)

    def check_padding(self, pad_token: str | None, pad_token_id: int | None) -> None:
        """Raise a `ValueError` if the call asks for padding, and there is no token for it."""
        if self.padding is not None and pad_token_id is None:
            raise ValueError(
                f"this tokenizer cannot pad: its pad_token is {pad_token!r}, which is not in its vocabulary. "
                "Set tokenizer.pad_token to a token that is"
            )

    def room(self, special: int) -> int | None:
        """Return how many tokens remain for texts beside ``special`` special tokens; None: as many as there are."""
        if self.truncation is None or self.max_length is None:
            return None
        room = self.max_length - special
        if room < 0:
            raise ValueError(f"max_length {self.max_length} has no room for {special} special tokens")
        return room

    def width(self, lengths: list[int]) -> int:
        """Return the number of tokens that inputs of these lengths are padded to; 0 for no padding."""
        if self.padding is None:
            return 0
        width = (self.max_length or 0) if self.padding == "max_length" else max(lengths, default=0)
        return -(-width // self.multiple) * self.multiple


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


def cut(first: tokenizers.Encoding, second: tokenizers.Encoding | None, room: int, lengths: Lengths, side: str) -> None:
    """Cut one text, or a pair, to ``room`` tokens in place; what is cut off becomes its overflow."""
    tokens = len(first), 0 if second is None else len(second)
    if sum(tokens) <= room:
        return
    kept = kept_lengths(*tokens, room, lengths.truncation or "")
    for keep, encoding in zip(kept, (first, second), strict=True):
        if encoding is not None and keep < len(encoding):
            if keep and lengths.stride >= keep:
                raise ValueError(f"stride {lengths.stride} must be smaller than the {keep} tokens of a part")
            encoding.truncate(keep, stride=lengths.stride, direction=side)


def as_int(value: Any, name: str, least: int) -> int:
    """Return an integer, NumPy's included, of at least ``least``; the error names the argument."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def as_id(value: Any) -> int:
    """Return an id as an integer, whether a vocabulary has it or not; raise a `TypeError` if it is none."""
    return as_int(value, "an id", -NO_MAX_LENGTH)


def as_side(value: Any, name: str) -> str:
    """Return ``"left"`` or ``"right"``; the error names the setting."""
    if value not in ("left", "right"):
        raise ValueError(f"{name} must be 'left' or 'right', got {value!r}")
    return str(value)


def _is_key(value: Any, known: dict[Any, Any]) -> bool:
    """Whether ``value`` is a key; not so for 1 and 0, which Python takes for True and False."""
    return (value is None or isinstance(value, (bool, str))) and value in known
