"""The page in a real browser: Chromium without a window, driven over the W3C WebDriver protocol."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flatcoat.retrieval.serving.page import FILES

WEB = Path(__file__).parents[3] / "retrieval" / "serving" / "web"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Enter": "\ue007", "Tab": "\ue004", "Escape": "\ue00c"}

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium with its driver"
)


class Browser:
    """A tab of Chromium."""

    def __init__(self, driver: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        options: dict[str, Any] = {"args": [*arguments, f"--window-size={width},{height}"]}
        if width < 600:
            metrics = {"width": width, "height": height, "pixelRatio": 2}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._client = httpx.Client(base_url=driver, timeout=60, trust_env=False)
        answer = self._client.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer.json()['value']['sessionId']}"

    def _do(self, command: str, body: Any = None) -> Any:
        value = self._client.post(self._session + command, json=body or {}).json()["value"]
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{command}: {value['error']}: {value['message'][:300]}")
        return value

    def open(self, address: str) -> None:
        self._do("/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._do("/execute/sync", {"script": script, "args": arguments})

    def find(self, selector: str) -> str:
        return self._do("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector: str) -> None:
        self._do(f"/element/{self.find(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        self._do(f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        strokes = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": key} for key in strokes for kind in ("keyDown", "keyUp")]
        self._do("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def point(self, selector: str) -> None:
        """Move the mouse to an element."""
        origin = {ELEMENT: self.find(selector)}
        move = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": origin}
        self._do("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)"
        return self.run(script, selector)

    def wait(self, script: str, *arguments: Any) -> None:
        """Until a script returns something true."""
        for _ in range(300):
            if self.run(script, *arguments):
                return
            time.sleep(0.05)
        raise AssertionError(f"never: {script} {arguments}; status: {self.texts('#status')}")

    def wait_for_status(self, pattern: str) -> None:
        self.wait(f"return /{pattern}/.test(document.getElementById('status').textContent)")

    def complaints(self) -> list[str]:
        return [one["message"] for one in self._do("/se/log", {"type": "browser"})]

    def close(self) -> None:
        self._client.delete(self._session)
        self._client.close()


@pytest.fixture(scope="module")
def driver() -> Iterator[str]:
    process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            break
    else:
        raise RuntimeError("chromedriver does not start")
    yield f"http://127.0.0.1:{found[1]}"
    process.terminate()
    process.wait()


@pytest.fixture
def browse(driver: str) -> Iterator[Callable[..., Browser]]:
    browsers: list[Browser] = []

    def browse(address: str, **options: Any) -> Browser:
        browsers.append(Browser(driver, **options))
        browsers[-1].open(address)
        return browsers[-1]

    yield browse
    for browser in browsers:
        complaints = browser.complaints()
        browser.close()
        assert not [one for one in complaints if " 401 " not in one]


@pytest.fixture(scope="module")
def open_server(start: Callable[..., Any], folders: dict[str, Path], tmp_path_factory: Any) -> Any:
    """One without a key, whose index may change."""
    folder = tmp_path_factory.mktemp("page") / "late"
    shutil.copytree(folders["late"], folder)
    return start("--index", f"late={folder}", "--index", f"dense={folders['dense']}")


@needs_chromium
@pytest.mark.slow
def test_a_visit(browse: Callable[..., Browser], open_server: Any) -> None:
    """Search, read an explanation, filter, compare, add a document, and find it."""
    page = browse(open_server.address)
    page.wait("return document.querySelector('#statistics dd')")  # The status is empty from the start.
    assert page.texts("#statistics dd")[:2] == ["4", "4"]
    page.type("#query", "why is the sky blue?" + KEYS["Enter"])
    page.wait_for_status("4 results in")
    assert page.texts(".result .place")[0] == "sky.md:1"
    assert "blue" in page.texts(".result:first-child mark")

    page.point(".result:first-child .token:last-of-type")
    lit = page.texts(".result:first-child .lit")
    assert "blue" in lit and len(lit) >= 2

    page.type("#filter", "year>=2020" + KEYS["Enter"])
    page.wait_for_status("2 results in")
    assert page.texts("#filters li span") == ["year>=2020"]
    page.click("#filters button")
    page.wait_for_status("4 results in")

    page.run("document.getElementById('compare').value = 'bm25'")
    page.run("document.getElementById('compare').dispatchEvent(new Event('change', {bubbles: true}))")
    page.wait_for_status("Hybrid beside BM25")
    assert len(page.texts(".column")) == 2
    assert page.run("return new URLSearchParams(location.search).get('compare')") == "bm25"

    page.click("#open-add")
    page.type("#add-id", "bridge")
    page.type("#add-text", "The bridge is of steel.\n<script>document.title = 'broken into'</script>")
    page.type("#add-metadata", "year=1937")
    page.click("#add-form [type=submit]")
    page.wait_for_status("^Added, in 1 passage")
    assert page.texts("#statistics dd")[0] == "5"
    page.open(f"{open_server.address}/?q=steel&mode=bm25&where=year=1937")
    page.wait_for_status("1 result in")
    assert "<script>" in page.texts(".result")[0]
    assert page.run("return document.title") == "steel · flatcoat"


@needs_chromium
@pytest.mark.slow
def test_the_keyboard_does_it_all(browse: Callable[..., Browser], open_server: Any) -> None:
    page = browse(f"{open_server.address}/?q=cats")
    page.wait_for_status("results in")
    page.press("Escape", "j", "j")
    focused = "return document.activeElement.closest('.result')?.querySelector('.rank').textContent"
    assert page.run(focused) == "2"
    page.press("k")
    assert page.run(focused) == "1"
    page.press("3")
    page.wait("return document.querySelector('input[value=bm25]').checked")
    page.press("?")
    assert page.run("return document.getElementById('help').open")
    page.press("Escape", "/")
    assert page.run("return document.activeElement.id") == "query"
    page.press("d", "o", "g", "s", "Enter")
    page.wait_for_status("1 result in")
    # Every control has a name that a screen reader says.
    unnamed = page.run(
        "return [...document.querySelectorAll('button, input, select, textarea')].filter((node) =>"
        " !node.innerText && !node.ariaLabel && !node.labels?.length).map((node) => node.outerHTML)"
    )
    assert unnamed == []


@needs_chromium
@pytest.mark.slow
def test_a_phone_and_the_dark(browse: Callable[..., Browser], open_server: Any) -> None:
    page = browse(f"{open_server.address}/?q=cats&compare=vectors", width=390, height=844, dark=True)
    page.wait_for_status("Hybrid beside Vectors")
    assert page.run("return document.documentElement.scrollWidth") <= 390
    background = "return getComputedStyle(document.body).backgroundColor"
    assert page.run(background) == "rgb(21, 18, 16)"
    page.click("#theme")
    assert page.run(background) == "rgb(250, 248, 245)"


@needs_chromium
@pytest.mark.slow
def test_a_key_is_asked_for(browse: Callable[..., Browser], server: Any) -> None:
    page = browse(server.address)
    page.wait("return document.getElementById('key').open")
    page.type("#key-value", server.client.headers["authorization"].removeprefix("Bearer ") + KEYS["Enter"])
    page.wait("return document.getElementById('index').options.length === 2")
    page.open(f"{server.address}/?q=cats&index=dense")
    page.wait_for_status("results in")


def test_nothing_comes_from_elsewhere(server: Any) -> None:
    for path, (name, kind) in FILES.items():
        answer = httpx.get(server.address + path, trust_env=False)
        assert answer.headers["content-type"].startswith(kind)
        assert answer.content == (WEB / name).read_bytes()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"(?:src|href|url|import|from)\W{1,3}(?:https?:)?//", answer.text)
    assert {file.name for file in WEB.iterdir()} == {name for name, _ in FILES.values()}
