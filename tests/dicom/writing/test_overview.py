"""The overview picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segpipe.dicom.terms import SegmentLabel
from segpipe.dicom.writing.overview import ends_of
from segpipe.dicom.writing.picture import Tile, sheet
from tests.dicom.series import Series, turned
from tests.dicom.writing.given import blobs, faults, given, laid, needs_highdicom, read, written


def test_the_picture_is_a_secondary_capture_of_the_study_without_a_name_in_it(tmp_path: Path) -> None:
    needs_highdicom()
    made = Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(blobs(made.stored.shape), numbers), tmp_path, "sc")
    assert faults(path) == []
    ds = read(path)
    assert (ds.PhotometricInterpretation, ds.BurnedInAnnotation) == ("RGB", "NO")
    assert ds.pixel_array.shape == (ds.Rows, ds.Columns, 3)
    assert "Not for diagnosis" in ds.ImageComments
    assert len(ds.SourceImageSequence) == 6
    assert ds.StudyInstanceUID == read(made.paths[0]).StudyInstanceUID
    (empty,) = written(source, np.zeros(numbers.shape, np.uint8), tmp_path, "sc")
    assert faults(empty) == []


@pytest.mark.parametrize(
    ("axes", "ends"),
    [
        (((1, 0, 0), (0, 1, 0)), ("R", "A", "L", "P")),
        (((0, 1, 0), (0, 0, -1)), ("A", "H", "P", "F")),
        (((-1, 0, 0), (0, 0, 1)), ("L", "F", "R", "H")),
        (turned(0, 0, 12), ("R", "A", "L", "P")),
    ],
)
def test_letters_tell_the_patients_sides(axes: tuple[tuple[float, ...], tuple[float, ...]], ends: tuple[str, ...], tmp_path: Path) -> None:
    Series(axes=axes).write(tmp_path / "in")
    source, _ = given(tmp_path / "in")
    assert ends_of(source.first) == ends


def test_labels_are_tinted_where_they_are_in_true_proportions() -> None:
    segments = np.zeros((40, 80), dtype=np.uint8)
    segments[10:20, 50:70] = 1
    tile = Tile(np.full((40, 80), 100.0), segments, (2.0, 1.0), ("R", "A", "L", "P"), "slice 1 of 1")
    picture = sheet([tile], [("one", (255, 0, 0))], ["line"], 3)
    part = picture[8:368, 8:368]  # 80 mm x 80 mm
    red = (part[..., 0] > part[..., 1].astype(int) + 20).nonzero()
    assert red[0].min() == pytest.approx(90, abs=2)
    assert red[0].max() == pytest.approx(180, abs=2)
    assert red[1].min() == pytest.approx(225, abs=2)
    assert red[1].max() == pytest.approx(315, abs=2)


def test_sixty_labels_have_sixty_lines(tmp_path: Path) -> None:
    made = Series(size=(16, 20)).write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    needs_highdicom()
    pixel_labels = (np.arange(made.stored.size) % 61).astype(np.uint8).reshape(made.stored.shape)
    table = tuple(SegmentLabel(n, f"label {n}") for n in range(1, 61))
    (path,) = written(source, laid(pixel_labels, numbers), tmp_path, "sc", table=table)
    assert faults(path) == []
