"""A server whose label maps are known, and a browser that looks at its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Server
from tests.server.page import browser
from tests.server.page.browser import Page


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """One for all tests of the page."""
    for name in ("selenium", "fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'segpipe[serve]' selenium")
    if browser.why_not():
        pytest.skip(browser.why_not())
    started = browser.start()
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
def page(driver: Any) -> Page:
    driver.get_log("browser")  # what an earlier test has left
    return Page(driver)


def threshold_model(path: Path, *channels: str, pictures: bool = False) -> Path:
    """A model file: 255 (tumour) above 1.5 in the first channel, 10 (organ) above 0.5 in any, else 0."""
    from segpipe.package.export import export_model
    from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
    from tests.inference.conftest import Thresholds

    labels = (Label(0, 0, "background"), Label(1, 10, "organ"), Label(2, 255, "tumour"))
    plan = Plan(
        task="thresholds",
        dims=2 if pictures else 3,
        channels=tuple(Channel(name, "none") for name in channels),
        labels=labels,
        orient=not pictures,
        axes=(0, 1, 2),
        spacing_mm=None,
        patch_size=(16, 16, 1 if pictures else 16),
        batch_size=1,
        nonzero=False,
        flips=(True, True, not pictures),
        network=NetworkPlan("unet", (4,), ((3, 3, 1 if pictures else 3),), ((1, 1, 1),)),
    )
    export_model(Thresholds(flat=pictures), plan, {}, path)
    return path


@pytest.fixture(scope="module")
def thresholds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threshold_model(tmp_path_factory.mktemp("model") / "model.ts", "T2")


@pytest.fixture(scope="module")
def server(driver: Any, thresholds: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for the tests of a file; corrections go to `corrections` beside its data."""
    folder = tmp_path_factory.mktemp("server")
    running = Server([thresholds], folder / "data", folder / "log", "--corrections", str(folder / "corrections"))
    yield running
    assert running.stop() == 0, running.log.read_text()
