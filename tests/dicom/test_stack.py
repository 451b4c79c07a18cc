"""Which pictures of a series make one volume, and which are no scan at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.stack import Stack
from segpipe.dicom.verdict import classes_of, judge
from segpipe.dicom.volume import read_stack
from segpipe.errors import DataError
from tests.dicom.series import Made, Series, enhanced, furthest_mm, save, turned


def found(folder: Path) -> list[Stack]:
    return list(list_stacks(path for path in sorted(folder.rglob("*")) if path.is_file()).stacks)


def endings(folder: Path) -> list[str]:
    """What the names of the stacks add to the name of their series."""
    return sorted("_" + "_".join(stack.name.split("_")[2:]) for stack in found(folder))


def check(stack: Stack, made: Made) -> None:
    scan = read_stack(stack, Policy())
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 0.01


def marked(start: int, **more: Any) -> Any:
    """Attributes of a slice, with an instance UID of its own."""
    return lambda n: {"SOPInstanceUID": f"1.5.{start}.{n}", **more}


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"EchoTime": "10"}, {"EchoTime": "90.5"}, ["_te10", "_te90.5"]),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}, ["_b0", "_b800"]),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, ["_t1", "_t2"]),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, ["_a1", "_a2"]),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, ["_1", "_2"]),
        ({"TriggerTime": "0"}, {"TriggerTime": "40"}, ["_1", "_2"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, (dict, list)) else "",
)
def test_pictures_of_one_series_that_show_different_things_are_volumes_of_their_own(
    one: dict[str, Any], other: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    first = Series(modality="MR", each=marked(1, **one)).write(tmp_path / "a")
    second = Series(modality="MR", each=marked(2, **other)).write(tmp_path / "b")
    assert endings(tmp_path) == names
    for stack in found(tmp_path):
        check(stack, first if stack.first.path.parent.name == "a" else second)
        assert len({plane.path.parent for plane in stack.planes}) == 1


def test_orientation_spacing_and_size_make_stacks_of_their_own(tmp_path: Path) -> None:
    made = {
        "axial": Series(),
        "coronal": Series(axes=((1, 0, 0), (0, 0, -1)), each=marked(1)),
        "fine": Series(spacing=(0.4, 0.35), each=marked(2)),
        "large": Series(size=(9, 9), each=marked(3)),
    }
    on_disk = {name: series.write(tmp_path / name) for name, series in made.items()}
    assert len(found(tmp_path)) == 4
    for stack in found(tmp_path):
        check(stack, on_disk[stack.first.path.parent.name])


def test_the_packages_of_one_interleaved_stack_stay_together(tmp_path: Path) -> None:
    made = Series(modality="MR", each=lambda n: {"AcquisitionNumber": 1 + n % 2}).write(tmp_path)
    (stack,) = found(tmp_path)
    check(stack, made)


def test_an_acquisition_number_for_each_slice_divides_nothing(tmp_path: Path) -> None:
    made = Series(each=lambda n: {"AcquisitionNumber": n}).write(tmp_path)
    (stack,) = found(tmp_path)
    check(stack, made)


def test_an_interleaved_package_with_a_missing_slice_does_not_become_two_coarse_volumes(tmp_path: Path) -> None:
    heights = [2.5 * n for n in range(12) if n != 5]
    Series(heights=heights, each=lambda n: {"AcquisitionNumber": 1 + (n + (n >= 5)) % 2}).write(tmp_path)
    (stack,) = found(tmp_path)
    assert classes_of(stack) == ("gap",)


def test_two_acquisitions_one_above_the_other_are_two_volumes(tmp_path: Path) -> None:
    below = Series(each=marked(1, AcquisitionNumber=1)).write(tmp_path / "a")
    above = Series(heights=[41 + 2.5 * n for n in range(6)], each=marked(2, AcquisitionNumber=2)).write(tmp_path / "b")
    one, other = sorted(found(tmp_path), key=lambda stack: stack.first.path)
    check(one, below)
    check(other, above)


def test_pictures_of_one_place_that_nothing_tells_apart_are_not_guessed_at(tmp_path: Path) -> None:
    for n in range(3):
        Series(stored=Series().values() + 600 * n, each=marked(n)).write(tmp_path / str(n))
    (stack,) = found(tmp_path)
    with pytest.raises(Exception, match="3 of them: a time series"):
        read_stack(stack, Policy())


def test_several_series_in_one_folder_are_told_apart_whatever_the_files_are_called(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    on_disk = {}
    for seed in range(1, 6):
        axes = turned(*rng.uniform(-90, 90, 3))
        series = Series(seed=seed, number=seed, axes=axes, names=lambda n, seed=seed: f"{1009 * (n * 7 + seed) % 997}")
        on_disk[seed] = series.write(tmp_path)
    stacks = found(tmp_path)
    assert [stack.first.number for stack in stacks] == [1, 2, 3, 4, 5]
    for stack in stacks:
        check(stack, on_disk[stack.first.number or 0])


def test_a_series_whose_uids_were_taken_away_is_its_folder(tmp_path: Path) -> None:
    without = ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"]
    one = Series(without=without).write(tmp_path / "a")
    other = Series(without=without, origin=(0, 0, 0), each=marked(1)).write(tmp_path / "b")
    first, second = sorted(found(tmp_path), key=lambda stack: stack.first.path)
    assert first.name != second.name
    check(first, one)
    check(second, other)


def test_names_tell_nothing_of_the_patient_and_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    Series(seed=5, number=12).write(tmp_path / "Secret_Name")
    Series(seed=5, number=12).write(tmp_path / "elsewhere")
    (one,), (other,) = found(tmp_path / "Secret_Name"), found(tmp_path / "elsewhere")
    assert one.name == other.name
    assert one.name.endswith("_12")
    assert len(one.name) == 15
    assert not any(word in one.name.lower() for word in ("secret", "name", "1.2.3"))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR", "CSA MPR"]}, "computed from another series (MPR)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"]}, "computed from another series (MIP)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screenshot"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a screenshot or converted picture (secondary capture)"),
        ({"Modality": "RTDOSE"}, "a dose"),
    ],
    ids=str,
)
def test_what_is_no_scan_is_left_out_with_the_reason(more: dict[str, Any], why: str, tmp_path: Path) -> None:
    Series(more=more).write(tmp_path / "no scan")
    made = Series(seed=2).write(tmp_path / "scan")
    listing = list_stacks(path for path in tmp_path.rglob("*") if path.is_file())
    assert [left.why for left in listing.left_out] == [why]
    assert len(listing.left_out[0].planes) == 8
    (stack,) = listing.stacks
    check(stack, made)


def test_a_derived_series_that_is_no_reformat_stays(tmp_path: Path) -> None:
    Series(modality="MR", more={"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}).write(tmp_path)
    assert len(found(tmp_path)) == 1


def test_reports_and_radiographs_are_left_out(tmp_path: Path) -> None:
    report, chest = Dataset(), Series(more={"Modality": "DX"}, without=["ImagePositionPatient", "ImageOrientationPatient"], heights=[0.0])
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.5", "SR"
    report.StudyInstanceUID, report.SeriesInstanceUID = "1.2.3.77", "1.2.3.78"
    save(report, tmp_path / "sr")
    chest.write(tmp_path / "dx")
    listing = list_stacks(path for path in tmp_path.rglob("*") if path.is_file())
    assert not listing.stacks
    assert sorted(left.why for left in listing.left_out) == ["a picture without a place in the patient (DX)", "a report"]


def test_frames_of_one_object_with_several_b_values_are_volumes_of_their_own(tmp_path: Path) -> None:
    series = Series(modality="MR", heights=[2.5 * (n // 2) for n in range(12)])

    def weighted(n: int) -> Dataset:
        frame, diffusion = Dataset(), Dataset()
        diffusion.DiffusionBValue = float(1000 * (n % 2))
        frame.MRDiffusionSequence = [diffusion]
        return frame

    made = enhanced(series, tmp_path / "x", each=weighted)
    assert endings(tmp_path) == ["_b0", "_b1000"]
    for stack in found(tmp_path):
        assert len(stack.planes) == 6
        check(stack, made)


@pytest.mark.parametrize(
    ("creator", "group", "element", "value", "b"),
    [
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "750", 750),
        ("GEMS_PARM_01", 0x0043, 0x39, ["1000000050", "8", "0", "0"], 50),
        ("Philips Imaging DD 001", 0x2001, 0x03, 400.0, 400),
    ],
)
def test_vendors_own_b_values_are_known(creator: str, group: int, element: int, value: Any, b: float, tmp_path: Path) -> None:
    made = Series(modality="MR").write(tmp_path)
    for path in made.paths[:4]:
        ds = pydicom.dcmread(path)
        ds.private_block(group, creator, create=True).add_new(element, "FL" if isinstance(value, float) else "IS", value)
        ds.save_as(path)
    assert {stack.first.b_value for stack in found(tmp_path)} == {b, None}


@pytest.mark.parametrize(
    ("who", "attribute"),
    [
        ({"PatientID": "OTHER8"}, "PatientID"),
        ({"PatientID": ""}, "PatientID"),
        ({"PatientName": "Hidden^Person"}, "PatientName"),
        ({"PatientBirthDate": "19500204"}, "PatientBirthDate"),
    ],
    ids=str,
)
@pytest.mark.parametrize("copies", [False, True])
def test_slices_of_two_patients_make_no_volume(who: dict[str, Any], attribute: str, copies: bool, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    if copies:  # an original and a pseudonymised copy of it
        Series().write(one)
        Series(more=who).write(other)
    else:
        Series(each=lambda n: who if n > 3 else {}).write(one)
    (stack,) = found(tmp_path)
    verdict = judge(stack, Policy(duplicate="accept"))
    assert verdict.action == "refuse"
    assert "holds slices of two patients (" in verdict.why and f"differ in {attribute})" in verdict.why
    assert str(one / "IM0000") in verdict.why and "\n" not in verdict.why
    assert not any(word in verdict.why for word in ("Secret", "SECRET7", "OTHER8", "Hidden", "19500204"))
    with pytest.raises(DataError, match="slices of two patients"):
        read_stack(stack, Policy(duplicate="accept"))


def test_empty_parts_at_the_end_of_a_name_make_no_second_patient(tmp_path: Path) -> None:
    made = Series(each=lambda n: {"PatientName": "Secret^Name^^" if n % 2 else "SECRET^NAME"}).write(tmp_path)
    (stack,) = found(tmp_path)
    check(stack, made)


def test_a_policy_that_refuses_regular_series_says_so(tmp_path: Path) -> None:
    Series().write(tmp_path)
    (stack,) = found(tmp_path)
    verdict = judge(stack, Policy(regular="refuse"))
    assert verdict.action == "refuse"
    assert verdict.why
