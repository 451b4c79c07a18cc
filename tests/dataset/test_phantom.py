"""Synthetic scans: the same bits everywhere, files that other readers understand, pictures that are worth learning from."""

from __future__ import annotations

import ast
import gzip
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import segpipe.dataset.phantom as package
from segpipe.dataset.phantom import (
    PHANTOMS,
    phantom,
    phantom_cells,
    phantom_ct,
    phantom_prostate,
    write_dicom_series,
    write_phantom,
    write_samples,
)
from segpipe.dataset.phantom.__main__ import main
from segpipe.dataset.phantom.draws import Draws
from segpipe.dataset.phantom.files import gzip_stored, png_grey, quaternion
from segpipe.errors import ConfigError, DataError
from segpipe.geometry.grid import Grid, Volume

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "data" / "samples"
INEXACT = {"exp", "log", "sin", "cos", "tan", "arctan2", "power", "dot", "matmul", "einsum", "mean", "std", "normal", "standard_normal"}


def draws(seed: int = 1) -> Draws:
    return Draws(np.random.Generator(np.random.PCG64(seed)))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_samples_in_the_repository_are_made_again_bit_for_bit(tmp_path: Path) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("data/samples is not here: tests run outside the repository")
    write_samples(tmp_path)
    made, kept = files(tmp_path), files(SAMPLES)
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_the_samples_are_a_few_hundred_kilobytes() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("data/samples is not here: tests run outside the repository")
    assert sum(map(len, files(SAMPLES).values())) < 500_000


@pytest.mark.parametrize("kind", PHANTOMS)
def test_a_case_depends_on_its_seed_and_number_alone(kind: str, tmp_path: Path) -> None:
    write_phantom(tmp_path / "one", kind, 2, 5, "small")
    write_phantom(tmp_path / "more", kind, 3, 5, "small")
    write_phantom(tmp_path / "other", kind, 2, 6, "small")
    one, more, other = (files(tmp_path / name) for name in ("one", "more", "other"))
    assert all(more[name] == content for name, content in one.items())
    assert all(other[name] != content for name, content in one.items())


def test_no_operation_is_used_whose_last_bit_may_differ_between_machines() -> None:
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Attribute) and node.attr in INEXACT | {"sum"}), where
            assert not (isinstance(node, ast.Name) and node.id == "sum"), where
            assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.MatMult)), where


def test_random_words_are_those_that_numpy_promises_for_pcg64() -> None:
    assert draws(42).words(3).tolist() == np.random.PCG64(42).random_raw(3).tolist()
    assert draws(42).uniforms(3, 0.0, 1.0).tolist() == np.random.Generator(np.random.PCG64(42)).random(3).tolist()


def test_noise_is_nearly_normal() -> None:
    noise = draws().noise((50, 50, 40))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1.0) < 0.01
    assert abs((np.abs(noise) > 2.0).mean() - 0.0455) < 0.004


def test_a_field_is_smooth_and_stays_in_its_range() -> None:
    x, y, z = (axis.astype(float) * 0.5 for axis in np.mgrid[0:40, 0:30, 0:20])
    field = draws().field((x, y, z), 8.0)
    assert np.abs(field).max() <= 1.0
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.4


@given(st.binary(max_size=200_000))
@settings(max_examples=20, deadline=None)
def test_stored_gzip_is_read_by_gzip(data: bytes) -> None:
    packed = gzip_stored(data)
    assert gzip.decompress(packed) == data
    assert packed[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 131070])
def test_stored_gzip_holds_whole_blocks(size: int) -> None:
    assert gzip.decompress(gzip_stored(bytes(size))) == bytes(size)


@given(st.tuples(*[st.floats(-1, 1) for _ in range(4)]).filter(lambda q: sum(n * n for n in q) > 0.01))
@settings(max_examples=60, deadline=None)
def test_the_quaternion_turns_back_into_the_rotation(q: tuple[float, float, float, float]) -> None:
    turn = nib.quaternions.quat2mat(q)
    b, c, d = quaternion(turn.tolist())
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    assert np.allclose(nib.quaternions.quat2mat((a, b, c, d)), turn, atol=1e-6)


def test_a_picture_is_read_by_pillow(tmp_path: Path) -> None:
    picture = np.arange(300 * 310, dtype=np.uint32).reshape(300, 310).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png_grey(picture))
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(np.asarray(opened), picture)


@pytest.mark.parametrize("index", range(4))
def test_nibabel_and_itk_find_the_scan_where_its_grid_says(index: int, tmp_path: Path) -> None:
    image, label = phantom("prostate", 3, index, "small")
    case = write_phantom(tmp_path, "prostate", index + 1, 3, "small")[index]
    loaded = nib.load(case.images[0])
    assert np.array_equal(loaded.affine, image.grid.affine)  # exact: the affine holds float32 numbers
    assert np.allclose(loaded.get_qform(), loaded.get_sform(), atol=1e-4)
    assert np.array_equal(np.asanyarray(loaded.dataobj), image.array[0])
    assert case.label is not None
    itk = SimpleITK.ReadImage(str(case.label))
    assert np.array_equal(SimpleITK.GetArrayFromImage(itk).T, label.array[0])
    corner = tuple(n - 1 for n in label.grid.shape)
    x, y, z = itk.TransformIndexToPhysicalPoint(corner)
    assert np.allclose((-x, -y, z), label.grid.world(np.array(corner)), atol=1e-3)


def test_scans_come_in_several_orientations_sizes_and_spacings() -> None:
    grids = [phantom("prostate", 0, index, "small")[0].grid for index in range(16)]
    assert len({nib.aff2axcodes(grid.affine) for grid in grids}) >= 3
    assert len({grid.shape for grid in grids}) >= 8
    assert len({grid.spacing_mm for grid in grids}) >= 8
    oblique = [np.abs(grid.affine[:3, :3] / grid.spacing_mm).max(axis=0).min() < 0.9999 for grid in grids]
    assert 2 <= sum(oblique) <= 12
    for grid in grids:
        axes = grid.affine[:3, :3] / np.array(grid.spacing_mm)
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("index", range(6))
def test_the_transition_zone_lies_within_the_gland(index: int) -> None:
    image, label = phantom("prostate", 11, index, "small")
    assert image.array.dtype == np.int16
    assert label.array.dtype == np.uint8
    assert np.unique(label.array).tolist() == [0, 1, 2]
    volumes = [float((label.array == value).sum()) * label.grid.voxel_volume_ml for value in (1, 2)]
    assert 5.0 < volumes[0] < 45.0
    assert 1.5 < volumes[1] < 30.0
    gland = label.array[0] > 0
    for axis in range(3):
        assert not gland.take([0, -1], axis=axis).any()


def best_dice_of_a_window(image: np.ndarray, mask: np.ndarray) -> float:
    """The best Dice that any intensity window reaches (bounds at 25 percentiles)."""
    steps = np.percentile(image, np.linspace(0, 100, 25))
    inside = [np.histogram(image[part], steps)[0].cumsum() for part in (mask, ~mask)]
    hit = np.concatenate([[0], inside[0]]) - np.concatenate([[0], inside[0]])[:, None]
    wrong = np.concatenate([[0], inside[1]]) - np.concatenate([[0], inside[1]])[:, None]
    return float((2 * hit / np.maximum(hit + wrong + mask.sum(), 1)).max())


@pytest.mark.parametrize("zone", [1, 2])
def test_no_intensity_window_separates_a_zone(zone: int) -> None:
    for index in range(3):
        image, label = phantom("prostate", 4, index, "small")
        assert best_dice_of_a_window(image.array, label.array == zone) < 0.7


def test_ct_is_in_hounsfield_units_with_air_and_padding() -> None:
    for index in range(4):
        image, label = phantom("ct", 2, index, "small")
        hu = image.array
        assert hu.min() == -1024
        assert (hu == -1024).any()
        assert (hu == -1000).sum() > 0.05 * hu.size
        assert ((hu > -1024) & (hu < -1000)).sum() == 0
        for value, low, high in ((1, 70, 150), (2, 70, 170), (3, 20, 110)):
            if value != 3 or (label.array == 3).any():
                assert low < np.median(hu[label.array == value]) < high
        assert {0, 1, 2} <= set(np.unique(label.array).tolist()) <= {0, 1, 2, 3}


def test_cells_are_a_picture_with_a_mask_of_0_and_255() -> None:
    image, label = phantom("cells", 2, 0, "small")
    assert image.grid.shape == label.grid.shape
    assert image.grid.shape[2] == 1
    assert image.array.dtype == np.uint8
    assert np.unique(label.array).tolist() == [0, 255]
    assert image.array[label.array == 0].mean() > image.array[label.array == 255].mean() + 30


def test_the_generators_take_a_numpy_generator() -> None:
    for make in (phantom_ct, phantom_prostate, phantom_cells):
        image, label = make(np.random.Generator(np.random.PCG64(9)), "small")
        assert image.grid is label.grid or image.grid.same_as(label.grid)


@pytest.mark.parametrize(("kind", "modality"), [("prostate", "MR"), ("ct", "CT")])
def test_a_dicom_series_is_read_by_itk_at_the_same_place(kind: str, modality: str, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    image, _ = phantom(kind, 3, 1, "small")
    paths = write_dicom_series(tmp_path, image, 7, "CT" if modality == "CT" else "MR")
    assert len(paths) == image.grid.shape[2]
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    itk = reader.Execute()
    for corner in ((0, 0, 0), (5, 0, 0), (0, 5, 0), tuple(n - 1 for n in image.grid.shape)):
        at = np.array(image.grid.world(np.array(corner))) * (-1, -1, 1)
        index = itk.TransformPhysicalPointToIndex(at.tolist())
        assert np.allclose(itk.TransformIndexToPhysicalPoint(index), at, atol=1e-3)
        assert itk.GetPixel(index) == image.array[(0, *corner)]


def test_a_dicom_series_says_the_same_on_a_second_writing_and_has_its_own_uids(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    image, _ = phantom("prostate", 3, 0, "small")
    first, second, other = (write_dicom_series(tmp_path / name, image, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    slices = [pydicom.dcmread(path) for path in first]
    assert len({ds.SOPInstanceUID for ds in slices}) == len(slices)
    assert len({ds.SeriesInstanceUID for ds in slices}) == 1
    assert pydicom.dcmread(other[0]).SeriesInstanceUID != slices[0].SeriesInstanceUID
    assert slices[0].file_meta.ImplementationVersionName == "SEGPIPE_PHANTOM"
    assert slices[0].PixelSpacing == pytest.approx([image.grid.spacing_mm[1], image.grid.spacing_mm[0]], abs=1e-5)
    assert all(pydicom.uid.UID(ds.SOPInstanceUID).is_valid for ds in slices)


def test_without_pydicom_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    image, _ = phantom("prostate", 3, 0, "small")
    with pytest.raises(DataError, match=r"segpipe\[dicom\]"):
        write_dicom_series(tmp_path, image, 1)


def test_what_a_plain_series_cannot_say_is_refused(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    with pytest.raises(DataError, match="right angles"):
        write_dicom_series(tmp_path, Volume(np.zeros((1, 4, 4, 2), np.int16), Grid((4, 4, 2), sheared)), 1)
    with pytest.raises(DataError, match="16 bits"):
        write_dicom_series(tmp_path, Volume(np.full((1, 4, 4, 2), -5, np.int16), Grid((4, 4, 2), np.eye(4))), 1)
    with pytest.raises(DataError, match="one channel of integers"):
        write_dicom_series(tmp_path, Volume(np.zeros((1, 4, 4, 2), np.float32), Grid((4, 4, 2), np.eye(4))), 1)


def test_an_unknown_kind_and_an_unwritable_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one of ct, prostate, cells"):
        write_phantom(tmp_path, "knee", 1, 0, "small")
    with pytest.raises(ConfigError, match="cases is 0"):
        write_phantom(tmp_path, "cells", 0, 0, "small")
    with pytest.raises(ConfigError, match="seed is -1"):
        write_phantom(tmp_path, "cells", 1, -1, "small")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        write_phantom(tmp_path / "file", "cells", 1, 0, "small")


def test_the_module_writes_a_data_set_of_any_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), "--kind", "prostate", "--cases", "1", "--seed", "3", "--size", "small", "--layout", "msd"]
    assert main(arguments) == 0
    assert "1 cases (prostate, seed 3)" in capsys.readouterr().out
    assert sorted(files(tmp_path)) == ["dataset.json", "imagesTr/prostate_000.nii.gz", "labelsTr/prostate_000.nii.gz"]
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file"), "--kind", "cells", "--cases", "1", "--size", "small"]) == 2
