"""Texts to measure with that every machine has: the docstrings of Python's own standard library."""

from __future__ import annotations

import ast
import inspect
import itertools
import random
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Folders without prose, or without prose of the library's own.
_SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "lib2to3",
    "pydoc_data",
    "__pycache__",
}
SENTENCE_WORDS = range(7, 60)
PARAGRAPH_WORDS = 12
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True)
class Workload:
    """Texts of one kind, with how many tokens each of them has (specials included)."""

    name: str
    texts: tuple[str, ...]
    token_counts: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many tokens the texts have together."""
        return sum(self.token_counts)

    def __len__(self) -> int:
        return len(self.texts)


def docstrings(library: Path | None = None) -> Iterator[str]:
    """Yield every docstring of the library's modules, classes and functions, in the order of the files' names."""
    root = library or Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):  # a template, or a file for another Python
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    text = ast.get_docstring(node)
                    if text:
                        yield inspect.cleandoc(text)


def paragraphs(texts: Iterable[str]) -> Iterator[str]:
    """Yield paragraphs of prose on one line each; examples, tables and one-word headings are passed over."""
    for text in texts:
        for block in re.split(r"\n\s*\n", text):
            words = block.split()
            letters = sum(character.isalpha() or character == " " for character in block)
            if len(words) >= 5 and ">>>" not in block and letters > 0.8 * len(block):
                yield " ".join(words)


def sentences(texts: Iterable[str]) -> Iterator[str]:
    """Yield sentences of 7 to 59 words; shorter ones are remarks, longer ones are mostly lists."""
    for text in texts:
        yield from (sentence for sentence in _SENTENCE_END.split(text) if len(sentence.split()) in SENTENCE_WORDS)


def cut(text: str, tokens: int, encode: Callable[[str], Any]) -> str:
    """Return the start of ``text`` that has at most ``tokens`` tokens, specials included.

    ``encode`` gives a ``tokenizers.Encoding`` without truncation. The cut falls where a token ends, so that encoding
    the start alone gives the same tokens again.
    """
    offsets = encode(text).offsets
    return text if len(offsets) <= tokens else text[: offsets[tokens - 2][1]]  # [CLS], tokens - 2 of text, [SEP]


def stretches(texts: Iterable[str], tokens: int, encode: Callable[[str], Any]) -> Iterator[str]:
    """Join texts and yield stretches of exactly ``tokens`` tokens, specials included."""
    joined = ""
    for text in texts:
        joined = f"{joined} {text}" if joined else text
        # Fewer characters are hardly ever enough: do not encode again at every step.
        if len(joined) >= 6 * tokens and len(encode(joined)) >= tokens:
            yield cut(joined, tokens, encode)
            joined = ""


def workloads(
    encode: Callable[[str], Any], sizes: dict[str, int], max_tokens: int = 256, library: Path | None = None
) -> dict[str, Workload]:
    """Return the benchmark's texts: ``{"short": …, "paragraphs": …, "long": …}``, as many of each as ``sizes`` says.

    Short texts are sentences (about 24 tokens on average), paragraphs (about 47) have a long tail, cut at
    ``max_tokens``; long texts have ``max_tokens`` exactly. The choice is random, and always the same on one Python.
    """
    prose = sorted(set(paragraphs(docstrings(library))))
    short = sorted(set(sentences(prose)))
    random.Random(0).shuffle(prose)
    random.Random(0).shuffle(short)
    kinds: dict[str, Iterable[str]] = {
        "short": short,
        "paragraphs": (cut(text, max_tokens, encode) for text in prose if len(text.split()) >= PARAGRAPH_WORDS),
        "long": stretches(prose, max_tokens, encode),
    }
    result = {}
    for name, size in sizes.items():
        different = list(itertools.islice(kinds[name], size))
        texts = tuple(itertools.islice(itertools.cycle(different), size))  # few enough are repeated
        result[name] = Workload(name, texts, tuple(len(encode(text)) for text in texts))
    return result


def of_length(workload: Workload, tokens: int, count: int) -> list[str]:
    """Return the ``count`` texts whose lengths are nearest to ``tokens``."""
    nearest = np.argsort(np.abs(np.array(workload.token_counts) - tokens), kind="stable")
    return [workload.texts[i] for i in nearest[:count]]
