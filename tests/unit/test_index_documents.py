"""What text files have, and how it is cut."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from minilm.indexing.documents import Document, Unreadable, decode, read
from minilm.indexing.passages import Passage, cut


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def passages(name: str, text: str | bytes, room: int = 8) -> list[Passage]:
    return cut(read(name, text if isinstance(text, bytes) else text.encode()), words, room)


def places(found: list[Passage]) -> list[tuple[int, int, str, str]]:
    return [(p.line, p.last_line, p.heading, " ".join(p.text.split())) for p in found]


def test_html_keeps_headings_and_drops_scripts() -> None:
    page = """<html><head><title>Home</title>
<style>p {}</style></head>
<body><h2>Rent</h2>
<p>The <b>roof</b>
leaks.</p><script>x = 1</script><h2>Pets</h2>
<p>A cat &amp; a dog.</p></body></html>"""
    assert places(passages("a.html", page)) == [
        (1, 4, "", "# Home ## Rent The roof leaks."),
        (5, 6, "", "## Pets A cat & a dog."),
    ]


def test_notebooks_give_the_lines_of_the_file() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Some prose é."], "metadata": {}},
        {"cell_type": "code", "source": ["x = 1\n", "print(x)"], "outputs": ["x = 1"], "metadata": {}},
    ]
    raw = json.dumps({"cells": cells}, indent=1)
    lines = raw.split("\n")
    document = read("a.ipynb", raw.encode())
    assert document.lines is not None
    for line, text in zip(document.lines, document.text.split("\n"), strict=True):
        if text.strip("`"):
            assert json.dumps(text)[:-1] in lines[line - 1]
    assert "outputs" not in document.text
    with pytest.raises(Unreadable, match="not a notebook"):
        read("b.ipynb", b"[1, 2]")


def test_tables_are_cut_into_rows_by_column() -> None:
    table = 'name,city,age\nAnna,"Graz,\nAustria",31\nBert,Linz,\n'
    assert places(passages("a.csv", table)) == [
        (2, 2, "", "name: Anna; city: Graz, Austria"),
        (4, 4, "", "name: Bert; city: Linz"),
    ]
    rows = '{"title": "One", "size": 3, "tags": ["a"]}\nnot json\n{"title": "a\\ud800"}\n'
    assert places(passages("a.jsonl", rows)) == [
        (1, 1, "", 'title: One; tags: ["a"]'),
        (2, 2, "", "not json"),
        (3, 3, "", "title: a\ufffd"),
    ]


def test_sections_do_not_mix_and_later_passages_have_the_heading() -> None:
    rent = "Rent\n====\n\nThe roof leaks again. Who pays for it now? Nobody knows.\n\n```\n# no heading\n```\n"
    assert places(passages("a.rst", f"{rent}\nPets\n----\n\nCats.\n")) == [
        (1, 4, "", "Rent ==== The roof leaks again."),
        (4, 4, "Rent", "Who pays for it now? Nobody knows."),
        (6, 8, "Rent", "``` # no heading ```"),
        (10, 13, "", "Pets ---- Cats."),
    ]
    code = "import os\n\n\ndef pay(rent):\n    a = 1\n    b = 2\n    return a + b + rent\n"
    assert places(passages("a.py", code))[-1][2] == "def pay(rent)"


@pytest.mark.parametrize("kind", ["prose", "code", "rows"])
def test_nothing_is_lost_and_nothing_is_too_long(kind: str) -> None:
    chance = random.Random(1)
    some = ["word", "a", "x" * 300, "end.", "\n", "\n\n", "# Head\n", "def f\n", "  "]
    for _ in range(40):
        text = " ".join(chance.choice(some) for _ in range(90))
        found = cut(Document(text, None, kind), words, 7)
        lines = text.split("\n")
        for passage in found:
            assert words([passage.read])[0] <= 7
            assert passage.text in "\n".join(lines[passage.line - 1 : passage.last_line])
            assert passage.text.split("\n")[0] in lines[passage.line - 1]
        assert sum(passage.text.count("x") for passage in found) >= text.count("x")  # long words may be cut
        assert set(text.split()) - {"x" * 300} <= {word for passage in found for word in passage.text.split()}


def test_bytes_become_text() -> None:
    assert decode("\ufeffnaïve".encode()) == "naïve"
    assert decode("naïve".encode("utf-32")) == "naïve"
    with pytest.raises(Unreadable, match="binary"):
        decode(b"\x01\x02\x03\x04text")
    with pytest.raises(Unreadable, match="binary"):
        read("a.txt", b"PK\0\0")
    assert read("empty.txt", b"").text == "" and passages("empty.txt", "") == []


def test_pdf_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(Unreadable, match="pip install pypdf"):
        read("a.pdf", b"%PDF-1.4")


def test_a_damaged_pdf_is_named() -> None:
    pytest.importorskip("pypdf")
    with pytest.raises(Unreadable, match="PDF that cannot be read"):
        read(str(Path("a.pdf")), b"%PDF-1.4 nothing else")
