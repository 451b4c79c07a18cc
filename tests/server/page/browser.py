"""A real Chromium that looks at the page, and what a person does there."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.server.conftest import Server

SECONDS = 120.0
"""For a browser or a server that has the machine not to itself."""

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_WORDS = "headless=new no-sandbox use-gl=angle use-angle=swiftshader enable-unsafe-swiftshader disable-dev-shm-usage".split()  # noqa: SIM905


@contextlib.contextmanager
def served(driver: Any, folder: Path, model: Path, *options: str) -> Iterator[Server]:
    """A server with its data and its log in a folder, which the browser has left by the time that it must end in order."""
    server = Server([model], folder / "data", folder / "log", *options)
    try:
        yield server
    finally:
        driver.get("about:blank")
        assert server.stop() == 0, server.log.read_text()


class Page:
    """The page in a browser, and what a person does there.

    Attributes:
        width, height: of the window, in CSS pixels.
    """

    width = 1360
    height = 900

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, server: Server) -> None:
        """Load the page anew."""
        size = {"width": self.width, "height": self.height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")
        self.driver.get(f"http://127.0.0.1:{server.port}/")
        self.wait("return document.documentElement.dataset.ready === 'yes' || !document.querySelector('#token-form').hidden")

    def run(self, script: str, *arguments: Any) -> Any:
        """JavaScript; `viewer` and `at(id)` are at hand, and it may await."""
        begin = "const at = (id) => document.getElementById(id), viewer = at('scan').viewer;"
        done = self.driver.execute_async_script(
            f"const told = arguments[arguments.length - 1]; (async (...arguments) => {{ {begin} {script} }})(...arguments)"
            ".then((value) => told({ value }), (error) => told({ error: String(error.stack) }));",
            *arguments,
        )
        assert "error" not in done, done["error"]
        return done["value"]

    def wait(self, script: str, seconds: float = SECONDS) -> Any:
        """Until the script gives something true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"in vain for {seconds} s: {script}; the page says {self.run('return document.body.innerText')}"
            time.sleep(0.1)
        return value

    def choose(self, *files: Path) -> None:
        self.driver.find_element("id", "files").send_keys("\n".join(str(file) for file in files))

    def drop(self, *files: Path, onto: str = "drop") -> None:
        """Drag files from the desktop onto an element of the page, and let go of them there."""
        place = "const box = at(arguments[0]).getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]"
        x, y = self.run(f"at(arguments[0]).scrollIntoView({{ block: 'center' }}); {place}", onto)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

    def segment(self, *files: Path, dropped: bool = False) -> str:
        """Send a scan and wait until its result is seen; the job's id."""
        before = self.run("return location.hash")
        (self.drop if dropped else self.choose)(*files)
        self.wait("return !at('send').disabled || at('new-error').textContent")
        self.driver.find_element("id", "send").click()
        self.wait(f"return location.hash && location.hash !== {before!r} || at('new-error').textContent")
        self.shown()
        return str(self.run("return location.hash.slice(1)"))

    def shown(self) -> None:
        """Wait for the picture of the job in the address."""
        self.wait(
            "if (at('job-error').textContent) throw new Error(at('job-error').textContent);"
            "return at('labels').dataset.job === location.hash.slice(1) && !at('viewer').hidden && !at('viewer').hasAttribute('aria-busy')"
        )

    def take(self, format: str, folder: Path) -> Path:
        """Click on a result; the file that the browser keeps of it."""
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        find = f"return [...at('formats').children].find((link) => link.getAttribute('href').endsWith('/{format}'))"
        name = self.run(f"{find}.download")
        self.driver.execute_script("arguments[0].click()", self.driver.execute_script(find.replace("at(", "document.getElementById(")))
        end = time.monotonic() + SECONDS
        while not (folder / name).exists():
            assert time.monotonic() < end, f"{name} is not there, but {sorted(path.name for path in folder.iterdir())}"
            time.sleep(0.05)
        return folder / name

    def picture(self) -> NDArray[np.uint8]:
        """What the canvas shows, without cross and letters: (height, width, 3)."""
        self.run(
            "viewer.nv.setCrosshairWidth(0); at('scan').scrollIntoView({ block: 'center' }); at('scan').parentElement.classList.add('bare')"
        )
        self.driver.execute_script("document.querySelectorAll('.side').forEach((letter) => { letter.style.visibility = 'hidden'; })")
        shot = self.driver.find_element("id", "scan").screenshot_as_png
        self.run("viewer.letters()")
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))

    def sides(self, plane: str) -> dict[str, tuple[str, float, float]]:
        """Of a plane: the letters at its left, right, top and bottom, with their places in the canvas in pixels."""
        script = """return [...document.querySelectorAll(`.side[data-plane="${arguments[0]}"]`)].map((letter) =>
            [letter.className.split(" ")[1], letter.textContent, parseFloat(letter.style.left), parseFloat(letter.style.top)])"""
        return {name: (text, x, y) for name, text, x, y in self.run(script, plane)}


def why_not() -> str:
    """Why there is no browser; empty where there is one."""
    if not any(shutil.which(name) for name in _CHROMIUM):
        return "Chromium is not installed (Debian: chromium)"
    return "" if shutil.which("chromedriver") else "chromedriver is not installed (Debian: chromium-driver)"


def start() -> Any:
    """A Chromium without a window, which draws with the processor."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(path for name in _CHROMIUM if (path := shutil.which(name)))
    for word in _WORDS:
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    browser.set_script_timeout(SECONDS)
    return browser
