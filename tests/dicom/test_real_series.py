"""Real series beside what other programs have made of the same scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segpipe.dicom.listing import Listing, list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.proof import furthest_mm
from segpipe.dicom.verdict import judge
from segpipe.dicom.volume import read_stack
from segpipe.geometry.grid import Volume
from segpipe.geometry.orient import closest_axes, permute_flip, permuted_grid
from segpipe.io.read import read_volume

CASES = ("prostatex_0000", "prostatex_0001", "prostate3t_03_0001")


def listing(folder: Path) -> Listing:
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return list_stacks(path for path in folder.rglob("*") if path.is_file())


def upright(volume: Volume) -> Volume:
    """In the order of the closest RAS axes."""
    axes, flipped = closest_axes(volume.grid)
    return Volume(permute_flip(volume.array, axes, flipped), permuted_grid(volume.grid, axes, flipped))


@pytest.mark.parametrize("case", CASES)
def test_prostate_series_are_the_nifti_files_of_the_same_scans(case: str, real_scans: Path) -> None:
    (stack,) = listing(real_scans / "prostate_t2" / "dicom" / case).stacks
    scan = read_stack(stack, Policy())
    mine, other = upright(scan.volume), upright(read_volume(real_scans / "prostate_t2" / "images" / f"{case}.nii.gz"))
    assert np.array_equal(mine.array, other.array)
    assert mine.grid.distance_mm(other.grid) < 0.01
    assert stack.layout is not None
    assert furthest_mm(stack, stack.layout, scan.volume.grid) < 1e-3


def test_a_jpeg_2000_series_lies_where_the_label_map_of_its_grid_does(real_scans: Path) -> None:
    (stack,) = listing(real_scans / "dicom_ct_jpeg2000" / "dicom").stacks
    if judge(stack, Policy()).action == "refuse":
        pytest.skip(judge(stack, Policy()).why)
    volume = upright(read_stack(stack, Policy()).volume)
    labels = upright(read_volume(real_scans / "dicom_ct_jpeg2000" / "seg_on_dicom_grid.nii.gz"))
    assert volume.grid.distance_mm(labels.grid) < 0.01
    assert volume.array.min() == -1024
    inside = volume.array[labels.array > 0]
    assert -100 < np.median(inside) < 200


def test_segmentations_and_contours_are_left_out(real_scans: Path) -> None:
    ct, mock = listing(real_scans / "dicom_ct_liver_seg"), listing(real_scans / "dicom_rtstruct_mock")
    assert [len(stack.planes) for stack in (*ct.stacks, *mock.stacks)] == [3, 2]
    assert sorted(left.why for left in (*ct.left_out, *mock.left_out)) == ["a segmentation"] * 2 + ["contours (RT Structure Set)"] * 2
    volume = upright(read_stack(ct.stacks[0], Policy()).volume)
    mask = upright(read_volume(real_scans / "dicom_ct_liver_seg" / "liver_seg.nrrd"))
    assert volume.grid.distance_mm(mask.grid) < 0.01
    assert 0 < np.median(volume.array[mask.array > 0]) < 200


def test_every_real_series_lies_where_its_headers_say(real_scans: Path) -> None:
    found = listing(real_scans / "dicom_mr_hippocampus")
    assert len(found.stacks) == 2
    for stack in found.stacks:
        assert stack.layout is not None
        assert furthest_mm(stack, stack.layout, read_stack(stack, Policy()).volume.grid) < 0.01
