"""DICOM-SEG, read back by highdicom, SimpleITK and plain pydicom, and judged by dciodvfy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK

from segpipe.dicom.terms import SegmentLabel
from segpipe.io.write import write_label_map
from tests.dicom.series import Series, enhanced, signed_axes, turned
from tests.dicom.writing.given import TABLE, blobs, faults, given, laid, needs_highdicom, read, seg_points, true_points, written

highdicom: Any = needs_highdicom()

WAYS: list[Series] = [
    *(Series(axes=axes) for axes in signed_axes()),
    Series(axes=turned(11, -23, 31)),
    Series(axes=turned(0, 0, 0), tilt=15),
    Series(axes=turned(5, 8, -12), tilt=-12, lean=7),
    Series(heights=[-2.5 * n for n in range(8)]),
]


@pytest.mark.parametrize("way", WAYS, ids=[f"way{n}" for n in range(len(WAYS))])
def test_every_voxel_lies_where_its_pixel_does_whatever_the_orientation(way: Series, tmp_path: Path) -> None:
    made = way.write(tmp_path / "in")
    labels = blobs(made.stored.shape)
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(labels, numbers), tmp_path, "dicom-seg")
    assert seg_points(read(path)) == true_points(made, labels)


@pytest.mark.parametrize("way", WAYS[:25:3], ids=[f"way{n}" for n in range(0, 25, 3)])
def test_simpleitk_reads_the_segmentation_of_one_label_at_the_same_world_positions(way: Series, tmp_path: Path) -> None:
    made = way.write(tmp_path / "in")
    labels = (blobs(made.stored.shape) == 1).astype(np.uint8)
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(labels, numbers), tmp_path, "dicom-seg", table=TABLE[:1])
    image = SimpleITK.ReadImage(str(path))  # of several labels its frames share places, which ITK takes for slices of their own
    index = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)[:, ::-1]
    places = np.array([image.TransformIndexToPhysicalPoint(one.tolist()) for one in index]) * (-1, -1, 1)
    true = made.world[labels == 1]
    assert len(places) == len(true)
    assert np.abs(places[np.lexsort(np.round(places, 2).T)] - true[np.lexsort(np.round(true, 2).T)]).max() < 0.01


def test_frames_of_one_object_are_referred_to_by_number_and_single_files_by_their_uid(tmp_path: Path) -> None:
    way = Series(axes=turned(11, -23, 31))
    files, one = way.write(tmp_path / "files"), enhanced(way, tmp_path / "one" / "all.dcm")
    labels = blobs(files.stored.shape)
    for folder, made in ((tmp_path / "files", files), (tmp_path / "one", one)):
        source, numbers = given(folder)
        (path,) = written(source, laid(labels, numbers), tmp_path, "dicom-seg")
        ds = read(path)
        assert seg_points(ds) == true_points(made, labels)
        assert faults(path) == []
        for groups in ds.PerFrameFunctionalGroupsSequence:
            place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            n = int(np.linalg.norm(way.positions() - place, axis=1).argmin())
            (image,) = groups.DerivationImageSequence[0].SourceImageSequence
            if len(made.paths) > 1:
                assert image.ReferencedSOPInstanceUID == read(made.paths[n]).SOPInstanceUID
                assert "ReferencedFrameNumber" not in image
            else:
                assert image.ReferencedSOPInstanceUID == read(made.paths[0]).SOPInstanceUID
                assert image.ReferencedFrameNumber == n + 1


def test_some_frames_of_an_object_that_holds_two_volumes_are_referred_to_by_their_own_numbers(tmp_path: Path) -> None:
    way = Series(heights=[2.5 * (n % 6) for n in range(12)], modality="MR")

    def echo(n: int) -> pydicom.Dataset:
        group, item = pydicom.Dataset(), pydicom.Dataset()
        item.EffectiveEchoTime = 10.0 if n < 6 else 80.0
        group.MREchoSequence = [item]
        return group

    made = enhanced(way, tmp_path / "in" / "all.dcm", each=echo)
    from segpipe.dicom.listing import list_stacks
    from segpipe.dicom.policy import Policy
    from segpipe.dicom.request import read_slices, slices_of
    from segpipe.dicom.writing.source import read_source

    stacks = list_stacks(made.paths).stacks
    assert len(stacks) == 2
    late = next(stack for stack in stacks if stack.first.echo == 80.0)
    slices = slices_of(late, Policy())
    labels = blobs(made.stored.shape)
    (path,) = written(read_source(slices), laid(labels, read_slices(slices).volume.array[0]), tmp_path, "dicom-seg")
    ds = read(path)
    frames = {g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for g in ds.PerFrameFunctionalGroupsSequence}
    assert min(frames) > 6
    labels[:6] = 0
    assert seg_points(ds) == true_points(made, labels)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_highdicom_reads_the_label_map_again_at_the_world_positions_at_which_simpleitk_reads_the_nifti(kind: Any, tmp_path: Path) -> None:
    made = Series(axes=turned(11, -23, 31)).write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    labels = laid(blobs(made.stored.shape), numbers)
    (path,) = written(source, labels, tmp_path, "dicom-seg", seg_type=kind)
    write_label_map(tmp_path / "labels.nii.gz", labels, source.grid)
    nifti = SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz"))
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(volume.array > 0)
    assert len(index) == (labels > 0).sum()
    for place, number in zip(volume.map_indices_to_reference(index), volume.array[tuple(index.T)], strict=True):
        at = nifti.TransformPhysicalPointToContinuousIndex(place.tolist())
        assert np.abs(np.array(at) - np.round(at)).max() < 1e-3
        assert nifti.GetPixel(*(round(n) for n in at)) == (1, 7)[int(number) - 1]


def test_dciodvfy_finds_no_error_and_what_is_segmented_stands_in_codes_and_colours(tmp_path: Path) -> None:
    made = Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(blobs(made.stored.shape), numbers), tmp_path, "dicom-seg", table=(*TABLE, SegmentLabel(9, "thing")))
    assert faults(path) == []
    ds = read(path)
    assert (ds.SegmentationType, ds.Modality) == ("BINARY", "SEG")
    codes = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in ds.SegmentSequence]
    assert codes == ["279706003", "399384005", "91723000"]
    assert [item.SegmentLabel for item in ds.SegmentSequence] == ["PZ", "TZ", "thing"]
    assert [item.SegmentNumber for item in ds.SegmentSequence] == [1, 2, 3]
    lab = highdicom.color.CIELabColor.from_rgb(230, 159, 0).value
    assert tuple(ds.SegmentSequence[0].RecommendedDisplayCIELabValue) == tuple(lab)
    assert all("RecommendedDisplayCIELabValue" in item for item in ds.SegmentSequence)
    (algorithm,) = ds.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("segpipe prostate", "ab" * 8)
    head = read(made.paths[0])
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID"):
        assert ds[name].value == head[name].value
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == head.SeriesInstanceUID
    assert len(ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(made.paths)


def test_a_part_of_a_structure_is_its_code_with_a_modifier(tmp_path: Path) -> None:
    from segpipe.dicom.terms import parse_term

    made = Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    term = parse_term(["SCT 5366008 Hippocampus", "SCT 255549009 Anterior"])
    table = (SegmentLabel(1, "Anterior", term),)
    (path,) = written(source, laid(blobs(made.stored.shape), numbers), tmp_path, "dicom-seg", table=table)
    (kind,) = read(path).SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "255549009"
    assert faults(path) == []


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_label_map_without_any_label_is_one_slice_without_any(kind: Any, tmp_path: Path) -> None:
    Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, np.zeros(numbers.shape, np.uint8), tmp_path, "dicom-seg", seg_type=kind)
    ds = read(path)
    assert ds.NumberOfFrames == (2 if kind == "binary" else 1)
    assert not ds.pixel_array.any()
    if kind == "binary":
        assert faults(path) == []
    assert not highdicom.seg.segread(path).get_volume(combine_segments=True).array.any()


@pytest.mark.parametrize("count", [60, 300])
def test_many_labels_are_told_apart(count: int, tmp_path: Path) -> None:
    made = Series(size=(16, 20)).write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    pixel_labels = (np.arange(made.stored.size) % (count + 1)).astype(np.uint16).reshape(made.stored.shape) * 3
    table = tuple(SegmentLabel(3 * n, f"label {n}") for n in range(1, count + 1))
    (path,) = written(
        source, laid(pixel_labels, numbers), tmp_path, "dicom-seg", table=table, seg_type="labelmap" if count > 60 else "binary"
    )
    if count == 60:
        assert seg_points(read(path)) == true_points(made, pixel_labels, tuple(label.value for label in table))
        assert faults(path) == []
    else:
        volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
        assert sorted(np.unique(volume.array)) == list(range(count + 1))


def test_copies_of_slices_are_referred_to_once(tmp_path: Path) -> None:
    made = Series().write(tmp_path / "in")
    copy = read(made.paths[3])
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    copy.save_as(tmp_path / "in" / "Z.dcm")
    source, numbers = given(tmp_path / "in")
    (path,) = written(source, laid(blobs(made.stored.shape), numbers), tmp_path, "dicom-seg")
    ds = read(path)
    assert seg_points(ds) == true_points(made, blobs(made.stored.shape))
    assert "1.2.3.99" not in str(ds)


@pytest.mark.parametrize("policy", ["gap=resample", "variable=resample"])
def test_a_label_map_on_made_up_slices_comes_back_onto_the_slices_that_there_are(policy: str, tmp_path: Path) -> None:
    heights = [0, 2, 4, 6, 10, 12, 14, 16, 18] if policy.startswith("gap") else [0, 2, 4, 6.5, 9, 11, 13, 15, 17]
    Series(heights=heights).write(tmp_path / "in")
    source, volume = given(tmp_path / "in", policy)
    assert volume.shape[2] >= 9
    labels = np.zeros(source.grid.shape, np.uint8)
    labels[2:5, 3:6, 1:-1] = 1
    (path,) = written(source, labels, tmp_path, "dicom-seg")
    ds = read(path)
    places = {round(float(g.PlanePositionSequence[0].ImagePositionPatient[2]) + 88.1, 3) for g in ds.PerFrameFunctionalGroupsSequence}
    assert places == set(map(float, heights[1:-1]))
    assert faults(path) == []
