"""What a radiographer does with the page, in a real browser, against a real server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.server.conftest import Server, until
from tests.server.page.browser import Page, served
from tests.server.page.conftest import threshold_model
from tests.server.page.test_page_sides import SHAPE, stored

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TOKEN = "page-token-0123456789"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scans" / "one.nii.gz"
    path.parent.mkdir()
    nib.save(stored("PIR", turned=True), path)
    return path


@pytest.fixture
def phone(page: Page) -> Page:
    """The page on a narrow screen."""
    page.width, page.height = 360, 740
    return page


def test_a_scan_is_sent_seen_and_taken_home_as_predict_writes_it(
    page: Page, server: Server, thresholds: Path, scan: Path, tmp_path: Path, segpipe: Run
) -> None:
    page.open(server)
    resources = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [name for name in resources if "niivue" in name or not name.startswith(f"http://127.0.0.1:{server.port}/")]
    page.run(
        "globalThis.seen = []; new MutationObserver(() => seen.push(at('job-state').textContent))"
        ".observe(at('job-state'), { childList: true, characterData: true, subtree: true })"
    )
    job = page.segment(scan)
    assert page.run("return seen")[-1] == "Done"
    assert page.run("return at('job-name').textContent") == "one.nii.gz"
    assert "ot for diagnosis" in page.run("return at('notice').textContent + at('job-notice').textContent")
    links = page.run("return [...at('formats').children].map((link) => [link.textContent, link.getAttribute('href'), link.download])")
    assert links[0] == ["Label map (NIfTI)", f"/v1/jobs/{job}/results/nifti", "one.nii.gz"]
    assert links[1][0] == "Volumes (JSON)"

    path = tmp_path / "taken.nii.gz"
    path.write_bytes(server.client.get(links[0][1]).content)
    done = segpipe("predict", str(thresholds), str(scan.parent), str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    ours, theirs = nib.load(path), nib.load(tmp_path / "out" / "one.nii.gz")
    assert (np.asarray(ours.dataobj) == np.asarray(theirs.dataobj)).all()
    np.testing.assert_allclose(ours.affine, theirs.affine)
    rows = page.run("return [...at('labels').rows].map((row) => [row.cells[1].textContent, Number(row.cells[2].textContent)])")
    counts = [int((np.asarray(ours.dataobj) == value).sum()) for value in (10, 255)]
    volume_ml = abs(np.linalg.det(ours.affine[:3, :3])) / 1000
    assert [name for name, _ in rows] == ["organ", "tumour"]
    assert [ml for _, ml in rows] == pytest.approx([count * volume_ml for count in counts], rel=1e-3)
    assert {volume["value"]: volume["voxels"] for volume in server.client.get(f"/v1/jobs/{job}").json()["volumes"]} == dict(
        zip((10, 255), counts, strict=True)
    )
    faults = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [line for line in faults if "/correction" not in line], faults  # 404: nobody has corrected it yet


def test_labels_are_hidden_and_shown_and_the_opacity_changes_what_is_seen(page: Page, server: Server, scan: Path) -> None:
    page.open(server)
    page.segment(scan)
    page.run("at('pen-on').click(); viewer.goTo([17, 13, 10]); at('opacity').value = 100; at('opacity').dispatchEvent(new Event('input'))")
    organ, tumour = (np.array(label["colour"]) for label in page.run("return viewer.labels.slice(1)"))

    def count(colour: Any) -> int:
        return int((np.abs(page.picture().astype(int) - colour).max(axis=-1) < 12).sum())

    both = count(organ), count(tumour)
    assert min(both) > 200
    page.run("at('show-2').click()")
    assert (count(organ), count(tumour)) == (both[0], 0)
    page.run("at('show-2').click(); at('show-1').click()")
    assert (count(organ), count(tumour)) == (0, both[1])
    page.run("at('opacity').value = 0; at('opacity').dispatchEvent(new Event('input'))")
    assert (count(organ), count(tumour)) == (0, 0)


def test_the_word_of_a_pressed_button_can_be_read_under_the_mouse(page: Page, server: Server, scan: Path) -> None:
    from selenium.webdriver import ActionChains

    page.open(server)
    page.segment(scan)
    colours = """await Promise.all(document.getAnimations().map((one) => one.finished));
        const style = getComputedStyle(document.querySelector('[data-view=solid]')); return [style.backgroundColor, style.color]"""
    page.run("document.querySelector('[data-view=solid]').click()")
    page.wait("return document.querySelector('[data-view=solid]').ariaPressed === 'true'")
    pressed = page.run(colours)
    ActionChains(page.driver).move_to_element(page.driver.find_element("css selector", "[data-view=solid]")).perform()
    assert page.run("return document.querySelector('[data-view=solid]').matches(':hover')")
    assert page.run(colours) == pressed
    page.run("document.querySelector('[data-view=all]').click()")
    page.wait("return document.querySelector('[data-view=solid]').ariaPressed === 'false'")
    assert page.run(colours) != pressed


def test_a_file_that_is_no_scan_is_told_in_one_line_where_the_user_looks(page: Page, server: Server, tmp_path: Path) -> None:
    bad = tmp_path / "note.nii.gz"
    bad.write_text("no scan at all")
    page.open(server)
    page.choose(bad)
    page.driver.find_element("id", "send").click()
    script = "return [...document.querySelectorAll('#new-error, #job-error')].map((line) => line.textContent).join('')"
    line = page.wait(script)
    assert "\n" not in line
    assert "gzip" in line
    shown = page.run(
        "return [...document.querySelectorAll('[role=alert]')].filter((line) => line.textContent && line.checkVisibility()).length"
    )
    assert shown == 1
    page.run("at('new-error').textContent = ''")
    page.choose(bad, bad)
    assert "one zip" in page.run("return at('new-error').textContent")
    assert page.run("return at('send').disabled")


def test_all_of_it_works_with_the_keyboard_alone(page: Page, server: Server, scan: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def tab_to(id: str) -> None:
        for _ in range(40):
            press(Keys.TAB)
            if page.run("return document.activeElement.id || document.activeElement.dataset.view || ''") == id:
                return
        raise AssertionError(f"the Tab key does not lead to {id}")

    page.open(server)
    tab_to("files")
    page.choose(scan)
    tab_to("send")
    press(Keys.ENTER)
    page.wait("return location.hash")
    page.shown()
    tab_to("scan")
    page.run("viewer.goTo([10, 8, 6])")
    press(Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.PAGE_UP)
    assert page.run("return viewer.voxel") == [11, 9, 7]  # to the patient's right, forwards, upwards
    press("s", Keys.ARROW_LEFT)
    assert page.sides("sagittal")["left"][0].startswith("A")
    assert page.run("return viewer.voxel") == [11, 10, 7]
    press("a")
    assert page.run("return document.querySelector('[data-view=axial]').getAttribute('aria-pressed')") == "true"
    before = page.run("return viewer.counts()")
    press("p", "2")
    page.run("viewer.goTo([1, 1, 1])")
    press(Keys.SPACE)
    assert page.run("return viewer.counts()") == [before[0] - 1, before[1], before[2] + 1]
    assert page.run("return viewer.nv.drawBitmap[1 + arguments[0] * (1 + arguments[1])]", SHAPE[0], SHAPE[1]) == 2
    press("u")
    assert page.run("return viewer.counts()") == before
    press(Keys.SPACE, Keys.ESCAPE)
    tab_to("save")
    press(Keys.ENTER)
    page.wait("return at('pen-said').textContent.startsWith('Saved') || at('pen-error').textContent")
    assert page.run("return at('pen-error').textContent") == ""
    assert page.run("return at('which').value") == "corrected"
    marked = "return getComputedStyle(document.activeElement).outlineStyle"
    after = page.run("return viewer.counts()")
    assert after != before
    page.driver.refresh()
    page.wait("return location.hash && at('which')?.value === 'corrected'")
    page.shown()
    assert page.run("return viewer.counts()") == after  # a correction is what is seen first afterwards
    tab_to("which")
    assert page.run(marked) != "none"


def test_a_phone_shows_it_without_scrolling_sideways(phone: Page, server: Server, scan: Path) -> None:
    phone.open(server)
    wide = "return [document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert max(phone.run(wide)) <= 360
    phone.segment(scan)
    phone.run("at('pen-on').click()")
    assert max(phone.run(wide)) <= 360
    assert phone.run("return at('scan').clientWidth") > 300
    phone.run("at('keys').showModal()")
    assert max(phone.run(wide)) <= 360
    small = phone.run(
        "return [...document.querySelectorAll('button:not(.link), select, .button')].filter((one) => one.checkVisibility())"
        ".map((one) => [one.textContent, one.getBoundingClientRect().height]).filter(([, height]) => height < 24)"
    )
    assert small == []  # WCAG 2.2, 2.5.8


def test_a_job_is_opened_again_and_removed(page: Page, server: Server, scan: Path) -> None:
    page.open(server)
    job = page.segment(scan)
    page.run("location.hash = ''")
    page.wait("return !at('welcome').hidden")
    page.run("document.querySelector('#jobs [data-id=\"' + arguments[0] + '\"] .open').click()", job)
    page.shown()
    page.run("globalThis.confirm = () => true; document.querySelector('#jobs [data-id=\"' + arguments[0] + '\"] .quiet').click()", job)
    page.wait("return !at('welcome').hidden")
    until(lambda: server.client.get(f"/v1/jobs/{job}").status_code == 404)


def test_everything_that_can_be_used_has_a_name(page: Page, server: Server, scan: Path) -> None:
    page.open(server)
    page.segment(scan)
    page.run("at('pen-on').click()")
    nameless = page.run(
        "return [...document.querySelectorAll('input, select, button, canvas, progress, dialog')].filter((one) =>"
        "!(one.labels?.length || one.textContent.trim() || one.ariaLabel || one.ariaLabelledByElements?.length)).map((one) => one.id)"
    )
    assert nameless == []


def test_a_server_with_a_token_asks_for_it_once(driver: Any, page: Page, thresholds: Path, scan: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with served(page.driver, tmp_path, thresholds, "--token-file", str(file)) as server:
        page.open(server)
        assert 'try it: curl -H "Authorization: Bearer TOKEN" -F files=@scan.nii.gz' in server.log.read_text()
        assert page.run("return at('columns').hidden && !at('token-form').hidden")
        page.driver.find_element("id", "token").send_keys("something-else-0000\n")
        assert "token" in page.wait("return at('token-error').textContent")
        page.driver.find_element("id", "token").send_keys(f"{TOKEN}\n")
        page.wait("return !at('columns').hidden")
        page.segment(scan)
        assert TOKEN not in page.run("return location.href")
        page.open(server)
        assert page.run("return at('token-form').hidden")


def test_a_package_has_a_card_and_a_sample_and_neither_runs_anything(
    page: Page, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGPIPE_CACHE", str(tmp_path / "cache"))
    with served(page.driver, tmp_path, package) as server:
        page.open(server)
        page.run("at('card-open').click()")
        text = page.wait("return at('card-body').querySelector('h2') && at('card-body').innerText")
        assert "Not a medical device" in text
        assert "Valid input" in text
        assert page.run("return at('card-body').querySelectorAll('script, style, iframe, img, [style], [onclick]').length") == 0
        page.run("at('card').close(); at('sample-list').querySelector('button').click()")
        page.wait("return location.hash")
        page.shown()
        assert page.run("return at('labels').rows.length") == 2
        page.run("at('pen-on').click()")
        assert "--corrections" in page.run("return at('pen-said').textContent")  # before anybody draws for nothing
        page.run("viewer.dab()")
        assert page.run("return [at('save').disabled, at('keep').disabled]") == [True, False]


def test_each_file_goes_to_the_channel_that_the_user_names_and_can_be_looked_at(page: Page, tmp_path: Path) -> None:
    image = stored("LPS")
    dark = nib.Nifti1Image(np.where(image.get_fdata() > 1.5, 0, image.get_fdata()).astype(np.float32), image.affine)
    nib.save(image, tmp_path / "b.nii.gz")
    nib.save(dark, tmp_path / "a.nii.gz")
    with served(page.driver, tmp_path, threshold_model(tmp_path / "two.ts", "T2", "ADC")) as server:
        page.open(server)
        assert page.run("return at('drop-text').textContent") == "Drop 2 files here: T2, ADC"
        page.choose(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
        select = """const box = at('chosen').querySelectorAll('select')[arguments[0]];
            box.value = arguments[1]; box.dispatchEvent(new Event('change'));"""
        page.run(select, 1, "T2")
        page.run("at('send').click()")
        assert page.wait("return at('new-error').textContent") == "two files have the same channel; give each its own"
        page.run(select, 0, "ADC")  # what was chosen before the error is still chosen
        page.run("at('send').click()")
        page.wait("return location.hash")
        page.shown()
        counts = page.run("return viewer.counts()")
        assert counts[2] == int((image.get_fdata() > 1.5).sum())
        page.run("viewer.goTo([17, 13, 10])")
        assert "value 2.0" in page.run("return at('where').textContent")
        page.run("at('channel').value = 1; at('channel').dispatchEvent(new Event('change'))")
        page.wait("viewer.goTo([17, 13, 10]); return at('where').textContent.includes('value 0.0')")
        assert page.run("return viewer.counts()") == counts


def test_what_a_job_is_doing_is_told_in_words(page: Page, server: Server) -> None:
    page.open(server)
    jobs = [
        {"state": "queued", "position": 3},
        {"state": "queued", "position": 1},
        {"state": "running", "stage": "network", "progress": 0.47},
        {"state": "failed"},
        {"state": "cancelled"},
    ]
    said = page.run("const { stateOf } = await import('/static/jobs.js'); return arguments[0].map(stateOf)", jobs)
    assert said == ["Waiting, number 3 in the queue", "Waiting, next in the queue", "At work (segmenting), 40 %", "Failed", "Cancelled"]
