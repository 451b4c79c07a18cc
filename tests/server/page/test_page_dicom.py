"""A zip of DICOM that is dropped onto the page: where its label map is seen, and what is taken home of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.bundle.conftest import write_model
from tests.dicom.series import Made, Series
from tests.server.conftest import Server
from tests.server.page.browser import Page, served
from tests.server.page.test_page_sides import LETTERS, labels_of, on_screen, phantom, seen
from tests.server.test_kinds import zipped

_SPACING = (2.0, 2.5, 3.0)
"""Of the phantom along x, y, z, mm."""


@pytest.fixture(scope="module")
def server(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its model was trained on MR."""
    folder = tmp_path_factory.mktemp("dicom")
    with served(driver, folder, write_model(folder / "test.ts")) as running:
        yield running


def sagittal(folder: Path) -> Made:
    """The phantom as sagittal CT slices, from the patient's right to the left, rows downwards; numbers are against the order."""
    series = Series(
        axes=((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
        heights=[_SPACING[0] * n for n in range(22)],
        spacing=(_SPACING[2], _SPACING[1]),
        size=(14, 18),
        modality="CT",
        reversed_numbers=True,
    )
    world = series.world()
    index = np.rint((world - world.min(axis=(0, 1, 2))) / _SPACING).astype(int)
    series.stored = phantom()[tuple(np.moveaxis(index, -1, 0))].astype(np.uint16)
    return series.write(folder)


def test_a_dropped_zip_of_dicom_is_seen_on_its_side_and_taken_home_as_dicom(page: Page, server: Server, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'segpipe[dicom]'")
    made = sagittal(tmp_path / "series")
    page.open(server)
    page.segment(zipped(tmp_path / "series"), dropped=True)
    assert page.run("return at('job-name').textContent") == "series.zip"
    warned = page.run("return at('job-warnings').innerText").replace("\n", " ")
    assert "T2 is CT, in training MR. This is another kind of scan" in warned
    _check_screen(page)
    words = ["Label map (NIfTI)", "Volumes (JSON)", "DICOM-SEG", "RTSTRUCT", "Report (DICOM SR)"]
    assert sorted(page.run("return [...at('formats').children].map((link) => link.textContent)")) == sorted(words)

    taken = tmp_path / "taken"
    taken.mkdir()
    labels = nib.load(page.take("nifti", taken))
    assert (np.asarray(nib.as_closest_canonical(labels).dataobj) == labels_of(phantom())).all()
    first = pydicom.dcmread(made.paths[0])
    segmentation = pydicom.dcmread(page.take("dicom-seg", taken))
    contours = pydicom.dcmread(page.take("rtstruct", taken))
    assert {path.name for path in taken.iterdir()} == {"series.nii.gz", "series_seg.dcm", "series_rtstruct.dcm"}
    for one, modality in ((segmentation, "SEG"), (contours, "RTSTRUCT")):
        assert (one.Modality, one.StudyInstanceUID, one.FrameOfReferenceUID) == (
            modality,
            first.StudyInstanceUID,
            first.FrameOfReferenceUID,
        )
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["organ", "tumour"]
    assert _voxels(segmentation) == _expected(made)
    assert [region.ROIName for region in contours.StructureSetROISequence] == ["organ", "tumour"]
    points = np.concatenate([np.reshape(one.ContourData, (-1, 3)) for one in contours.ROIContourSequence[1].ContourSequence]) * (-1, -1, 1)
    middle = made.world[made.stored == 2].mean(axis=0)
    assert (points.min(axis=0) + points.max(axis=0)) / 2 == pytest.approx(middle, abs=0.1)


def _check_screen(page: Page) -> None:
    voxel = (17, 13, 10)  # in the tumour
    page.run("at('pen-on').click(); viewer.goTo(arguments[0]); viewer.setOpacity(1)", list(voxel))
    tumour = page.run("return viewer.labels[2].colour")
    picture = page.picture()
    for plane, letters in LETTERS.items():
        truth = on_screen(labels_of(phantom()), voxel, plane) == 255
        off = np.abs(seen(page, picture, plane, truth.shape).astype(int) - tumour).max(axis=-1)
        assert ((off < 12) == truth).all(), plane
        assert [page.sides(plane)[name][0] for name in ("left", "right", "top", "bottom")] == list(letters)


def _voxels(segmentation: Any) -> set[tuple[int, float, float, float]]:
    """Of the DICOM-SEG: each segment's voxels where they lie, RAS+ mm, from the headers of its frames alone."""
    found = set()
    row, column = np.reshape(segmentation.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    down, across = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    for frame, group in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for r, c in np.argwhere(frame):
            place = (origin + r * float(down) * column.astype(float) + c * float(across) * row.astype(float)) * (-1, -1, 1)
            found.add((number, *(round(float(mm), 2) + 0.0 for mm in place)))
    return found


def _expected(made: Made) -> set[tuple[int, float, float, float]]:
    return {(number, *(round(float(mm), 2) + 0.0 for mm in place)) for number in (1, 2) for place in made.world[made.stored == number]}
