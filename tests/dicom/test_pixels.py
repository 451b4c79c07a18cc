"""Stored pixels -> values, and files whose pixels cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from segpipe.dicom import decoding
from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.volume import Scan, read_stack
from segpipe.errors import DataError
from tests.dicom.series import Series, enhanced, save


def read(folder: Path) -> Scan:
    (stack,) = list_stacks(path for path in folder.rglob("*") if path.is_file()).stacks
    return read_stack(stack, Policy())


def values(folder: Path) -> NDArray[Any]:
    """(K, rows, columns)."""
    return read(folder).volume.array[0].T


def random(kind: str, low: int, high: int) -> NDArray[Any]:
    return np.random.default_rng(3).integers(low, high, (8, 7, 9)).astype(kind)


def test_hounsfield_units_stay_integers(tmp_path: Path) -> None:
    stored = random("u2", 0, 4000)
    Series(stored=stored, more={"RescaleSlope": 1, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}).write(tmp_path)
    assert values(tmp_path).dtype == np.int16
    assert np.array_equal(values(tmp_path), stored.astype(int) - 1024)


def test_each_slice_has_its_own_slope_as_in_pet(tmp_path: Path) -> None:
    stored = random("i2", 0, 32000)
    slope = 0.1 + np.arange(8) * 0.37
    rescale = lambda n: {"RescaleSlope": f"{slope[n]:.6f}", "RescaleIntercept": "0", "Units": "BQML"}  # noqa: E731
    Series(modality="PT", stored=stored, each=rescale).write(tmp_path)
    assert values(tmp_path).dtype == np.float32
    assert np.allclose(values(tmp_path), stored * slope[:, None, None], rtol=1e-6)


def test_each_frame_of_a_multi_frame_object_has_its_own_slope(tmp_path: Path) -> None:
    def scaled(n: int) -> Dataset:
        frame, item = Dataset(), Dataset()
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = n + 1, -10 * n, "US"
        frame.PixelValueTransformationSequence = [item]
        return frame

    series = Series(modality="MR", stored=random("u2", 0, 500))
    enhanced(series, tmp_path / "x", each=scaled)
    n = np.arange(8)[:, None, None]
    assert np.array_equal(values(tmp_path), series.values().astype(int) * (n + 1) - 10 * n)


def test_signed_values_of_twelve_bits_are_read_with_and_without_extended_signs(tmp_path: Path) -> None:
    truth = random("i2", -2000, 2000)
    bits = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    Series(stored=truth, more=bits).write(tmp_path / "extended")
    Series(stored=(truth & 0xFFF).astype(np.uint16), more=bits).write(tmp_path / "plain")
    assert np.array_equal(values(tmp_path / "extended"), truth)
    assert np.array_equal(values(tmp_path / "plain"), truth)


def test_values_that_do_not_fit_their_bits_are_refused_and_drawings_above_them_taken_off(tmp_path: Path) -> None:
    stored = random("u2", 0, 4096)
    drawn = stored | 0x1000
    Series(stored=drawn, more={"BitsStored": 12, "HighBit": 11}).write(tmp_path / "odd")
    with pytest.raises(DataError, match=r"states 12 bits; one is wrong"):
        read(tmp_path / "odd")
    made = Series(stored=drawn, more={"BitsStored": 12, "HighBit": 11}).write(tmp_path / "drawn")
    for path in made.paths:
        ds = pydicom.dcmread(path)
        ds.add_new((0x6000, 0x0102), "US", 12)
        ds.save_as(path)
    assert np.array_equal(values(tmp_path / "drawn"), stored)


def test_a_table_of_values_is_used(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "HU"
    table.LUTData = np.array([3 * n + 7 for n in range(256)], dtype="<u2").tobytes()
    stored = random("u2", 0, 256)
    Series(stored=stored, more={"ModalityLUTSequence": [table]}).write(tmp_path)
    assert np.array_equal(values(tmp_path), 3 * stored.astype(int) + 7)


def test_padding_is_rescaled_like_every_value(tmp_path: Path) -> None:
    stored = random("i2", 0, 2000)
    stored[:, 0, :] = -2000
    Series(stored=stored, more={"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelPaddingValue": -2000}).write(tmp_path)
    assert (values(tmp_path)[:, 0, :] == -3024).all()


def test_low_values_shown_white_are_turned_over_only_where_values_have_no_unit(tmp_path: Path) -> None:
    stored = random("u2", 0, 4000)
    white = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    Series(stored=stored, more=white).write(tmp_path / "ct")
    Series(modality="PT", stored=stored, more=white).write(tmp_path / "pet")
    Series(modality="MR", stored=stored, more={**white, "RescaleSlope": 2, "RescaleIntercept": 0}).write(tmp_path / "adc")
    Series(modality="MR", stored=stored, more={**white, "PixelPaddingValue": int(stored[0, 0, 0])}).write(tmp_path / "mr")
    assert np.array_equal(values(tmp_path / "ct"), stored)
    assert np.array_equal(values(tmp_path / "pet"), stored)
    assert np.array_equal(values(tmp_path / "adc"), 2 * stored.astype(int))
    padding = stored == stored[0, 0, 0]
    assert np.array_equal(values(tmp_path / "mr"), np.where(padding, 0, 4095 - stored.astype(int)))
    assert "turned over (MONOCHROME1)" in read(tmp_path / "mr").notes[0]


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_compressed_files_hold_the_same_values(syntax: Any, tmp_path: Path) -> None:
    made = Series(stored=random("u2", 0, 4000)).write(tmp_path)
    for path in made.paths:
        ds = pydicom.dcmread(path)
        if syntax == RLELossless:
            ds.compress(RLELossless)
            ds.save_as(path)
        else:
            save(ds, path, syntax=syntax)
    assert np.array_equal(values(tmp_path), made.stored)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_jpeg_ls_and_jpeg_2000_without_loss_hold_the_same_values(syntax: str, tmp_path: Path) -> None:
    pytest.importorskip("openjpeg" if syntax.endswith("90") else "jpeg_ls", reason="its encoder is not installed")
    for kind, low in (("u2", 0), ("i2", -3000)):
        stored = np.random.default_rng(3).integers(low, 3000, (3, 72, 80)).astype(kind)
        made = Series(stored=stored, size=(72, 80), heights=[0, 2, 4]).write(tmp_path / kind)
        for path in made.paths:
            ds = pydicom.dcmread(path)
            ds.compress(syntax)
            ds.save_as(path)
        assert np.array_equal(values(tmp_path / kind), made.stored)


def test_a_syntax_without_a_decoder_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Series().write(tmp_path)
    for path in made.paths:
        ds = pydicom.dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(DataError, match=r"RLE Lossless \(1\.2\.840\.10008\.1\.2\.5\), and no decoder.*pip install 'segpipe\[dicom\]'"):
        read(tmp_path)


def test_a_syntax_for_films_or_of_nobody_is_refused() -> None:
    assert "MPEG2" in decoding.why_undecodable({"1.2.840.10008.1.2.4.100"})
    assert "unknown transfer syntax 1.2.3" in decoding.why_undecodable({"1.2.3"})
    assert not decoding.why_undecodable({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    made = Series().write(tmp_path)
    made.paths[3].write_bytes(made.paths[3].read_bytes()[:-40])
    with pytest.raises(DataError, match=r"cut short \(IM0003, by 40 bytes\)") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
