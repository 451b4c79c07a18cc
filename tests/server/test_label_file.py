"""Label maps in the formats of clients: every voxel stays in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from segpipe.geometry.grid import Grid
from segpipe.io.itk import simple_itk
from segpipe.io.read import read_label
from segpipe.io.write import write_label_map
from segpipe.server.faults import RequestError
from segpipe.server.label_file import label_names, parsed, with_ending

LEFT_HANDED = np.array([[1.0, 0, 0, -5], [0, 1.2, 0.1, 7], [0, 0.1, -2.5, 11], [0, 0, 0, 1]])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    array = np.random.default_rng(0).integers(0, 300, (5, 4, 3)).astype(np.uint16)
    write_label_map(tmp_path / "labels.nii.gz", array, Grid(array.shape, LEFT_HANDED))
    return tmp_path / "labels.nii.gz"


@pytest.mark.parametrize("series", [False, True])
def test_a_voxel_keeps_its_place_in_nrrd(series: bool, labels: Path, tmp_path: Path) -> None:
    made = with_ending(labels, tmp_path, {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}, series)
    before, after = read_label(labels), read_label(made)
    assert (np.linalg.det(after.grid.affine[:3, :3]) > 0) == series
    inverse = np.linalg.inv(after.grid.affine)
    for index in np.ndindex(*before.grid.shape):
        place = before.grid.affine @ (*index, 1)
        there = tuple(np.rint(inverse @ place).astype(int)[:3])
        assert after.array[0][there] == before.array[0][index]
    assert simple_itk().ReadImage(str(made)).GetPixelIDTypeAsString() == "16-bit unsigned integer"


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"result_extension": ".mesh"}, "result_extension"),
        ({"result_extension": ".nrrd", "result_dtype": "float"}, "result_dtype: must be one of"),
        ({"result_extension": ".nrrd", "result_dtype": "uint8"}, "does not hold the values"),
    ],
)
def test_a_format_that_would_change_values_is_refused(params: dict[str, Any], word: str, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=word):
        with_ending(labels, tmp_path, params, False)


def test_names_are_those_of_the_labels_that_are_there_by_value() -> None:
    told = ({"name": "b", "value": 9, "voxels": 3}, {"name": "none", "value": 5, "voxels": 0}, {"name": "a", "value": 2, "voxels": 1})
    assert list(label_names(told).items()) == [("a", 2), ("b", 9)]


@pytest.mark.parametrize("text", ["[", "[]", "1", "[" * 100_000])
def test_params_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="params"):
        parsed(text)
