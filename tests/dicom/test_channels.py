"""Several series as channels: chosen by what their headers say, brought onto one grid by their places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segpipe.dicom.channels import Wanted, interpolated
from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.request import hash_of, read_slices, slices_from_json, slices_of
from segpipe.dicom.stack import Stack
from segpipe.errors import ConfigError, DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from tests.dicom.series import Series, turned

T2 = Series(seed=1, modality="MR", number=2, more={"SeriesDescription": "t2_tse_tra", "EchoTime": "90"})
ADC = Series(
    seed=2,
    modality="MR",
    number=5,
    heights=[2.0 * n for n in range(10)],
    spacing=(1.6, 1.4),
    size=(4, 5),
    more={"SeriesDescription": "ep2d_ADC", "ImageType": ["DERIVED", "PRIMARY", "ADC"], "DiffusionBValue": 1400.0},
)


def stacks(folder: Path, *series: Series) -> list[Stack]:
    return [list_stacks(one.write(folder / str(n)).paths).stacks[0] for n, one in enumerate(series)]


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        ("T2*", (True, False)),
        ("description=*adc", (False, True)),
        ("type=ADC", (False, True)),
        ("modality=mr", (True, True)),
        ("modality=CT", (False, False)),
        ("b=1400", (False, True)),
        ("te=90", (True, False)),
        ("number=5", (False, True)),
        ("modality=MR; b=1400", (False, True)),
        ("modality=MR; t2*", (True, False)),
        ("b=800 | te=90", (True, False)),
    ],
)
def test_a_channel_is_found_by_what_its_header_says(tmp_path: Path, which: str, fits: tuple[bool, bool]) -> None:
    assert tuple(Wanted("x", which).fits(stack) for stack in stacks(tmp_path, T2, ADC)) == fits


@pytest.mark.parametrize("which", ["", "b=high", "modality=", "t2*|"])
def test_a_channel_that_cannot_be_understood_is_refused(which: str) -> None:
    with pytest.raises(ConfigError, match="the series of the channel x are given as"):
        Wanted("x", which)


def test_channels_travel_as_one_request_and_lie_on_the_first_ones_grid(tmp_path: Path) -> None:
    first, second = stacks(tmp_path, T2, ADC)
    from dataclasses import replace

    both = replace(slices_of(first, Policy()), others=(slices_of(second, Policy()),))
    assert slices_from_json(both.to_json()) == both
    assert len(both.files) == 18
    assert hash_of(both) == f"{hash_of(slices_of(first, Policy()))}+{hash_of(slices_of(second, Policy()))}"
    scan, alone = read_slices(both), read_slices(slices_of(first, Policy()))
    assert scan.volume.channels == 2
    assert np.array_equal(scan.volume.array[:1], alone.volume.array)
    assert scan.volume.grid.same_as(alone.volume.grid)
    assert len(scan.notes) == 1
    assert "is interpolated onto the grid" in scan.notes[0]


def test_channels_of_one_grid_are_taken_as_they_are(tmp_path: Path) -> None:
    from dataclasses import replace

    twin = Series(**{**T2.__dict__, "seed": 3, "stored": T2.values() + 7})
    first, second = stacks(tmp_path, T2, twin)
    scan = read_slices(replace(slices_of(first, Policy()), others=(slices_of(second, Policy()),)))
    assert np.array_equal(scan.volume.array[1], scan.volume.array[0] + 7)
    assert scan.volume.array.dtype.kind in "iu"
    assert scan.notes == ()


def test_channels_of_two_frames_of_reference_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    other = Series(**{**ADC.__dict__, "more": {**ADC.more, "FrameOfReferenceUID": "1.2.3.99"}})
    first, second = stacks(tmp_path, T2, other)
    with pytest.raises(GeometryError, match="another FrameOfReferenceUID than"):
        read_slices(replace(slices_of(first, Policy()), others=(slices_of(second, Policy()),)))


def test_interpolation_of_a_linear_field_is_exact_at_every_place() -> None:
    row, column = np.array(turned(10, 20, 30))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * 1.5, column * 1.2, np.cross(row, column) * 2.0], axis=1)
    coarse = Grid((14, 15, 12), affine)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in coarse.shape), indexing="ij"), axis=-1)
    field = coarse.world(index) @ (1.0, -2.0, 3.0) + 5
    inner = np.diag([0.9, 1.1, 0.7, 1.0])
    inner[:3, 3] = coarse.world(np.array([6.0, 6.0, 5.0])) - 1.5
    fine = Grid((4, 4, 4), inner)
    found = interpolated(Volume(field[None].astype(np.float32), coarse), fine)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in fine.shape), indexing="ij"), axis=-1)
    assert np.allclose(found[0], fine.world(index) @ (1.0, -2.0, 3.0) + 5, atol=1e-3)


def test_beyond_a_series_lies_its_lowest_value() -> None:
    volume = Volume(np.arange(3, 11, dtype=np.int16).reshape(1, 2, 2, 2), Grid((2, 2, 2), np.eye(4)))
    far = np.eye(4)
    far[:3, 3] = 10
    assert (interpolated(volume, Grid((2, 2, 2), far)) == 3).all()


def test_channels_of_two_patients_are_refused(tmp_path: Path) -> None:
    one, other = stacks(tmp_path, T2, replace(ADC, more={**ADC.more, "PatientID": "OTHER8"}))
    slices = slices_of(one, Policy())
    with pytest.raises(DataError, match=r"slices of two patients .* differ in PatientID") as caught:
        read_slices(replace(slices, others=(slices_of(other, Policy()),)))
    assert "OTHER8" not in str(caught.value)
