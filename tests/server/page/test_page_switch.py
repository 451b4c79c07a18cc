"""Who goes from one job to another while something is on its way sees the other one alone, and saves nothing of the first one there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.server.conftest import Server
from tests.server.page.browser import Page, served
from tests.server.page.conftest import threshold_model
from tests.server.page.test_page_sides import phantom, stored

TUMOUR = int((phantom() == 2).sum())
HOLD = """
    const [what, method] = arguments, real = globalThis.fetch.bind(globalThis);
    globalThis.held = [];
    globalThis.confirm = () => true;
    globalThis.told = [];
    globalThis.alert = (text) => told.push(text);
    globalThis.holds = true;
    globalThis.fetch = async (url, options = {}) => {
      const meant = String(url).endsWith(what) && (options.method ?? "GET") === method;
      if (globalThis.holds && meant) await new Promise((go) => globalThis.held.push(go));
      return real(url, options);
    };
    globalThis.release = () => { globalThis.holds = false; globalThis.held.splice(0).forEach((go) => go()); };"""
"""Requests that end with the first argument wait until they are released."""
LATER = "await new Promise((go) => setTimeout(go, 700));"


@pytest.fixture(scope="module")
def server(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("switch")
    model = threshold_model(folder / "model.ts", "T2", "ADC")
    with served(driver, folder, model, "--corrections", str(folder / "corrections")) as running:
        yield running


@pytest.fixture
def jobs(server: Server, tmp_path: Path) -> tuple[str, str]:
    """Two on the same grid: the first with a tumour, the second without; the second channel is the first one's, and 3 or 5 more."""
    image = stored("RAS")
    ids = []
    for name, most, more in (("first", 2, 3.0), ("second", 1, 5.0)):
        array = image.get_fdata().clip(0, most)
        both = np.stack([array, array + more], -1).astype(np.float32)
        nib.save(nib.Nifti1Image(both, image.affine), tmp_path / f"{name}.nii.gz")
        ids.append(server.ended(server.send(tmp_path / f"{name}.nii.gz")["id"])["id"])
    return ids[0], ids[1]


def go(page: Page, job: str) -> None:
    page.run("location.hash = arguments[0]", job)
    page.shown()


def choose(page: Page, box: str, value: str) -> None:
    page.run("at(arguments[0]).value = arguments[1]; at(arguments[0]).dispatchEvent(new Event('change'))", box, value)
    page.wait("return globalThis.held.length > 0")


def test_a_correction_that_comes_late_is_not_shown_over_another_scan(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    first, second = jobs
    assert server.client.put(f"/v1/jobs/{first}/correction", content=server.result(first)).status_code == 200
    page.open(server)
    go(page, first)
    page.run("at('which').value = 'predicted'; at('which').dispatchEvent(new Event('change'))")
    page.wait("return at('which').dataset.shown === 'predicted'")
    page.run(HOLD, f"{first}/correction", "GET")
    choose(page, "which", "corrected")
    go(page, second)
    page.run(f"globalThis.release(); {LATER}")
    page.shown()
    assert page.run("return [at('job-name').textContent, at('which').value, viewer.counts()[2]]") == ["second.nii.gz", "predicted", 0]


def test_a_channel_that_comes_late_is_not_shown_under_another_label_map(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    first, second = jobs
    page.open(server)
    go(page, first)
    page.run(HOLD, f"{first}/image?channel=1", "GET")
    choose(page, "channel", "1")
    go(page, second)
    page.run(f"globalThis.release(); {LATER}")
    assert page.run("return [at('channel').value, viewer.nv.volumes[0].global_max]") == ["0", 1]
    choose_and_see = "at('channel').value = '1'; at('channel').dispatchEvent(new Event('change'));"
    page.run(choose_and_see)
    page.wait("return at('channel').dataset.shown === '1'")
    assert page.run("return viewer.nv.volumes[0].global_max") == 6


def test_a_channel_that_cannot_be_read_does_not_stay_chosen(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    page.open(server)
    go(page, jobs[0])
    page.run("globalThis.fetch = async () => { throw new Error('broken off'); };")
    page.run("at('channel').value = '1'; at('channel').dispatchEvent(new Event('change'))")
    page.wait("return at('job-error').textContent.includes('broken off')")
    assert page.run("return [at('channel').value, viewer.nv.volumes[0].global_max]") == ["0", 2]


def test_what_is_drawn_on_another_scan_meanwhile_does_not_count_as_saved(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    first, second = jobs
    page.open(server)
    go(page, first)
    page.run(HOLD, f"{first}/correction", "PUT")
    draw = "at('pen-on').click(); viewer.goTo([1, 1, 1]); viewer.setPen({ label: 2 }); viewer.dab();"
    page.run(f"{draw} at('save').click()")
    page.wait("return globalThis.held.length > 0")
    go(page, second)
    page.run(draw)
    page.run(f"globalThis.release(); {LATER}")
    said = page.run("return [at('pen-said').textContent, at('save').disabled, at('which').value, at('which').options.length]")
    assert said == ["Not saved yet.", False, "predicted", 1]
    assert server.client.get(f"/v1/jobs/{first}/correction").status_code == 200
    assert server.client.get(f"/v1/jobs/{second}/correction").status_code == 404
    page.run("at('save').click()")
    page.wait("return at('pen-said').textContent.startsWith('Saved')")
    assert server.client.get(f"/v1/jobs/{second}/correction").status_code == 200


def test_what_is_drawn_while_a_correction_is_saved_is_not_said_to_be_saved(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    page.open(server)
    go(page, jobs[0])
    page.run(HOLD, "/correction", "PUT")
    page.run("at('pen-on').click(); viewer.goTo([1, 1, 1]); viewer.dab(); at('save').click()")
    page.wait("return globalThis.held.length > 0")
    page.run("viewer.goTo([2, 2, 2]); viewer.dab(); globalThis.release()")
    page.wait("return at('pen-said').textContent === 'Saved, but not what was drawn since.'")
    assert page.run("return at('save').disabled") is False


def test_a_job_that_is_told_late_does_not_take_the_place_of_the_one_chosen_since(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    first, second = jobs
    page.open(server)
    page.run(HOLD, f"/v1/jobs/{first}", "GET")
    page.run("location.hash = arguments[0]", first)
    page.wait("return globalThis.held.length > 0")
    go(page, second)
    page.run(
        "globalThis.names = []; new MutationObserver(() => names.push(at('job-name').textContent))"
        ".observe(at('job-name'), { childList: true, characterData: true, subtree: true })"
    )
    page.run(f"globalThis.release(); {LATER}")
    assert page.run("return [at('job-name').textContent, ...names]") == ["second.nii.gz"]


def test_labels_of_another_model_file_are_called_as_that_one_called_them(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    page.open(server)
    page.run(
        """
        const real = globalThis.fetch.bind(globalThis);
        globalThis.fetch = async (url, options) => {
          const answer = await real(url, options);
          if (!String(url).endsWith(arguments[0])) return answer;
          const job = await answer.json();
          job.model_sha256 = "0".repeat(64); // a package can be made anew under the same version
          job.volumes.forEach((one) => { one.name = `old ${one.name}`; });
          return new Response(JSON.stringify(job));
        };""",
        f"/v1/jobs/{jobs[0]}",
    )
    go(page, jobs[0])
    assert page.run("return [...at('labels').rows].map((row) => row.cells[1].textContent)") == ["old organ", "old tumour"]
    assert page.run("return viewer.counts()[2]") == TUMOUR


def test_a_job_that_is_done_before_its_cancel_arrives_keeps_its_result(page: Page, server: Server, jobs: tuple[str, str]) -> None:
    page.open(server)
    page.wait("return document.querySelectorAll('#jobs li').length > 0")
    script = """
        const { Jobs } = await import("/static/jobs.js");
        const list = new Jobs({ chosen() {}, removed() {} });
        await list.remove({ id: arguments[0], name: "first", state: "running" });"""
    page.run(script, jobs[0])
    assert server.client.get(f"/v1/jobs/{jobs[0]}").json()["state"] == "done"
    page.run(f"globalThis.confirm = () => true; {script.replace('running', 'done')}", jobs[0])
    assert server.client.get(f"/v1/jobs/{jobs[0]}").status_code == 404
