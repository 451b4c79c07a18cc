"""Samples of a package: scans that go with it, the label maps that its model made of them, and the comparison with those made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.bundle.layout import IMAGES, LABELS, MOST_CHANNELS, MOST_SAMPLES
from segpipe.bundle.verdict import Difference
from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Grid
from segpipe.inference.gather import Kinds, gather
from segpipe.inference.predictor import Predictor
from segpipe.io.find import is_picture
from segpipe.io.read import read_channels, read_label, read_volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.plan.plan import Plan

TOLERANCE = {"dice": 0.99, "voxels": 4}
"""Of each label: the least Dice, or, of small ones, the most voxels that may differ. In fp32 on one machine nothing differs; sums in
another order turn a voxel here and there on the border of two labels."""


def add_samples(source: Path, root: Path, predictor: Predictor) -> list[dict[str, Any]]:
    """Write the scans in `source` anew under numbers, and the label map of each, into a package that is being made.

    Nothing but voxels and their place is written: headers, and names of files, may tell of patients.

    Args:
        source: a scan, or a folder of scans.
        root: of the package.
        predictor: in fp32, its model that of the package.

    Returns:
        What `segpipe.json` says of each sample.

    Raises:
        DataError: no scan, too many, DICOM, or a scan in which the model finds so little that it would prove nothing.
    """
    plan = predictor.plan
    if len(plan.channels) > MOST_CHANNELS:
        raise DataError(f"{source}: a sample has at most {MOST_CHANNELS} channels, and the model takes {len(plan.channels)}")
    found = gather(source, root, [channel.name for channel in plan.channels], kinds=Kinds(pictures=plan.pictures))
    if len(found) > MOST_SAMPLES:
        raise DataError(f"{source}: holds {len(found)} scans; must be at most {MOST_SAMPLES}: give a folder with a few, which all may see")
    samples = []
    for number, scan in enumerate(found, 1):
        if scan.problem:
            raise DataError(f"{scan.images[0]}: {scan.problem}")
        if scan.slices is not None:
            raise DataError(
                f"{source}: {scan.case} is DICOM, whose headers tell of a patient: `segpipe convert` it, and give the NIfTI file"
            )
        samples.append(_add(list(scan.images), f"sample-{number:02d}", root, predictor))
    return samples


def _add(images: list[Path], name: str, root: Path, predictor: Predictor) -> dict[str, Any]:
    suffix = ".png" if is_picture(images[0]) else ".nii.gz"
    names = [f"{IMAGES}/{name}{f'_{number:04d}' if len(images) > 1 else ''}{suffix}" for number in range(len(images))]
    for image, target in zip(images, names, strict=True):
        volume = read_volume(image)
        try:
            write_volume(root / target, volume)
        except (DataError, GeometryError) as error:
            told = str(error).removeprefix(f"{root / target}: ").partition(": write ")[0]
            raise DataError(f"{image}: cannot be a sample, which are PNG or NIfTI: {told}: give another") from error
    labels, grid = predicted(predictor, [root / target for target in names])
    voxels = {label.name: int((labels == label.value).sum()) for label in predictor.plan.labels[1:]}
    if not proves(voxels, TOLERANCE):
        what = f"the model finds nothing in this sample, or {TOLERANCE['voxels']} voxels of a label at most"
        raise DataError(f"{images[0]}: {what}, and these may differ: it would prove nothing: give another scan")
    expected = f"{LABELS}/{name}{suffix}"
    write_label_map(root / expected, labels, grid)
    return {"name": name, "images": names, "expected": expected, "voxels": voxels, "tolerance": dict(TOLERANCE)}


def proves(voxels: dict[str, int], tolerance: dict[str, Any]) -> bool:
    """Whether a network that finds nothing at all would be noticed: one label must have more voxels than may differ."""
    return any(count > tolerance["voxels"] for count in voxels.values())


def predicted(predictor: Predictor, images: list[Path]) -> tuple[NDArray[Any], Grid]:
    """The label map (I, J, K) of one sample, and its grid."""
    volume = read_volume(images[0]) if len(images) == 1 else read_channels(images)
    return predictor.predict(volume).labels, volume.grid


def compare_sample(sample: dict[str, Any], root: Path, predictor: Predictor) -> list[Difference]:
    """Segment a sample of an unpacked package and compare, label by label.

    Raises:
        DataError: a file cannot be read, or the expected label map lies elsewhere than its scan or holds other labels.
    """
    labels, grid = predicted(predictor, [root / name for name in sample["images"]])
    expected = read_label(root / sample["expected"])
    array = expected.array[0]
    if array.shape != labels.shape or expected.grid.distance_mm(grid) > CORNER_TOLERANCE_MM:
        raise DataError(f"{sample['expected']}: does not lie where its scan does; ask who made the package")
    foreign = set(np.unique(array).tolist()) - {label.value for label in predictor.plan.labels}
    if foreign:
        raise DataError(f"{sample['expected']}: holds the value {min(foreign)}, which the model does not have; ask who made the package")
    told = {label.name: int((array == label.value).sum()) for label in predictor.plan.labels[1:]}
    if told != sample["voxels"]:
        raise DataError(f"{sample['expected']}: has other voxels than segpipe.json says; ask who made the package")
    if not proves(told, sample["tolerance"]):
        raise DataError(f"{sample['expected']}: has no more voxels than may differ, so that it proves nothing; ask who made the package")
    return differences(array, labels, predictor.plan, sample["tolerance"])


def differences(expected: NDArray[Any], found: NDArray[Any], plan: Plan, tolerance: dict[str, Any]) -> list[Difference]:
    """Two label maps (I, J, K) of label values, label by label.

    Args:
        tolerance: `dice` and `voxels`, see `TOLERANCE`.
    """
    result = []
    for label in plan.labels[1:]:
        truth, here = expected == label.value, found == label.value
        both, many = int((truth & here).sum()), int(truth.sum()) + int(here.sum())
        dice, voxels = 2.0 * both / many if many else 1.0, many - 2 * both
        fits = dice >= tolerance["dice"] or voxels <= tolerance["voxels"]
        result.append(Difference(label.name, dice, voxels, int(truth.sum()), int(here.sum()), fits))
    return result
