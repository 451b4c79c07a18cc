"""A server as its users meet it: the command, a scan over HTTP, the label map back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

from tests.server.conftest import Server

Run = Callable[..., Any]


def labels_in(data: bytes, folder: Path) -> Any:
    path = folder / "back.nii.gz"
    path.write_bytes(data)
    return nib.load(path)


def test_a_scan_gives_the_label_map_of_segpipe_predict(served: Server, scan: Path, package: Path, tmp_path: Path, segpipe: Run) -> None:
    job = served.send(scan)
    assert (job["state"] in ("queued", "running", "done"), job["name"], job["model"]) == (True, scan.name, "blocks-thresholds")
    job = served.ended(job["id"])
    assert (job["state"], job["error"], job["progress"], job["stage"]) == ("done", None, 1.0, "done")
    run = segpipe("predict", str(package), str(scan), str(tmp_path / "out"), "--device", "cpu", "--threads", "1")
    assert run.returncode == 0, run.stderr
    expected = nib.load(tmp_path / "out" / scan.name)
    found = labels_in(served.result(job["id"]), tmp_path)
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.array_equal(found.affine, expected.affine)
    voxels = {one["value"]: one["voxels"] for one in job["volumes"]}
    assert voxels == {value: int((np.asarray(expected.dataobj) == value).sum()) for value in (10, 255)}
    assert voxels[10] > 0
    assert voxels[255] > 0
