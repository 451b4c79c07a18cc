"""Label maps as clients of MONAI Label want them, and as they send them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import SegpipeError
from segpipe.geometry.grid import Grid
from segpipe.io.itk import simple_itk
from segpipe.io.read import read_label
from segpipe.io.write import write_label_map
from segpipe.server.corrections import check_size
from segpipe.server.faults import RequestError, refused
from segpipe.server.models import Served

NIFTI, NRRD = ".nii.gz", ".nrrd"
FORMATS = (NIFTI, NRRD)
_TYPES = {"uint8": np.uint8, "uint16": np.uint16, "int16": np.int16, "uint32": np.uint32, "int32": np.int32}


def with_ending(path: Path, folder: Path, params: dict[str, Any], series: bool) -> Path:
    """A label map in the format that a client asks for: `result_extension`, for NRRD also `result_dtype` and `result_compress`.

    Args:
        path: NIfTI.
        folder: for another file.
        series: the scan is a DICOM series. Then NRRD has its slices in the order along the cross product of rows and columns, in which
            ITK reads series: viewers that look at the bytes alone (OHIF) count on it. The header says where they lie in any case.

    Raises:
        RequestError: another format or type is asked for.
    """
    ending = str(params.get("result_extension") or NIFTI)
    if ending not in FORMATS:
        raise refused(f"result_extension: must be one of {', '.join(FORMATS)}")
    if ending == NIFTI:
        return path
    kind = str(params.get("result_dtype") or "")
    if kind and kind not in _TYPES:
        raise refused(f"result_dtype: must be one of {', '.join(_TYPES)}")
    volume = read_label(path)
    array, grid = (_right_handed if series else _same)(volume.array[0], volume.grid)
    if kind and not np.array_equal(array.astype(_TYPES[kind]), array):
        raise refused(f"result_dtype: {kind} does not hold the values of this model's labels")
    made = folder / f"label{NRRD}"
    write_label_map(made, array, grid)
    sitk = simple_itk()
    image = sitk.ReadImage(str(made))
    if kind:
        image = sitk.Cast(image, sitk.GetImageFromArray(np.zeros((1, 1, 1), _TYPES[kind])).GetPixelID())
    sitk.WriteImage(image, str(made), useCompression=bool(params.get("result_compress", True)))
    return made


def _same(array: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Grid]:
    return array, grid


def _right_handed(array: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Grid]:
    """The same label map (I, J, K), its slices turned over where i, j, k are a left-handed frame; each voxel keeps its place."""
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        return array, grid
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (grid.shape[2] - 1)
    affine[:3, 2] *= -1
    return array[..., ::-1], Grid(grid.shape, affine)


def label_names(volumes: tuple[dict[str, Any], ...]) -> dict[str, int]:
    """Names and values of the labels that are in a label map, by value.

    3D Slicer gives the names, in this order, to the values that it finds. A name whose label is not there would move all others by one.
    """
    there = sorted((one for one in volumes if one["voxels"]), key=lambda one: int(one["value"]))
    return {str(one["name"]): int(one["value"]) for one in there}


def as_model(path: Path, predicted: Path, params: dict[str, Any], model: Served) -> Path:
    """What a client has drawn, in the model's label values.

    3D Slicer numbers segments 1, 2, 3 in the order of `label_info`, whatever the values were that it got; its entries say so with `idx`.
    Without `label_info` the values are taken for the model's.

    Args:
        path: in a folder of its own.
        predicted: label map of the same scan, whose size it must have before it is unpacked.

    Raises:
        RequestError: it cannot be read, or names and values do not belong together beyond doubt.
    """
    told = params.get("label_info")
    if not told:
        return path
    names = _names(told)
    values = {label["name"]: int(label["value"]) for label in model.labels}
    unknown = [name for name in names if name not in values]
    if unknown:
        known = ", ".join(values)
        raise refused(f"label_info: {unknown[0][:60]} is no label of {model.id}; must be of: {known}: rename or remove the segment")
    try:
        check_size(path, predicted)
        volume = read_label(path)
    except RequestError:
        raise  # told already
    except SegpipeError as error:
        raise refused(str(error).replace(str(path), "the label map")) from error
    array = volume.array[0].astype(np.int64)
    if array.min() < 0 or array.max() > len(names):
        raise refused(f"the label map holds values beyond the {len(names)} segments of label_info: save it again")
    table = np.array([model.labels[0]["value"], *(values[name] for name in names)], dtype=np.int64)
    made = path.with_name(f"corrected{NIFTI}")
    write_label_map(made, table[array], volume.grid)
    return made


def _names(told: Any) -> list[str]:
    """Of segments, in the order of their values 1, 2, 3."""
    if not isinstance(told, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in told):
        raise refused('label_info: must be a list such as [{"name": "organ", "idx": 1}]')
    names = [one["name"] for one in told]
    if len(set(names)) < len(names):
        raise refused("label_info: names a segment twice; must name each once: rename or remove one")
    if any(one.get("idx", number) != number for number, one in enumerate(told, 1)):
        raise refused(
            "label_info: its numbers are not 1, 2, 3 ..., so that names and values cannot be told to belong together: "
            "remove the segments that are not saved (background, scribbles), and save again"
        )
    return names


def parsed(text: str) -> dict[str, Any]:
    """The field `params` of a form.

    Raises:
        RequestError: no JSON object.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise refused("params: is not JSON; must be an object") from error
    if not isinstance(value, dict):
        raise refused("params: must be a JSON object")
    return value
