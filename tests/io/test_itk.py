"""NRRD and MetaImage: SimpleITK's voxels and places, in RAS; what is damaged is refused without a word on the terminal."""

import threading

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from segpipe.errors import DataError, GeometryError, SegpipeError
from segpipe.io.read import read_grid, read_volume

SHAPE = (4, 3, 2)
FORMATS = ["nrrd", "mha", "mhd"]
COUNT = np.arange(24, dtype=np.int16).reshape(SHAPE)


def image_of(array, vector=False):
    """An oblique SimpleITK image of array (I, J, K[, C])."""
    order = (2, 1, 0, 3) if vector else tuple(reversed(range(array.ndim)))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), isVector=vector)
    if image.GetDimension() == 3:
        image.SetDirection(Rotation.from_euler("xyz", (10, -25, 40), degrees=True).as_matrix().ravel().tolist())
        image.SetSpacing((0.6, 0.7, 3.1))
        image.SetOrigin((-101.5, 33.3, 1200.25))
    return image


def save(path, array=COUNT, vector=False, compress=True):
    sitk.WriteImage(image_of(array, vector), str(path), compress)
    return path


def raises_line(path, error, says):
    with pytest.raises(error, match=says) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "0x" not in message
    assert type(caught.value) is error


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_voxel_lies_where_itk_puts_it_with_x_and_y_turned(tmp_path, suffix):
    image = image_of(COUNT)
    volume = read_volume(save(tmp_path / f"a.{suffix}"))
    for index in np.ndindex(SHAPE):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose(volume.grid.world(np.array(index)), (-x, -y, z), atol=1e-9)
        assert volume.array[(0, *index)] == image.GetPixel(index)
    assert read_grid(tmp_path / f"a.{suffix}").same_as(volume.grid)
    assert volume.array.flags.writeable


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_integers_keep_their_type_and_floats_become_float32(tmp_path, suffix, dtype):
    got = read_volume(save(tmp_path / f"a.{suffix}", COUNT.astype(dtype))).array
    assert got.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)
    assert np.array_equal(got[0], COUNT)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", [2, 3, 12])
def test_vectors_become_channels(tmp_path, suffix, channels):
    array = np.random.default_rng(0).normal(size=(*SHAPE, channels)).astype(np.float32)
    got = read_volume(save(tmp_path / f"a.{suffix}", array, vector=True)).array
    assert np.array_equal(got, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("volumes", [1, 2, 30])
def test_a_fourth_dimension_is_channels_when_short_and_a_time_series_when_long(tmp_path, suffix, volumes):
    array = np.arange(24 * volumes, dtype=np.int16).reshape(*SHAPE, volumes)
    path = save(tmp_path / f"a.{suffix}", array)
    if volumes > 8:
        raises_line(path, DataError, "time series of 30 volumes")
    else:
        assert np.array_equal(read_volume(path).array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_flat_file_gets_one_slice(tmp_path, suffix):
    image = sitk.GetImageFromArray(COUNT[..., 0].T.copy())
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((3, 4))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    volume = read_volume(tmp_path / f"a.{suffix}")
    assert volume.array.shape == (1, 4, 3, 1)
    assert np.array_equal(volume.array[0, ..., 0], COUNT[..., 0])
    assert np.allclose(volume.grid.affine, [[-0.5, 0, 0, -3], [0, -0.25, 0, -4], [0, 0, 1, 0], [0, 0, 0, 1]])


def nrrd(path, *lines):
    data = COUNT.tobytes("F")
    path.write_bytes("\n".join(["NRRD0004", "type: int16", "encoding: raw", "endian: little", *lines, "", ""]).encode() + data)
    return path


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1)), ("RAS", (1, 1, 1)), ("LAS", (-1, 1, 1))],
)
def test_the_named_space_of_an_nrrd_is_honoured(tmp_path, space, signs):
    lines = ("dimension: 3", "sizes: 4 3 2", f"space: {space}", "space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (10,20,30)")
    volume = read_volume(nrrd(tmp_path / "a.nrrd", *lines))
    assert np.allclose(volume.grid.affine, np.diag([*signs, 1]) @ np.array([[2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]))
    assert np.array_equal(volume.array[0], COUNT)


def test_an_nrrd_without_space_is_read_with_a_warning(tmp_path, caplog):
    volume = read_volume(nrrd(tmp_path / "a.nrrd", "dimension: 3", "sizes: 4 3 2", "spacings: 2 3 4"))
    assert volume.grid.spacing_mm == pytest.approx((2, 3, 4))
    assert "left and right are a guess" in caplog.text


def mha(path, **fields):
    data = COUNT.tobytes("F")
    header = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
              "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 1", "DimSize": "4 3 2",
              "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"} | fields  # fmt: skip
    path.write_bytes("".join(f"{k} = {v}\n" for k, v in header.items()).encode() + data)
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {"ElementSpacing": "0 1 1"},
        {"ElementSpacing": "nan 1 1"},
        {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        {"TransformMatrix": "1 0 0 1 0 0 0 0 1"},
        {"TransformMatrix": "nan 0 0 0 1 0 0 0 1"},
        {"Offset": "nan 0 0"},
        {"DimSize": "4 0 2"},
        {"DimSize": "4 3 20"},
        {"DimSize": "4000000 3000000 2000000"},
        {"ElementType": "MET_NOTHING"},
        {"ElementDataFile": "gone.raw"},
        {"NDims": "0"},
    ],
)
def test_a_meta_header_without_a_usable_grid_is_refused(tmp_path, fields, capfd):
    path = mha(tmp_path / "a.mha", **fields)
    with pytest.raises(SegpipeError) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert type(caught.value) in (DataError, GeometryError)


@pytest.mark.parametrize(
    "lines",
    [
        ("dimension: 3", "sizes: 4 3 2", "space: RAS", "space directions: (0,0,0) (0,3,0) (0,0,4)", "space origin: (0,0,0)"),
        ("dimension: 3", "sizes: 4 3 2", "space: RAS", "space directions: (1,0,0) (1,0,0) (0,0,4)", "space origin: (0,0,0)"),
        ("dimension: 3", "sizes: 4 3 2", "space: RAS", "space directions: (1,0,0) (0,nan,0) (0,0,4)", "space origin: (0,0,0)"),
        ("dimension: 3", "sizes: 4 3 2", "spacings: 0 1 1"),
        ("dimension: 3", "sizes: 4 3 20", "spacings: 1 1 1"),
        ("dimension: 3", "sizes: 4 3"),
        ("dimension: 3",),
        ("sizes: 4 3 2",),
    ],
)
def test_an_nrrd_header_without_a_usable_grid_is_refused(tmp_path, lines):
    path = nrrd(tmp_path / "a.nrrd", *lines)
    with pytest.raises(SegpipeError) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_nrrd_with_an_unknown_spacing_along_an_axis_counts_it_as_1_mm_or_refuses(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", "dimension: 3", "sizes: 4 3 2", "spacings: nan 2 3")
    try:
        assert read_volume(path).grid.spacing_mm == pytest.approx((1, 2, 3))
    except SegpipeError as error:
        assert str(error).startswith(f"{path}: ")


def test_a_missing_raw_file_is_named(tmp_path):
    path = save(tmp_path / "a.mhd", compress=False)
    (tmp_path / "a.raw").unlink()
    raises_line(path, DataError, "its data file a.raw is missing; must lie beside the header")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_voxels_are_refused_in_silence(tmp_path, suffix, compress, share, capfd):
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(0).integers(0, 999, (20, 20, 20), np.int16), compress=compress)
    data = path if suffix != "mhd" else next(p for p in tmp_path.iterdir() if p.suffix != ".mhd")
    whole = data.read_bytes()
    data.write_bytes(whole[: int(len(whole) * share)])
    raises_line(path, DataError, "truncated|copy or export it again")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_flipped_bit_in_compressed_voxels_is_noticed(tmp_path, suffix, capfd):
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(0).integers(0, 255, (20, 20, 20), np.uint8))
    data = path if suffix != "mhd" else tmp_path / "a.zraw"
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    data.write_bytes(damaged)
    raises_line(path, DataError, "copy or export it again")
    assert capfd.readouterr() == ("", "")


def test_complex_voxels_are_refused(tmp_path):
    """In NRRD; MetaImage has no complex numbers and stores two channels."""
    raises_line(save(tmp_path / "a.nrrd", COUNT.astype(np.complex64)), DataError, "must be real numbers")


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_random_damage_never_shows_a_librarys_error(tmp_path, suffix):
    whole = save(tmp_path / f"a.{suffix}").read_bytes()
    path = tmp_path / f"b.{suffix}"
    for seed in range(150):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(0, len(data))] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            read_volume(path)
        except SegpipeError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)


def test_itks_warnings_are_as_before_once_the_last_of_several_threads_has_read(tmp_path):
    path = save(tmp_path / "a.nrrd", np.zeros((30, 30, 30), dtype=np.float32))
    assert sitk.ProcessObject.GetGlobalWarningDisplay()

    def often():
        for _ in range(40):
            read_volume(path)

    threads = [threading.Thread(target=often) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sitk.ProcessObject.GetGlobalWarningDisplay()
