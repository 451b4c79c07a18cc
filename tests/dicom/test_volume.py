"""Series -> volumes: every voxel where its pixel lies to 0.01 mm, or a refusal that names the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.stack import Stack
from segpipe.dicom.verdict import classes_of, judge
from segpipe.dicom.volume import Scan, read_stack
from segpipe.errors import DataError
from tests.dicom.series import Series, enhanced, furthest_mm, signed_axes, turned

NEAR_MM = 0.01


def stacks_in(folder: Path) -> list[Stack]:
    return list(list_stacks(path for path in sorted(folder.rglob("*")) if path.is_file()).stacks)


def only(folder: Path) -> Stack:
    (stack,) = stacks_in(folder)
    return stack


def read(folder: Path, **policy: Any) -> Scan:
    return read_stack(only(folder), Policy(**policy))


def refusal(folder: Path, **policy: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, **policy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("axes", signed_axes(), ids=str)
def test_every_voxel_lies_where_its_pixel_does_in_all_24_ways_that_slices_lie(axes: Any, tmp_path: Path) -> None:
    made = Series(axes=axes).write(tmp_path)
    scan = read(tmp_path)
    assert scan.volume.array.shape == (1, 9, 7, 8)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 1e-6


@pytest.mark.parametrize("degrees", [(20, 0, 0), (0, -35, 0), (11, 23, 0), (-17, 31, 44), (80, -5, 170)], ids=str)
@pytest.mark.parametrize("digits", [9, 6])
def test_oblique_and_double_oblique_slices_lie_where_they_are(degrees: Any, digits: int, tmp_path: Path) -> None:
    made = Series(axes=turned(*degrees), digits=digits).write(tmp_path)
    scan = read(tmp_path)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < NEAR_MM
    assert classes_of(only(tmp_path)) == ("regular",)


def test_instance_numbers_and_file_names_do_not_matter(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(8)
    made = Series(reversed_numbers=True, names=lambda n: f"{order[n]}").write(tmp_path)
    assert furthest_mm(read(tmp_path).volume.array, read(tmp_path).volume.grid, made) < 1e-6


def test_files_without_preamble_and_slices_written_from_top_to_bottom_are_read(tmp_path: Path) -> None:
    made = Series(preamble=False, heights=[-2.5 * n for n in range(8)]).write(tmp_path)
    assert furthest_mm(read(tmp_path).volume.array, read(tmp_path).volume.grid, made) < 1e-6


@pytest.mark.parametrize("seed", range(12))
def test_random_series_lie_where_they_are(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    made = Series(
        axes=turned(*rng.uniform(-180, 180, 3)),
        heights=np.arange(rng.integers(2, 12)) * rng.uniform(0.3, 8) * rng.choice((-1, 1)),
        spacing=(float(rng.uniform(0.2, 3)), float(rng.uniform(0.2, 3))),
        size=(int(rng.integers(1, 9)), int(rng.integers(2, 9))),
        origin=rng.uniform(-300, 300, 3),
        modality=str(rng.choice(["CT", "MR", "PT"])),
    ).write(tmp_path)
    scan = read(tmp_path)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < NEAR_MM


@pytest.mark.parametrize("degrees", [5, -10, 15, 20, 25])
@pytest.mark.parametrize("axes", [((1, 0, 0), (0, 1, 0)), turned(0, 0, 30)], ids=["straight", "turned"])
def test_a_tilted_stack_keeps_its_true_places_on_a_sheared_grid(degrees: float, axes: Any, tmp_path: Path) -> None:
    made = Series(axes=axes, tilt=degrees).write(tmp_path)
    stack = only(tmp_path)
    assert classes_of(stack) == ("tilted",)
    assert f"tilted by {abs(degrees):.2f} degrees" in judge(stack, Policy()).why
    scan = read(tmp_path, tilted="accept")
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 1e-6
    assert furthest_mm(scan.volume.array, scan.grid, made) < 1e-6
    assert "tilted by" in refusal(tmp_path, tilted="refuse")


@pytest.mark.parametrize(("tilt", "lean"), [(15, 0), (-25, 0), (5, -12)])
def test_a_tilted_stack_stands_upright_and_label_maps_go_back_onto_its_slices(tilt: float, lean: float, tmp_path: Path) -> None:
    """A ball in the patient, whose shape is known: on the straight grid, and after the way back on the slices."""
    series = Series(tilt=tilt, lean=lean, size=(64, 60), heights=[1.5 * n for n in range(24)], axes=turned(0, 0, 12))
    world = series.world()
    centre = world.reshape(-1, 3).mean(axis=0)
    ball = np.linalg.norm(world - centre, axis=-1) < 11
    series.stored = (1000 * ball).astype(np.uint16)
    series.write(tmp_path)
    scan = read(tmp_path)
    straight = scan.volume.grid
    linear = straight.affine[:3, :3] / straight.spacing_mm
    assert np.allclose(linear.T @ linear, np.eye(3), atol=1e-6)
    index = np.stack(np.meshgrid(*map(np.arange, straight.shape), indexing="ij"), axis=-1)
    truth = np.linalg.norm(straight.world(index) - centre, axis=-1) < 11
    labels = (scan.volume.array[0] > 500).astype(np.uint8)
    assert 2 * (labels & truth).sum() / (labels.sum() + truth.sum()) > 0.985
    back = scan.back(labels)
    assert back.shape == scan.grid.shape == (60, 64, 24)
    mine = ball.transpose(2, 1, 0)
    assert 2 * (back & mine).sum() / (back.sum() + mine.sum()) > 0.985


def test_a_tilt_by_whole_pixels_comes_back_bit_for_bit(tmp_path: Path) -> None:
    made = Series(tilt=float(np.degrees(np.arctan(2 * 0.8 / 2.5))), digits=12).write(tmp_path)
    scan = read(tmp_path)
    labels = scan.back(scan.volume.array[0].astype(np.int32))
    assert furthest_mm(labels[None], scan.grid, made) < 1e-6


def test_missing_slices_are_refused_with_their_places(tmp_path: Path) -> None:
    heights = [2.5 * n for n in range(12) if n not in (4, 5, 9)]
    made = Series(heights=heights, origin=(0, 0, 0)).write(tmp_path)
    assert classes_of(only(tmp_path)) == ("gap",)
    text = refusal(tmp_path)
    assert "3 slice(s) are missing: 2 between 7.50 and 15.00 mm, 1 between 20.00 and 25.00 mm" in text
    scan = read(tmp_path, gap="resample")
    assert scan.volume.grid.shape[2] == 12
    kept = [n for n in range(12) if n not in (4, 5, 9)]
    for n, k in enumerate(kept):
        assert np.array_equal(scan.volume.array[0, :, :, k], made.stored[n].T)
        assert np.allclose(scan.volume.grid.world(np.array([0, 0, k])), made.world[n, 0, 0], atol=1e-6)
    between = scan.volume.array[0, :, :, 9]
    assert np.allclose(between, (made.stored[6].T.astype(float) + made.stored[7].T) / 2)


def test_more_slices_than_there_are_are_not_made_up(tmp_path: Path) -> None:
    Series(heights=[0, 2, 4, 60, 62]).write(tmp_path)
    assert classes_of(only(tmp_path)) == ("gap",)
    assert "not made up" in refusal(tmp_path, gap="resample")


def test_varying_distances_are_refused_with_their_places(tmp_path: Path) -> None:
    heights = [0, 2.5, 5, 7.5, 10, 15, 20, 25, 30]
    Series(heights=heights, origin=(0, 0, 0)).write(tmp_path)
    assert classes_of(only(tmp_path)) == ("variable",)
    text = refusal(tmp_path)
    assert "2.50 to 5.00 mm" in text
    assert "between 10.00 and 15.00 mm" in text or "between 0.00 and 2.50 mm" in text
    scan = read(tmp_path, variable="resample")
    assert scan.volume.grid.spacing_mm[2] == pytest.approx(2.5)
    assert scan.volume.grid.shape[2] == 13


@pytest.mark.parametrize("off", [0.05, 0.3, 1.0])
def test_one_slice_that_is_off_is_found_by_its_height_or_sideways(off: float, tmp_path: Path) -> None:
    series = Series()
    positions = series.positions()
    for name, direction in (("up", (0, 0, 1)), ("side", (0.6, 0.8, 0))):
        moved = positions[4] + off * np.array(direction)
        Series(each=lambda n, moved=moved: {"ImagePositionPatient": [f"{x:.6f}" for x in moved]} if n == 4 else {}).write(tmp_path / name)
        assert "mm" in refusal(tmp_path / name)
    assert "shifted sideways" in refusal(tmp_path / "side")
    assert "must lie straight" in refusal(tmp_path / "side", variable="resample")


def test_positions_that_are_rounded_to_a_tenth_are_no_varying_distances(tmp_path: Path) -> None:
    made = Series(heights=[0.625 * n for n in range(30)], digits=1, axes=((1, 0, 0), (0, 1, 0))).write(tmp_path)
    scan = read(tmp_path)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 0.06


def test_exact_copies_are_dropped_and_other_pictures_of_one_place_are_refused(tmp_path: Path) -> None:
    made = Series(origin=(0, 0, 0)).write(tmp_path)
    (tmp_path / "copy").write_bytes(made.paths[2].read_bytes())
    stack = only(tmp_path)
    assert classes_of(stack) == ("duplicate",)
    assert "at 5.00 mm, exact copies are dropped" in judge(stack, Policy()).why
    scan = read(tmp_path)
    assert scan.volume.array.shape[3] == 8
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 1e-6
    assert "5.00 mm" in refusal(tmp_path, duplicate="refuse")
    other = Series(origin=(0, 0, 0), stored=made.stored + 1, each=lambda n: {"SOPInstanceUID": "1.2.9"})
    other.write(tmp_path / "other")
    (tmp_path / "copy").write_bytes((tmp_path / "other" / "IM0002").read_bytes())
    for path in (tmp_path / "other").iterdir():
        path.unlink()
    assert "different pictures of one place, at 5.00 mm" in refusal(tmp_path)


def test_a_whole_folder_that_was_copied_gives_one_volume(tmp_path: Path) -> None:
    made = Series().write(tmp_path / "a")
    Series().write(tmp_path / "b")
    scan = read(tmp_path)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 1e-6


def test_one_slice_is_refused_unless_allowed(tmp_path: Path) -> None:
    made = Series(heights=[4.0]).write(tmp_path)
    assert "one slice" in refusal(tmp_path)
    scan = read(tmp_path, single="accept")
    assert scan.volume.grid.spacing_mm[2] == pytest.approx(2.5)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 1e-6


@pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_header_that_does_not_say_where_it_lies_is_refused(name: str, tmp_path: Path) -> None:
    Series(without=[name]).write(tmp_path)
    assert f"{name} missing" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "no pair of unit vectors"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 0]}, "no pair of unit vectors"),
        ({"PixelSpacing": [0, 0.7]}, "must be positive"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope of 0"),
        ({"BitsStored": 12, "HighBit": 14}, "must be 11"),
        ({"NumberOfFrames": 2}, "does not say where each lies"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "in colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "in colour"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    Series(more=more).write(tmp_path)
    assert words in refusal(tmp_path)


def test_two_slices_side_by_side_are_refused(tmp_path: Path) -> None:
    Series(origin=(0, 0, 0)).write(tmp_path / "a")
    Series(origin=(30, 0, 0), each=lambda n: {"SOPInstanceUID": f"1.9.{n}"}).write(tmp_path / "b")
    assert "side by side, 30.00 mm apart" in refusal(tmp_path)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_multi_frame_object_is_read_by_the_places_of_its_frames(modality: str, shared: bool, tmp_path: Path) -> None:
    series = Series(axes=turned(10, 20, 30), heights=[7.5, 0, 2.5, 5, 12.5, 10], modality=modality)
    made = enhanced(series, tmp_path / "x", shared)
    stack = only(tmp_path)
    assert classes_of(stack) == ("multiframe", "regular")
    scan = read(tmp_path)
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < NEAR_MM
    assert "multi-frame" in refusal(tmp_path, multiframe="refuse")


def test_a_multi_frame_object_with_a_gap_or_a_tilt_is_classified_as_such(tmp_path: Path) -> None:
    enhanced(Series(heights=[0, 2.5, 5, 10, 12.5, 15]), tmp_path / "gap" / "x")
    enhanced(Series(tilt=12, modality="MR"), tmp_path / "tilt" / "x")
    assert classes_of(only(tmp_path / "gap")) == ("multiframe", "gap")
    assert "1 slice(s) are missing" in refusal(tmp_path / "gap")
    assert classes_of(only(tmp_path / "tilt")) == ("multiframe", "tilted")
