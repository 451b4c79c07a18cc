"""Structure sets painted onto series, against a point-in-polygon walk at the place of every voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.dicom.annotation import read_annotation
from segpipe.dicom.drawn import Drawn, Labels, read_drawn
from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.structures import choices_of
from segpipe.dicom.volume import Scan, read_stack
from segpipe.errors import DataError, GeometryError, SegpipeError
from tests.dicom.annotations import Contour, contour, structure_set
from tests.dicom.series import Series, signed_axes, turned
from tests.dicom.test_polygon import inside

SERIES = Series(axes=turned(10, -20, 30), size=(14, 17))
GTV = {"GTV": "gtv"}
SQUARE = [(2.3, 3.2), (12.6, 3.7), (12.1, 10.4), (2.8, 9.9)]
HOLE = [(5.2, 5.1), (5.4, 8.3), (8.6, 8.2), (8.4, 5.3)]


def read(folder: Path, series: Series, **how: object) -> tuple[Scan, Labels]:
    made = series.write(folder / "scan")
    (stack,) = list_stacks(made.paths).stacks
    scan = read_stack(stack, Policy())
    settings: dict[str, object] = {"choices": choices_of(GTV), **how}
    return scan, read_drawn(Drawn((folder / "rt.dcm",), **settings), stack, scan)  # type: ignore[arg-type]


def walked(series: Series, scan: Scan, polygons: dict[int, list[list[tuple[float, float]]]]) -> NDArray[np.bool_]:
    """Every voxel's centre looked at, by the pixel that its stored value names."""
    rows, columns = series.size
    pixels = np.array(
        [
            [[inside([np.array(one) for one in polygons.get(k, [])], c, r) for c in range(columns)] for r in range(rows)]
            for k in range(len(series.heights))
        ]
    )
    return pixels.ravel()[scan.volume.array[0]]


@pytest.mark.parametrize("axes", [*signed_axes(), turned(10, -20, 30), turned(-40, 33, 170)])
def test_in_all_directions_a_voxel_is_labelled_where_its_centre_is_inside(
    tmp_path: Path, axes: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    series = Series(axes=axes, size=(14, 17))
    polygons = {2: [SQUARE, HOLE], 3: [SQUARE], 4: [HOLE, [(10.2, 1.1), (14.4, 1.2), (13.1, 4.6)]]}
    structure_set(series, tmp_path / "rt.dcm", [("GTV", [contour(series, k, one) for k, all_ in polygons.items() for one in all_])])
    scan, labels = read(tmp_path, series)
    assert np.array_equal(labels.scan > 0, walked(series, scan, polygons))
    assert labels.notes == ()


def test_holes_as_inner_contours_and_as_keyholes_are_the_same(tmp_path: Path) -> None:
    keyhole = [*SQUARE, SQUARE[0], *HOLE, HOLE[0]]
    structure_set(
        SERIES, tmp_path / "rt.dcm", [("GTV", [contour(SERIES, 1, SQUARE), contour(SERIES, 1, HOLE), contour(SERIES, 2, keyhole)])]
    )
    scan, labels = read(tmp_path, SERIES)
    (one,) = [k for k in range(8) if scan.volume.array[0, 0, 0, k] == 1 * 14 * 17]
    (two,) = [k for k in range(8) if scan.volume.array[0, 0, 0, k] == 2 * 14 * 17]
    assert labels.scan[..., one].sum() > 30
    assert np.array_equal(labels.scan[..., one], labels.scan[..., two])


@pytest.mark.parametrize("tilt", [20.0, -12.0])
def test_contours_lie_on_the_slices_of_a_tilted_scan(tmp_path: Path, tilt: float) -> None:
    series = Series(tilt=tilt, size=(14, 17))
    structure_set(series, tmp_path / "rt.dcm", [("GTV", [contour(series, k, SQUARE) for k in range(8)])])
    scan, labels = read(tmp_path, series)
    assert scan.lean is not None
    flat = reference = None
    for k in range(8):
        reference = labels.slices[..., k] if reference is None else reference
        flat = labels.slices[..., k]
        assert np.array_equal(flat, reference)
    assert np.array_equal(scan.back(labels.scan), labels.slices)


def test_points_and_open_lines_and_lines_of_two_points_are_left_out_and_told(tmp_path: Path) -> None:
    contours = [
        contour(SERIES, 1, SQUARE),
        contour(SERIES, 1, [(3, 3)], kind="POINT"),
        contour(SERIES, 1, SQUARE, kind="OPEN_PLANAR"),
        contour(SERIES, 1, SQUARE[:2]),
    ]
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", contours)])
    scan, labels = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan > 0, walked(SERIES, scan, {1: [SQUARE]}))
    assert len(labels.notes) == 3
    assert any("are POINT, which enclose nothing" in note for note in labels.notes)
    assert any("are OPEN_PLANAR" in note for note in labels.notes)
    assert any("fewer than 3 points" in note for note in labels.notes)


def test_contours_between_slices_are_refused_or_taken_for_the_nearest_slice(tmp_path: Path) -> None:
    lifted = [contour(SERIES, 1, SQUARE, lift=0.9), contour(SERIES, 2, HOLE, lift=-0.4), contour(SERIES, 3, SQUARE, lift=0.04)]
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", lifted)])
    with pytest.raises(GeometryError, match=r"rt\.dcm: has a contour of 'GTV' 0\.90 mm from the nearest slice.*off_grid=nearest"):
        read(tmp_path, SERIES)
    scan, labels = read(tmp_path, SERIES, off_grid="nearest")
    assert np.array_equal(labels.scan > 0, walked(SERIES, scan, {1: [SQUARE], 2: [HOLE], 3: [SQUARE]}))
    assert labels.notes == ("contours of 'GTV' lie up to 0.90 mm beside their slices, and are taken for the nearest one",)


def test_of_contours_that_are_nearest_to_one_slice_the_nearest_height_counts(tmp_path: Path) -> None:
    dense = [contour(SERIES, 1, SQUARE, lift=0.2), contour(SERIES, 1, HOLE, lift=-0.9)]
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", dense)])
    scan, labels = read(tmp_path, SERIES, off_grid="nearest")
    assert np.array_equal(labels.scan > 0, walked(SERIES, scan, {1: [SQUARE]}))
    assert any("share a slice with others that are nearer" in note for note in labels.notes)


def test_a_contour_beyond_the_series_or_across_its_slices_is_refused(tmp_path: Path) -> None:
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", [contour(SERIES, 0, SQUARE, lift=-5.0)])])
    with pytest.raises(GeometryError, match=r"5\.00 mm from the nearest slice"):
        read(tmp_path, SERIES, off_grid="nearest")
    row, normal = np.array(SERIES.axes[0]), np.cross(*SERIES.axes)
    across: Contour = ("CLOSED_PLANAR", SERIES.positions()[1] + np.array([0 * row, 5 * row, 5 * row + 5 * normal, 5 * normal]))
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", [across])])
    with pytest.raises(GeometryError, match="not parallel with the slices"):
        read(tmp_path, SERIES, off_grid="nearest")


def test_slices_without_a_contour_and_contours_that_cross_and_copies_are_told(tmp_path: Path) -> None:
    moved = [(x + 4, y + 2) for x, y in SQUARE]
    contours = [contour(SERIES, 1, SQUARE), contour(SERIES, 1, SQUARE), contour(SERIES, 4, SQUARE), contour(SERIES, 4, moved)]
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", contours)])
    scan, labels = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan > 0, walked(SERIES, scan, {1: [SQUARE], 4: [SQUARE, moved]}))
    assert any("no contour on 2 slice(s) between" in note for note in labels.notes)
    assert any("cross each other on 1 slice(s)" in note for note in labels.notes)
    assert any("are there twice: left out" in note for note in labels.notes)


def test_regions_are_chosen_by_name_pattern_and_number(tmp_path: Path) -> None:
    regions = [("Bladder", [contour(SERIES, 1, SQUARE)]), ("PTV_60", [contour(SERIES, 3, SQUARE)]), ("ptv_50", [contour(SERIES, 4, HOLE)])]
    structure_set(SERIES, tmp_path / "rt.dcm", regions)
    scan, labels = read(tmp_path, SERIES, choices=choices_of({"target": "PTV*", "bladder": "number=1"}))
    assert np.array_equal(labels.scan == 1, walked(SERIES, scan, {3: [SQUARE], 4: [HOLE]}))
    assert np.array_equal(labels.scan == 2, walked(SERIES, scan, {1: [SQUARE]}))
    with pytest.raises(DataError, match=r"holds no structure 'rectum'.*there are 1 'Bladder', 2 'PTV_60', 3 'ptv_50'"):
        read(tmp_path, SERIES, choices=choices_of({"rectum": "rectum"}))


def test_a_region_named_twice_is_refused_unless_a_pattern_takes_both(tmp_path: Path) -> None:
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", [contour(SERIES, 1, SQUARE)]), ("gtv", [contour(SERIES, 2, HOLE)])])
    with pytest.raises(DataError, match=r"2 structures are called 'gtv' \(numbers 1, 2\).*number=2"):
        read(tmp_path, SERIES)
    scan, labels = read(tmp_path, SERIES, choices=choices_of({"GTV": "gtv*"}))
    assert np.array_equal(labels.scan > 0, walked(SERIES, scan, {1: [SQUARE], 2: [HOLE]}))
    scan, labels = read(tmp_path, SERIES, choices=choices_of({"GTV": "number=2"}))
    assert np.array_equal(labels.scan > 0, walked(SERIES, scan, {2: [HOLE]}))


def test_a_region_without_contours_is_missing(tmp_path: Path) -> None:
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", [])])
    with pytest.raises(DataError, match="has nothing drawn of 'GTV'"):
        read(tmp_path, SERIES)
    _, labels = read(tmp_path, SERIES, missing="background")
    assert not labels.scan.any()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"PatientID": "OTHER"}, "another PatientID"),
        ({"StructureSetROISequence": []}, "holds no region of interest"),
    ],
)
def test_what_does_not_belong_is_refused(tmp_path: Path, more: dict[str, object], what: str) -> None:
    structure_set(SERIES, tmp_path / "rt.dcm", [("GTV", [contour(SERIES, 1, SQUARE)])], **more)
    with pytest.raises(DataError, match=what):
        read(tmp_path, SERIES)


def test_no_cut_of_a_structure_set_gives_another_label_map(tmp_path: Path) -> None:
    """pydicom takes what is left of a file that was cut short as a whole one."""
    regions = [("GTV", [contour(SERIES, k, SQUARE) for k in range(3)]), ("X", [contour(SERIES, 1, HOLE)])]
    path = structure_set(SERIES, tmp_path / "rt.dcm", regions)
    made = SERIES.write(tmp_path / "scan")
    (stack,) = list_stacks(made.paths).stacks
    scan = read_stack(stack, Policy())
    drawn = Drawn((path,), choices_of({"GTV": "gtv", "X": "x"}), overlap="later-wins")
    whole = path.read_bytes()
    right = read_drawn(drawn, stack, scan).scan
    refused = 0
    for length in range(200, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            assert np.array_equal(read_drawn(drawn, stack, scan).scan, right), length
        except SegpipeError:
            refused += 1
    assert refused > 0.8 * (len(whole) - 200) / 7


def test_numbers_are_the_same_from_text_and_from_pydicoms_objects() -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    from segpipe.dicom.contours import coordinates

    raw, made = Dataset(), Dataset()
    raw[0x30060050] = RawDataElement(Tag(0x30060050), "DS", 24, b"1.5\\-2e1\\ 3 \\.25 \0", 0, False, True)
    made.ContourData = ["1.5", "-2e1", "3", ".25"]
    assert coordinates(raw).tolist() == coordinates(made).tolist() == [1.5, -20.0, 3.0, 0.25]
    assert coordinates(Dataset()).size == 0


def test_a_real_structure_set_of_another_frame_of_reference_is_refused(real_scans: Path) -> None:
    from tests.dicom.test_real_series import listing

    folder = real_scans / "dicom_rtstruct_mock"
    (stack,) = listing(folder).stacks
    annotation = read_annotation(folder / "rt.dcm")
    assert [one.name for one in annotation.structures] == ["ROI-1"]
    assert annotation.series == {stack.first.series}
    with pytest.raises(DataError, match="another FrameOfReferenceUID"):
        read_drawn(Drawn((folder / "rt.dcm",), choices_of({"roi": "roi*"})), stack, read_stack(stack, Policy()))
