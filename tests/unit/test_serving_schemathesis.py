"""What the OpenAPI document says is what the service does: schemathesis makes requests of it, right and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("uvicorn", reason="the service needs: pip install 'minilm[serve]'")

from hypothesis import HealthCheck, given, settings
from served import serving
from serving_models import classifier, embedder, reranker

from minilm import Index, SentenceTransformer

schemathesis = pytest.importorskip("schemathesis", reason="it is in the group dev")

KEY = "s3cret"
# What is no mistake: a body that fits its schema may still name a model or a prompt that is not there.
NOT_CHECKED = ["positive_data_acceptance", "negative_data_rejection"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("served")
    arguments: list[Any] = []
    for name, one in {"embedder": embedder(), "reranker": reranker(), "classifier": classifier()}.items():
        one.model.save_pretrained(folder / name)
        arguments += ["--model", folder / name]
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("# A\n\na b c\n\n# B\n\nx y z\n", encoding="utf-8")
    with Index(folder / "index.db", SentenceTransformer(folder / "embedder", truncation="silent")) as index:
        index.update(folder / "notes")
    with serving(*arguments, "--index", folder / "index.db", "--no-access-log", API_KEY=KEY) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"})
        assert server.end() == 0
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_as_documented(mode: str, document: Any) -> None:
    excluded = schemathesis.checks.CHECKS.get_by_names(NOT_CHECKED)
    key = {"Authorization": f"Bearer {KEY}"}
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @settings(max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck)
        @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        def check(case: Any) -> None:
            case.call_and_validate(headers=key, excluded_checks=excluded)

        if mode == "positive" or operation.body:  # nothing of a GET can be wrong
            check()
