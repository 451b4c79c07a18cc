"""Pictures: rows and columns, greys, colours, palettes, 16 bits, masks; odd files are refused."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from segpipe.errors import DataError
from segpipe.io.read import count_channels, read_beside, read_grid, read_label, read_volume

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def raises_line(path, says):
    with pytest.raises(DataError, match=says) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "A.PNG"])
def test_grey_has_rows_as_i_and_columns_as_j_on_the_identity(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    assert volume.array.shape == (1, 5, 7, 1)
    assert volume.array.dtype == np.uint8
    assert np.array_equal(volume.array[0, ..., 0], GREY)
    assert np.array_equal(volume.grid.affine, np.eye(4))
    assert read_grid(tmp_path / name).same_as(volume.grid)
    assert volume.array.flags.writeable


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colour_has_three_channels_and_opacity_is_left_out(tmp_path, name, alpha):
    array = np.dstack([COLOUR, RNG.integers(0, 256, (5, 7, 1), dtype=np.uint8)]) if alpha else COLOUR
    Image.fromarray(array).save(tmp_path / name)
    assert np.array_equal(read_volume(tmp_path / name).array[..., 0], np.moveaxis(COLOUR, -1, 0))


def test_a_jpeg_is_read_as_pillow_decodes_it(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(read_volume(tmp_path / "a.jpg").array[..., 0], np.moveaxis(np.array(image), -1, 0))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_its_16_bits(tmp_path, name):
    deep = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    got = read_volume(tmp_path / name).array
    assert got.dtype == np.uint16
    assert np.array_equal(got[0, ..., 0], deep)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_keeps_its_16_bits(tmp_path, name, channels):
    deep = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / name))
    got = read_volume(tmp_path / name).array
    assert got.dtype == np.uint16
    assert np.array_equal(got[..., 0], np.moveaxis(deep[..., :3], -1, 0))


def test_big_endian_tiff_comes_in_native_order(tmp_path):
    deep = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    Image.frombytes("I;16B", (7, 5), deep.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    got = read_volume(tmp_path / "a.tif").array
    assert got.dtype.isnative
    assert np.array_equal(got[0, ..., 0], deep)


@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "a.tif"), (np.int32, "a.tif")])
def test_tiff_of_floats_and_32_bit_integers_keeps_its_values(tmp_path, dtype, name):
    array = (RNG.normal(size=(5, 7)) * 1000).astype(dtype)
    Image.fromarray(array).save(tmp_path / name)
    got = read_volume(tmp_path / name).array
    assert got.dtype == dtype
    assert np.array_equal(got[0, ..., 0], array)


def test_a_coloured_palette_gives_its_indices_as_label_pictures_mean_them(tmp_path):
    labels = RNG.integers(0, 3, (5, 7), dtype=np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_volume(tmp_path / "a.png").array[0, ..., 0], labels)


def test_a_grey_palette_gives_its_greys(tmp_path):
    index = RNG.integers(0, 3, (5, 7), dtype=np.uint8)
    greys = np.array([10, 250, 99], np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette(np.repeat(greys, 3).tolist())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_volume(tmp_path / "a.png").array[0, ..., 0], greys[index])


@pytest.mark.parametrize("palette", [[255, 255, 255, 0, 0, 255], [0, 0, 0, 255, 0, 0], [7, 7, 7, 7, 7, 8]])
@pytest.mark.parametrize("index", [0, 1])
def test_a_coloured_palette_gives_its_indices_where_a_picture_shows_one_of_its_colours_too(tmp_path, palette, index):
    image = Image.fromarray(np.full((5, 7), index, np.uint8)).convert("P")
    image.putpalette(palette)
    image.save(tmp_path / "a.png")
    assert (read_volume(tmp_path / "a.png").array == index).all()


@pytest.mark.parametrize(
    "palette", [[255] * 3, [255] * 3 + [0] * 3, [255] * 3 + [0, 0, 255], [0] * 3 + [9] * 3, np.repeat(np.arange(256), 3).tolist()]
)
def test_a_label_picture_gives_the_indices_of_its_palette(tmp_path, palette):
    labels = RNG.integers(0, len(palette) // 3, (5, 7)).astype(np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putpalette(palette)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_label(tmp_path / "a.png").array[0, ..., 0], labels)
    assert np.array_equal(read_beside(tmp_path / "a.png", tmp_path / "a.png").array[0, ..., 0], labels)


@pytest.mark.parametrize("count", [2, 4, 16, 256])
def test_a_ramp_from_black_to_white_is_looked_up_in_label_pictures_too(tmp_path, count):
    greys = np.linspace(0, 255, count).astype(np.uint8)
    index = RNG.integers(0, count, (5, 7)).astype(np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette(np.repeat(greys, 3).tolist())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_label(tmp_path / "a.png").array[0, ..., 0], greys[index])


def test_a_label_picture_without_palette_is_read_as_any_other(tmp_path):
    for number, array in enumerate((GREY, COLOUR)):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
        assert np.array_equal(read_label(tmp_path / f"{number}.png").array, read_volume(tmp_path / f"{number}.png").array)
        assert count_channels(tmp_path / f"{number}.png") == (1, 3)[number]


def test_tiff_of_unsigned_32_bit_integers_keeps_its_values(tmp_path):
    array = np.array([[0, 1, 2**31 - 1], [2**31, 3_000_000_000, 2**32 - 1]], np.uint32)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.tif"))
    got = read_volume(tmp_path / "a.tif").array
    assert got.dtype == np.uint32
    assert np.array_equal(got[0, ..., 0], array)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_a_black_and_white_mask_is_0_and_1(tmp_path, name):
    mask = RNG.integers(0, 2, (5, 7)).astype(bool)
    Image.fromarray(mask).save(tmp_path / name)
    got = read_volume(tmp_path / name).array
    assert got.dtype == np.uint8
    assert np.array_equal(got[0, ..., 0], mask)


def test_a_mask_of_0_and_255_keeps_its_values(tmp_path):
    mask = RNG.integers(0, 2, (5, 7), dtype=np.uint8) * 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    assert set(np.unique(read_volume(tmp_path / "a.png").array)) == {0, 255}


def test_grey_with_opacity_is_grey(tmp_path):
    Image.fromarray(np.dstack([GREY, 255 - GREY])).save(tmp_path / "a.png")
    assert np.array_equal(read_volume(tmp_path / "a.png").array[0, ..., 0], GREY)


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.tif")
    assert read_volume(tmp_path / "a.tif").array.shape == (3, 5, 7, 1)


def test_a_rotated_photograph_is_taken_as_stored_with_a_warning(tmp_path, caplog):
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_volume(tmp_path / "a.jpg").grid.shape == (5, 7, 1)
    assert "rotated display" in caplog.text


def test_several_pages_are_refused(tmp_path):
    pages = [Image.fromarray(GREY) for _ in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    raises_line(tmp_path / "a.tif", "2 pages; must be one picture")


def test_a_colour_space_that_is_not_known_is_refused(tmp_path):
    lab = Image.merge("LAB", [Image.fromarray(COLOUR[..., c]) for c in range(3)])
    lab.save(tmp_path / "a.tif")
    raises_line(tmp_path / "a.tif", "of the kind LAB")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
def test_a_truncated_picture_is_refused(tmp_path, name, share, capfd):
    noise = RNG.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    raises_line(path, "cannot be read")
    assert capfd.readouterr().err == ""


def test_a_picture_too_large_for_memory_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height of the IHDR chunk
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    raises_line(path, "cannot be read")
