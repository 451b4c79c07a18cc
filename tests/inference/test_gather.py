"""Files -> examinations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segpipe.errors import DataError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.gather import gather
from segpipe.io.write import write_volume

from .conftest import blocks_volume


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def cases(root: Path, *channels: str, out: str = "../out") -> dict[str, list[str]]:
    return {one.case: [path.name for path in one.images] for one in gather(root, root / out, channels)}


def test_with_one_channel_every_file_below_the_folder_is_a_case(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "sub/a.nrrd", "sub/deep/c_0001.png", "sub/notes.txt", ".hidden.nii")
    assert cases(tmp_path, "T2") == {"b": ["b.nii.gz"], "sub/a": ["a.nrrd"], "sub/deep/c_0001": ["c_0001.png"]}


def test_numbered_channels_are_brought_together_folder_by_folder(tmp_path: Path) -> None:
    touch(tmp_path, "p1_0001.nii.gz", "p1_0000.nii.gz", "sub/p1_0000.nii.gz", "sub/p1_0001.nii.gz")
    pair = ["p1_0000.nii.gz", "p1_0001.nii.gz"]
    assert cases(tmp_path, "T2", "ADC") == {"p1": pair, "sub/p1": pair}


def test_channels_are_known_by_their_names_in_any_case_and_order(tmp_path: Path) -> None:
    touch(tmp_path, "x_T1c.nii.gz", "x_t1.nii.gz", "y_T1.nii.gz", "y_t1C.nii.gz")
    assert cases(tmp_path, "t1c", "T1") == {"x": ["x_T1c.nii.gz", "x_t1.nii.gz"], "y": ["y_t1C.nii.gz", "y_T1.nii.gz"]}


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "x_0000.nii.gz", "x_0001.nii.gz", "y_0001.nii.gz")
    x, y = gather(tmp_path, tmp_path / "out", ["T2", "ADC"])
    assert not x.problem
    assert y.case == "y"
    assert "channel T2" in y.problem
    assert "beside y_0001.nii.gz" in y.problem


def test_a_channel_that_is_there_twice_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "x_0000.nii.gz", "x_T2.nii.gz", "x_adc.nii.gz")
    found = {one.case: one.problem for one in gather(tmp_path, tmp_path / "out", ["T2", "ADC"])}
    assert found["x"] == ""
    assert "channel T2 is there twice (x_0000.nii.gz, x_T2.nii.gz)" in found["x_T2.nii.gz"]


def test_colour_pictures_hold_all_channels_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("eye_0000.png", "eye_0001.png", "other.png"):
        write_volume(tmp_path / name, Volume(np.zeros((3, 4, 5, 1), dtype=np.uint8), Grid((4, 5, 1), np.eye(4))))
    assert cases(tmp_path, "red", "green", "blue") == {n: [f"{n}.png"] for n in ("eye_0000", "eye_0001", "other")}


def test_files_that_hold_all_channels_and_pairs_may_lie_in_one_folder(tmp_path: Path) -> None:
    both, one = np.zeros((2, 4, 3, 2), dtype=np.uint8), np.zeros((1, 4, 3, 2), dtype=np.uint8)
    for name, array in (("a_0000", both), ("b_0000", one), ("b_0001", one), ("c_0000", both), ("c_0001", both), ("d", both)):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(array, Grid((4, 3, 2), np.eye(4))))
    expected = {n: [f"{n}.nii.gz"] for n in ("a_0000", "c_0000", "c_0001", "d")}
    assert cases(tmp_path, "T2", "ADC") == {**expected, "b": ["b_0000.nii.gz", "b_0001.nii.gz"]}


def test_a_single_file_brings_its_other_channels_with_it(tmp_path: Path) -> None:
    touch(tmp_path, "x_0000.nii.gz", "x_0001.nii.gz", "y_0000.nii.gz", "y_0001.nii.gz")
    (one,) = gather(tmp_path / "x_0001.nii.gz", tmp_path / "out", ["T2", "ADC"])
    assert one.case == "x"
    assert len(one.images) == 2
    (one,) = gather(tmp_path / "y_0000.nii.gz", tmp_path / "out", ["T2"])
    assert [path.name for path in one.images] == ["y_0000.nii.gz"]


def test_the_channel_number_of_a_one_channel_set_is_no_part_of_the_case(tmp_path: Path) -> None:
    tmp_path = tmp_path / "scans"
    touch(tmp_path, "liver_001_0000.nii.gz")
    assert set(cases(tmp_path, "CT")) == {"liver_001_0000"}  # may be a patient's number
    touch(tmp_path, "liver_002_0000.nii.gz", "../imagesTs/liver_003_0000.nii.gz")
    assert set(cases(tmp_path.parent / "imagesTs", "CT")) == {"liver_003"}
    assert set(cases(tmp_path, "CT")) == {"liver_001", "liver_002"}
    touch(tmp_path, "liver_002_0001.nii.gz")
    assert set(cases(tmp_path, "CT")) == {"liver_001_0000", "liver_002_0000", "liver_002_0001"}


def test_outputs_of_this_and_earlier_predictions_are_not_scans(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "out/a.nii.gz", "earlier/a.nii.gz", "earlier/sub/b.nii.gz", "earlier/predictions.csv")
    assert cases(tmp_path, "T2", out="out") == {"a": ["a.nii.gz"]}


def test_two_files_with_one_case_name_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.nii.gz", "sub/a.nrrd")
    found = {one.case: one.problem for one in gather(tmp_path, tmp_path / "out", ["T2"])}
    assert found["sub/a"] == ""
    assert "a.nii.gz has the same case name sub/a: rename one of them" in found["sub/a.nrrd"]


def test_a_missing_or_empty_folder_is_a_data_error(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "none", tmp_path / "none.nii.gz"):
        with pytest.raises(DataError):
            gather(source, tmp_path / "out", ["T2"])


def test_a_file_that_is_no_scan_is_a_data_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(DataError):
        gather(tmp_path / "notes.txt", tmp_path / "out", ["T2"])


def test_a_folder_that_holds_nothing_but_outputs_is_a_data_error(tmp_path: Path) -> None:
    touch(tmp_path, "out/a.nii.gz")
    with pytest.raises(DataError, match="nothing but outputs"):
        gather(tmp_path, tmp_path / "out", ["T2"])


@pytest.mark.parametrize(("images", "labels"), [("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks")])
def test_the_label_maps_of_a_data_set_are_no_scans(tmp_path: Path, caplog: pytest.LogCaptureFixture, images: str, labels: str) -> None:
    for folder in (images, labels, "more"):
        write_volume(tmp_path / "in" / folder / "a.nii.gz", blocks_volume())
    with caplog.at_level("INFO"):
        found = gather(tmp_path / "in", tmp_path / "out", ["T2"])
    assert [one.case for one in found] == [f"{images}/a", "more/a"]
    assert f"{labels} holds the label maps of {images}: its files are not taken as scans" in caplog.text
    assert [one.case for one in gather(tmp_path / "in" / labels, tmp_path / "out", ["T2"])] == ["a"]  # asked for by name


def test_a_folder_called_labels_without_images_beside_it_holds_scans(tmp_path: Path) -> None:
    write_volume(tmp_path / "in" / "labels" / "a.nii.gz", blocks_volume())
    write_volume(tmp_path / "in" / "deep" / "images" / "a.nii.gz", blocks_volume())
    assert len(gather(tmp_path / "in", tmp_path / "out", ["T2"])) == 2
