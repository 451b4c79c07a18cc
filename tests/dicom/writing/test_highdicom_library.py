"""Without highdicom nothing begins."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from segpipe.dicom.writing.highdicom_library import check_highdicom
from segpipe.errors import ConfigError
from segpipe.inference.request import check_request


def test_what_to_install_is_told_before_the_output_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "highdicom" else known(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ConfigError, match=r"segpipe\[dicom\]"):
        check_highdicom()
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match=r"segpipe\[dicom\]"):
        check_request(tmp_path / "in", tmp_path / "out", "dicom-seg")
    assert not (tmp_path / "out").exists()
    check_request(tmp_path / "in", tmp_path / "out", "nii.gz")
