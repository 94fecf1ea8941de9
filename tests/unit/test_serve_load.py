"""`minilm bench --serve`: load on a server, on a tiny random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("uvicorn", reason="the service needs: pip install 'minilm[serve]'")

from serving_models import embedder

from minilm.bench import load
from minilm.bench.corpus import Workload
from minilm.bench.load import Load
from minilm.cli import main


def test_everything_is_measured_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder().model.save_pretrained(tmp_path)
    texts = tuple(f"a b {letter}" for letter in "abcdefghij")
    monkeypatch.setattr(load, "workloads", lambda *_: {"short": Workload("short", texts * 200, (5,) * 2000)})
    found = load.measure(Load(str(tmp_path), texts=40, rounds=1, large=2000, arguments=("--backend", "numpy")))
    assert len(found.samples["16 × 1, latency"]) == len(found.samples["1 × 1, latency"]) == 40
    assert found.samples["beside a large request"] and found.samples["health"]
    assert all(value > 0 for values in found.samples.values() for value in values)
    text = load.report(found)
    assert "texts a second, " in text and "one text beside a request of 2000: median " in text


def test_the_command_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(load, "measure", lambda plan: asked.append(plan) or plan)
    monkeypatch.setattr(load, "report", lambda plan: "the report")
    assert CliRunner().invoke(main, ["bench", "--serve", "--quick", "--rounds", "2"]).stdout == "the report\n"
    assert CliRunner().invoke(main, ["bench", "--serve", "--model", "x"]).stdout == "the report\n"
    assert [(plan.texts, plan.rounds, plan.large) for plan in asked] == [(256, 2, 512), (1024, 3, 2048)]
    assert asked[1].model == "x"


def test_an_error_of_the_server_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the server did not start"), load.serving("--model", str(tmp_path)):
        pass
