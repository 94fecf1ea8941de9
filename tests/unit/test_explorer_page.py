"""The explorer's page in a real browser: what is on screen is what was computed, and nothing breaks it."""

from __future__ import annotations

import contextlib
import io
import random
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from browser import Page, Site, axe_source, chromium, skip_without
from threadpoolctl import threadpool_limits

import minilm
from minilm.explorer.changes import CHANGES, make_change
from minilm.explorer.explorer import Explorer, Question, load
from minilm.models import BertForMaskedLM, BertForTokenClassification

skip_without()
pytestmark = pytest.mark.browser

import serving_models as tiny  # noqa: E402

PAGE = Path(minilm.__path__[0]) / "explorer" / "page"
TEXT, SECOND = "The bank of the river was muddy", "The bank lends money to small firms"
VIEWS = ("story", "tokens", "embeddings", "layer.0", "layer.5", "vector", "compare", "nearest", "change")
LOADED = "import minilm\nmodel = minilm.SentenceTransformer('sentence-transformers/all-MiniLM-L6-v2')\nchanged = model"
PARTS = {"query": "attention", "key": "attention", "value": "attention", "self": "attention", "intermediate": "feed"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: two wait long for each other while the browser has the cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def explorer(model_dir: Path) -> Explorer:
    explorer = load(str(model_dir))
    explorer.run(Question("the kernels are compiled now"))
    return explorer


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def site(explorer: Explorer) -> Iterator[Site]:
    tokenizer = tiny.embedder().model.tokenizer
    words = tiny.with_head(BertForMaskedLM, tiny.CONFIG)
    labels = tiny.with_head(BertForTokenClassification, replace(tiny.CONFIG, id2label=tiny.LABELS))
    site = Site(
        explorer,
        Explorer(tiny.classifier().model, "tiny-classifier"),
        Explorer(words, "tiny-words", tokenizer=tokenizer),
        Explorer(labels, "tiny-labels", tokenizer=tokenizer),
    )
    yield site
    site.stop()


@pytest.fixture
def page(driver: Any, site: Site) -> Iterator[Page]:
    page = Page(driver, site)
    page.errors()
    yield page
    assert page.errors() == []


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def on_screen(cells: list[list[str]]) -> np.ndarray:
    return np.array([[number(one) for one in row[1:]] for row in cells])


def assert_shown(shown: np.ndarray, expected: np.ndarray) -> None:
    """Four decimals are on screen, and of small numbers two digits."""
    assert shown.shape == expected.shape
    small = (np.abs(expected) < 5e-5) & (expected != 0)
    assert (np.abs(shown - expected) <= np.where(small, 0.06 * np.abs(expected), 5.1e-5)).all()


def part_of(name: str) -> dict[str, str]:
    """The view that shows an operation of the network."""
    pieces = name.split(".")
    if pieces[0] != "encoder":
        return {"view": "embeddings" if pieces[0] == "embeddings" else "vector"}
    end = {"attention": "norm1", "output": "norm2"}.get(pieces[3], "")
    part = PARTS.get(pieces[-1]) or end
    return {"view": f"layer.{pieces[2]}", "part": part}


# ---- the numbers -----------------------------------------------------------------------------------------------------


def test_numbers_of_20_random_stages_are_the_traces(page: Page, explorer: Explorer) -> None:
    traced = minilm.trace(
        explorer.network, explorer.tokenizer(TEXT, return_tensors="np", return_token_type_ids=True), arrays=True
    )
    chosen = random.Random(18).sample(range(len(traced)), 20)
    page.go(text=TEXT, second="")
    for i in chosen:
        stage = traced[i]
        floats = [name for name, array in stage.arrays.items() if array.dtype.kind == "f" and "mask" not in name]
        array = random.Random(i).choice(floats)
        page.go(text=TEXT, second="", open=i, array=array, head=3, **part_of(stage.name))
        figure = page.wait("document.querySelector('[data-stage] figure figcaption')?.innerText")
        expected = stage.arrays[array].astype(np.float64)
        if expected.ndim == 4:
            expected = expected[0, 3]
        expected = expected.reshape(-1, expected.shape[-1])[:64]
        assert figure.startswith(f"{stage.name} · {array}")
        shown = on_screen(page.table(figure))
        assert_shown(shown, expected[:, : shown.shape[1]])
        assert shown.shape[1] == expected.shape[1] or shown.size > 5000


def test_a_score_is_written_out_down_to_its_share(page: Page, explorer: Explorer) -> None:
    record = explorer.run(Question(TEXT)).record
    attention = next(one for one in record if one.name == "encoder.layer.2.attention.self").arrays
    page.go(text=TEXT, second="", view="layer.2", head=7, token=3, key=5)
    width = slice(7 * 32, 8 * 32)
    score = attention["query"][0, 3, width] @ attention["key"][0, 5, width] / np.sqrt(32)
    assert number(page.text("#score")) == pytest.approx(score, abs=6e-5)
    assert number(page.text("#probability")) == pytest.approx(attention["probabilities"][0, 7, 3, 5], abs=6e-5)
    shares = on_screen(page.table("softmax"))
    assert_shown(shares[:, 3], attention["probabilities"][0, 7, 3].astype(np.float64))
    np.testing.assert_allclose(shares[:, 2] / shares[:, 2].sum(), shares[:, 3], atol=2e-4)
    chosen = page.js("return document.querySelector('[data-table=looks] .chosen').rowIndex")
    assert chosen == attention["probabilities"][0, 7, 3].argmax()
    assert_shown(on_screen(page.table("Attention, head 8")), attention["probabilities"][0, 7].astype(np.float64))


def test_two_texts_and_words_switched_off(page: Page, explorer: Explorer) -> None:
    page.go(text=TEXT, second=SECOND, view="compare")
    told = explorer.compare(Question(TEXT), Question(SECOND))
    cosine, split = told["cosine"], told["split"]
    vectors = explorer.embedder.encode([TEXT, SECOND])
    assert cosine == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
    assert number(page.text("#cosine")) == pytest.approx(cosine, abs=6e-5) == number(page.text("#sum"))
    assert_shown(on_screen(page.table("Shares of the cosine")), split.astype(np.float64))
    page.js("document.querySelector('[data-at=\"13\"] rect').dispatchEvent(new Event('pointerover', {bubbles: true}))")
    assert page.text("section .readout") == f"the ·1 → lend: {split[1, 3]:.6f}"
    page.click(page.find('[data-focus="Tokens of the first text 2"]'))
    off = explorer.compare(Question(TEXT, off=(2,)), Question(SECOND))["cosine"]
    assert number(page.text("#cosine")) == pytest.approx(off, abs=6e-5) and abs(off - cosine) > 0.01
    assert "off=2" in page.js("return location.hash")


def test_the_story_tells_why_a_word_means_two_things(page: Page, explorer: Explorer) -> None:
    page.go()
    assert "Why can “bank” mean two things?" in page.text("main") and "equal to the last digit" in page.text("main")
    a, b = explorer.run(Question(TEXT)), explorer.run(Question(SECOND))
    cosines = []
    for name in ("embeddings", *(f"encoder.layer.{n}.output" for n in range(6))):
        x, y = (next(one for one in done.record if one.name == name).arrays["output"][0, 2] for done in (a, b))
        cosines.append(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
    assert_shown(on_screen(page.table("cosines"))[:, 0], np.array(cosines))
    looks = {row[0]: number(row[2]) for row in page.table("looks a")}
    assert max(looks, key=looks.__getitem__) == "river"
    looks = {row[0]: number(row[2]) for row in page.table("looks b")}
    assert max(looks, key=looks.__getitem__) == "lend"
    rises = [str(n) for n in range(1, 7) if cosines[n] > cosines[n - 1]]
    assert f"rises in layers {' and '.join(rises)}" in page.text("main")
    clickable = "return [...document.querySelectorAll('.chips button bdi')].map((one) => one.innerText)"
    assert page.js(clickable) == ["the", "bank"] * 2  # that both have, once in each
    page.click(page.find('[aria-label^="“bank” in the first text: see layer"]'))
    assert "where does “bank” look?" in page.text("main") and "written out" in page.text("main")


@pytest.mark.parametrize("change", ["NoHead", "NoLayer"])
def test_the_story_shows_a_head_that_is_on_and_does_not_do_the_same_for_every_word(
    page: Page, explorer: Explorer, change: str
) -> None:
    page.go(text=TEXT, second=SECOND, view="story")
    see = "return document.querySelector('[aria-label*=\"see layer\"]').innerText.match(/\\d+/g).map(Number)"
    layer, head = page.js(see)
    off = {"change": change, "cl": layer - 1, "ch": head - 1}
    page.go(text=TEXT, second=SECOND, view="story", **off)
    other = page.js(see)
    assert other != [layer, head] and (change == "NoHead" or other[0] != layer)
    found = []
    for text in TEXT, SECOND:
        record = explorer.run(Question(text, change=change, layer=layer - 1, head=head - 1)).record
        name = f"encoder.layer.{other[0] - 1}.attention.self"
        shares = next(one for one in record if one.name == name).arrays["probabilities"][0, other[1] - 1]
        found += list(shares[1:-1].argmax(axis=1) - np.arange(1, len(shares) - 1))
    assert max(found.count(one) for one in found) < 0.6 * len(found)


def test_the_story_says_no_more_than_its_numbers(page: Page) -> None:
    page.go(text="The flight is on time", second="But the flight is not on time", view="story")
    shown, cosines = page.text("main"), on_screen(page.table("cosines"))[:, 0]
    assert cosines[-1] > 0.9
    assert "“flight” means nearly the same" in shown and "It stays nearly the same" in shown
    assert "place 2 in the first text and at place 3 in the second" in shown and "row is the same" in shown
    assert not any(one in shown for one in ("two things?", "becomes another word", "only because", "far apart"))
    page.go(text=TEXT, second=TEXT, view="story")
    assert "is 1.0000 before and after every layer" in page.text("main")


def test_an_example_says_what_is_unexpected_in_its_numbers(page: Page, explorer: Explorer) -> None:
    page.go(text="", second="", view="compare")
    cosines = {}
    for label in ("Same meaning, other words", "The order of words", "A “not” more"):
        page.click(page.button(label))
        shown = page.text("main")
        first, second = (page.find(f"#text-{name}").get_attribute("value") for name in ("text", "second"))
        cosines[label] = explorer.compare(Question(first), Question(second))["cosine"]
        assert f"their cosine is {cosines[label]:.2f}" in shown
    same, order, negation = cosines.values()
    assert same < negation < order
    assert f"more alike than the texts of “Same meaning, other words” ({same:.2f})" in shown
    page.click(page.button("A word in pieces"))
    pieces = len(explorer.tokenizer.tokenize("unbelievably"))
    assert f"“unbelievably” becomes {pieces} pieces" in page.text("main")


def test_bars_below_zero_go_the_other_way(page: Page, explorer: Explorer) -> None:
    near = ["The cat sleeps all day", "Mud and water after the flood", TEXT]
    page.go(text=TEXT, second="", view="nearest", near="\n".join(near))
    (cosines,) = explorer.embedder.similarity(explorer.embedder.encode([TEXT]), explorer.embedder.encode(near))
    assert cosines[0] < 0 < cosines[1]
    boxes = page.js(
        "return [...document.querySelectorAll('.track')].map((one) => [one, ...one.children].flatMap((part) => {"
        "const {left, right} = part.getBoundingClientRect(); return [left, right] }))"
    )
    written = page.driver.execute_async_script(
        "import('/explorer/numbers.js').then(({percent}) => arguments[0]([0, 0.001, 0.5, 0.9988, 1].map(percent)))"
    )
    assert written == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]
    for cosine, (start, end, left, right, zero, _) in zip(sorted(cosines, reverse=True), boxes, strict=True):
        assert start - 1 <= min(left, right) and max(left, right) <= end + 1
        assert (right if cosine < 0 else left) == pytest.approx(zero, abs=1)
        assert abs(right - left) == pytest.approx(abs(cosine) * (end - zero), abs=1.5)


@pytest.mark.parametrize("change", ["TanhGELU", "ReLU", "FirstToken", "NoPositions", "EightBits", "NoHead", "NoLayer"])
def test_a_change_shows_how_far_the_vector_moves(page: Page, explorer: Explorer, change: str) -> None:
    page.go(text=TEXT, second="", view="change", change=change, cl=1, ch=2)
    before, after = (
        model.encode(TEXT) for model in (explorer.model, explorer.model.with_operations(make_change(change, 1, 2)))
    )
    assert number(page.text("#moved")) == pytest.approx(float(before @ after), abs=6e-5)
    shown = page.text("main")
    for exchanged in change, CHANGES[change].__base__.__name__:
        assert f"class {exchanged}(" in shown or exchanged == "Operations"
    assert "(Operations):" in shown and "The network is changed" in page.text("#changed")
    page.click(page.button("Undo"))
    assert page.text("#changed") == ""


def test_what_is_changed_or_switched_off_is_said_in_every_view_and_in_python(page: Page, explorer: Explorer) -> None:
    page.go(text=TEXT, second=SECOND, view="change", off="5", off2="3", change="ReLU")
    for view in ("change", "story", "nearest", "layer.1"):
        page.click(page.find(f'[data-view="{view}"]'))
        page.js("scrollTo(0, 1e6)")
        banner = page.text("#changed")
        assert "ReLU instead of GELU" in banner and "first text: “river”" in banner and "second text: “lend”" in banner
        assert ("shows the network as it is" in banner) == (view == "nearest")
        assert page.js("const {top, bottom} = document.querySelector('#changed .note').getBoundingClientRect();"
                       "return top >= 0 && bottom <= innerHeight"), view  # fmt: skip
    page.js("location.hash = location.hash.replace('view=layer.1', 'view=layer.1&part=feed&open=13')")
    page.wait("document.querySelector('.source')")
    page.js("document.querySelector('.source').open = true")
    assert "class ReLU(" in page.text(".source") and "gelu(" not in page.text(".source")
    page.click(page.find('[data-view="change"]'))
    assert "both without the words that are switched off" in page.text("main")
    first, second = (Question(TEXT, off=(5,), change="ReLU"), Question(SECOND, off=(3,), change="ReLU"))
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(page.text('[aria-label="To compute with it"]').replace("changed = model", LOADED), names)
    np.testing.assert_allclose(names["vector"], explorer.run(first).output, atol=1e-6)
    page.click(page.find('[data-view="compare"]'))
    page.js("document.querySelector('#tools button:nth-of-type(2)').click()")
    code = page.wait("document.querySelector('#message pre')?.innerText")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert float(printed.getvalue().strip("[]\n")) == pytest.approx(explorer.compare(first, second)["cosine"], abs=1e-5)
    page.click(page.button("Undo"))
    assert page.text("#changed") == "" and "off" not in page.js("return location.hash")


def test_a_step_to_another_view_shows_its_heading(page: Page) -> None:
    for button, heading in (
        ("Which words make the texts alike?", "How alike"),
        ("See layer 1, head 5", "Layer 1 of 6"),
    ):
        page.go(text=TEXT, second=SECOND, view="story")
        page.click(page.button(button))
        assert page.text("h2").startswith(heading)
        top, bottom, height = page.js(
            "const {top, bottom} = document.querySelector('h2').getBoundingClientRect();"
            "return [top, bottom, innerHeight]"
        )
        assert page.js("return document.querySelector('.top').offsetHeight") <= top < bottom <= height


def test_python_from_the_page_gives_what_is_on_screen(page: Page, explorer: Explorer) -> None:
    page.go(text="A cat", second="", view="layer.1", part="norm2", open=14, change="NoHead", cl=0, ch=3)
    (first, *_), *_ = on_screen(page.table(page.text("[data-stage] figcaption")))
    page.js("for (const one of document.querySelectorAll('details')) one.open = true")
    code = page.js("return [...document.querySelectorAll('.operation pre')].at(-1).innerText")
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    assert names["operations"][14].name == "encoder.layer.1.output"
    assert float(names["operations"][14].arrays["output"][0, 0, 0]) == pytest.approx(first, abs=6e-5)
    page.js("document.querySelector('#tools button:nth-of-type(2)').click()")
    code = page.wait("document.querySelector('#message pre')?.innerText")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert "encoder.layer.5.output" in printed.getvalue()


def test_other_models_show_words_and_labels(page: Page, site: Site) -> None:
    page.go(model="tiny-classifier", text="a b", second="s", view="answer")
    shown = {row[0]: number(row[2]) for row in page.table("labels")}
    expected = site.explorers["tiny-classifier"].model.predict([("a b", "s")])[0]
    assert list(shown) == ["bad", "good", "so so"]
    assert list(shown.values()) == pytest.approx(expected.tolist(), abs=6e-5)
    page.go(model="tiny-words", text="a [MASK] b", second="", view="answer")
    (told,) = site.explorers["tiny-words"].show(Question("a [MASK] b"))["words"]
    assert_shown(on_screen([row[:3:2] for row in page.table("words 2")])[:, 0], np.array(told["probabilities"]))
    page.go(model="tiny-labels", text="a b", second="", view="answer")
    told = np.array(site.explorers["tiny-labels"].show(Question("a b"))["labels"])
    shown = page.table("labels of tokens")
    assert [row[3] for row in shown] == [tiny.LABELS[i] for i in told.argmax(axis=1)]
    assert page.js("return document.querySelectorAll('#text-second').length") == 0
    for view in ("tokens", "layer.1", "change"):
        assert page.text("#message") == ""
        page.click(page.find(f'[data-view="{view}"]'))
    page.click(page.button("ReLU instead of GELU"))
    changed = np.array(site.explorers["tiny-labels"].show(Question("a b", change="ReLU"))["labels"])
    assert page.js("return document.querySelectorAll('[data-table=\"labels of tokens\"]').length") == 2
    now = page.js("return [...document.querySelectorAll('[data-table=\"labels of tokens\"]')].at(-1).innerText")
    assert all(f"{one:.4f}" in now for one in changed.max(axis=1))


# ---- what people type ------------------------------------------------------------------------------------------------

ODD = {
    "nothing": "",
    "10,000 words": "word " * 10_000,
    "emoji": "😀 👩‍👩‍👧 👍🏽",
    "right to left": "שלום עולם مرحبا",
    "markup": "<img src=x onerror='window.broken = 1'><script>window.broken = 1</script>",
    "controls": "a\x00b\u202ec\u0301",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_any_text_is_shown_as_text(page: Page, text: str) -> None:
    page.go(view="tokens", second="")
    with page.drawn():
        page.js(
            "const one = document.querySelector('#text-text'); one.value = arguments[0];"
            "one.dispatchEvent(new Event('change'))",
            text,
        )
    for view in ("layer.0", "vector", "compare", "nearest", "change", "tokens"):
        page.click(page.find(f'[data-view="{view}"]'))
        assert page.js("return document.querySelectorAll('main script, main img').length") == 0
    assert page.js("return window.broken ?? null") is None and page.text("#message") == ""
    assert "[CLS]" in page.text("main")
    assert ("9,746 more are cut off" in page.text("main")) == (len(text) > 10_000)


def test_a_server_that_has_gone_is_told_and_what_was_typed_stays(page: Page, site: Site) -> None:
    page.go(text=TEXT, view="tokens", second="")
    site.stop()
    try:
        field = page.find("#text-text")
        field.clear()
        field.send_keys("Nobody is there\n")
        page.wait("document.querySelector('#message').innerText.includes('does not answer')")
        assert field.get_attribute("value") == "Nobody is there"
        page.errors()  # the browser notes the failed request
    finally:
        site.start()
    page.click(page.button("Try again"))
    assert page.text("#message") == "" and "nobody" in page.text("main")


def test_an_error_of_the_server_is_told(page: Page) -> None:
    page.go(text=TEXT, view="tokens", second="", padding=0)
    page.js("location.hash = 'view=tokens&padding=600'")
    page.wait("document.querySelector('#message').innerText.includes('must be at most')")
    page.errors()


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_small_and_asks_nobody_else(page: Page, site: Site) -> None:
    assert sum(path.stat().st_size for path in PAGE.iterdir()) <= 250_000
    page.load()
    for view in VIEWS:
        page.go(view=view)
    asked = page.js("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert len(asked) > 30 and all(one.startswith(site.url) for one in asked)


def test_arrays_that_are_known_stay_while_many_others_are_asked_for(page: Page) -> None:
    page.go(text=TEXT, second="", view="tokens")
    found = page.driver.execute_async_script(
        "import('/explorer/api.js').then(async ({arrays}) => {"
        "const part = (c) => ({stage: 0, array: 'output', slice: [0, 1, [c, c + 1, 1]]});"
        "const question = {text: arguments[0], off: [], padding: 0};"
        "const parts = Array.from({length: 384}, (_, c) => [part(c), {...part(c), array: 'words[input_ids]'}]).flat();"
        "await arrays(question, parts.slice(0, 1));"
        "return (await arrays(question, parts)).filter(Boolean).length;"
        "}).then(arguments[1], (error) => arguments[1](String(error)))",
        TEXT,
    )
    assert found == 2 * 384


def test_the_address_keeps_what_is_on_screen(page: Page) -> None:
    page.go(text=TEXT, second=SECOND)
    page.click(page.find('[data-view="layer.3"]'))
    page.click(page.find('[aria-label="Head 5"]'))
    page.click(page.find('[data-focus="Choose a token 5"]'))
    shown, address = page.text("main"), page.js("return location.href")
    page.load(address)
    assert page.text("main") == shown and "Head 5: where does “river” look?" in shown
    page.click(page.find('[data-view="vector"]'))
    with page.drawn():
        page.driver.back()
    assert page.text("main") == shown


def test_all_works_from_the_keyboard(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.go(text=TEXT, second=SECOND, view="tokens")
    page.find('[data-view="tokens"]').send_keys(Keys.ARROW_RIGHT)
    page.wait("document.activeElement.dataset.view === 'embeddings'")
    page.wait("document.querySelector('h2').innerText === 'Tokens → vectors'")
    canvas = page.find("canvas.heat")
    canvas.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert page.text(".readout").startswith("the ·1, component 1:")
    page.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert page.js("return document.activeElement.tagName") == "BUTTON"
    page.go(text=TEXT, second=SECOND, view="layer.0")
    with page.drawn():
        page.find('[aria-label="Head 7"]').send_keys(Keys.ENTER)
    assert page.js("return document.activeElement.getAttribute('aria-label')") == "Head 7"
    field = page.find("#text-text")
    field.send_keys(" and wet", Keys.ENTER)
    page.wait("[...document.querySelectorAll('.chip')].some((one) => one.querySelector('bdi').innerText === 'wet')")
    assert page.js("return document.activeElement.id") == "text-text"


@pytest.mark.parametrize("near", [{}, {"near": "\n".join(f"The bank raised rate {n}" for n in range(25))}])
def test_names_on_a_map_cover_no_point_and_no_other_name(page: Page, near: dict[str, str]) -> None:
    page.go(text=TEXT, second=SECOND, view="nearest", **near)
    boxes = page.js(
        "const box = (one) => { const {left, right, top, bottom} = one.getBoundingClientRect();"
        "return [left, right, top, bottom] };"
        "return ['.plane .point', '.plane .name'].map((which) => [...document.querySelectorAll(which)].map(box))"
    )
    points, names = (np.array(one) for one in boxes)
    assert len(points) == 26 if near else len(points) == len(names) == 7
    assert len(names) > 5
    for i, (left, right, top, bottom) in enumerate(names):
        a, b, c, d = np.concatenate([points, names[:i]]).T
        assert not ((a < right - 2) & (left < b - 2) & (c < bottom - 4) & (top < d - 4)).any()


def test_pictures_are_saved(page: Page) -> None:
    page.go(text=TEXT, view="layer.0", second="")
    page.js(
        "window.saved = []; const make = URL.createObjectURL; URL.createObjectURL = (blob) => {"
        "saved.push(blob); return make.call(URL, blob) };"
        "for (const one of document.querySelectorAll('.beside .saving button')) one.click()"
    )
    page.wait("saved.filter((one) => one.type === 'image/png').length === 2", 10)
    page.js("Promise.all(saved.filter((one) => one.type.startsWith('image/svg')).map((one) => one.text()))"
            ".then((all) => { window.drawn = all })")  # fmt: skip
    drawn = page.wait("window.drawn")
    assert len(drawn) >= 2 and all(one.startswith("<svg") and "river" in one for one in drawn)
    assert all("var(" not in one for one in drawn)


@pytest.mark.parametrize(("scheme", "rules"), [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
def test_no_serious_barrier(page: Page, scheme: str, rules: dict[str, Any]) -> None:
    source = axe_source()
    page.go(text=TEXT, second=SECOND)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.js(source)
    opened = ("layer.1&part=norm1&open=13", "change&change=ReLU")
    for view in (*VIEWS, *opened):
        if view == "layer.5":
            continue  # the same elements as in layer.0
        page.go(**dict(parse_qsl(f"view={view}")))
        found = page.driver.execute_async_script(
            "axe.run({resultTypes: ['violations'], preload: false, ...arguments[0]})"
            ".then((all) => arguments[1](all.violations.filter("
            "(one) => ['serious', 'critical'].includes(one.impact)).map((one) => one.id + ': ' + one.nodes[0].html)))",
            rules,
        )
        assert found == [], view
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_phone_shows_all_without_scrolling_sideways(page: Page) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.go(text=TEXT, second=SECOND)
        for view in VIEWS:
            page.go(view=view, text=TEXT, second=SECOND)
            assert page.js("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360], view
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_how_long_a_picture_takes(page: Page, record_property: Any) -> None:
    """Not a bar, which would depend on the machine: medians for whoever asks, with ``pytest -rP``."""
    page.go(text="warm up", second="", view="layer.0")
    texts = [f"The {word} boat lay at the shore of the lake" for word in ["red", "old", "new", "big"]]
    times: dict[str, list[float]] = {"a text": [], "a head": []}
    for i, text in enumerate(texts):
        page.go(text=text, second="", view="layer.0", token=3)
        times["a text"].append(page.js("return Number(document.body.dataset.drawn)"))
        page.click(page.find(f'[aria-label="Head {i + 2}"]'))
        times["a head"].append(page.js("return Number(document.body.dataset.drawn)"))
    for what, milliseconds in times.items():
        median = statistics.median(milliseconds)
        record_property(what, median)
        print(f"until {what} is drawn: {median} ms, median of {sorted(milliseconds)}")
