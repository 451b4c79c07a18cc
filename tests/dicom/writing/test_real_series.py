"""Results on real series: masks that others have drawn, written and read back; and the same model on both forms of a scan."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.commands.convert import convert
from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.request import slices_of
from segpipe.dicom.terms import SegmentLabel
from segpipe.dicom.writing.source import Source, read_source
from segpipe.dicom.writing.wanted import KINDS
from segpipe.io.read import read_volume
from tests.commands.test_predict import untrained_model
from tests.conftest import Run
from tests.dicom.writing.given import TABLE, faults, needs_highdicom, read, seg_on, written
from tests.dicom.writing.test_contours import within

highdicom: Any = needs_highdicom()

CASES = ("prostatex_0000", "prostatex_0001", "prostate3t_03_0001")


def sources(folder: Path) -> list[Source]:
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    stacks = list_stacks(path for path in folder.rglob("*") if path.is_file()).stacks
    return [read_source(slices_of(stack, Policy())) for stack in stacks]


def of_nifti(path: Path, source: Source) -> NDArray[Any]:
    """A label map in a file, on the source's grid, voxel by voxel by where they lie."""
    mask = read_volume(path)
    index = np.stack(np.indices(source.grid.shape), axis=-1).reshape(-1, 3)
    there = np.linalg.solve(mask.grid.affine, np.c_[source.grid.world(index), np.ones(len(index))].T).T[:, :3]
    assert np.abs(there - np.round(there)).max() < 0.05
    values: NDArray[Any] = mask.array[0][tuple(np.round(there).astype(int).T)].reshape(source.grid.shape)
    return values


def check(source: Source, labels: NDArray[Any], table: tuple[SegmentLabel, ...], out: Path) -> None:
    """Every kind without an error; segmentation and contours voxel for voxel."""
    paths = written(source, labels, out, *KINDS, table=table)
    assert [faults(path) for path in paths] == [[]] * len(KINDS)
    found, contours = seg_on(read(paths[0]), source.grid), contour_masks(read(paths[1]), source)
    for number, label in enumerate(table, 1):
        assert np.array_equal(found.get(number, np.zeros(labels.shape, dtype=bool)), labels == label.value)
        assert np.array_equal(contours[number], source.on_planes(labels) == label.value)
    volume = highdicom.seg.segread(paths[0]).get_volume(combine_segments=True)
    assert (volume.array > 0).sum() == np.isin(labels, [label.value for label in table]).sum()


def contour_masks(ds: Any, source: Source) -> dict[int, NDArray[np.bool_]]:
    masks = {}
    for item in ds.ROIContourSequence:
        mask = np.zeros((len(source.planes), source.first.rows, source.first.columns), dtype=bool)
        instances = [plane.instance for plane in source.planes]
        for contour in item.get("ContourSequence", []):
            k = instances.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
            plane = source.planes[k]
            assert plane.orientation is not None
            assert plane.spacing is not None
            flat = np.array(contour.ContourData, dtype=float).reshape(-1, 3) - np.array(plane.position)
            ring = np.stack([flat @ plane.orientation[:3] / plane.spacing[1], flat @ plane.orientation[3:] / plane.spacing[0]], axis=1)
            low, high = np.floor(ring.min(axis=0)).astype(int), np.ceil(ring.max(axis=0)).astype(int) + 1
            x, y = np.maximum(low, 0)
            part = mask[k, y : high[1], x : high[0]]
            part ^= within(ring - (x, y), part.shape)
        masks[int(item.ReferencedROINumber)] = mask
    return masks


@pytest.mark.parametrize("case", CASES)
def test_prostate_zones_come_back_voxel_for_voxel(case: str, real_scans: Path, tmp_path: Path) -> None:
    (source,) = sources(real_scans / "prostate_t2" / "dicom" / case)
    labels = of_nifti(real_scans / "prostate_t2" / "zones_pz_tz" / f"{case}.nii.gz", source)
    check(source, labels, (TABLE[0], SegmentLabel(2, "TZ", TABLE[1].term)), tmp_path)


def test_a_liver_on_a_ct_and_balls_on_the_hippocampus_series_come_back_too(real_scans: Path, tmp_path: Path) -> None:
    (ct,) = sources(real_scans / "dicom_ct_liver_seg" / "ct")
    labels = of_nifti(real_scans / "dicom_ct_liver_seg" / "liver_seg.nrrd", ct)
    check(ct, (labels > 0).astype(np.uint8), (SegmentLabel(1, "Liver"),), tmp_path)
    for source in sources(real_scans / "dicom_mr_hippocampus"):
        i, j, k = np.indices(source.grid.shape)
        half = np.array(source.grid.shape) / 2
        radius = ((i - half[0]) / half[0]) ** 2 + ((j - half[1]) / half[1]) ** 2 + ((k - half[2]) / half[2]) ** 2
        check(source, np.where(radius < 0.2, 0, np.where(radius < 0.5, 7, radius < 0.7)).astype(np.uint8), TABLE, tmp_path)


def test_the_command_gives_one_label_map_for_a_scan_as_nifti_and_as_series(real_scans: Path, tmp_path: Path, segpipe: Run) -> None:
    source, nifti, out, other = (tmp_path / name for name in ("source", "nifti", "out", "other"))
    for name, folder in (("t2", "prostate_t2/dicom"), ("mr", "dicom_mr_hippocampus"), ("ct", "dicom_ct_liver_seg/ct")):
        if not (real_scans / folder).is_dir():
            pytest.skip(f"no {real_scans / folder}")
        shutil.copytree(real_scans / folder, source / name)
    model = untrained_model(tmp_path / "model.ts", spacing_mm=(1.5, 1.5, 3.0))
    plain = ("--runtime", "torch", "--precision", "fp32")
    convert(source, nifti, (), False)
    series = segpipe("predict", str(model), str(source), str(out), "--format", "nifti,dicom-seg", *plain)
    assert series.returncode == 0, series.stderr
    assert segpipe("predict", str(model), str(nifti), str(other), *plain).returncode == 0
    cases = sorted(path.name for path in out.glob("*.nii.gz"))
    assert cases == sorted(path.name for path in other.glob("*.nii.gz"))
    assert len(cases) == len(list_stacks(path for path in source.rglob("*") if path.is_file()).stacks)
    for case in cases:
        one, two = read_volume(out / case), read_volume(other / case)
        assert np.array_equal(one.array, two.array)
        assert one.grid.same_as(two.grid)
        found = seg_on(read(out / case.replace(".nii.gz", "_seg.dcm")), one.grid)
        nowhere = np.zeros(one.grid.shape, dtype=bool)
        for segment in (1, 2):
            assert np.array_equal(found.get(segment, nowhere), one.array[0] == segment)


def test_names_of_the_files_of_one_case_do_not_collide_with_those_of_another() -> None:
    from segpipe.dicom.writing.wanted import result_files

    names = [path.name for case in ("a", "a_seg", "a_1") for path in result_files(Path(case), KINDS)]
    assert all(one != other for one, other in itertools.combinations(names, 2))
