from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpipe.imports import without
from segpipe.io.read import read_volume


def run(code: str, *words: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def test_reading_nifti_imports_no_dicom_and_dicom_can_be_read_afterwards() -> None:
    pytest.importorskip("pydicom")
    code = "import sys, segpipe.io.read; print('pydicom' in sys.modules); import pydicom; print(pydicom.Dataset().is_empty)"
    told = run(code.replace("pydicom.Dataset().is_empty", "len(pydicom.Dataset())"))
    assert told.split() == ["False", "0"]


def test_what_was_imported_before_stays() -> None:
    pytest.importorskip("pydicom")
    code = "import sys, pydicom, segpipe.io.read, nibabel; print(sys.modules['pydicom'] is pydicom, nibabel.nifti1.have_dicom)"
    assert run(code).split() == ["True", "True"]


def test_a_header_with_a_dicom_extension_is_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(2, b"\x10\x00\x10\x00PN\x04\x00A^B "))
    path = tmp_path / "scan.nii.gz"
    nib.save(image, path)
    code = "import sys, segpipe.io.read; from pathlib import Path; print(segpipe.io.read.read_volume(Path(sys.argv[1])).array.sum())"
    assert run(code, str(path)) == str(int(np.arange(24).sum())) == str(int(read_volume(path).array.sum()))


def test_training_imports_no_mlflow_and_it_can_be_used_afterwards() -> None:
    pytest.importorskip("mlflow")
    code = "import sys, segpipe.training.run; print('mlflow' in sys.modules); import mlflow; print(callable(mlflow.start_run))"
    assert run(code).split() == ["False", "True"]


def test_what_is_missing_is_missing_and_what_failed_leaves_nothing_behind() -> None:
    with pytest.raises(ImportError), without("segpipe.no_such_module"):
        importlib.import_module("segpipe.no_such_module")
    assert "segpipe.no_such_module" not in sys.modules
