"""The pen: what it draws, what it takes back, and that nothing drawn is lost without a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.server.conftest import Server
from tests.server.page.browser import Page
from tests.server.page.test_page_sides import SHAPE, labels_of, phantom, stored


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "one.nii.gz"
    nib.save(stored("LPS"), path)
    return path


def drawing(page: Page) -> NDArray[Any]:
    """Places of labels, in RAS order."""
    return np.array(page.run("return [...viewer.nv.drawBitmap]")).reshape(SHAPE, order="F")


def draw_at(page: Page, *voxel: int) -> None:
    page.run("viewer.setView('axial'); viewer.goTo(arguments[0]); viewer.dab()", list(voxel))


def test_the_pen_draws_its_label_as_wide_as_the_brush_and_takes_back_stroke_by_stroke(page: Page, server: Server, scan: Path) -> None:
    page.open(server)
    page.segment(scan)
    page.driver.find_element("id", "pen-on").click()
    before = drawing(page)
    names = page.run("return [...at('pen-labels').querySelectorAll('label')].map((label) => label.textContent)")
    assert names == ["organ", "tumour", "Eraser"]
    page.run("at('brush').value = 5; at('brush').dispatchEvent(new Event('input'))")
    assert page.run("return at('brush-size').textContent") == "5"
    page.driver.find_elements("css selector", "#pen-labels input")[1].click()
    draw_at(page, 4, 4, 3)
    wide = before.copy()
    wide[2:7, 2:7, 3] = 2  # in the slice alone
    assert (drawing(page) == wide).all()
    page.driver.find_elements("css selector", "#pen-labels input")[2].click()
    page.run("at('brush').value = 1; at('brush').dispatchEvent(new Event('input'))")
    draw_at(page, 4, 4, 3)
    erased = wide.copy()
    erased[4, 4, 3] = 0
    assert (drawing(page) == erased).all()
    for left in (wide, before):
        page.driver.find_element("id", "undo").click()
        assert (drawing(page) == left).all()
    assert page.run("return at('undo').disabled")


def test_what_was_drawn_is_left_only_by_someone_who_says_so(page: Page, server: Server, scan: Path) -> None:
    page.open(server)
    first = page.segment(scan)
    second = page.segment(scan)
    leaves = "const event = new Event('beforeunload', { cancelable: true }); dispatchEvent(event); return !event.defaultPrevented"
    assert page.run(leaves)
    page.run("globalThis.asked = []; globalThis.confirm = (text) => { asked.push(text); return globalThis.yes ?? false; }")
    page.run("at('pen-on').click()")
    draw_at(page, 1, 1, 1)
    drawn = drawing(page)
    assert not page.run(leaves)  # the browser asks
    page.run("document.querySelector(`#jobs [data-id='${arguments[0]}'] .open`).click()", first)
    page.wait("return asked.length === 1")
    assert page.run("return [location.hash.slice(1), asked[0]]") == [second, "The correction is not saved. Leave it?"]
    assert (drawing(page) == drawn).all()
    third = server.send(scan)["id"]
    page.wait(f"return document.querySelector(`#jobs [data-id='{third}'] .done`)")  # the list goes on
    assert page.run("return asked.length") == 1
    page.run("globalThis.yes = true; document.querySelector(`#jobs [data-id='${arguments[0]}'] .open`).click()", first)
    page.wait(f"return at('labels').dataset.job === {first!r}")
    page.shown()
    assert page.run(leaves)
    assert page.run("return viewer.counts()[2]") == int((phantom() == 2).sum())


def test_a_saved_correction_is_taken_home_as_a_file(page: Page, server: Server, scan: Path, tmp_path: Path) -> None:
    page.open(server)
    job = page.segment(scan)
    words = "return [...at('formats').children].map((link) => link.textContent)"
    assert page.run(words) == ["Label map (NIfTI)", "Volumes (JSON)"]
    page.run("at('pen-on').click(); viewer.setPen({ label: 2 })")
    draw_at(page, 1, 2, 3)
    page.driver.find_element("id", "save").click()
    page.wait("return at('pen-said').textContent.startsWith('Saved')")
    assert page.run(words)[2:] == ["Corrected label map (NIfTI)"]
    taken = nib.load(page.take("correction", tmp_path))
    assert taken.get_filename() == str(tmp_path / "one_corrected.nii.gz")
    expected = labels_of(phantom())
    expected[1, 2, 3] = 255
    assert (np.asarray(nib.as_closest_canonical(taken).dataobj) == expected).all()
    assert page.take("nifti", tmp_path).read_bytes() != page.take("correction", tmp_path).read_bytes()
    page.driver.refresh()
    page.wait("return document.documentElement.dataset.ready === 'yes'")
    page.shown()
    assert page.run("return location.hash.slice(1)") == job
    assert page.run(words)[2:] == ["Corrected label map (NIfTI)"]


def test_two_quick_strokes_and_the_right_button_draw_no_more_than_they_should(page: Page, server: Server, scan: Path) -> None:
    from selenium.webdriver import ActionChains

    page.open(server)
    page.segment(scan)
    page.run("at('pen-on').click(); at('bright').value = 400; at('bright').dispatchEvent(new Event('input'))")
    before, bright = drawing(page), page.run("return viewer.range.high")
    canvas = page.driver.find_element("id", "scan")
    sides = page.sides("axial")
    x = round((sides["left"][1] + sides["right"][1]) / 2 + 30 - canvas.rect["width"] / 2)
    y = round(sides["top"][2] + 20 - canvas.rect["height"] / 2)
    ActionChains(page.driver).move_to_element_with_offset(canvas, x, y).double_click().perform()
    page.wait("return !at('undo').disabled")
    drawn = drawing(page)
    assert (before != drawn).sum() == 1
    assert page.run("return viewer.range.high") == bright  # a double click sets it back, but not under the pen
    mouse = ActionChains(page.driver).move_to_element_with_offset(canvas, x, y)
    mouse.w3c_actions.pointer_action.pointer_down(button=2)
    mouse.move_by_offset(-20, 10)
    mouse.w3c_actions.pointer_action.pointer_up(button=2)
    mouse.perform()
    assert (drawing(page) == drawn).all()
