"""The notebooks run from top to bottom, in a fresh kernel and without network, and still say what they said.

``pytest -m notebooks`` executes them; without the marker only their form is looked at. What a cell prints is compared
with what is committed: text exactly, numbers to the digits that other processors share, pictures by being there. Tags
on a cell: ``volatile``, run but not compared (times, this machine's properties); ``torch`` and ``gpu``, compared only
where there is that. Such a cell looks for itself whether it can run, and says so if not.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"[-−+]?\d+(?:,\d{3})*(?:\.\d*)?(?:[eE][-+]?\d+)?|[-−+]?(?<!\d)\.\d+(?:[eE][-+]?\d+)?")
ROUNDING = 1e-5  # a number below is what rounding left over: its size alone can be compared

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return set(cell["metadata"].get("tags", ()))


def outputs(cell):
    """A code cell's outputs as (kind, text): streams joined, pictures without their pixels."""
    found = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            kind, text = output["name"], "".join(output["text"])
            if found and found[-1][0] == kind:
                text = found.pop()[1] + text
            found.append((kind, text))
        elif output["output_type"] == "error":
            found.append(("error", output["evalue"]))
        else:
            data = output["data"]
            pictures = [kind for kind in data if kind.startswith("image/")]
            text = "" if pictures else "".join(data.get("text/plain", ""))
            found.append((pictures[0] if pictures else "result", text))
    return found


def same_number(old, new):
    """Equal as integers; as fractions to a last digit or 1 in 500; in size where both are no more than rounding."""
    x, y = (float(number.replace("−", "-").replace(",", "")) for number in (old, new))
    if not re.search(r"[.eE]", old):
        return x == y
    if 0 < abs(x) < ROUNDING:
        return 0.1 <= abs(y / x) <= 10
    mantissa, _, exponent = old.lower().partition("e")
    last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return math.isclose(x, y, rel_tol=2e-3, abs_tol=1.5 * last_digit)


def difference(old, new):
    """Say how two texts differ, or None."""
    words, others = (re.sub(r"\s", "", NUMBER.sub("#", text)) for text in (old, new))  # spaces align, and mean nothing
    if words != others:
        return f"printed\n{new}\nwhere the committed notebook has\n{old}"
    for x, y in zip(NUMBER.findall(old), NUMBER.findall(new), strict=True):
        if not same_number(x, y):
            return f"printed {y} where the committed notebook has {x}, in\n{new}"
    return None


def can_be_compared(cell):
    if "volatile" in tags(cell) or ("torch" in tags(cell) and not importlib.util.find_spec("torch")):
        return False
    if "gpu" in tags(cell):
        from minilm import available_backends

        return "cupy" in available_backends()
    return True


@pytest.mark.notebooks
@each_notebook
def test_it_runs_and_says_what_it_said(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="notebooks: pip install 'minilm[notebooks]'")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # whatever asks the network is refused at once
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
        monkeypatch.setenv(proxy.lower(), "http://127.0.0.1:9")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    committed = json.loads(path.read_text(encoding="utf-8"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    differences = []
    for number, (old, new) in enumerate(zip(committed["cells"], notebook.cells, strict=True)):
        if old["cell_type"] != "code" or not can_be_compared(old):
            continue
        before, after = outputs(old), outputs(new)
        if [kind for kind, _ in before] != [kind for kind, _ in after]:
            differences.append(f"cell {number} has the outputs {after}, committed are {before}")
            continue
        found = (difference(x, y) for (_, x), (_, y) in zip(before, after, strict=True))
        differences += [f"cell {number} {each}" for each in found if each]
    assert not differences, "\n\n".join(differences)


@each_notebook
def test_it_opens_with_a_question_and_closes_with_three_exercises(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == cells[-1]["cell_type"] == "markdown"
    number = int(path.name[:2])
    assert re.match(rf"# {number}\b", source(cells[0])) and "?" in source(cells[0])
    assert source(cells[-1]).count("<details>") == source(cells[-1]).count("</details>") == 3


def test_they_are_numbered_in_a_row():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(1, 16))


@each_notebook
def test_it_links_to_notebooks_that_are_there(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_page_for_teachers_has_every_notebook_in_order_and_a_plan_that_adds_up():
    page = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page)
    assert [link for link in links if link.endswith(".ipynb")] == [path.name for path in NOTEBOOKS]
    assert [link for link in links if not (ROOT / "notebooks" / link).exists()] == []
    two, four = (sum(map(int, re.findall(r"^\| (\d+) \|", part, re.MULTILINE))) for part in page.split("hours: ")[1:])
    assert (two, four) == (120, 120)  # the four hours are the two, and two more


def test_the_citation_names_this_version():
    yaml = pytest.importorskip("yaml", reason="reads CITATION.cff: pip install --group dev")
    import minilm

    citation = yaml.safe_load((ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == minilm.__version__ and citation["license"] == "Apache-2.0"
    assert [len(each["authors"]) for each in citation["references"]] == [6, 2, 4]


@each_notebook
def test_it_is_committed_as_it_came_from_one_run(path):
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert not {"stderr", "error"} & {kind for kind, _ in outputs(cell)}, f"noise under {source(cell)!r}"
        assert tags(cell) <= {"volatile", "torch", "gpu"}
        assert set(cell["metadata"]) <= {"tags"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len(text) < 1_000_000
    assert not re.search(r"/home/|/work/|/tmp/|site-packages|0x[0-9a-f]{8}", text), "something of one machine"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("cosine 0.4046", "cosine 0.4047", True),
        ("cosine 0.4046", "cosine 0.4146", False),
        ("cosine -0.4046", "cosine 0.4046", False),
        ("[ 1.   -2.5 ]", "[1.0 -2.5]", True),
        ("7 tokens", "8 tokens", False),
        ("7 tokens", "7 words", False),
        ("1,234.5 ms", "1,236.0 ms", True),
        ("1,234.5 ms", "1,334.5 ms", False),
        ("off by 1.2e-07", "off by 3.4e-07", True),
        ("off by 1.2e-07", "off by 1.2e-05", False),
        ("bert-base v2.0", "bert-base v2.0", True),
    ],
)
def test_a_changed_output_is_seen(old, new, same):
    assert (difference(old, new) is None) == same
