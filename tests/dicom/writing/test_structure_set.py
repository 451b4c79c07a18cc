"""RTSTRUCT, read back by a program of its own that asks of each voxel centre whether it lies within."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.dicom.writing import structure_set
from segpipe.errors import DataError
from tests.dicom.series import Made, Series, enhanced, signed_axes, turned
from tests.dicom.writing.given import blobs, faults, given, laid, needs_highdicom, read, written
from tests.dicom.writing.test_contours import within

needs_highdicom()


def rasterised(ds: Any, way: Series, made: Made) -> dict[str, NDArray[np.bool_]]:
    """Masks (K, rows, columns) by the region's name: contours of one slice that lie in each other are taken off (exclusive or)."""
    names = {item.ROINumber: item.ROIName for item in ds.StructureSetROISequence}
    row, column = np.array(way.axes)
    found = {}
    for item in ds.ROIContourSequence:
        mask = np.zeros(made.stored.shape, dtype=bool)
        for contour in item.get("ContourSequence", []):
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            normal = np.cross(row, column)
            apart = np.abs((way.positions() - points[0]) @ normal)
            k = int(apart.argmin())
            assert np.abs((points - way.positions()[k]) @ normal).max() < 1e-3
            flat = points - way.positions()[k]
            ring = np.stack([flat @ row / way.spacing[1], flat @ column / way.spacing[0]], axis=1)
            mask[k] ^= within(ring, mask[k].shape)
        found[names[item.ReferencedROINumber]] = mask
    return found


WAYS = [*(Series(axes=axes) for axes in signed_axes()[::5]), Series(axes=turned(11, -23, 31)), Series(axes=turned(3, 2, 1), tilt=15)]


@pytest.mark.parametrize("way", WAYS, ids=[f"way{n}" for n in range(len(WAYS))])
def test_holes_and_parts_come_back_voxel_for_voxel(way: Series, tmp_path: Path) -> None:
    made = way.write(tmp_path / "in")
    labels = blobs(made.stored.shape)
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(labels, numbers), tmp_path, "rtstruct")
    masks = rasterised(read(path), way, made)
    assert np.array_equal(masks["PZ"], labels == 1)
    assert np.array_equal(masks["TZ"], labels == 7)
    assert faults(path) == []


def test_noise_and_an_outline_of_more_than_64_kib_come_back_voxel_for_voxel(tmp_path: Path) -> None:
    way = Series(size=(100, 104), heights=[0.0, 2.5, 5.0])
    made = way.write(tmp_path / "in")
    labels = (np.random.default_rng(3).random(made.stored.shape) < 0.3).astype(np.uint8)
    labels[1] = 7 * (np.indices(labels.shape[1:]).sum(axis=0) % 2)
    labels[1, ::2] = 7  # one part of half of all pixels
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(labels, numbers), tmp_path, "rtstruct")
    assert faults(path) == []
    ds = read(path)
    longest = max(contour.NumberOfContourPoints for item in ds.ROIContourSequence for contour in item.ContourSequence)
    assert longest * 3 * len("-10.0000") > 2**16
    assert [contour.ContourNumber for contour in ds.ROIContourSequence[0].ContourSequence] == list(
        range(1, len(ds.ROIContourSequence[0].ContourSequence) + 1)
    )
    masks = rasterised(ds, way, made)
    assert np.array_equal(masks["PZ"], labels == 1)
    assert np.array_equal(masks["TZ"], labels == 7)


def test_many_outlines_are_told_and_too_many_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Series(size=(100, 104), heights=[0.0, 2.5, 5.0]).write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    labels = (np.random.default_rng(3).random(numbers.shape) < 0.2).astype(np.uint8)
    monkeypatch.setattr(structure_set, "_MANY", 100)
    written(source, labels, tmp_path, "rtstruct")
    (told,) = caplog.messages
    assert re.fullmatch(r"\w+_3: its label map has \d{4} outlines of \d{5} points, as noise has; programs may take .*", told)
    monkeypatch.setattr(structure_set, "_MOST_POINTS", 1000)
    with pytest.raises(DataError, match=r"must be at most 1000 points: look at the label map, or leave rtstruct out"):
        written(source, labels, tmp_path, "rtstruct")


def test_each_contour_refers_to_its_slice_also_to_a_frame(tmp_path: Path) -> None:
    way = Series()
    files, one = way.write(tmp_path / "files"), enhanced(way, tmp_path / "one" / "all.dcm")
    for folder, made in ((tmp_path / "files", files), (tmp_path / "one", one)):
        source, numbers = given(folder)
        (path,) = written(source, laid(blobs(made.stored.shape), numbers), tmp_path, "rtstruct")
        assert faults(path) == []
        contours = [contour for item in read(path).ROIContourSequence for contour in item.ContourSequence]
        assert len(contours) > 10
        for contour in contours:
            n = int(np.abs(way.positions()[:, 2] - float(contour.ContourData[2])).argmin())
            (image,) = contour.ContourImageSequence
            if made is one:
                assert image.ReferencedFrameNumber == n + 1
            else:
                assert image.ReferencedSOPInstanceUID == read(made.paths[n]).SOPInstanceUID


def test_a_label_that_is_nowhere_has_a_name_a_colour_and_no_contour(tmp_path: Path) -> None:
    Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, np.zeros(numbers.shape, np.uint8), tmp_path, "rtstruct")
    ds = read(path)
    assert [item.ROIName for item in ds.StructureSetROISequence] == ["PZ", "TZ"]
    assert list(ds.ROIContourSequence[0].ROIDisplayColor) == [230, 159, 0]
    assert not any("ContourSequence" in item for item in ds.ROIContourSequence)
    assert faults(path) == []
