"""A browser without a window, and a server of the explorer, for the tests of its page."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from minilm.explorer.explorer import Explorer

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,900",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def why_not() -> str | None:
    """Return what is missing for the tests in a browser; nothing if they can run."""
    try:
        import orjson  # noqa: F401
        import selenium  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        return f"{error.name} is missing: pip install selenium 'minilm[serve]'"
    if not any(map(shutil.which, BROWSERS)) or not shutil.which("chromedriver"):
        return "Chromium and its driver are missing: on Debian, apt-get install chromium chromium-driver"
    return None


def skip_without() -> None:
    """Skip a module where there is no browser; fail if there must be one."""
    reason = why_not()
    if reason and os.environ.get("MINILM_REQUIRE_BROWSER"):
        raise pytest.UsageError(f"MINILM_REQUIRE_BROWSER is set, but {reason}")
    if reason:
        pytest.skip(reason, allow_module_level=True)


class Site:
    """The explorer of some models, in a thread of this process."""

    def __init__(self, *explorers: Explorer) -> None:
        self.explorers = {one.name: one for one in explorers}
        self.port = 0
        self.start()

    def start(self) -> None:
        import uvicorn

        from minilm.explorer.routes import create_app

        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/explorer/"
        config = uvicorn.Config(create_app(self.explorers), log_config=None, ws="none", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, site: Site) -> None:
        self.driver, self.site = driver, site

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def turn(self) -> int:
        return int(self.js("return document.body?.dataset.turn || 0"))

    def wait(self, code: str, seconds: float = 40) -> Any:
        """Wait until an expression of JavaScript is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.js(f"return {code}")
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"not true within {seconds} s: {code}; the page says: {self.text('body')[:500]}")

    def load(self, address: str = "") -> None:
        """Load the page anew, by default as a visitor's first time."""
        self.driver.get("about:blank")
        self.driver.get(address or self.site.url)
        self.wait("document.body.dataset.turn")

    def go(self, **state: Any) -> None:
        """Change the address to this state, and wait until it is drawn; load the page if it is not there."""
        if not self.driver.current_url.startswith(self.site.url):
            self.load()
        with self.drawn():
            self.js("location.hash = arguments[0]", urlencode({"n": self.turn(), **state}))

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Wait until the page is drawn anew because of what is done inside."""
        before = self.turn()
        yield
        self.wait(f"Number(document.body.dataset.turn) > {before}")

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def button(self, label: str) -> Any:
        return next(one for one in self.driver.find_elements("css selector", "button") if one.text.strip() == label)

    def click(self, element: Any) -> None:
        """Click, and wait until the page is drawn anew."""
        with self.drawn():
            self.js("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", element)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def table(self, name: str) -> list[list[str]]:
        """Open the numbers behind a picture, and return the cells of the table."""
        self.js(
            "for (const one of document.querySelectorAll('details.numbers')) if (one.dataset.name === arguments[0]) "
            "one.open = true",
            name,
        )
        self.wait(f"[...document.querySelectorAll('table')].some((one) => one.dataset.table === {name!r})")
        cells = self.js(  # as one string: the driver takes its time over many small ones
            "const table = [...document.querySelectorAll('table')].find((one) => one.dataset.table === arguments[0]);"
            "const rows = [...table.querySelectorAll('tbody tr')];"
            "return JSON.stringify(rows.map((row) => [...row.cells].map((one) => one.textContent)))",
            name,
        )
        return list(json.loads(cells))

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def chromium() -> Iterator[Any]:
    """Return a driver of a browser."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def axe_source() -> str:
    """Return axe-core, a checker of accessibility; skip where it is not, unless it must be."""
    path = os.environ.get("MINILM_AXE")
    if not path:
        if os.environ.get("MINILM_REQUIRE_BROWSER"):
            raise pytest.UsageError("MINILM_REQUIRE_BROWSER is set, but MINILM_AXE does not name axe-core's axe.min.js")
        pytest.skip("axe-core is missing: npm pack axe-core, and set MINILM_AXE to its axe.min.js")
    return Path(path).read_text(encoding="utf-8")
