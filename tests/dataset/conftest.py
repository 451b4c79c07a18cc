"""Small scans and data sets for the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

Write = Callable[..., Path]


@pytest.fixture
def write() -> Write:
    """Write an array as NIfTI, making its folder: `write(path, array, affine)`."""

    def _write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
        return path

    return _write


@pytest.fixture
def pairs(tmp_path: Path, write: Write) -> Callable[..., Path]:
    """A data set of two folders with `count` cases `a`, `b` ... of random voxels, whose label holds 0, 1 and 2."""

    def _pairs(count: int = 3, shape: tuple[int, int, int] = (6, 5, 4)) -> Path:
        random = np.random.default_rng(0)
        for name in "abcdefghij"[:count]:
            write(tmp_path / "images" / f"{name}.nii.gz", random.normal(100, 20, shape).astype(np.float32))
            label = random.integers(0, 3, shape).astype(np.uint8)
            label.flat[:3] = [0, 1, 2]
            write(tmp_path / "labels" / f"{name}.nii.gz", label)
        return tmp_path

    return _pairs


@pytest.fixture
def real_sets() -> Path:
    """Folder of the real data sets; skips where it is absent."""
    folder = Path(os.environ.get("SEGPIPE_DATA", "") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real scans are not at {folder}; set SEGPIPE_DATA")
    return folder
