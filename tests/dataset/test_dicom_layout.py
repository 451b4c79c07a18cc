"""A folder of DICOM as a data set: paired, grouped, measured, and the same to a training as NIfTI files of the same voxels."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from scipy.spatial import cKDTree

from segpipe.commands.convert import convert
from segpipe.dataset.audit import audit, can_train
from segpipe.dataset.case import DataSet
from segpipe.dataset.finding import Finding
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.dataset.open import open_case, write_truths
from segpipe.dataset.split import make_split
from segpipe.errors import ConfigError, DataError
from segpipe.geometry.grid import Volume
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map
from segpipe.settings import DatasetSettings, DicomSettings
from tests.dicom.annotations import segmentation
from tests.dicom.examinations import study, write_study


def settings(root: Path, **dicom: Any) -> DatasetSettings:
    return DatasetSettings(root=str(root), layout="dicom", dicom=DicomSettings(**dicom))


def load(root: Path, **dicom: Any) -> DataSet:
    return load_dataset(settings(root, **dicom))


def found(root: Path, **dicom: Any) -> list[Finding]:
    data = load(root, **dicom)
    return audit(data, measure(data, workers=1))


def errors(root: Path, **dicom: Any) -> str:
    return "\n".join(f"{one.case} {one.what}: {one.cure}" for one in found(root, **dicom) if one.severity == "error")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        write_study(tmp_path / "data", number)
    return tmp_path / "data"


def test_series_are_paired_with_what_was_drawn_on_them(root: Path) -> None:
    data = load(root)
    assert (data.layout, len(data.cases), data.channels) == ("dicom", 3, ("image",))
    assert data.label_names == {1: "core", 2: "shell"}
    assert data.modalities == ("MR",)
    assert [case.label.name for case in data.cases if case.label] == ["SEG.dcm"] * 3
    assert len({case.group for case in data.cases}) == 3
    assert can_train(audit(data, measure(data)))
    text = repr(data)
    assert "PATIENT" not in text and "Secret" not in text


def test_labels_are_chosen_and_named_in_the_config(root: Path) -> None:
    data = load(root, labels={"Schale": "sh*", "Kern": "number=2"})
    assert data.label_names == {1: "Schale", 2: "Kern"}
    by_case = {case.case: case for case in measure(data)}
    for number in range(3):
        made = study(number)
        (facts,) = [by_case[case.name] for case in data.cases if case.images[0].parent.name == f"study{number}"]
        assert facts.label is not None
        assert {value: facts.label.voxels[value] for value in (1, 2)} == {1: made.masks[0].sum(), 2: made.masks[1].sum()}


def as_nifti(root: Path, folder: Path) -> DatasetSettings:
    """The same voxels as files: the scans by `segpipe convert`, the label maps from the masks that the SEG files were made of."""
    convert(root, folder / "images", (), False)
    for number in range(3):
        made = study(number)
        (scan,) = [
            path
            for path in (folder / "images").rglob("*.nii.gz")
            if np.array_equal(read_volume(path).array[0].ravel().sum(), made.series.values().sum())
        ]
        grid = read_volume(scan)
        flat = (made.masks * np.array([2, 1])[:, None, None, None]).sum(axis=0).ravel()
        index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        apart, nearest = cKDTree(made.series.world().reshape(-1, 3)).query(grid.grid.world(index))
        assert apart.max() < 1e-3
        labels = flat[nearest].astype(np.uint8)
        (folder / "labels").mkdir(exist_ok=True)
        write_label_map(folder / "labels" / scan.name, labels.reshape(grid.grid.shape), grid.grid)
    flat_images = folder / "flat"
    flat_images.mkdir()
    for path in (folder / "images").rglob("*.nii.gz"):
        shutil.copy(path, flat_images / path.name)
    return DatasetSettings(root=str(folder), layout="folders", images="flat", labels="labels", label_names={"1": "core", "2": "shell"})


def test_prepared_arrays_are_those_of_nifti_files_of_the_same_voxels_bit_for_bit(root: Path, tmp_path: Path) -> None:
    from segpipe.dataset.fingerprint import fingerprint
    from segpipe.plan.planner import make_plan
    from segpipe.settings import PlanSettings, Settings
    from segpipe.training.data import prepare_case

    nifti = load_dataset(as_nifti(root, tmp_path / "nifti"))
    data = load(root)
    assert [case.name for case in data.cases] == [case.name for case in nifti.cases]
    plan = make_plan("task", fingerprint(data, measure(data)), Settings(plan=PlanSettings(spacing_mm=[1.0, 0.9, 1.7])), "cpu")
    for one, other in zip(data.cases, nifti.cases, strict=True):
        mine, its = prepare_case(one, plan).prepared, prepare_case(other, plan).prepared
        assert mine.image.equal(its.image)
        assert mine.label is not None and its.label is not None
        assert mine.label.equal(its.label)
        assert set(mine.label.unique().tolist()) == {0, 1, 2}


def test_an_untilted_and_a_tilted_series_have_their_truth_on_their_own_slices(tmp_path: Path) -> None:
    write_study(tmp_path / "data", 1, axes=((1.0, 0, 0), (0, 1.0, 0)), tilt=18.0)
    data = load(tmp_path / "data")
    (case,) = data.cases
    opened = open_case(case)
    assert opened.label is not None
    assert opened.label.grid.same_as(opened.image.grid)
    (path,) = write_truths(data.cases, tmp_path / "truth").values()
    truth = read_volume(path)
    assert truth.grid.shape == (22, 20, 12) != opened.image.grid.shape
    assert int((truth.array > 0).sum()) == int((opened.label.array > 0).sum()) == study(1).masks.sum()
    notes = [one.what for one in audit(data, measure(data)) if "tilted" in one.what]
    assert notes and "made upright" in notes[0]


def test_structure_sets_are_label_maps_too(tmp_path: Path) -> None:
    for number in range(2):
        write_study(tmp_path / "data", number, kind="RTSTRUCT")
    data = load(tmp_path / "data", labels={"whole": "WHOLE", "core": "core"}, overlap="later-wins")
    facts = measure(data)
    assert can_train(audit(data, facts))
    for number in range(2):
        made = study(number)
        (voxels,) = [one.label.voxels for one in facts if one.label and f"study{number}" in one.label.file]
        assert (voxels[1], voxels[2]) == (made.masks[0].sum(), made.masks[1].sum())
    assert "'whole' and 'core' have" in errors(tmp_path / "data", labels={"whole": "WHOLE", "core": "core"})


def test_several_channels_of_a_study_lie_on_the_first_ones_grid(tmp_path: Path) -> None:
    for number in range(2):
        write_study(tmp_path / "data", number)
        study(number, "ep2d_adc", channel=1, header={"DiffusionBValue": 800.0}).series.write(tmp_path / "data" / f"study{number}" / "adc")
        study(number, "localiser", channel=2).series.write(tmp_path / "data" / f"study{number}" / "other")
    data = load(tmp_path / "data", series={"T2": "t2*", "ADC": "modality=MR; b=800"})
    assert data.channels == ("T2", "ADC")
    facts = measure(data)
    findings = audit(data, facts)
    assert can_train(findings)
    assert any("2 series have no segmentation and are left out" in one.what for one in findings)
    for case in data.cases:
        opened = open_case(case)
        assert opened.image.channels == 2
        assert opened.label is not None
        core = opened.label.array[0] == 1
        assert opened.image.array[0][core].mean() > 200 > 160 > opened.image.array[1][core].mean()
    assert "no series fits the channel 'DWI'" in errors(tmp_path / "data", series={"T2": "t2*", "DWI": "dwi*"})
    (tmp_path / "data" / "more").mkdir()
    study(0, "ep2d_adc", channel=3, header={"DiffusionBValue": 800.0}).series.write(tmp_path / "data" / "more")
    assert "2 series of the study" not in errors(tmp_path / "data", series={"T2": "t2*", "ADC": "number=4"})
    coarse = study(0, "ep2d_adc", channel=4, header={"DiffusionBValue": 800.0}, spacing=(1.0, 1.0))
    coarse.series.write(tmp_path / "data" / "more2")
    assert "3 series of the study" not in errors(tmp_path / "data", series={"T2": "t2*", "ADC": "number=4"})
    assert "2 series of the study" in errors(tmp_path / "data", series={"T2": "t2*", "ADC": "b=800"})


def test_what_has_no_partner_is_told_and_left_out(root: Path) -> None:
    study(7).series.write(root / "lonely")
    segmentation(study(8).series, root / "stray.dcm", study(8).masks, ["shell", "core"], number=8)
    findings = found(root)
    assert can_train(findings)
    told = "\n".join(one.what for one in findings)
    assert "1 series have no segmentation and are left out" in told
    assert "the segmentation refers to a series that is not here; it is left out" in told
    assert len(load(root).cases) == 3


def test_several_segmentations_of_one_series_are_refused_or_chosen(root: Path) -> None:
    made = study(0)
    swapped = made.masks[::-1]
    segmentation(made.series, root / "study0" / "later.dcm", swapped, ["shell", "core"], number=90)
    assert "2 segmentations of one series" in errors(root)
    data = load(root, several="newest")
    (case,) = [case for case in data.cases if "study0" in str(case.label)]
    assert case.label is not None and case.label.name == "later.dcm"
    assert "has 'core' for the label 'core', and so has" in errors(root, several="join")
    segmentation(made.series, root / "study0" / "later.dcm", made.masks[1:], ["inner"], number=90)
    (root / "study0" / "SEG.dcm").unlink()
    segmentation(made.series, root / "study0" / "SEG.dcm", made.masks[:1], ["shell"], number=1)
    joined = load(root, several="join", labels={"shell": "shell", "core": "core|inner"})
    facts = measure(joined)
    assert not [one for one in audit(joined, facts) if one.severity == "error"]
    (voxels,) = [one.label.voxels for one in facts if one.label and "study0" in one.label.file]
    assert (voxels[1], voxels[2]) == (made.masks[0].sum(), made.masks[1].sum())


def test_of_several_segmentations_without_a_wanted_structure_that_is_what_is_wrong(root: Path) -> None:
    made = study(0)
    segmentation(made.series, root / "study0" / "later.dcm", made.masks, ["cyst", "duct"], number=90)
    told = errors(root, labels={"organ": "liver*"})
    assert "segmentations of one series" not in told
    assert "holds nothing for the label 'organ'; there are 1 'shell', 2 'core', 1 'cyst', 2 'duct'" in told


def test_a_segmentation_that_was_corrected_under_its_old_uid_is_no_copy(root: Path) -> None:
    made, old, new = study(0), root / "study0" / "SEG.dcm", root / "study0" / "corrected.dcm"
    segmentation(made.series, new, made.masks[::-1], ["shell", "core"], number=0)
    assert pydicom.dcmread(new).SOPInstanceUID == pydicom.dcmread(old).SOPInstanceUID
    told = [one for one in found(root) if one.severity == "error"]
    assert [one.what for one in told if str(old) in f"{one.file} {one.what}" and str(new) in f"{one.file} {one.what}"]
    assert "has the SOPInstanceUID of" in told[0].what
    assert not can_train(told)


def test_a_copy_of_a_segmentation_counts_once_however_it_is_written(root: Path) -> None:
    old = root / "study0" / "SEG.dcm"
    shutil.copy(old, root / "study0" / "copy.dcm")
    ds = pydicom.dcmread(old)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    ds.save_as(root / "study0" / "other.dcm", implicit_vr=True, little_endian=True)
    assert (root / "study0" / "other.dcm").read_bytes() != old.read_bytes()
    assert can_train(found(root))
    assert len(load(root).cases) == 3


def test_patients_are_numbers_and_not_hashes_of_their_ids(tmp_path: Path) -> None:
    for number, person in enumerate(("1234567", "7654321", "1234567", "")):
        write_study(tmp_path, number, header={"PatientID": person})
    cases = load(tmp_path).cases
    groups = {case.images[0].parent.name: case.group for case in cases}
    assert groups["study0"] == groups["study2"]
    assert len(set(groups.values())) == 3
    assert list(dict.fromkeys(case.group for case in cases)) == ["patient 1", "patient 2", "patient 3"]
    assert [case.group for case in load(tmp_path).cases] == [case.group for case in cases]


def test_a_segmentation_of_other_structures_is_put_aside(root: Path) -> None:
    segmentation(study(0).series, root / "study0" / "more.dcm", study(0).masks[:1], ["vessel"], number=90)
    labels = {"shell": "shell", "core": "core"}
    findings = found(root, labels=labels)
    assert can_train(findings)
    (told,) = [one for one in findings if one.file.endswith("more.dcm")]
    assert told.what == "holds none of the structures of the labels; it is left out"
    assert [case.label.name for case in load(root, labels=labels).cases if case.label] == ["SEG.dcm"] * 3


def test_what_belongs_to_another_patient_or_place_is_an_error_that_names_nobody(root: Path) -> None:
    for number, more in ((0, {"PatientID": "SOMEONE"}), (1, {"FrameOfReferenceUID": "1.2.3"})):
        segmentation(
            study(number).series, root / f"study{number}" / "SEG.dcm", study(number).masks, ["shell", "core"], number=number, **more
        )
    text = errors(root)
    assert "another PatientID" in text
    assert "another FrameOfReferenceUID" in text
    assert "SOMEONE" not in text and "PATIENT0" not in text


def test_no_training_with_a_series_of_two_patients(root: Path) -> None:
    path = sorted((root / "study1" / "scan").glob("IM*"))[2]
    ds = pydicom.dcmread(path)
    ds.PatientID = "SOMEBODY"
    ds.save_as(path)
    told = errors(root)
    assert "slices of two patients" in told and path.name in told
    assert "SOMEBODY" not in told
    assert not can_train(found(root))


def test_cases_with_different_structures_need_to_be_told_which(root: Path) -> None:
    segmentation(study(0).series, root / "study0" / "SEG.dcm", study(0).masks, ["shell", "middle"], number=0)
    with pytest.raises(
        ConfigError, match=r"hold different structures \('shell' in 3, 'core' in 2, 'middle' in 1\).*dataset\.dicom\.labels"
    ):
        load(root)
    assert "holds no structure 'core' for the label 'core'; there are 1 'shell', 2 'middle'" in errors(root, labels={"core": "core"})
    assert not errors(root, labels={"core": "core"}, missing="background")


def test_scans_of_one_patient_never_part(tmp_path: Path) -> None:
    for number in range(6):
        write_study(tmp_path / "data", number, header={"PatientID": f"P{number % 3}"})
    data = load(tmp_path / "data")
    assert len({case.group for case in data.cases}) == 3
    for seed in range(5):
        split = make_split(data.cases, dataclasses.replace(settings(tmp_path / "data"), fraction=0.4), seed)
        groups = {case.name: case.group for case in data.cases}
        assert not {groups[name] for name in split.train} & {groups[name] for name in split.validation}


@pytest.mark.parametrize("damage", ["empty", "cut", "slice"])
def test_damaged_files_are_findings(root: Path, damage: str) -> None:
    path = root / "study0" / "SEG.dcm"
    if damage == "slice":
        path = next((root / "study0" / "scan").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[: 140 if damage == "empty" else len(whole) // 2])
    findings = found(root)
    assert any(one.severity == "error" or str(path) == one.file for one in findings)
    assert len(load(root).cases) <= 3
    assert any("study0" in one.file for one in findings)


def test_a_folder_without_series_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match="holds no series of DICOM slices"):
        load(tmp_path)


def test_real_prostate_series_with_segmentations_made_of_their_label_maps_are_those_label_maps(real_scans: Path, tmp_path: Path) -> None:
    """The set has DICOM and label maps, and no DICOM segmentation: it is made here, frame by frame at the slices' stated positions."""
    from segpipe.dicom.listing import list_stacks
    from tests.dicom.real_segmentation import write_real_segmentation
    from tests.dicom.test_real_series import CASES, upright

    source = real_scans / "prostate_t2"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    for case in CASES:
        shutil.copytree(source / "dicom" / case, tmp_path / "data" / case)
        (stack,) = list_stacks((tmp_path / "data" / case).rglob("*")).stacks
        write_real_segmentation(
            stack, read_volume(source / "zones_pz_tz" / f"{case}.nii.gz"), tmp_path / "data" / f"{case}.seg", ["PZ", "TZ"]
        )
    data = load(tmp_path / "data")
    assert data.label_names == {1: "PZ", 2: "TZ"}
    assert len(data.cases) == 3
    for one in data.cases:
        opened = open_case(one)
        (name,) = [case for case in CASES if case in str(one.images[0])]
        truth = upright(read_volume(source / "zones_pz_tz" / f"{name}.nii.gz"))
        assert opened.label is not None
        mine = upright(Volume(opened.label.array, opened.label.grid))
        assert mine.grid.distance_mm(truth.grid) < 0.01
        assert np.array_equal(mine.array, truth.array)
