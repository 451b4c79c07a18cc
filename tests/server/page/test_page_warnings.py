"""A scan that is unlike those of the training: the page says so, says what to do, and says it to everybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.unlike import differences, known_of, odd_volumes, other_modalities
from tests.bundle.conftest import PLAN, TRAINING_DATA, write_model
from tests.server.conftest import Server
from tests.server.page.browser import Page, served
from tests.server.page.test_page_sides import stored

WARNINGS = "[...at('job-warnings').querySelectorAll('li')]"


@pytest.fixture(scope="module")
def server(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its model knows other spacings and volumes than those of the phantom."""
    folder = tmp_path_factory.mktemp("warnings")
    with served(driver, folder, write_model(folder / "test.ts")) as running:
        yield running


@pytest.fixture(scope="module")
def job(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("scan") / "large.nii.gz"
    nib.save(stored("LPS"), path)
    return server.ended(server.send(path)["id"])


def show(page: Page, server: Server, job: dict[str, Any]) -> None:
    page.open(server)
    page.run("location.hash = arguments[0]", job["id"])
    page.shown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 360])
def test_every_warning_is_seen_at_once_with_what_to_do(width: int, scheme: str, page: Page, server: Server, job: dict[str, Any]) -> None:
    assert len(job["warnings"]) >= 2, job
    page.width = width
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        show(page, server, job)
        box = page.run("return at('job-warnings').innerText")
        assert box.startswith("Look at the label map before you use it.")
        told = page.run(f"return {WARNINGS}.flatMap((item) => [...item.querySelectorAll('strong')].map((one) => one.innerText))")
        assert sorted(told) == sorted(f"{warning}." for warning in job["warnings"])
        assert all(page.run(f"return {WARNINGS}.map((item) => item.lastChild.textContent.trim())"))
        whole = f"""return {WARNINGS}.every((item) => item.checkVisibility({{ opacityProperty: true, visibilityProperty: true }}))
            && {WARNINGS}.every((item) => item.getBoundingClientRect().right <= innerWidth && item.scrollWidth <= item.clientWidth)
            && at('job-warnings').getBoundingClientRect().bottom <= at('viewer').getBoundingClientRect().top"""
        assert page.run(whole)
        assert page.run("return document.documentElement.scrollWidth") <= width
        front, ground = page.run("const style = getComputedStyle(at('job-warnings')); return [style.color, style.backgroundColor]")
        assert _contrast(front, ground) >= 4.5
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_screen_reader_is_told_and_the_list_of_scans_says_it_too(page: Page, server: Server, job: dict[str, Any]) -> None:
    show(page, server, job)
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    [alert] = [node for node in tree if node["role"]["value"] == "alert" and node["name"]["value"] == "Warnings"]
    assert {"name": "live", "value": {"type": "token", "value": "assertive"}} in alert["properties"]
    texts = [node["name"]["value"] for node in tree if node["role"]["value"] == "StaticText"]
    assert all(f"{warning}." in texts for warning in job["warnings"])
    assert page.run("return document.querySelector('#jobs li .state').textContent") == "done, with warnings"
    page.run("location.hash = ''")
    page.wait("return !at('welcome').hidden")
    assert page.run("return at('job-warnings').textContent") == ""  # not that of a scan that is not open


def _all_phrases() -> dict[str, str]:
    """Each phrase that the engine has for what is unlike the training, and a word of the advice that belongs to it."""
    channels = [{**channel, "modality": "MR"} for channel in TRAINING_DATA["channels"]]
    view = {"lowest": [200.0, 200.0, 200.0], "highest": [240.0, 240.0, 240.0]}
    known = known_of({"training_data": {**TRAINING_DATA, "channels": channels, "field_of_view_mm": view}}, 1)
    assert known is not None
    grid = Grid((6, 6, 6), np.diag([9.0, 9.0, 9.0, 1.0]))
    noise = Volume(np.random.default_rng(0).uniform(50, 99, (1, 6, 6, 6)).astype(np.float32), grid)
    flat = Volume(np.ones((1, 6, 6, 6), np.float32), grid)
    words = {"spacing": "size", "field": "part of the body"}
    found = {phrase: words.get(phrase.split()[0], "series") for phrase in differences(noise, PLAN, known)}
    found |= {phrase: "empty" for phrase in differences(flat, PLAN, known) if "constant" in phrase}
    found |= dict.fromkeys(odd_volumes({"organ": 0.0, "tumour": 77.0}, PLAN, known), "planes")
    found |= dict.fromkeys(other_modalities(["CT"], PLAN, known), "another kind")
    return found


def test_each_phrase_of_the_engine_has_its_own_advice(page: Page, server: Server) -> None:
    phrases = _all_phrases()
    assert len(phrases) == 3 + 3 + 2 + 1 + 2 + 1, phrases
    page.open(server)
    script = "const { advice } = await import('/static/warnings.js'); return arguments[0].map(advice)"
    for (phrase, word), said in zip(phrases.items(), page.run(script, list(phrases)), strict=True):
        assert word in said, (phrase, said)
    assert page.run(script, ["its grey values are turned over (MONOCHROME1)"]) == [""]  # looking is all that helps
    heads = """const { told } = await import('/static/warnings.js');
        return arguments[0].map((warnings) => told(warnings)[0]?.textContent.split('.')[0] ?? null)"""
    missing, repaired = "no rtstruct: the series has no frame of reference", "its grey values are turned over (MONOCHROME1)"
    look = "Look at the label map before you use it"
    assert page.run(heads, [[], [missing], [missing, repaired]]) == [None, "Not every file could be made", look]


def _contrast(*colours: str) -> float:
    """As WCAG 2.2 defines it, of `rgb(r, g, b)`."""
    found = []
    for colour in colours:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(found) / min(found)
