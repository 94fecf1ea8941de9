"""The explorer's server: what it tells equals what `minilm.trace` gives; bad input is told as JSON."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minilm
from minilm.explorer import show, similarity
from minilm.explorer.changes import CHANGES, make_change
from minilm.explorer.explorer import Explorer, Question, load
from minilm.explorer.stages import functions_of
from minilm.functional import ACTIVATIONS, POOLINGS
from minilm.models import BertForMaskedLM, BertForTokenClassification, BertModel
from minilm.operations import OPERATIONS, Operations
from minilm.sentences.modules import Dense, Normalize, Pooling
from minilm.sentences.sentence_transformer import SentenceTransformer

pytest.importorskip("orjson", reason="pip install 'minilm[serve]'")
pytest.importorskip("httpx2", reason="the client of these tests: pip install 'minilm[test]'")
testclient = pytest.importorskip("starlette.testclient", reason="pip install 'minilm[serve]'")

import serving_models as tiny  # noqa: E402

from minilm.explorer.routes import MOST_BYTES, PAGE, create_app, explorer_routes  # noqa: E402
from minilm.serving.app import create_app as create_service  # noqa: E402
from minilm.serving.settings import Settings  # noqa: E402

ROOT = Path(__file__).parents[2]
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever the environment says of proxies

TEXT = {"text": "a b c s"}


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    return Explorer(tiny.embedder().model, "tiny")


@pytest.fixture(scope="module")
def client(explorer: Explorer) -> Any:
    with testclient.TestClient(create_app({"tiny": explorer}), raise_server_exceptions=False) as client:
        yield client


def ask(client: Any, name: str, **body: Any) -> Any:
    return client.post(f"/explorer/api/{name}", json=body)


# ---- what is told is what the trace gives ----------------------------------------------------------------------------


def test_every_array_of_every_stage_is_the_traces(explorer: Explorer, client: Any) -> None:
    features = explorer.model.preprocess([TEXT["text"]])
    traced = minilm.trace(explorer.network, features, arrays=True)
    told = ask(client, "run", question=TEXT).json()
    assert [stage["name"] for stage in told["stages"]][: len(traced)] == [operation.name for operation in traced]
    parts = [{"stage": i, "array": name} for i, operation in enumerate(traced) for name in operation.arrays]
    answer = ask(client, "arrays", question=TEXT, parts=parts)
    numbers, shapes = np.frombuffer(answer.content, "<f4"), json.loads(answer.headers["x-shapes"])
    for part, shape in zip(parts, shapes, strict=True):
        expected = traced[part["stage"]].arrays[part["array"]]
        assert tuple(shape) == expected.shape == tuple(told["stages"][part["stage"]]["shapes"][part["array"]])
        np.testing.assert_array_equal(numbers[: expected.size].reshape(shape), expected.astype(np.float32))
        numbers = numbers[expected.size :]
    assert numbers.size == 0


def test_the_vector_is_encodes(explorer: Explorer) -> None:
    np.testing.assert_allclose(
        explorer.part(Question("a b"), None, "output"), explorer.embedder.encode("a b"), atol=1e-6
    )


@pytest.mark.parametrize("include_prompt", [True, False])
def test_a_models_own_prompt_is_put_before_texts(include_prompt: bool) -> None:
    model = tiny.embedder(default_prompt_name="query").model
    model.set_pooling_include_prompt(include_prompt)
    explorer = Explorer(model)
    assert explorer.describe()["prompt"] == "query: "
    seen = explorer.run(Question("a b"))
    assert [token["text"] for token in seen.tokens] == ["[CLS]", "query", ":", "a", "b", "[SEP]"]
    np.testing.assert_allclose(seen.output, model.encode("a b"), atol=1e-6)
    told = explorer.compare(Question("a b"), Question("c"))
    cosine = told["cosine"]
    assert np.isclose(told["split"].sum(), cosine, atol=1e-6)
    assert np.isclose(cosine, model.similarity(*model.encode(["a b", "c"])).item(), atol=1e-6)
    assert np.isclose(explorer.nearest("a b", ["c"])["cosines"][0], cosine, atol=1e-6)


def test_the_three_rows_of_a_token_add_up_before_the_norm(explorer: Explorer) -> None:
    rows = [
        explorer.part(Question("a b"), 0, name, [0])
        for name in ("words[input_ids]", "token_types[token_type_ids]", "positions[position_ids]")
    ]
    stage = explorer.run(Question("a b")).record[0].arrays
    ops = Operations()
    normed = ops.layer_norm(sum(rows), stage["norm_weight"], stage["norm_bias"], explorer.network.config.layer_norm_eps)
    np.testing.assert_allclose(normed, stage["output"][0], atol=1e-6)


def test_a_pass_is_computed_once_and_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = Explorer(tiny.embedder().model, "tiny")
    first = explorer.run(Question("a"))
    assert explorer.run(Question("a")) is first
    monkeypatch.setattr("minilm.explorer.explorer.MOST_BYTES", first.nbytes + 1)
    explorer.run(Question("b"))
    assert explorer.run(Question("a")) is not first


def test_who_waits_too_long_for_others_is_told(
    explorer: Explorer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.explorer.explorer.PATIENCE", 0.01)
    with explorer._lock:
        answer = ask(client, "run", question={"text": "a"})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "5" and "too much" in answer.json()["error"]


def test_tokens_tell_their_place_and_what_was_cut(client: Any) -> None:
    told = ask(client, "run", question={"text": "A b " * 10}).json()
    assert told["lost"] == 11 and len(told["tokens"]) == 11
    assert told["tokens"][1] == {
        "text": "a", "id": 5, "type": 0, "special": 0, "place": [0, 1], "sequence": 0, "masked": False
    }  # fmt: skip


def test_padding_and_tokens_switched_off_are_not_looked_at(explorer: Explorer, client: Any) -> None:
    plain = explorer.run(Question("a b")).output
    padded = explorer.run(Question("a b", padding=3))
    np.testing.assert_allclose(padded.output, plain, atol=1e-6)
    assert padded.tokens[-1]["text"] == "[PAD]"
    assert [token["masked"] for token in padded.tokens] == [False] * 4 + [True] * 3
    off = explorer.run(Question("a b", off=(2,)))
    attention = next(one for one in off.record if one.operation == "attention")
    assert (attention.arrays["probabilities"][..., 2] == 0).all()
    assert np.abs(off.output - plain).max() > 1e-3


# ---- changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_exchanges_one_entry_and_moves_the_vector(explorer: Explorer, client: Any, name: str) -> None:
    assert (
        len(vars(CHANGES[name]).keys() & vars(Operations).keys() - {"__doc__", "__module__", "__init__", "__repr__"})
        == 1
    )
    told = ask(client, "run", question={**TEXT, "change": name, "layer": 1, "head": 2}).json()
    assert 0 < 1 - told["cosine_to_unchanged"] < 2 or name == "TanhGELU"
    changed = explorer.model.with_operations(make_change(name, 1, 2)).encode(TEXT["text"])
    moved = explorer.part(Question(TEXT["text"], change=name, layer=1, head=2), None, "output")
    np.testing.assert_allclose(moved, changed, atol=1e-6)
    assert np.abs(changed - explorer.model.encode(TEXT["text"])).max() > 1e-6


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("layer", [0, 1])
def test_a_changed_model_embeds_many_texts_again_and_again(explorer: Explorer, name: str, layer: int) -> None:
    """Texts of different lengths are several attentions of a layer."""
    texts = ["a b", "c", "d e f g", "h"]
    model = explorer.model
    alone = [model.with_operations(make_change(name, layer, 2)).encode(text) for text in texts]
    changed = model.with_operations(make_change(name, layer, 2))
    for _ in range(2):
        np.testing.assert_allclose(changed.encode(texts, batch_size=2), alone, atol=1e-6)


def test_a_head_that_is_off_gives_nothing(explorer: Explorer) -> None:
    done = explorer.run(Question("a b", change="NoHead", layer=1, head=2))
    first, second = (one.arrays["output"][0] for one in done.record if one.operation == "attention")
    assert (second[:, 8:] == 0).all() and (second[:, :8] != 0).all() and (first != 0).all()


def test_a_layer_that_is_left_out_passes_its_input_on(explorer: Explorer) -> None:
    done = explorer.run(Question("a b", change="NoLayer", layer=1))
    norms = [one.arrays["output"] for one in done.record if one.operation == "linear_add_layer_norm"]
    np.testing.assert_array_equal(norms[1], norms[3])
    assert np.abs(norms[0] - norms[1]).max() > 0.1


# ---- two texts, many texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", POOLINGS)
def test_the_parts_of_a_pooled_vector_add_up_to_it(mode: str) -> None:
    rng = np.random.default_rng(0)
    states, mask = rng.normal(size=(7, 12)).astype(np.float32), np.array([1, 1, 0, 1, 1, 1, 0])
    parts = similarity.parts(states, mask, mode)
    np.testing.assert_allclose(parts.sum(axis=0), POOLINGS[mode](states[None], mask[None])[0], atol=1e-6)
    assert (parts[mask == 0] == 0).all()


def test_the_split_adds_up_to_the_cosine(explorer: Explorer, client: Any) -> None:
    told = ask(client, "compare", a=TEXT, b={"text": "s s"}).json()
    split = np.array(told["split"])
    cosine = explorer.embedder.similarity(*explorer.embedder.encode([TEXT["text"], "s s"]))[0, 0]
    assert split.shape == (6, 4)
    assert told["cosine"] == pytest.approx(split.sum(), abs=1e-6) == pytest.approx(cosine, abs=1e-6)


def test_a_cosine_that_is_no_sum_over_tokens_is_not_split(client: Any) -> None:
    transformer = tiny.embedder().model.transformer
    dense = Dense({"linear": {"weight": np.eye(5, 12, dtype=np.float32)}})
    for modules, reason in (
        ([transformer, Pooling(), dense], "Dense layer"),
        ([transformer, Pooling(("mean", "cls"))], "several poolings"),
    ):
        explorer = Explorer(SentenceTransformer(modules=modules), "tiny")
        told = explorer.compare(Question("a b"), Question("s"))
        assert -1 <= told["cosine"] <= 1 and told["split"] is None and reason in told["reason"]


def test_the_nearest_and_their_map(explorer: Explorer, client: Any) -> None:
    told = ask(client, "nearest", text="a b", sentences=["a b", "s"]).json()
    assert told["cosines"][0] == pytest.approx(1, abs=1e-6) and told["cosines"][1] < 0.99999
    assert np.shape(told["places"]) == (3, 2) and told["kept"] == pytest.approx(1, abs=1e-5)
    same = ask(client, "nearest", text="a", sentences=["a"]).json()
    assert np.abs(same["places"]).max() < 1e-6 and 0 <= same["kept"] <= 1


# ---- other models ----------------------------------------------------------------------------------------------------


def test_a_classifier_tells_labels_of_a_pair() -> None:
    explorer = Explorer(tiny.classifier().model, "tiny")
    told = explorer.show(Question("a b", second="s"))
    assert explorer.describe()["labels"] == ["bad", "good", "so so"]
    np.testing.assert_allclose(told["labels"][0], explorer.model.predict([("a b", "s")])[0], atol=1e-6)
    assert [token["sequence"] for token in told["tokens"]] == [None, 0, 0, None, 1, None]
    with pytest.raises(ValueError, match="no vectors"):
        explorer.nearest("a", ["b"])


def test_a_masked_lm_tells_words() -> None:
    tokenizer = tiny.embedder().model.tokenizer
    model = BertForMaskedLM(tiny.with_head(BertForMaskedLM, tiny.CONFIG).params, tiny.CONFIG, "numpy", tokenizer)
    told = Explorer(model).show(Question("a [MASK] b"))
    (mask,) = told["words"]
    assert mask["place"] == 2
    best = model.fill_mask("a [MASK] b", top_k=3)
    assert mask["words"][:3] == [one["token_str"] for one in best]
    assert mask["probabilities"][:3] == pytest.approx([one["score"] for one in best], abs=1e-6)


def test_a_token_classifier_tells_labels_of_every_token() -> None:
    config = replace(tiny.CONFIG, id2label=tiny.LABELS)
    model = tiny.with_head(BertForTokenClassification, config)
    explorer = Explorer(model, tokenizer=tiny.embedder().model.tokenizer)
    assert explorer.describe()["kind"] == "token_labels"
    assert np.shape(explorer.show(Question("a b"))["labels"]) == (4, 3)
    with pytest.raises(TypeError, match="needs a tokenizer"):
        Explorer(model)


FAMILIES = {
    "no token types": {"type_vocab_size": 0},
    "narrow embeddings": {"embedding_size": 6},
    "relative positions": {"relative_attention_num_buckets": 8},
    "shared layers": {"model_type": "albert"},
    "positions from 2 on": {"first_position": 2, "pad_token_id": 1, "max_position_embeddings": 13},
}


@pytest.mark.parametrize("settings", FAMILIES.values(), ids=FAMILIES.keys())
def test_other_families_tell_all_their_arrays(settings: dict[str, Any]) -> None:
    network = tiny.with_head(BertModel, replace(tiny.CONFIG, **settings))
    modules = [replace(tiny.embedder().model.transformer, model=network), Pooling(), Normalize()]
    explorer, asked = Explorer(SentenceTransformer(modules=modules), "tiny"), Question("a b c", padding=1)
    told = explorer.show(asked)
    for i, stage in enumerate(told["stages"]):
        for name, shape in stage["shapes"].items():
            assert explorer.part(asked, i, name).shape == tuple(shape)
    names = [stage["name"] for stage in told["stages"]]
    assert {f"encoder.layer.{n}.attention.self" for n in range(2)} <= set(names)
    for change in CHANGES:
        assert -1 <= explorer.show(replace(asked, change=change, layer=1))["cosine_to_unchanged"] <= 1 + 1e-6


# ---- what the page is told, and errors -------------------------------------------------------------------------------


def test_sources_are_the_functions_own(client: Any) -> None:
    told = ask(client, "model").json()
    assert told["kind"] == "vector" and told["limit"] == 11 and set(told["changes"]) == set(CHANGES)
    attention, softmax, _ = told["functions"]["attention"]
    assert attention["name"] == "functional.attention" and "def attention(" in attention["source"]
    assert attention["formula"] == "softmax(Q Kᵀ / √d + mask) V" and softmax["name"] == "functional.softmax"
    for activation, pooling in itertools.product(ACTIVATIONS, POOLINGS):
        functions = functions_of(activation, pooling)
        assert set(functions) == set(OPERATIONS)
        assert functions["pooling"][0]["source"] == inspect.getsource(POOLINGS[pooling])
        assert functions["linear_activation"][1]["source"] == inspect.getsource(ACTIVATIONS[activation])


BAD = [
    ({"question": {}}, 422, "`question.text` must be a string"),
    ({"question": {"text": 3}}, 422, "must be a string: got 3"),
    ({"question": {"text": "a", "change": "Chess"}}, 422, "must be one of TanhGELU"),
    ({"question": {"text": "a", "off": ["a"]}}, 422, "must be a list of integers"),
    ({"question": {"text": "a", "padding": 9}}, 422, "must be at most 8"),
    ({"question": {"text": "a"}, "parts": [{"stage": 99, "array": "x"}]}, 422, "`stage` must be below"),
    ({"question": {"text": "a"}, "parts": [{"stage": 1, "array": "chess"}]}, 422, "`array` must be one of x, weight"),
    ({"question": {"text": "a"}, "parts": [{"stage": 1, "array": "x", "slice": [5]}]}, 422, "index 5 is out of bounds"),
    ({"question": {"text": "a"}, "parts": [{"stage": 1, "array": "x", "slice": [[0, 1, 0]]}]}, 422, "cannot be zero"),
    ({"question": {"text": "a"}, "parts": [{"stage": 1, "array": "x", "slice": [0] * 4}]}, 422, "too many indices"),
    ({"question": {"text": "a"}, "parts": []}, 400, "cannot be empty"),
    *[({"question": {"text": "a"}, "parts": [{"stage": 1, "array": "x", "slice": odd}]}, 422, "`slice` must be")
      for odd in (7, "a", None, {"a": 1}, ["a"], [None], [{}], [[]], [[0, "a"]], [[1, 2, 3, 4]], [1e300], [10**18])],
    ({"question": {"text": "a"}, "parts": [{"stage": -1, "array": "x"}]}, 422, "integer of at least 0: got -1"),
    ({"question": {"text": "a"}, "parts": [7]}, 422, "must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), BAD)
def test_what_is_wrong_is_told(client: Any, body: dict[str, Any], status: int, message: str) -> None:
    answer = ask(client, "arrays" if "parts" in body else "run", **body)
    assert answer.status_code == status and message in answer.json()["error"]


def test_odd_requests(client: Any) -> None:
    def raw(content: bytes, kind: str = "application/json") -> Any:
        return client.post("/explorer/api/run", content=content, headers={"Content-Type": kind})

    assert raw(b"{").status_code == 400
    assert raw(b'{"question": {"text": "\\ud800"}}').status_code in (400, 422)
    assert raw(b"{}", "text/plain").status_code == 415
    assert raw(b" " * (MOST_BYTES + 1)).status_code == 413
    assert client.get("/explorer/api/run").status_code == 405
    assert ask(client, "nearest", text="a", sentences=["a"] * 201).status_code == 422


@pytest.mark.parametrize("text", ["", " ", "😀 👩‍👩‍👧", "שלום עולם", "<script>alert(1)</script>", "\x00", "a\u202eb"])
def test_any_text_is_a_text(client: Any, text: str) -> None:
    told = ask(client, "run", question={"text": text})
    assert told.status_code == 200 and told.json()["tokens"][0]["text"] == "[CLS]"


def test_an_answer_is_bounded(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.explorer.routes.MOST_NUMBERS", 50)
    part = {"stage": 1, "array": "x"}
    assert ask(client, "arrays", question={"text": "a"}, parts=[part]).status_code == 200
    answer = ask(client, "arrays", question={"text": "a"}, parts=[part] * 2)
    assert answer.status_code == 422 and "72 numbers are too many" in answer.json()["error"]


# ---- the page, and where it is mounted -------------------------------------------------------------------------------


def test_the_page_allows_nothing_from_elsewhere(client: Any) -> None:
    page = client.get("/")
    assert page.url.path == "/explorer/" and page.headers["content-type"].startswith("text/html")
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    for name in set(re.findall(r'(?:src|href)="([\w.]+)"', page.text)):
        assert client.get(f"/explorer/{name}").status_code == 200
    for name in ("..%2froutes.py", "%2e%2e/routes.py", "routes.py", "chess.js"):
        assert client.get(f"/explorer/{name}").status_code == 404


def test_every_module_that_the_page_imports_is_there() -> None:
    for path in PAGE.glob("*.js"):
        for name in re.findall(r'from "\./([\w.]+)"', path.read_text(encoding="utf-8")):
            assert (PAGE / name).exists(), f"{path.name} imports {name}"


def test_minilm_serve_has_the_page_too(explorer: Explorer) -> None:
    models = [tiny.embedder(), tiny.classifier()]
    pages = {"/explorer": explorer_routes({one.name: Explorer(one.model, one.name) for one in models})}
    app = create_service(models, Settings(api_key="secret"), pages=pages)
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/explorer").status_code == client.get("/explorer/main.js").status_code == 200
        assert client.get("/explorers").status_code == client.get("/info").status_code == 401
        assert ask(client, "run", question=TEXT).status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        told = ask(client, "model", model="tiny-classifier").json()
        assert told["models"] == ["tiny-embedder", "tiny-classifier"] and told["kind"] == "labels"
        assert len(ask(client, "run", question=TEXT, model="tiny-classifier").json()["labels"][0]) == 3
        wrong = client.get("/explorer/api/run")
        assert wrong.status_code == 405 and wrong.headers["allow"] == "POST" and "error" in wrong.json()
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    model, other = tiny.embedder().model, tiny.embedder().model
    frame, again, third = show(model, "a & b", view="layer.0"), show(model), show(other, "a", "b")
    assert frame.address.partition("#")[0] == again.address.partition("#")[0] == third.address.partition("#")[0]
    page = frame._repr_html_()
    assert page.startswith('<iframe src="http://127.0.0.1:') and "text=a+%26+b" in page and "height=" in page
    first, second = (re.search(r"model=([^&]+)", one.address)[1] for one in (frame, third))
    assert first == re.search(r"model=([^&]+)", again.address)[1] != second
    with DIRECT.open(frame.address.partition("#")[0], timeout=30) as answer:
        assert "frame-ancestors 'self' http://localhost:*" in answer.headers["Content-Security-Policy"]


def test_a_checkpoint_is_loaded_as_what_it_is(tmp_path: Path) -> None:
    tokenizer = tiny.embedder().model.tokenizer
    for cls, kind, name in (
        (BertForMaskedLM, "words", "MaskedLM"),
        (BertForTokenClassification, "token_labels", "TokenClassification"),
    ):
        config = replace(tiny.CONFIG, id2label=tiny.LABELS, architectures=(f"BertFor{name}",))
        tiny.with_head(cls, config).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        assert load(str(tmp_path / kind), backend="numpy").kind == kind
    tiny.embedder().model.save_pretrained(str(tmp_path / "vector"))
    assert load(str(tmp_path / "vector"), backend="numpy").kind == "vector"


def test_the_command_serves_the_page_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    tiny.embedder().model.save_pretrained(str(tmp_path / "model"))
    command = [sys.executable, "-m", "minilm", "explore", "--no-browser", "--backend", "numpy", "a b"]
    process = subprocess.Popen(
        [*command, "--model", str(tmp_path / "model")], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/explorer/#text=a\+b&second=", line)
        assert address, line
        with DIRECT.open(address[0].partition("#")[0], timeout=30) as answer:
            assert b"<title>minilm explorer" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()
