"""NIfTI: affines, codes, units, scaling and types against nibabel; what is damaged is refused."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from segpipe.errors import DataError, GeometryError, SegpipeError
from segpipe.io.read import apart_mm, count_channels, read_beside, read_channels, read_grid, read_volume
from segpipe.io.write import write_volume

SHAPE = (4, 3, 2)
OBLIQUE = np.array([[0.8, -0.3, 0.1, -40], [0.3, 0.8, -0.2, 12], [0.0, 0.1, 2.5, 7], [0, 0, 0, 1]])
COUNT = np.arange(24, dtype=np.int16).reshape(SHAPE)


def save(path, array=COUNT, affine=OBLIQUE, kind=nib.Nifti1Image, **fields):
    """A NIfTI file by nibabel, then single header fields overwritten in the bytes, past nibabel's checks."""
    nib.save(kind(array, affine, dtype=array.dtype), path)
    if fields:
        packed = path.name.endswith(".gz")
        data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        header = kind.header_class(bytes(data[: kind.header_class.sizeof_hdr]), check=False)
        for field, value in fields.items():
            header[field] = value
        data[: header.sizeof_hdr] = header.binaryblock
        path.write_bytes(gzip.compress(data) if packed else data)
    return path


def raises_line(path, error, says):
    with pytest.raises(error, match=says) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert type(caught.value) is error
    return message


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_and_affine_are_nibabels(tmp_path, name, kind):
    path = save(tmp_path / name.lower(), kind=kind).rename(tmp_path / name)
    volume = read_volume(path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array[0], COUNT)
    assert np.allclose(volume.grid.affine, OBLIQUE, atol=1e-6)
    assert volume.array.flags.writeable
    assert read_grid(path).same_as(volume.grid)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_integers_keep_their_type_and_floats_become_float32_in_native_order(tmp_path, dtype, order):
    array = np.arange(24).reshape(SHAPE).astype(order + dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(array.dtype)
    nib.save(nib.Nifti1Image(array, np.eye(4), header, dtype=array.dtype), tmp_path / "a.nii")
    got = read_volume(tmp_path / "a.nii").array
    assert got.dtype == (np.float32 if dtype.startswith("f") else np.dtype(dtype))
    assert got.dtype.isnative
    assert np.array_equal(got[0], array)


@pytest.mark.parametrize(("slope", "inter"), [(0.5, 0.0), (2.0, -1024.0), (1.0, -1024.0), (0.0123, 7.5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_scaled_voxels_equal_nibabels_floats(tmp_path, slope, inter, dtype):
    path = save(tmp_path / "a.nii", np.arange(24).reshape(SHAPE).astype(dtype), scl_slope=slope, scl_inter=inter)
    got = read_volume(path).array
    assert got.dtype == np.float32
    assert np.allclose(got[0], nib.load(path).get_fdata(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("slope", "inter"), [(0.0, 0.0), (1.0, 0.0), (np.nan, 0.0), (0.0, 100.0)])
def test_a_header_that_asks_for_no_scaling_leaves_integers_alone(tmp_path, slope, inter):
    got = read_volume(save(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter)).array
    assert got.dtype == np.int16
    assert np.array_equal(got[0], COUNT)


def test_labels_stored_as_float64_keep_their_values(tmp_path):
    labels = (np.arange(24) % 5).reshape(SHAPE).astype(np.float64)
    assert np.array_equal(read_volume(save(tmp_path / "a.nii", labels)).array[0], labels)


def test_the_sform_is_kept_exactly_with_shear(tmp_path):
    sheared = OBLIQUE.copy()
    sheared[:3, 2] += [0.9, 0.4, 0.0]
    got = read_volume(save(tmp_path / "a.nii", affine=sheared)).grid.affine
    assert np.array_equal(got, sheared.astype(np.float32).astype(np.float64))


def test_the_qform_is_used_where_there_is_no_sform(tmp_path):
    image = nib.Nifti1Image(COUNT, None)
    rotation = np.eye(4)
    rotation[:3, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]]) * (1.5, 2, 3)
    image.set_qform(rotation, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    assert np.allclose(read_volume(tmp_path / "a.nii").grid.affine, rotation, atol=1e-5)


def test_the_sform_wins_over_a_qform_elsewhere_with_a_warning(tmp_path, caplog):
    path = save(tmp_path / "a.nii", qform_code=1, qoffset_x=5.0)
    assert np.allclose(read_volume(path).grid.affine, OBLIQUE, atol=1e-6)
    assert "sform and qform differ" in caplog.text
    assert "a.nii" in caplog.text


def slightly_sheared(path, sform, qform):
    """A scan whose sform holds a shear of 1e-4, as rounded direction cosines leave it, with the forms that are asked for."""
    affine = np.array([[-0.5, 0, -0.0037, 57], [2e-4, -0.474188, -0.951440, 82], [-6e-4, -0.158573, 2.845127, -27], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.zeros((384, 384, 19), np.uint8), None)
    image.set_sform(affine, int(sform))
    image.set_qform(affine, int(qform))
    nib.save(image, path)
    return path


def test_a_mask_that_kept_only_the_qform_lies_on_its_scan(tmp_path):
    scan = slightly_sheared(tmp_path / "scan.nii.gz", sform=True, qform=True)
    mask = slightly_sheared(tmp_path / "mask.nii.gz", sform=False, qform=True)
    assert read_grid(scan).distance_mm(read_grid(mask)) > 0.02
    assert apart_mm(scan, mask) < 1e-3
    assert apart_mm(mask, scan) < 1e-3
    assert read_channels([scan, mask]).array.shape == (2, 384, 384, 19)
    assert np.array_equal(read_beside(mask, scan).grid.affine, read_grid(scan).affine)
    write_volume(tmp_path / "prediction.nii.gz", read_volume(scan))
    assert read_beside(mask, tmp_path / "prediction.nii.gz").grid.same_as(read_grid(scan))


def test_a_qform_elsewhere_does_not_excuse_a_mask(tmp_path):
    scan = save(tmp_path / "scan.nii", qform_code=1, qoffset_x=5.0)
    mask = save(tmp_path / "mask.nii", sform_code=0, qform_code=1, qoffset_x=5.0)
    assert apart_mm(scan, mask) > 1
    assert read_beside(mask, scan).grid.distance_mm(read_grid(mask)) == 0


@pytest.mark.parametrize(("spacing", "off"), [(2.0, 0.5), (2.0, 0.11), (0.2, 0.04)])
def test_a_shifted_sform_is_not_excused_by_a_qform_that_was_copied(tmp_path, caplog, spacing, off):
    affine, moved = np.diag([spacing, spacing, spacing, 1.0]), np.diag([spacing, spacing, spacing, 1.0])
    moved[:3, 3] = off
    save(tmp_path / "scan.nii", affine=affine, qform_code=1)
    mask = nib.Nifti1Image(COUNT, None)
    mask.set_qform(affine, 1)
    mask.set_sform(moved, 1)
    nib.save(mask, tmp_path / "mask.nii")
    assert apart_mm(tmp_path / "mask.nii", tmp_path / "scan.nii") == pytest.approx(off * 3**0.5, rel=1e-5)
    assert read_beside(tmp_path / "mask.nii", tmp_path / "scan.nii").grid.distance_mm(read_grid(tmp_path / "mask.nii")) == 0
    assert "mask.nii: its sform and qform differ by" in caplog.text


def test_a_slight_shear_still_gets_a_qform_for_programs_that_cannot_read_the_sform(tmp_path):
    volume = read_volume(slightly_sheared(tmp_path / "scan.nii.gz", sform=True, qform=True))
    write_volume(tmp_path / "out.nii.gz", volume)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert np.array_equal(header.get_sform(), volume.grid.affine)
    assert int(header["qform_code"]) == 1
    assert np.abs(header.get_qform() - header.get_sform()).max() < 1e-3


def test_without_any_form_nibabels_convention_is_used_with_a_warning(tmp_path, caplog):
    path = save(tmp_path / "a.nii", sform_code=0, qform_code=0)
    assert np.allclose(read_volume(path).grid.affine, nib.load(path).affine)
    assert "left and right are a guess" in caplog.text


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (3, 0.001), (0, 1.0), (2, 1.0), (10, 1.0)])
def test_lengths_in_other_units_become_millimetres(tmp_path, caplog, unit, factor):
    grid = read_grid(save(tmp_path / "a.nii", xyzt_units=unit))
    assert np.allclose(grid.affine[:3], OBLIQUE[:3] * factor, rtol=1e-5)
    assert ("converted to mm" in caplog.text) == (factor != 1.0)


def test_negative_spacings_and_a_missing_handedness_are_read_by_the_standard(tmp_path):
    path = save(tmp_path / "a.nii", sform_code=0, qform_code=1, pixdim=[0, -1.5, 2, 3, 0, 0, 0, 0])
    assert read_grid(path).spacing_mm == pytest.approx((1.5, 2, 3))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 1, 0, 1, 0, 0, 0, 0]}, "voxel spacing"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 0, 0, 0, 0, 0, 0]}, "voxel spacing"),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]}, "finite"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 0.9, "quatern_c": 0.9}, "qform is no rotation"),
        ({"srow_x": [np.nan] * 4}, "finite"),
        ({"srow_x": [np.inf, 0, 0, 0]}, "finite"),
        ({"srow_x": [0, 0, 0, 0], "srow_y": [0, 0, 0, 0], "srow_z": [0, 0, 0, 0]}, "voxel spacing"),
        ({"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0], "srow_z": [0, 0, 1, 0]}, "parallel"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_without_a_usable_grid_is_refused(tmp_path, name, fields, says):
    raises_line(save(tmp_path / name, **fields), GeometryError, says)


def test_a_bad_qform_does_not_matter_beside_a_good_sform(tmp_path):
    path = save(tmp_path / "a.nii", qform_code=1, quatern_b=0.9, quatern_c=0.9)
    assert np.allclose(read_volume(path).grid.affine, OBLIQUE, atol=1e-6)


@pytest.mark.parametrize(("shape", "channels"), [((4, 3, 2, 1), 1), ((4, 3, 2, 2), 2), ((4, 3, 2, 1, 3), 3), ((4, 3, 2, 1, 1), 1)])
def test_trailing_dimensions_of_one_fall_away_and_few_volumes_are_channels(tmp_path, shape, channels):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = read_volume(save(tmp_path / "a.nii", array)).array
    assert got.shape == (channels, *SHAPE)
    assert count_channels(tmp_path / "a.nii") == channels
    for c in range(channels):
        assert np.array_equal(got[c], array.reshape(*SHAPE, channels)[..., c])


@pytest.mark.parametrize("shape", [(4, 3, 2, 9), (4, 3, 2, 200), (4, 3, 2, 2, 3)])
def test_a_time_series_is_refused(tmp_path, shape):
    raises_line(save(tmp_path / "a.nii.gz", np.zeros(shape, np.int16)), DataError, "time series of .* split it")


def test_a_flat_file_gets_one_slice(tmp_path):
    path = save(tmp_path / "a.nii", COUNT[..., 0], sform_code=0, qform_code=1, pixdim=[1, 0.5, 0.5, 0, 0, 0, 0, 0])
    volume = read_volume(path)
    assert volume.array.shape == (1, 4, 3, 1)
    assert volume.grid.spacing_mm == pytest.approx((0.5, 0.5, 1))


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colour_voxels_become_three_channels(tmp_path, names):
    colours = np.zeros(SHAPE, dtype=[(n, "u1") for n in names])
    for c, n in enumerate(names):
        colours[n] = np.random.default_rng(c).integers(0, 255, SHAPE)
    got = read_volume(save(tmp_path / "a.nii", colours)).array
    assert got.dtype == np.uint8
    assert got.shape == (3, *SHAPE)
    assert count_channels(tmp_path / "a.nii") == 3
    for c in range(3):
        assert np.array_equal(got[c], colours[names[c]])


def test_complex_voxels_are_refused(tmp_path):
    raises_line(save(tmp_path / "a.nii", COUNT.astype(np.complex64)), DataError, "must be real numbers")


def test_values_beyond_float32_become_infinite_for_the_audit_to_find(tmp_path):
    array = np.full(SHAPE, 1e300)
    assert np.isinf(read_volume(save(tmp_path / "a.nii", array)).array).all()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dim": [0, 4, 3, 2, 1, 1, 1, 1]}, "counts 0 dimensions"),
        ({"dim": [9, 4, 3, 2, 1, 1, 1, 1]}, "dimensions|no NIfTI"),
        ({"dim": [3, 4, 0, 2, 1, 1, 1, 1]}, "each must be at least 1"),
        ({"dim": [3, 4, -3, 2, 1, 1, 1, 1]}, "each must be at least 1"),
        ({"dim": [3, 4, 3, 20, 1, 1, 1, 1]}, "truncated"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "truncated"),
        ({"vox_offset": 0}, "inside the header"),
        ({"datatype": 77}, "cannot be read"),
        ({"magic": b"ni1"}, "two-file"),
        ({"magic": b""}, "Analyze"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_damaged_header_is_refused(tmp_path, name, fields, says):
    raises_line(save(tmp_path / name, **fields), DataError, says)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 999, (20, 20, 20), dtype=np.int16))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    raises_line(path, DataError, "truncated|copy|export it again")


def test_a_flipped_bit_in_compressed_voxels_is_noticed(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 255, (20, 20, 20), dtype=np.uint8))
    for position in (0.3, 0.6, 0.9):
        data = bytearray(path.read_bytes())
        data[int(len(data) * position)] ^= 0x10
        damaged = tmp_path / "b.nii.gz"
        damaged.write_bytes(data)
        raises_line(damaged, DataError, "copy or export it again")


def test_random_damage_never_shows_a_librarys_error(tmp_path, capfd):
    whole = save(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii"
    for seed in range(300):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(0, 360)] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            read_volume(path)
        except SegpipeError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
    out = capfd.readouterr()
    assert out.err == ""


def test_a_plain_file_named_gz_says_so(tmp_path):
    path = save(tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    raises_line(path, DataError, "rename it to .nii if")


def test_a_compressed_file_named_nii_says_so(tmp_path):
    path = save(tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    raises_line(path, DataError, "rename it to .nii.gz")


def test_the_header_is_read_as_the_standard_lays_it_out(tmp_path):
    """Field offsets of nifti1.h, independent of nibabel: dim at 40, pixdim at 76, srow_x at 280, codes at 252 and 254."""
    data = save(tmp_path / "a.nii").read_bytes()
    assert struct.unpack_from("<8h", data, 40)[:4] == (3, *SHAPE)
    assert struct.unpack_from("<2h", data, 252)[1] > 0
    rows = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    assert np.array_equal(read_grid(tmp_path / "a.nii").affine[:3], rows)
