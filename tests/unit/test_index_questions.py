"""Labelled questions: the two searches together are no worse than each alone.

How they are joined was chosen on the first set. The second is about other parts of the standard library, and was
written afterwards.
"""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

from minilm import Index

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


Questions = dict[str, list[str]]  # each with the names that answer it


def first_set() -> tuple[Questions, list[str]]:
    """The questions of notebook 7 and as many again, and the modules and types that they are about."""
    cells = json.loads((ROOT / "notebooks" / "07_search.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assigned = {
        node.targets[0].id: node.value
        for source in code
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    labelled = ast.literal_eval(assigned["LABELLED"])
    modules = next(source for source in code if "MODULES = " in source).split('"""')[1].split()
    notebook = {question: names.split() for question, names in labelled.items()}
    more = json.loads((GOLDEN / "questions.json").read_text(encoding="utf-8"))
    assert len(more) == len(notebook) == 30
    return {**notebook, **more}, [*modules, "builtins.str", "builtins.list", "builtins.dict", "builtins.set"]


def held_out() -> tuple[Questions, list[str]]:
    found = json.loads((GOLDEN / "held_out_questions.json").read_text(encoding="utf-8"))
    return found["questions"], found["places"].split()


def documents(places: list[str], wanted: set[str], every: int) -> dict[str, str]:
    """The documentation of the names that answer a question, and of every so many others."""
    found: dict[str, str] = {}
    for place in places:
        thing = pkgutil.resolve_name(place)
        for i, name in enumerate(sorted(getattr(thing, "__all__", None) or vars(thing))):
            text, full = (
                getattr(getattr(thing, name, None), "__doc__", None),
                f"{place}.{name}".removeprefix("builtins."),
            )
            public = isinstance(text, str) and not name.startswith("_") and len(text.split()) >= 3
            if public and callable(getattr(thing, name)) and (full in wanted or i % every == 0):
                found[full] = inspect.cleandoc(text)
    return found


def reciprocal_rank(index: Index, question: str, right: list[str], mode: str) -> float:
    """One by the rank of the first right name among ten, or 0."""
    hits = index.search(question, 40, mode=mode)
    names = list(dict.fromkeys(hit.heading or hit.text.partition("\n")[0].lstrip("# ") for hit in hits))[:10]
    return max((1 / (1 + names.index(name)) for name in right if name in names), default=0.0)


def measured(
    folder: Path, model: str, questions: Questions, places: list[str], every: int = 1
) -> tuple[int, dict[str, float]]:
    """Index the documentation of some places; return how many questions it answers, and MRR@10 by mode."""
    found = documents(places, {name for names in questions.values() for name in names}, every)
    for place in {name.rpartition(".")[0] for name in found}:
        parts = [f"## {name}\n\n{text}\n" for name, text in found.items() if name.rpartition(".")[0] == place]
        (folder / f"{place}.md").write_text("\n".join(parts), encoding="utf-8")
    with Index(folder / "index.db", model) as index:
        index.update(folder)
        asked = {question: names for question, names in questions.items() if any(name in found for name in names)}
        return len(asked), {
            mode: sum(reciprocal_rank(index, question, names, mode) for question, names in asked.items()) / len(asked)
            for mode in ("meaning", "words", "both")
        }


@pytest.mark.parametrize("questions", [first_set, held_out])
def test_together_is_no_worse_than_meaning_or_words_alone(
    questions: Callable[[], tuple[Questions, list[str]]], tmp_path: Path, model_dir: Path
) -> None:
    count, mrr = measured(tmp_path, str(model_dir), *questions(), every=12)
    assert count >= 55
    assert mrr["both"] >= max(mrr["meaning"], mrr["words"]) - 0.01
    assert mrr["both"] > 0.7
