"""Left is left: what the page shows and saves lies on the right voxel, however a scan is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.server.conftest import Server
from tests.server.page.browser import Page, served
from tests.server.page.conftest import threshold_model

SHAPE = (22, 18, 14)
"""Of the phantom in RAS order, 2 x 2.5 x 3 mm."""
_SPACING = np.diag([2.0, 2.5, 3.0, 1.0])
_TURN = np.array([[np.cos(0.3), -np.sin(0.3), 0.0], [np.sin(0.3), np.cos(0.3), 0.0], [0.0, 0.0, 1.0]])


def phantom() -> NDArray[np.float32]:
    """In RAS order: an organ (1) to the right, in front and above of the middle, and a tumour (2) at its far right."""
    array = np.zeros(SHAPE, np.float32)
    array[9:20, 8:16, 6:12] = 1
    array[15:19, 12:15, 9:11] = 2
    return array


def stored(codes: str, turned: bool = False) -> nib.Nifti1Image:
    """The phantom, its file's axes running towards `codes` ("LPS": x to the left, ...); turned: all of it by 17 degrees about z."""
    affine = _SPACING.copy()
    affine[:3, 3] = (-25.0, -12.0, 30.0)
    if turned:
        affine[:3, :3] = _TURN @ affine[:3, :3]
    image = nib.Nifti1Image(phantom(), affine)
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    result: nib.Nifti1Image = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted))
    return result


def labels_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.select([array > 1.5, array > 0.5], [255, 10], 0).astype(np.uint8)


def seen(page: Page, picture: NDArray[np.uint8], plane: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The colour in the middle of each voxel of a slice in a picture of the screen: (across, down, 3)."""
    sides = page.sides(plane)
    (left, right), (top, bottom) = (sides["left"][1], sides["right"][1]), (sides["top"][2], sides["bottom"][2])
    across = (left + (np.arange(shape[0]) + 0.5) / shape[0] * (right - left)).astype(int)
    down = (top + (np.arange(shape[1]) + 0.5) / shape[1] * (bottom - top)).astype(int)
    found: NDArray[np.uint8] = picture[down[None, :], across[:, None]]
    return found


def on_screen(array: NDArray[Any], voxel: tuple[int, int, int], plane: str, mirrored: bool = True) -> NDArray[Any]:
    """The slice of an array in RAS order as a radiologist wants it: (across, down); `mirrored`: the patient's right on the left.

    Sagittal slices are seen from the patient's left: the nose is on the left.
    """
    i, j, k = voxel
    flat = {"axial": array[:, :, k], "coronal": array[:, j, :], "sagittal": array[i]}[plane]
    flat = flat[::-1] if mirrored or plane == "sagittal" else flat
    return flat[:, ::-1]


LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
"""Left, right, top, bottom."""
WAYS = [("RAS", False), ("LPS", False), ("ASL", False), ("PIR", True), ("LAS", True)]


@pytest.mark.parametrize(("codes", "turned"), WAYS)
def test_every_voxel_on_the_screen_and_in_the_correction_is_where_it_is_in_the_patient(
    codes: str, turned: bool, page: Page, server: Server, tmp_path: Path
) -> None:
    image = stored(codes, turned)
    path = tmp_path / f"{codes.lower()}.nii.gz"
    nib.save(image, path)
    page.open(server)
    job = page.segment(path)
    values = nib.as_closest_canonical(image).get_fdata()
    assert values.shape == SHAPE
    assert (values == phantom()).all()
    voxel = (17, 13, 10)  # in the tumour
    page.run("at('pen-on').click(); viewer.goTo(arguments[0]); viewer.setOpacity(1)", list(voxel))
    colours = {label["value"]: label["colour"] for label in page.run("return viewer.labels")}
    picture = page.picture()
    for plane, letters in LETTERS.items():
        truth = on_screen(labels_of(values), voxel, plane)
        shown = seen(page, picture, plane, truth.shape)
        for value in (10, 255):
            off = np.abs(shown.astype(int) - colours[value]).max(axis=-1)
            assert ((off < 12) == (truth == value)).all(), (plane, value)
        found = [page.sides(plane)[name][0] for name in ("left", "right", "top", "bottom")]
        assert [text[0] for text in found] == list(letters)
        assert all(len(text) == 1 for text in found) or turned
    page.run("viewer.setOpacity(0)")
    picture = page.picture()
    for plane in LETTERS:
        truth = on_screen(values, voxel, plane)
        greys = seen(page, picture, plane, truth.shape).mean(axis=-1)
        assert greys[truth == 2].min() > greys[truth == 1].max() > 20, plane
        assert greys[truth == 1].min() > greys[truth == 0].max(), plane

    drawn = [(2, 3, 4, 1), (20, 3, 4, 2), (2, 16, 4, 2), (2, 3, 13, 1), (16, 13, 10, 0)]  # in RAS order, and the place of the label
    page.run("for (const [x, y, z, label] of arguments[0]) viewer.nv.drawPt(x, y, z, label); viewer.drew(); at('save').click()", drawn)
    page.wait("return at('pen-said').textContent.startsWith('Saved') || at('pen-error').textContent")
    assert page.run("return at('pen-error').textContent") == ""
    expected = labels_of(np.asarray(image.dataobj))
    places = nib.as_closest_canonical(image).affine
    for *place, label in drawn:
        index = np.linalg.inv(image.affine) @ places @ [*place, 1]
        expected[tuple(np.rint(index[:3]).astype(int))] = (0, 10, 255)[label]
    saved = corrected(server, job, tmp_path)
    assert saved.shape == image.shape
    np.testing.assert_allclose(saved.affine, image.affine, atol=1e-4)
    assert (np.asarray(saved.dataobj) == expected).all()


def corrected(server: Server, job: str, folder: Path) -> nib.Nifti1Image:
    """The correction as the server keeps it, which is the one in the data set."""
    content = server.client.get(f"/v1/jobs/{job}/correction").content
    path = folder / ("back.nii.gz" if content[:2] == b"\x1f\x8b" else "back.nii")
    path.write_bytes(content)
    image: nib.Nifti1Image = nib.load(path)
    ours = [nib.load(found) for found in sorted(((server.data.parent / "corrections") / "labels").rglob("*.nii*"))]
    assert any(one.shape == image.shape and (np.asarray(one.dataobj) == np.asarray(image.dataobj)).all() for one in ours)
    return image


def test_the_mouse_draws_where_it_is_and_the_sides_can_be_changed(page: Page, server: Server, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    path = tmp_path / "mouse.nii.gz"
    nib.save(stored("LPS"), path)
    page.open(server)
    page.segment(path)
    page.run("viewer.goTo([17, 13, 10]); at('pen-on').click()")
    page.run("at('convention').value = 'neurological'; at('convention').dispatchEvent(new Event('change')); viewer.setOpacity(1)")
    sides = page.sides("axial")
    assert [sides[name][0] for name in ("left", "right", "top", "bottom")] == ["L", "R", "A", "P"]
    truth = on_screen(labels_of(phantom()), (17, 13, 10), "axial", mirrored=False)
    tumour = page.run("return viewer.labels[2].colour")
    shown = seen(page, page.picture(), "axial", truth.shape).astype(int)
    assert ((np.abs(shown - tumour).max(axis=-1) < 12) == (truth == 255)).all()

    before = np.array(page.run("return [...viewer.nv.drawBitmap]")).reshape(SHAPE, order="F")
    canvas = page.driver.find_element("id", "scan")
    x = sides["left"][1] + 3.5 / SHAPE[0] * (sides["right"][1] - sides["left"][1])  # voxel 3 from the patient's left
    y = sides["top"][2] + 2.5 / SHAPE[1] * (sides["bottom"][2] - sides["top"][2])  # voxel 2 from the front
    place = round(x - canvas.rect["width"] / 2), round(y - canvas.rect["height"] / 2)  # from the middle
    ActionChains(page.driver).move_to_element_with_offset(canvas, *place).click().perform()
    page.wait("return !at('undo').disabled")
    after = np.array(page.run("return [...viewer.nv.drawBitmap]")).reshape(SHAPE, order="F")
    assert np.argwhere(before != after).tolist() == [[3, SHAPE[1] - 1 - 2, 10]]
    assert after[3, SHAPE[1] - 3, 10] == 1
    page.run("at('undo').click()")
    assert (np.array(page.run("return [...viewer.nv.drawBitmap]")).reshape(SHAPE, order="F") == before).all()
    assert page.run("return at('undo').disabled")


def test_in_3d_labels_have_their_colours_and_lie_where_someone_sees_them_who_stands_there(
    page: Page, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "solid.nii.gz"
    nib.save(stored("LPS"), path)
    page.width, page.height = 800, 400  # a processor draws it
    page.open(server)
    page.segment(path)
    page.run("viewer.nv.opts.isOrientCube = false; document.querySelector('[data-view=solid]').click(); viewer.setOpacity(1)")
    views = {180: (-2.5, 11), 0: (2.5, 11), 90: (-1.5, 8), 270: (1.5, 8)}  # before, behind, at the left and at the right of the patient
    for azimuth, (across, size) in views.items():
        page.run("viewer.nv.setRenderAzimuthElevation(arguments[0], 0)", azimuth)
        organ, tumour = (_seen_in_3d(page, n) for n in (1, 2))
        voxel = np.ptp(organ[0]) / size
        assert (tumour[0].mean() - organ[0].mean()) / voxel == pytest.approx(across, abs=0.4), azimuth
        assert np.ptp(organ[1]) / 4 < np.ptp(tumour[1]) < np.ptp(organ[1]) / 2  # 2 of 6 voxels
        assert tumour[1].mean() < organ[1].mean()  # it lies above


def _seen_in_3d(page: Page, place: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Columns and rows of the screen where a label is seen, the other one being hidden; the scan around it is grey."""
    page.run("for (const n of [1, 2]) if (at(`show-${n}`).checked !== (n === arguments[0])) at(`show-${n}`).click()", place)
    picture = page.picture().astype(float)
    rows, columns = np.nonzero(np.ptp(picture, axis=-1) > 40)
    colour, wanted = picture[rows, columns].mean(axis=0), np.array(page.run("return viewer.labels[arguments[0]].colour", place), float)
    assert colour @ wanted / np.linalg.norm(colour) / np.linalg.norm(wanted) > 0.98, (colour, wanted)
    assert np.linalg.norm(colour) > 0.5 * np.linalg.norm(wanted)
    return columns, rows


def test_the_brightness_is_told_in_the_values_of_the_scan_by_slider_and_mouse(page: Page, server: Server, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    for name, factor in (("first", 100.0), ("second", 1.0)):
        image = stored("LPS")
        nib.save(nib.Nifti1Image((image.get_fdata() * factor).astype(np.float32), image.affine), tmp_path / f"{name}.nii.gz")
    page.open(server)
    first = page.segment(tmp_path / "first.nii.gz")
    said = "return [at('dark-value').textContent, at('bright-value').textContent].map(Number)"
    seen = "const scan = viewer.nv.volumes[0]; return [scan.cal_min, scan.cal_max]"
    begin = page.run(said)
    assert begin == pytest.approx(page.run(seen), rel=0.01)
    page.run("at('bright').value = 250; at('bright').dispatchEvent(new Event('input'))")
    assert page.run(said) == pytest.approx([begin[0], 50], abs=0.2)
    assert page.run(seen) == pytest.approx([begin[0], 50], abs=0.2)
    page.segment(tmp_path / "second.nii.gz")
    assert page.run(said) == pytest.approx(page.run(seen), rel=0.01)  # another scan begins anew, and the sliders with it
    assert page.run(said)[1] <= 2
    page.run("location.hash = arguments[0]", first)
    page.shown()
    assert page.run(said) == begin
    canvas = page.driver.find_element("id", "scan")
    x, y = page.sides("axial")["top"][1:]
    start = round(x - canvas.rect["width"] / 2), round(y + 60 - canvas.rect["height"] / 2)
    mouse = ActionChains(page.driver).move_to_element_with_offset(canvas, *start)
    mouse.w3c_actions.pointer_action.pointer_down(button=2)
    mouse.move_by_offset(-20, -15).move_by_offset(-10, -10)
    mouse.w3c_actions.pointer_action.pointer_up(button=2)
    mouse.perform()
    assert page.run(seen) != pytest.approx(begin, rel=0.01)
    assert page.run(said) == pytest.approx(page.run(seen), rel=0.01, abs=0.1)
    ActionChains(page.driver).move_to_element_with_offset(canvas, *start).double_click().perform()
    assert page.run(said) == begin


def test_a_scan_without_labels_on_its_grid_is_not_shown(page: Page, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "moved.nii.gz"
    nib.save(stored("RAS"), path)
    page.open(server)
    page.segment(path)
    script = """
        const { packed, unpacked, parse } = await import("/static/nifti.js");
        const map = await unpacked(await (await fetch(`/v1/jobs/${location.hash.slice(1)}/results/nifti`)).arrayBuffer());
        const scan = await unpacked(await (await fetch(`/v1/jobs/${location.hash.slice(1)}/image`)).arrayBuffer());
        new DataView(scan).setFloat32(280 + 12, new DataView(scan).getFloat32(280 + 12, true) + 1, true);
        try { await viewer.open(scan, map, viewer.labels); return "shown"; } catch (error) { return error.message; }"""
    assert page.run(script) == "the label map lies 1.0 mm beside the scan; do not use it, and report this"


def test_of_two_jobs_opened_at_once_the_last_one_is_seen_with_its_own_labels(page: Page, server: Server, tmp_path: Path) -> None:
    page.open(server)
    jobs = []
    for codes in ("RAS", "LPS"):
        image = stored(codes)
        array = np.where(image.get_fdata() > 1.5, 1, image.get_fdata()) if codes == "LPS" else image.get_fdata()
        nib.save(nib.Nifti1Image(array.astype(np.float32), image.affine), tmp_path / f"{codes}.nii.gz")
        jobs.append(page.segment(tmp_path / f"{codes}.nii.gz"))
    for first, last, tumours in ((*jobs, 0), (*jobs[::-1], int((phantom() == 2).sum()))):
        page.run("location.hash = arguments[0]; await new Promise((go) => setTimeout(go, 5)); location.hash = arguments[1]", first, last)
        page.shown()
        assert page.run("return location.hash.slice(1)") == last
        assert page.run("return viewer.counts()[2]") == tumours
        assert page.run("return at('job-name').textContent") == ("RAS.nii.gz" if tumours else "LPS.nii.gz")


def test_a_picture_is_upright_and_has_no_sides(page: Page, tmp_path: Path) -> None:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[2:30, 10:58] = 1
    pixels[4:9, 40:56] = 2  # above, to the right
    Image.fromarray(pixels).save(tmp_path / "cells.png")
    with served(page.driver, tmp_path, threshold_model(tmp_path / "flat.ts", "grey", pictures=True)) as server:
        page.open(server)
        page.segment(tmp_path / "cells.png")
        page.run("viewer.setOpacity(1)")
        shown = page.picture().astype(int)
        organ, tumour = (np.abs(shown - label["colour"]).max(axis=-1) < 12 for label in page.run("return viewer.labels.slice(1)"))
        rows, columns = np.nonzero(organ | tumour)
        across, down = (np.ptp(columns) + 1) / 48, (np.ptp(rows) + 1) / 28  # screen pixels in one of the picture's
        assert across == pytest.approx(down, rel=0.02)
        y, x = np.nonzero(tumour)
        found = [(y.min() - rows.min()) / down, (y.max() + 1 - rows.min()) / down]
        found += [(x.min() - columns.min()) / across, (x.max() + 1 - columns.min()) / across]
        assert found == pytest.approx([2, 7, 30, 46], abs=0.2)
        assert page.sides("axial") == {}
        assert page.run("return [...at('labels').rows].map((row) => row.cells[2].textContent)") == [str((pixels == 1).sum()), str(5 * 16)]
        page.run("viewer.goTo([40, 40 - 1 - 4, 0])")
        assert page.run("return at('where').textContent") == "row 4, column 40 · value 2.000 · tumour"
