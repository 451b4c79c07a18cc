"""The report of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe.dicom.terms import SegmentLabel, parse_term
from tests.dicom.series import Series, turned
from tests.dicom.writing.given import blobs, faults, given, laid, needs_highdicom, read, written

highdicom: Any = needs_highdicom()


def groups_of(path: Path) -> list[Any]:
    return highdicom.sr.srread(path).content.get_volumetric_roi_measurement_groups()


def test_volumes_are_counts_of_voxels_in_ml_and_each_names_its_segment(tmp_path: Path) -> None:
    made = Series(axes=turned(11, -23, 31)).write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    labels = laid(blobs(made.stored.shape), numbers)
    seg, sr = written(source, labels, tmp_path, "dicom-seg", "sr")
    assert faults(sr) == []
    groups = groups_of(sr)
    assert [group.tracking_identifier for group in groups] == ["PZ", "TZ"]
    for number, (group, value) in enumerate(zip(groups, (1, 7), strict=True), 1):
        (volume,) = group.get_measurements()
        assert volume.value == pytest.approx((labels == value).sum() * 0.8 * 0.7 * 2.5 / 1000, rel=1e-6)
        assert (volume.unit.value, volume.unit.scheme_designator) == ("ml", "UCUM")
        segment = group.referenced_segmentation_frame if hasattr(group, "referenced_segmentation_frame") else group.referenced_segment
        text = str(segment)
        assert str(read(seg).SOPInstanceUID) in text
        assert group.tracking_uid == read(seg).SegmentSequence[number - 1].TrackingUID
    evidence = str(read(sr).CurrentRequestedProcedureEvidenceSequence)
    assert str(read(seg).SOPInstanceUID) in evidence


def algorithm_parameters(path: Path) -> list[str]:
    found = []

    def look(item: Any) -> None:
        for one in item.get("ContentSequence") or []:
            if one.ConceptNameCodeSequence[0].CodeMeaning == "Algorithm Parameters":
                found.append(str(one.TextValue))
            look(one)

    look(read(path))
    return found


@pytest.mark.parametrize(
    ("policy", "heights", "slices"),
    [
        ("gap=resample", [2.5 * n for n in range(9) if n != 4], 9),
        ("variable=resample", [0, 2.5, 5, 8.1, 10.6, 13.1, 17, 20], 9),
        ("", [2.5 * n for n in range(8)], 8),
    ],
)
def test_volumes_that_count_slices_which_the_series_lacks_say_so(policy: str, heights: list[float], slices: int, tmp_path: Path) -> None:
    Series(heights=heights).write(tmp_path / "in")
    source, _ = given(tmp_path / "in", policy or "tilted=accept")
    labels = np.zeros(source.grid.shape, np.uint8)
    labels[2:6, 2:5] = 1
    seg, sr = written(source, labels, tmp_path, "dicom-seg", "sr")
    volume = groups_of(sr)[0].get_measurements()[0].value
    assert volume == pytest.approx((labels == 1).sum() * source.grid.voxel_volume_ml, rel=1e-6)
    told = algorithm_parameters(sr)
    assert int(read(seg).NumberOfFrames) == 8 and source.grid.shape[2] == slices
    if slices == 8:
        assert told == []
    else:
        assert len(told) == 2
        assert "on 9 evenly spaced slices, where the series has 8" in told[0]
    assert faults(sr) == []


def test_a_label_that_is_nowhere_has_0_ml(tmp_path: Path) -> None:
    Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    _, sr = written(source, np.zeros(numbers.shape, np.uint8), tmp_path, "dicom-seg", "sr")
    assert [group.get_measurements()[0].value for group in groups_of(sr)] == [0, 0]
    assert faults(sr) == []


@pytest.mark.parametrize("modifier", ["SCT 255549009 Anterior", "SCT 7771000 Left"])
def test_parts_and_sides_are_finding_sites(modifier: str, tmp_path: Path) -> None:
    made = Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    table = (SegmentLabel(1, "part", parse_term(["SCT 5366008 Hippocampus", modifier])),)
    _, sr = written(source, laid(blobs(made.stored.shape), numbers), tmp_path, "dicom-seg", "sr", table=table)
    assert modifier.split()[1] in str(read(sr))
    assert faults(sr) == []
