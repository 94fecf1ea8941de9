"""The stub of the package tells editors and type checkers the names that `__getattr__` serves."""

from __future__ import annotations

import ast
from pathlib import Path

import minilm


def test_the_stub_names_what_is_public_and_where_it_lives() -> None:
    stub = ast.parse(Path(minilm.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        alias.asname: node.module or alias.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.asname == alias.name
    }
    assert homes == minilm._HOMES


def test_every_public_name_is_there() -> None:
    for name in minilm.__all__:
        assert getattr(minilm, name) is not None
    assert dir(minilm) == sorted(minilm.__all__)
