"""Labelled questions: the two searches together are no worse than each alone."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path

from minilm import Index

ROOT = Path(__file__).parents[2]


def of_notebook() -> tuple[dict[str, list[str]], list[str]]:
    """The questions of notebook 7 with the names that answer them, and its modules."""
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
    return {question: names.split() for question, names in labelled.items()}, modules


def documents(modules: list[str], wanted: set[str]) -> dict[str, str]:
    """The documentation of the names that answer a question, and of every twelfth other."""
    found: dict[str, str] = {}
    kinds = [(kind.__name__, kind) for kind in (str, list, dict, set)]
    for place, thing in [*((name, importlib.import_module(name)) for name in modules), *kinds]:
        for i, name in enumerate(sorted(getattr(thing, "__all__", None) or vars(thing))):
            text, full = getattr(getattr(thing, name, None), "__doc__", None), f"{place}.{name}"
            public = isinstance(text, str) and not name.startswith("_") and len(text.split()) >= 3
            if public and callable(getattr(thing, name)) and (full in wanted or i % 12 == 0):
                found[full] = inspect.cleandoc(text)
    return found


def test_together_is_no_worse_than_meaning_or_words_alone(tmp_path: Path, model_dir: Path) -> None:
    notebook, modules = of_notebook()
    more = json.loads((ROOT / "tests" / "golden" / "questions.json").read_text())
    assert len(more) == len(notebook) == 30
    questions = {**notebook, **more}
    found = documents(modules, {name for names in questions.values() for name in names})
    for place in {name.rpartition(".")[0] for name in found}:
        parts = [f"## {name}\n\n{text}\n" for name, text in found.items() if name.rpartition(".")[0] == place]
        (tmp_path / f"{place}.md").write_text("\n".join(parts), encoding="utf-8")

    def reciprocal_rank(index: Index, question: str, right: list[str], mode: str) -> float:
        hits = index.search(question, 40, mode=mode)
        names = list(dict.fromkeys(hit.heading or hit.text.partition("\n")[0].lstrip("# ") for hit in hits))[:10]
        return max((1 / (1 + names.index(name)) for name in right if name in names), default=0.0)

    with Index(tmp_path / "index.db", str(model_dir)) as index:
        index.update(tmp_path)
        asked = {question: names for question, names in questions.items() if any(name in found for name in names)}
        assert len(asked) >= 55
        mrr = {
            mode: sum(reciprocal_rank(index, question, names, mode) for question, names in asked.items()) / len(asked)
            for mode in ("meaning", "words", "both")
        }
    assert mrr["both"] >= max(mrr["meaning"], mrr["words"]) - 0.01
    assert mrr["both"] > 0.7
