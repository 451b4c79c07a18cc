"""Reading by path: bad files of every kind give one line with file and cure; channels must share a grid."""

import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.find import SUFFIXES
from segpipe.io.read import apart_mm, read_channels, read_grid, read_volume
from segpipe.io.write import write_volume

SHAPE = (4, 3, 2)


def raises_line(path, error, says):
    for function in (read_volume, read_grid):
        with pytest.raises(error, match=says) as caught:
            function(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)


def scan(path, affine=None, value=1, shape=SHAPE, dtype=np.int16):
    write_volume(path, Volume(np.full((1, *shape), value, dtype), Grid(shape, np.eye(4) if affine is None else affine)))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_with_a_scans_name_is_refused(tmp_path, suffix, capfd):
    path = tmp_path / f"a{suffix}"
    path.write_text("This is a letter to the editor.\n" * 40)
    raises_line(path, DataError, "must")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_is_refused(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    raises_line(tmp_path / f"a{suffix}", DataError, "is empty")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_refused(tmp_path, suffix):
    raises_line(tmp_path / f"a{suffix}", DataError, "does not exist")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_with_a_scans_name_is_refused(tmp_path, suffix):
    (tmp_path / f"a{suffix}").mkdir()
    raises_line(tmp_path / f"a{suffix}", DataError, "is a folder")


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"x")
    raises_line(tmp_path / "a.dcm", DataError, r"must end in \.nii\.gz, \.nii")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_permission_is_refused(tmp_path, suffix):
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"secret")
    path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        raises_line(path, DataError, r"cannot be opened \(Permission denied\)")
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_the_bytes_of_another_format_are_refused(tmp_path, suffix):
    other = ".nrrd" if suffix != ".nrrd" else ".mha"
    shutil.copy(scan(tmp_path / f"b{other}"), tmp_path / f"a{suffix}")
    raises_line(tmp_path / f"a{suffix}", DataError, "must")


def test_channels_are_stacked_in_order_on_the_first_grid(tmp_path):
    noise = np.eye(4)
    noise[2, 3] = 5e-4
    volume = read_channels([scan(tmp_path / "1.nii.gz", value=1), scan(tmp_path / "2.nrrd", noise, value=2)])
    assert volume.array.shape == (2, *SHAPE)
    assert volume.array.dtype == np.int16
    assert (volume.array[0] == 1).all()
    assert (volume.array[1] == 2).all()
    assert np.array_equal(volume.grid.affine, np.eye(4))


def test_channels_of_mixed_types_become_float32(tmp_path):
    one = scan(tmp_path / "1.nii", dtype=np.int32)
    assert read_channels([one, scan(tmp_path / "2.nii", dtype=np.float32)]).array.dtype == np.float32


def test_one_channel_is_read_as_it_is(tmp_path):
    path = scan(tmp_path / "1.nii", dtype=np.uint8)
    assert read_channels([path]).array.dtype == np.uint8


def test_channels_that_lie_elsewhere_are_refused_with_both_files_and_the_distance(tmp_path):
    moved = np.eye(4)
    moved[:3, 3] = (3, 0, 4)
    first, second = scan(tmp_path / "1.nii"), scan(tmp_path / "2.nii", moved)
    with pytest.raises(GeometryError, match="lies 5 mm from") as caught:
        read_channels([first, second])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_files_of_other_shapes_are_infinitely_far_apart(tmp_path):
    assert apart_mm(scan(tmp_path / "1.nii"), scan(tmp_path / "2.nrrd", shape=(4, 3, 5))) == float("inf")


def test_the_faulty_one_of_two_files_is_named(tmp_path):
    with pytest.raises(DataError, match=r"2\.nii: does not exist"):
        apart_mm(scan(tmp_path / "1.nii"), tmp_path / "2.nii")


def test_channels_of_another_shape_are_refused_with_both_files(tmp_path):
    first, second = scan(tmp_path / "1.nii"), scan(tmp_path / "2.nii", shape=(4, 3, 5))
    with pytest.raises(GeometryError, match=r"has \(4, 3, 5\) voxels, .*1.nii has \(4, 3, 2\)"):
        read_channels([first, second])


def test_no_channel_at_all_is_refused():
    with pytest.raises(DataError, match="no file was given"):
        read_channels([])


def test_reading_leaves_the_terminal_and_nibabels_log_alone(tmp_path, capfd):
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4))
    image.header["pixdim"][1:4] = -1
    nib.save(image, tmp_path / "a.nii")
    read_volume(tmp_path / "a.nii")
    scan(tmp_path / "a.mha", np.array([[1, 0, 0.4, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    read_volume(tmp_path / "a.mha")
    assert capfd.readouterr() == ("", "")
