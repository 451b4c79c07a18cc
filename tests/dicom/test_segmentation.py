"""Segmentations painted onto series, against the place of every single pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from segpipe.dicom.annotation import read_annotation
from segpipe.dicom.drawn import Drawn, Labels, read_drawn
from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.dicom.structures import choices_of
from segpipe.dicom.volume import Scan, read_stack
from segpipe.errors import DataError, GeometryError, SegpipeError
from tests.dicom.annotations import segmentation
from tests.dicom.series import Made, Series, enhanced, signed_axes, turned

ABC = {"A": "a", "B": "b", "C": "c"}
SERIES = Series(axes=turned(10, -20, 30))


def read(folder: Path, series: Series, policy: Policy | None = None, **how: object) -> tuple[Scan, Labels, Made]:
    """The scan of `series`, and the label map of `folder/seg.dcm`."""
    made = series.write(folder / "scan")
    (stack,) = list_stacks(made.paths).stacks
    scan = read_stack(stack, policy or Policy())
    settings: dict[str, object] = {"choices": choices_of(ABC), **how}
    return scan, read_drawn(Drawn((folder / "seg.dcm",), **settings), stack, scan), made  # type: ignore[arg-type]


def exclusive(series: Series, seed: int = 0, share: float = 0.3) -> NDArray[np.uint8]:
    """(3, K, rows, columns) of three segments that have no pixel in common."""
    random = np.random.default_rng(seed)
    values = random.integers(1, 4, (len(series.heights), *series.size)) * (random.random((len(series.heights), *series.size)) < share)
    return np.stack([values == n for n in (1, 2, 3)]).astype(np.uint8)


def numbers(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    return (masks * np.array([1, 2, 3])[:, None, None, None]).sum(axis=0)


def expected(scan: Scan, masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Every voxel holds the number of its pixel, so that the pixel's label can be looked up."""
    return numbers(masks).ravel()[scan.volume.array[0]]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("order", [None, 3])
def test_every_kind_in_any_order_of_frames_has_each_label_at_its_pixel(tmp_path: Path, kind: str, order: int | None) -> None:
    masks = exclusive(SERIES)
    given = numbers(masks)[None] if kind == "LABELMAP" else masks
    segmentation(SERIES, tmp_path / "seg.dcm", given, kind=kind, order=order)
    scan, labels, _ = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan, expected(scan, masks))
    assert labels.scan.dtype == np.uint8
    assert np.array_equal(labels.slices, labels.scan)
    assert labels.notes == ()


def test_of_a_fractional_segmentation_half_and_more_counts(tmp_path: Path) -> None:
    shares = np.zeros((3, 8, 7, 9))
    shares[0, 2, 1, :3] = 0.495, 0.5, 0.505
    segmentation(SERIES, tmp_path / "seg.dcm", shares, kind="FRACTIONAL", empty_frames=True)
    scan, labels, _ = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan, expected(scan, (shares >= 0.5).astype(np.uint8)))
    assert labels.scan.sum() == 2
    assert read_annotation(tmp_path / "seg.dcm").fractional


def test_frames_that_are_left_out_because_they_are_empty_stay_empty(tmp_path: Path) -> None:
    masks = exclusive(SERIES)
    masks[:, [0, 1, 4, 6]] = 0
    masks[1, 3] = 0
    segmentation(SERIES, tmp_path / "seg.dcm", masks, order=1)
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 11
    scan, labels, _ = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan, expected(scan, masks))


@pytest.mark.parametrize("axes", signed_axes())
def test_series_and_frames_in_all_24_directions(tmp_path: Path, axes: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    series = Series(axes=axes, seed=4)
    masks = exclusive(series)
    segmentation(series, tmp_path / "seg.dcm", masks)
    scan, labels, _ = read(tmp_path, series)
    assert np.array_equal(labels.scan, expected(scan, masks))


@pytest.mark.parametrize("axes", signed_axes())
def test_frames_across_the_slices_are_exact_where_their_pixels_are_voxels(
    tmp_path: Path, axes: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    cubes = Series(heights=[1.0 * n for n in range(5)], spacing=(1.0, 1.0), size=(7, 6), origin=(0, 0, 0), seed=5)
    made = cubes.write(tmp_path / "scan")
    where = {tuple(np.rint(place).astype(int)): n for n, place in enumerate(made.world.reshape(-1, 3))}
    masks = exclusive(cubes)
    frames = Series(axes=axes, heights=[1.0 * n for n in range(9)], spacing=(1.0, 1.0), size=(9, 9), seed=5)
    corner = np.array([0.0, 0, 0])  # so that the frames' cube of 9 voxels a side holds the series, on its lattice
    for axis in (*axes, np.cross(*axes)):
        corner += np.where(np.array(axis) < 0, 8.0, 0.0)
    frames = Series(**{**frames.__dict__, "origin": corner - 1.0})
    places = np.rint(frames.world()).astype(int)
    flat = masks.reshape(3, -1)
    own = np.array([[flat[s, where[p]] if (p := tuple(place)) in where else 0 for place in places.reshape(-1, 3)] for s in range(3)])
    segmentation(cubes, tmp_path / "seg.dcm", own.reshape(3, *places.shape[:3]), frames_of=frames)
    scan, labels, _ = read(tmp_path, cubes)
    assert np.array_equal(labels.scan, expected(scan, masks))
    assert labels.notes == ()


def test_a_part_of_the_slices_and_of_their_pixels_and_what_lies_beyond(tmp_path: Path) -> None:
    masks = exclusive(SERIES)
    row, column = np.array(SERIES.axes)
    origin = SERIES.positions()[2] + 0.7 * 4 * row - 0.8 * 1 * column
    frames = Series(axes=SERIES.axes, heights=SERIES.heights[:3], size=(5, 8), origin=origin)
    given = np.zeros((3, 3, 5, 8), dtype=np.uint8)
    given[:, :, 1:, :5] = masks[:, 2:5, :4, 4:]
    given[0, 0, 0, 0] = given[0, 0, 4, 6] = 1
    segmentation(SERIES, tmp_path / "seg.dcm", given, frames_of=frames)
    scan, labels, _ = read(tmp_path, SERIES)
    kept = np.zeros_like(masks)
    kept[:, 2:5, :4, 4:] = masks[:, 2:5, :4, 4:]
    assert np.array_equal(labels.scan, expected(scan, kept))
    assert labels.notes == ("2 labelled voxel(s) lie beyond the series: left out",)


def test_a_segmentation_between_the_slices_is_refused_or_the_nearest_voxel_is_taken(tmp_path: Path) -> None:
    frames = Series(axes=SERIES.axes, heights=np.arange(0.3, 19, 1.25), spacing=(0.4, 0.35), size=(14, 18))
    given = np.random.default_rng(0).integers(0, 2, (1, 15, 14, 18)).astype(np.uint8)
    segmentation(SERIES, tmp_path / "seg.dcm", given, ["a"], frames_of=frames)
    one = choices_of({"A": "a"})
    with pytest.raises(GeometryError, match=r"seg\.dcm: has a frame 0\.30 mm from the nearest slice.*dataset\.dicom\.off_grid=nearest"):
        read(tmp_path, SERIES, choices=one)
    scan, labels, made = read(tmp_path, SERIES, choices=one, off_grid="nearest")
    assert labels.notes == (
        "has a frame 0.30 mm from the nearest slice of the series; the nearest of its voxels of 0.35 x 0.4 x 1.25 mm is taken",
    )
    places = frames.world().reshape(-1, 3)
    near = [int(((places - place) ** 2).sum(axis=1).argmin()) for place in made.world.reshape(-1, 3)]
    far = [float(np.sqrt(((places - place) ** 2).sum(axis=1).min())) for place in made.world.reshape(-1, 3)]
    wanted = np.where(np.array(far) < 0.9, given.ravel()[near], 0)
    found = np.zeros(made.stored.size, dtype=int)
    found[scan.volume.array[0].ravel()] = labels.scan.ravel()
    assert (found == wanted).mean() > 0.999  # ties of rounding
    assert found.sum() > 100


def test_overlapping_segments_are_refused_with_names_and_voxels_or_the_later_label_has_them(tmp_path: Path) -> None:
    masks = exclusive(SERIES)
    masks[2, 3] = masks[0, 3]
    both = int(masks[0, 3].sum())
    segmentation(SERIES, tmp_path / "seg.dcm", masks, order=2)
    with pytest.raises(DataError, match=rf"'A' and 'C' have {both} voxel\(s\) in common; a voxel must have one label"):
        read(tmp_path, SERIES)
    scan, labels, _ = read(tmp_path, SERIES, overlap="later-wins")
    assert labels.notes == (f"'A' and 'C' have {both} voxel(s) in common: the later one has them",)
    kept = masks.copy()
    kept[:2, 3][:, masks[2, 3] > 0] = 0
    assert np.array_equal(labels.scan, expected(scan, kept))
    scan, labels, _ = read(tmp_path, SERIES, overlap="later-wins", choices=choices_of({"C": "c", "B": "b", "A": "a"}))
    assert (labels.scan == 3).sum() == masks[0].sum()


def test_two_structures_of_one_label_may_overlap(tmp_path: Path) -> None:
    masks = exclusive(SERIES)
    masks[1] |= masks[0]
    segmentation(SERIES, tmp_path / "seg.dcm", masks)
    _, labels, _ = read(tmp_path, SERIES, choices=choices_of({"AB": "a|b", "C": "c"}))
    assert labels.notes == ()
    assert (labels.scan == 1).sum() == masks[1].sum()


@pytest.mark.parametrize("tilt", [{"tilt": 20.0}, {"lean": -15.0, "axes": turned(5, 8, 100)}])
def test_label_maps_stand_up_with_their_tilted_scan(tmp_path: Path, tilt: dict[str, float]) -> None:
    series = Series(**tilt, size=(12, 10))
    masks = exclusive(series)
    segmentation(series, tmp_path / "seg.dcm", masks)
    scan, labels, made = read(tmp_path, series)
    assert scan.lean is not None
    assert labels.scan.shape == scan.volume.grid.shape != labels.slices.shape
    assert np.array_equal(scan.back(labels.scan), labels.slices)
    assert (labels.scan > 0).sum() == masks.sum()
    place = {tuple(np.round(p, 3)): n for n, p in enumerate(made.world.reshape(-1, 3))}
    index = np.argwhere(labels.slices >= 0)
    wanted = [numbers(masks).ravel()[place[tuple(np.round(p, 3))]] for p in scan.grid.world(index)]
    assert np.array_equal(labels.slices.ravel(), wanted)
    upright = np.argwhere(labels.scan > 0)  # at most half a pixel from where it was drawn
    drawn = scan.grid.world(np.argwhere(labels.slices > 0))
    for point in scan.volume.grid.world(upright):
        assert np.abs(drawn - point).max(axis=1).min() <= 0.5 * 0.8 + 1e-3


def test_label_maps_follow_slices_that_are_blended_onto_even_distances(tmp_path: Path) -> None:
    series = Series(heights=[0, 2.5, 5, 7.5, 12.5, 15, 17.5, 20])
    masks = exclusive(series)
    segmentation(series, tmp_path / "seg.dcm", masks)
    scan, labels, _ = read(tmp_path, series, parse_policy(["gap=resample"]))
    assert scan.volume.grid.shape[2] == labels.scan.shape[2] == 9
    own = numbers(masks).transpose(2, 1, 0)
    assert np.array_equal(labels.scan[..., [0, 1, 2, 3, 5, 6, 7, 8]], own)
    assert np.array_equal(labels.scan[..., 4], own[..., 3])


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"PatientID": "OTHER"}, "another PatientID"),
        ({"FrameOfReferenceUID": "1.2.3.999"}, "another FrameOfReferenceUID"),
        ({"SegmentSequence": []}, "holds no segment"),
        ({"SegmentationType": "SURFACE"}, "SegmentationType 'SURFACE'"),
        ({"TotalPixelMatrixColumns": 512}, "tiled"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.5"}, "another kind"),
        ({"NumberOfFrames": 7}, "its header counts|states the place of"),
    ],
)
def test_what_does_not_belong_or_is_damaged_is_refused_in_one_line(tmp_path: Path, more: dict[str, object], what: str) -> None:
    segmentation(SERIES, tmp_path / "seg.dcm", exclusive(SERIES), **more)
    with pytest.raises(SegpipeError, match=what) as caught:
        read(tmp_path, SERIES)
    assert str(caught.value).startswith(str(tmp_path / "seg.dcm"))
    assert "\n" not in str(caught.value)
    assert "OTHER" not in str(caught.value) and "SECRET" not in str(caught.value)


def test_frames_on_a_multi_frame_series_and_both_in_an_archive(tmp_path: Path) -> None:
    import zipfile

    masks = exclusive(SERIES)
    enhanced(SERIES, tmp_path / "scan.dcm")
    segmentation(SERIES, tmp_path / "seg.dcm", masks, order=4)
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as archive:
        for name in ("scan.dcm", "seg.dcm"):
            archive.write(tmp_path / name, f"DICOM/{name}")
    (stack,) = list_stacks([tmp_path / "disc.zip"]).stacks
    scan = read_stack(stack, Policy())
    labels = read_drawn(Drawn((tmp_path / "disc.zip" / "DICOM" / "seg.dcm",), choices_of(ABC)), stack, scan)
    assert np.array_equal(labels.scan, expected(scan, masks))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_other_ways_to_write_the_same_file(tmp_path: Path, syntax: str) -> None:
    masks = exclusive(SERIES)
    path = segmentation(SERIES, tmp_path / "seg.dcm", masks)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, ds, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
    scan, labels, _ = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan, expected(scan, masks))


@pytest.mark.parametrize("added", [b"\0" * 9, b"\xff" * 20])
def test_bytes_that_were_put_into_the_pixels_are_seen(tmp_path: Path, added: bytes) -> None:
    path = segmentation(SERIES, tmp_path / "seg.dcm", exclusive(SERIES))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + added + whole[-30:])
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path, SERIES)


def test_an_empty_segmentation_is_an_empty_label_map(tmp_path: Path) -> None:
    segmentation(SERIES, tmp_path / "seg.dcm", np.zeros((3, 8, 7, 9), dtype=np.uint8), empty_frames=True)
    _, labels, _ = read(tmp_path, SERIES)
    assert not labels.scan.any()


def test_a_label_without_a_structure_is_refused_with_those_that_there_are_or_taken_as_background(tmp_path: Path) -> None:
    segmentation(SERIES, tmp_path / "seg.dcm", exclusive(SERIES))
    choices = choices_of({"A": "a", "D": "tumo*"})
    with pytest.raises(DataError, match=r"holds no structure 'tumo\*' for the label 'D'; there are 1 'a', 2 'b', 3 'c'; must have one"):
        read(tmp_path, SERIES, choices=choices)
    _, labels, _ = read(tmp_path, SERIES, choices=choices, missing="background")
    assert set(np.unique(labels.scan)) == {0, 1}
    assert "it is background" in labels.notes[0]


def test_no_cut_of_a_segmentation_gives_another_label_map(tmp_path: Path) -> None:
    segmentation(SERIES, tmp_path / "seg.dcm", exclusive(SERIES), order=0)
    whole = (tmp_path / "seg.dcm").read_bytes()
    made = SERIES.write(tmp_path / "scan")
    (stack,) = list_stacks(made.paths).stacks
    scan = read_stack(stack, Policy())
    for length in [*range(200, len(whole), 97), len(whole) - 2, len(whole) - 40]:
        (tmp_path / "seg.dcm").write_bytes(whole[:length])
        with pytest.raises(SegpipeError):
            read_drawn(Drawn((tmp_path / "seg.dcm",), choices_of(ABC)), stack, scan)


def test_a_real_segmentation_is_the_nrrd_file_of_the_same_mask(real_scans: Path) -> None:
    from segpipe.geometry.grid import Volume
    from segpipe.io.read import read_volume
    from tests.dicom.test_real_series import listing, upright

    folder = real_scans / "dicom_ct_liver_seg"
    (stack,) = listing(folder).stacks
    scan = read_stack(stack, Policy())
    labels = read_drawn(Drawn((folder / "liver.dcm",), choices_of({"liver": "code=T-62000"})), stack, scan)
    mine, other = upright(Volume(labels.scan[None], scan.volume.grid)), upright(read_volume(folder / "liver_seg.nrrd"))
    assert np.array_equal(mine.array > 0, other.array > 0)
    assert mine.grid.distance_mm(other.grid) < 0.01
    assert int(mine.array.sum()) == 107098
    with pytest.raises(DataError, match=r"'G' and 'O' have 3017 voxel\(s\) in common"):
        read_drawn(Drawn((folder / "partial_overlaps.dcm",), choices_of({"G": "green", "O": "orange"})), stack, scan)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_what_highdicom_writes_has_each_label_at_its_pixel(tmp_path: Path, kind: str) -> None:
    hd = pytest.importorskip("highdicom", reason="highdicom writes the segmentation that is read here")
    from pydicom.sr.codedict import codes

    made = SERIES.write(tmp_path / "scan")
    masks = exclusive(SERIES)
    sources = []
    for path in made.paths:
        ds = pydicom.dcmread(path)
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ds.StudyDate = ds.StudyTime = ""
        ds.ReferringPhysicianName = ds.PositionReferenceIndicator = ""
        sources.append(ds)
    described = [
        hd.seg.SegmentDescription(n, name, codes.SCT.Tissue, codes.SCT.Tissue, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate("abc", 1)
    ]
    pixels = numbers(masks).astype(np.uint8) if kind != "FRACTIONAL" else masks.transpose(1, 2, 3, 0).astype(np.float32)
    made_seg = hd.seg.Segmentation(
        sources, pixels, getattr(hd.seg.SegmentationTypeValues, kind), described, "1.2.3.4.5", 1, "1.2.3.4.6", 1, "m", "n", "1", "s"
    )
    made_seg.save_as(tmp_path / "seg.dcm")
    scan, labels, _ = read(tmp_path, SERIES)
    assert np.array_equal(labels.scan, expected(scan, masks))
