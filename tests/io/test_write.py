"""Write, read, and find every voxel at the same place in the patient: all 48 orientations, oblique and sheared grids, every format."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segpipe.errors import ConfigError, DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.dimensions import CHANNELS_AT_MOST
from segpipe.io.read import read_grid, read_volume
from segpipe.io.write import label_suffix, write_label_map, write_volume

SHAPE = (4, 3, 2)
FORMATS = [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"]
ORIENTATIONS = [(p, s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]
NOISE_MM = 1e-4


def axis_affine(permutation, signs):
    affine = np.zeros((4, 4))
    for volume_axis, world_axis in enumerate(permutation):
        affine[world_axis, volume_axis] = signs[volume_axis] * (0.5, 0.75, 3.3)[volume_axis]
    affine[:, 3] = (-103.7, 88.2, -311.5, 1)
    return affine


def oblique_affine(euler, spacing, shear=0.0):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", euler, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 2] += shear * affine[:3, 1]
    affine[:3, 3] = (101.3, -207.9, 55.1)
    return affine


def numbered(affine, dtype=np.int16, channels=1):
    array = np.arange(channels * np.prod(SHAPE), dtype=dtype).reshape(channels, *SHAPE)
    return Volume(array, Grid(SHAPE, affine))


def assert_same(got, want):
    assert got.grid.distance_mm(want.grid) < NOISE_MM
    assert np.array_equal(got.array, want.array)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("permutation", "signs"), ORIENTATIONS)
def test_each_orientation_comes_back_to_the_same_place(tmp_path, suffix, permutation, signs):
    volume = numbered(axis_affine(permutation, signs))
    path = tmp_path / f"scan{suffix}"
    write_volume(path, volume)
    back = read_volume(path)
    assert_same(back, volume)
    assert back.array.dtype == np.int16
    assert read_grid(path).distance_mm(volume.grid) < NOISE_MM


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nii.gz"])
@pytest.mark.parametrize(("permutation", "signs"), ORIENTATIONS)
def test_itk_itself_sees_each_voxel_where_we_put_it(tmp_path, suffix, permutation, signs):
    volume = numbered(axis_affine(permutation, signs))
    write_volume(tmp_path / f"scan{suffix}", volume)
    image = sitk.ReadImage(str(tmp_path / f"scan{suffix}"))
    for index in ((0, 0, 0), (3, 0, 1), (1, 2, 0), (3, 2, 1)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)  # LPS
        assert np.allclose((-x, -y, z), volume.grid.world(np.array(index)), atol=NOISE_MM)
        assert image.GetPixel(index) == volume.array[(0, *index)]


@pytest.mark.parametrize(("permutation", "signs"), ORIENTATIONS)
def test_nibabel_itself_sees_each_voxel_where_we_put_it(tmp_path, permutation, signs):
    volume = numbered(axis_affine(permutation, signs))
    write_volume(tmp_path / "scan.nii.gz", volume)
    image = nib.load(tmp_path / "scan.nii.gz")
    assert np.allclose(image.affine, volume.grid.affine, atol=1e-5)
    assert np.allclose(image.get_qform(), volume.grid.affine, atol=NOISE_MM)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    assert image.header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert np.array_equal(np.asarray(image.dataobj), volume.array[0])


angles = st.floats(-180, 180)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    euler=st.tuples(angles, angles, angles),
    spacing=st.tuples(*[st.floats(0.1, 9)] * 3),
    shear=st.sampled_from([0.0, 0.0, 0.01, 0.3, -0.5]),
    suffix=st.sampled_from([".nii", ".nrrd", ".mha", ".mhd"]),
)
def test_oblique_and_sheared_grids_come_back_to_the_same_place(tmp_path, euler, spacing, shear, suffix):
    volume = numbered(oblique_affine(euler, spacing, shear))
    write_volume(tmp_path / f"scan{suffix}", volume)
    assert_same(read_volume(tmp_path / f"scan{suffix}"), volume)


def test_the_nifti_affine_is_kept_to_the_last_bit_that_the_file_can_hold(tmp_path):
    affine = oblique_affine((10, -20, 30), (0.7, 0.7, 2.9), shear=0.2)
    write_volume(tmp_path / "a.nii", numbered(affine))
    first = read_grid(tmp_path / "a.nii")
    assert np.array_equal(first.affine, affine.astype(np.float32).astype(np.float64))
    write_volume(tmp_path / "b.nii", Volume(np.zeros((1, *SHAPE), np.uint8), first))
    assert np.array_equal(read_grid(tmp_path / "b.nii").affine, first.affine)


def test_a_sheared_grid_gets_no_qform_since_that_would_tell_another_place(tmp_path):
    shape = (40, 30, 20)
    volume = Volume(np.zeros((1, *shape), np.uint8), Grid(shape, oblique_affine((0, 0, 0), (1, 1, 3), shear=0.3)))
    write_volume(tmp_path / "a.nii", volume)
    assert_same(read_volume(tmp_path / "a.nii"), volume)
    header = nib.load(tmp_path / "a.nii").header
    assert int(header["sform_code"]) == 1
    assert int(header["qform_code"]) == 0


def test_a_grid_that_the_format_cannot_hold_is_refused_and_nothing_is_left(tmp_path):
    far = np.eye(4)
    far[0, 3] = 1_000_000.013
    with pytest.raises(GeometryError, match="would move voxels by") as caught:
        write_volume(tmp_path / "far.nii.gz", numbered(far))
    assert str(caught.value).startswith(str(tmp_path / "far.nii.gz"))
    assert list(tmp_path.iterdir()) == []
    write_volume(tmp_path / "far.nrrd", numbered(far))
    assert_same(read_volume(tmp_path / "far.nrrd"), numbered(far))


def test_an_mhd_names_its_data_file_and_both_are_moved_into_place(tmp_path):
    for value in (1, 2):
        write_label_map(tmp_path / "case.1.mhd", np.full(SHAPE, value), Grid(SHAPE, np.eye(4)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case.1.mhd", "case.1.raw"]
    assert "ElementDataFile = case.1.raw" in (tmp_path / "case.1.mhd").read_text()
    assert (read_volume(tmp_path / "case.1.mhd").array == 2).all()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", [2, 3])
def test_several_channels_come_back_in_order(tmp_path, suffix, channels):
    volume = numbered(oblique_affine((3, 4, 5), (1, 2, 3)), np.float32, channels)
    write_volume(tmp_path / f"p{suffix}", volume)
    back = read_volume(tmp_path / f"p{suffix}")
    assert_same(back, volume)
    assert back.array.dtype == np.float32


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("shape", [SHAPE, (4, 3, 1)])
def test_more_volumes_than_a_scan_may_have_can_be_written_as_probabilities(tmp_path, suffix, shape):
    array = np.random.default_rng(0).random((CHANNELS_AT_MOST + 1, *shape), np.float32)
    grid = Grid(shape, oblique_affine((3, 4, 5), (1, 2, 3), shear=0.2))
    write_volume(tmp_path / f"p{suffix}", Volume(array, grid))
    if suffix.startswith(".nii"):
        image = nib.load(tmp_path / f"p{suffix}")
        assert np.allclose(image.affine, grid.affine, atol=1e-5)
        assert np.array_equal(np.moveaxis(np.asarray(image.dataobj), -1, 0), array)
    else:
        assert_same(read_volume(tmp_path / f"p{suffix}"), Volume(array, grid))


def test_the_grid_of_many_volumes_is_checked_too(tmp_path):
    far = np.eye(4)
    far[0, 3] = 1_000_000.013
    with pytest.raises(GeometryError, match="would move voxels by"):
        write_volume(tmp_path / "far.nii.gz", numbered(far, channels=CHANNELS_AT_MOST + 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_views_in_any_memory_order_are_written_as_they_look(tmp_path, suffix, order):
    array = np.asarray(np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), order=order).transpose(0, 3, 2, 1)[:, ::-1]
    volume = Volume(array, Grid(SHAPE, np.eye(4)))
    write_volume(tmp_path / f"v{suffix}", volume)
    assert_same(read_volume(tmp_path / f"v{suffix}"), volume)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], np.uint8), ([0, 256], np.uint16), ([-1, 2], np.int16), ([0, 70_000], np.int32), ([-5, 40_000], np.int32)],
)
def test_a_label_map_takes_the_smallest_type_and_keeps_its_values(tmp_path, suffix, values, dtype):
    array = np.resize(np.array(values, np.int64), SHAPE)
    write_label_map(tmp_path / f"l{suffix}", array, Grid(SHAPE, np.eye(4)))
    back = read_volume(tmp_path / f"l{suffix}")
    assert back.array.dtype == dtype
    assert np.array_equal(back.array[0], array)


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.int64, np.uint64, np.dtype(">i2"), np.dtype(">f4")])
@pytest.mark.parametrize("suffix", FORMATS)
def test_types_that_formats_do_not_know_are_stored_in_one_they_do(tmp_path, suffix, dtype):
    array = (np.arange(24).reshape(1, *SHAPE) % 2).astype(dtype)
    write_volume(tmp_path / f"t{suffix}", Volume(array, Grid(SHAPE, np.eye(4))))
    assert np.array_equal(read_volume(tmp_path / f"t{suffix}").array, array)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("a.xyz", np.zeros((1, *SHAPE)), "ending is unknown"),
        ("a.nii", np.full((1, *SHAPE), 2**40), "do not fit into 32 bits"),
        ("a.nii", np.zeros((1, *SHAPE), np.complex64), "must be integers or floats"),
        ("a.png", np.zeros((1, *SHAPE), np.uint8), "one slice"),
        ("a.png", np.zeros((1, 4, 3, 1), np.float32), "do not fit into .png"),
        ("a.bmp", np.zeros((1, 4, 3, 1), np.uint16), "do not fit into .bmp"),
        ("a.png", np.zeros((2, 4, 3, 1), np.uint8), "2 channels"),
        ("a.jpg", np.zeros((1, 4, 3, 1), np.uint8), "write .png"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_in_one_line(tmp_path, name, array, says):
    with pytest.raises((DataError, GeometryError), match=says) as caught:
        write_volume(tmp_path / name, Volume(array, Grid(array.shape[1:], np.eye(4))))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_cannot_hold_millimetres(tmp_path):
    with pytest.raises(GeometryError, match="no position in millimetres"):
        write_label_map(tmp_path / "a.png", np.zeros((4, 3, 1), np.uint8), Grid((4, 3, 1), np.diag([0.5, 0.5, 3, 1])))


def test_a_label_map_of_floats_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be integers"):
        write_label_map(tmp_path / "a.nii", np.zeros(SHAPE), Grid(SHAPE, np.eye(4)))


@pytest.mark.parametrize(("suffix", "dtype", "channels"), [
    (".png", np.uint8, 1), (".png", np.uint16, 1), (".png", np.uint8, 3), (".bmp", np.uint8, 1), (".bmp", np.uint8, 3),
    (".tif", np.uint8, 1), (".tiff", np.uint16, 1), (".tif", np.float32, 1), (".tif", np.int32, 1), (".tif", np.uint8, 3),
])  # fmt: skip
def test_a_picture_comes_back_pixel_for_pixel(tmp_path, suffix, dtype, channels):
    high = 255 if dtype == np.uint8 else 65535
    array = np.random.default_rng(0).integers(0, high, (channels, 5, 7, 1)).astype(dtype)
    write_volume(tmp_path / f"p{suffix}", Volume(array, Grid((5, 7, 1), np.eye(4))))
    back = read_volume(tmp_path / f"p{suffix}")
    assert back.array.dtype == dtype
    assert np.array_equal(back.array, array)
    assert back.grid.same_as(Grid((5, 7, 1), np.eye(4)))


def test_a_label_map_beside_a_jpeg_is_a_png():
    assert label_suffix(".JPG") == ".png"
    assert label_suffix(".nii.gz") == ".nii.gz"


def test_the_same_label_map_gives_the_same_bytes(tmp_path):
    labels = np.arange(24).reshape(SHAPE) % 3
    for name in ("a", "b"):
        write_label_map(tmp_path / f"{name}.nii.gz", labels, Grid(SHAPE, np.eye(4)))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_writing_over_a_folder_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(ConfigError, match="a folder has that name"):
        write_label_map(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.uint8), Grid(SHAPE, np.eye(4)))
