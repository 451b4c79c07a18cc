"""Every real scan that is at hand is read as nibabel, SimpleITK and Pillow read it, and written and read again in its place."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from segpipe.io.find import find_scans, is_picture, split_name
from segpipe.io.read import read_grid, read_volume
from segpipe.io.write import write_volume

ROOT = Path(os.environ.get("SEGPIPE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
PER_FOLDER = 6
LPS = np.diag([-1, -1, 1, 1])


def some_scans():
    if not ROOT.is_dir():
        return []
    folders = {}
    for path in find_scans(ROOT):
        folders.setdefault(path.parent, []).append(path)
    return [path for files in folders.values() for path in files[:PER_FOLDER]]


SCANS = some_scans()
pytestmark = pytest.mark.skipif(not SCANS, reason="no real scans: set SEGPIPE_DATA to their folder")


def expected(path):
    """Array (C, I, J, K) and affine, straight from the library that owns the format."""
    if is_picture(path):
        with Image.open(path) as image:
            array = np.atleast_3d(np.array(image))
        return np.moveaxis(array, -1, 0)[..., None], np.eye(4)
    if ".nii" in path.name:
        image = nib.load(path)
        return image.get_fdata()[None], image.affine
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T[None], LPS @ affine


@pytest.mark.parametrize("path", SCANS, ids=lambda p: f"{p.parent.parent.name}-{p.parent.name}-{split_name(p)[0]}")
def test_a_real_scan_is_read_as_its_library_reads_it_and_survives_a_round_trip(path, tmp_path, capfd):
    volume = read_volume(path)
    array, affine = expected(path)
    assert np.array_equal(volume.array, array.astype(np.float32) if volume.array.dtype == np.float32 else array)
    assert np.allclose(volume.grid.affine, affine, atol=1e-6)
    assert read_grid(path).same_as(volume.grid)
    again = tmp_path / f"again{split_name(path)[1].replace('.gz', '')}"
    write_volume(again, volume)
    back = read_volume(again)
    assert back.grid.same_as(volume.grid, tolerance_mm=1e-4)
    assert np.array_equal(back.array, volume.array, equal_nan=True)
    assert capfd.readouterr() == ("", "")
