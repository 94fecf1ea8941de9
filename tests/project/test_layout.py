"""The house: imports run one way, down the ladder, and the root is the network and nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first. A folder may import from what stands before it, and from itself; the root is `minilm` itself.
LADDER = (
    ("root",),
    ("loading",), ("tokenizing",), ("vectors",),
    ("backends",),
    ("models",),
    ("sentences",),
    ("bulk", "indexing", "inspection", "integrations", "pipelines", "serving", "training", "util"),
    ("bench", "explorer", "plots"),
    ("cli",),
)  # fmt: skip
RUNG = {folder: height for height, folders in enumerate(LADDER) for folder in folders}


def test_contributing_shows_the_ladder() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.search(r"^    (cli → .*(?:\n +→ .*)*)", text, re.MULTILINE)
    assert shown is not None
    assert [tuple(rung.split(", ")) for rung in re.split(r"\s+→ ", shown[1])] == list(reversed(LADDER))


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root: Path) -> Iterator[tuple[str, str]]:
    """Every import of one module of the package by another, those inside functions too."""
    names = {module_name(path, root): path for path in (root / "minilm").rglob("*.py")}
    for name, path in names.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package.rsplit(".", node.level - 1)[0] if node.level else ""
                module = ".".join(filter(None, [base, node.module or ""]))
                targets = [f"{module}.{a.name}" if f"{module}.{a.name}" in names else module for a in node.names]
            else:
                continue
            yield from ((name, target) for target in targets if target.split(".")[0] == "minilm" and target != name)


def folder_of(module: str, root: Path) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (root / "minilm" / parts[1]).is_dir() else "root"


def upward(root: Path) -> list[tuple[str, str]]:
    """The imports that run up the ladder. The package's own ``__init__`` and ``__main__`` are its doors, on top."""
    arrows = [(a, b) for a, b in imports(root) if a not in ("minilm", "minilm.__main__") and b != "minilm"]
    return [(a, b) for a, b in arrows if RUNG[folder_of(b, root)] > RUNG[folder_of(a, root)]]


def test_no_import_runs_up_and_none_in_a_circle() -> None:
    assert upward(ROOT) == []
    graph: dict[str, set[str]] = {}
    for a, b in imports(ROOT):
        if "minilm" not in (a, b) and b != a.rpartition(".")[0]:
            graph.setdefault(a, set()).add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {error.args[1]}")


def test_an_import_that_runs_up_is_found(tmp_path: Path) -> None:
    for name in ("bert.py", "models/__init__.py", "models/auto.py", "loading/__init__.py", "loading/files.py"):
        path = tmp_path / "minilm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "minilm" / "loading" / "files.py").write_text("def read():\n    from ..models import auto\n")
    (tmp_path / "minilm" / "models" / "auto.py").write_text("from .. import bert\n")
    assert upward(tmp_path) == [("minilm.loading.files", "minilm.models.auto")]


def test_the_root_is_the_network() -> None:
    files = {path.stem for path in (ROOT / "minilm").glob("*.py")} - {"__init__", "__main__"}
    assert files == {"arrays", "bert", "config", "functional", "heads", "operations", "packing", "parameters"}


def test_every_folder_has_a_rung() -> None:
    folders = {path.name for path in (ROOT / "minilm").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(RUNG) - {"root"}


@pytest.mark.parametrize("folder", ["tokenizing.tokenizer", "vectors.search", "vectors.quantization"])
def test_tokens_and_vectors_do_not_need_the_network(folder: str) -> None:
    code = f"import sys, minilm.{folder}; print(*sorted(name for name in sys.modules if name.startswith('minilm')))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"minilm.bert", "minilm.heads", "minilm.operations", "minilm.backends"}.isdisjoint(loaded.split())
