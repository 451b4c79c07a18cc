"""All figures of one case: prediction against truth, label by label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.errors import DataError, GeometryError
from segpipe.evaluation.metric import EMPTY_BOTH, EMPTY_PREDICTION, EMPTY_TRUTH
from segpipe.evaluation.overlap import Overlap, confusion, overlap, pixel_error
from segpipe.evaluation.surface import SurfaceDistances, surface_distances
from segpipe.evaluation.values import indices_of, label_map, values_in
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Grid, Volume

_NAN = float("nan")


@dataclass(frozen=True)
class LabelScore:
    """The figures of one label of one case; fields are named and defined in `metric`, NaN where undefined.

    `note` is one of the keys of `metric.EMPTY_RULES`, or empty.
    """

    dice: float = _NAN
    iou: float = _NAN
    hd95_mm: float = _NAN
    assd_mm: float = _NAN
    surface_dice: float = _NAN
    volume_difference_ml: float = 0.0
    volume_difference_relative: float = _NAN
    truth_ml: float = 0.0
    prediction_ml: float = 0.0
    note: str = EMPTY_BOTH


@dataclass(frozen=True)
class CaseScores:
    """What was measured on one case.

    Attributes:
        case: name of the case.
        scores: by label value, for each value but the background that truth or prediction holds.
        truth_values: values of the truth but the background, ascending.
        prediction_values: values of the prediction but the background, ascending.
        pixel_error: share of voxels whose label differs, 0..1.
    """

    case: str
    scores: dict[int, LabelScore]
    truth_values: tuple[int, ...]
    prediction_values: tuple[int, ...]
    pixel_error: float

    def score(self, value: int) -> LabelScore:
        """The score of a label, `empty in truth and prediction` when neither holds it."""
        return self.scores.get(value, LabelScore())


def score_case(
    case: str, prediction: Volume, truth: Volume, background: int = 0, tolerance_mm: float = 1.0, ignore: tuple[int, ...] = ()
) -> CaseScores:
    """Measure one case.

    Args:
        case: its name.
        prediction: label map (1, I, J, K) of the user's own values.
        truth: label map on the same grid.
        background: the value that is no label.
        tolerance_mm: distance up to which surfaces count as equal in the surface Dice.
        ignore: values of the truth whose voxels nobody has judged: they count as background on both sides, and not at all in the
            pixel error.

    Raises:
        GeometryError: when the grids differ by more than 1e-3 mm at a corner.
        DataError: when one of the two is no label map.
    """
    _check_grids(prediction.grid, truth.grid)
    predicted, predicted_values = _labels(prediction, "prediction")
    true, true_values = _labels(truth, "truth")
    unjudged = 0
    if set(ignore) & set(true_values):
        mask = np.isin(true, ignore)
        unjudged = int(mask.sum())
        predicted, true = (np.where(mask, background, side) for side in (predicted, true))
        predicted_values, true_values = values_in(predicted), values_in(true)
    labels = sorted((set(predicted_values) | set(true_values)) - {background})
    values = [background, *labels]
    predicted, true = indices_of(predicted, values), indices_of(true, values)  # (I, J, K) places in `values`
    table = confusion(predicted, true, len(values))
    table[0, 0] -= unjudged
    distances = _distances(predicted, true, truth.grid)
    scores = {
        value: _score(overlap(table, index), distances.get(index), truth.grid.voxel_volume_ml, tolerance_mm)
        for index, value in enumerate(labels, start=1)
    }
    held = [tuple(v for v in found if v != background) for found in (true_values, predicted_values)]
    return CaseScores(case, scores, held[0], held[1], pixel_error(table))


def _labels(volume: Volume, side: str) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Label map and its values; `side` goes into the message."""
    try:
        labels = label_map(volume.array)
        return labels, values_in(labels)
    except DataError as error:
        raise DataError(f"{side} {error}") from error


def _check_grids(prediction: Grid, truth: Grid) -> None:
    """Refuse grids that do not put each voxel at the same place."""
    if prediction.shape != truth.shape:
        raise GeometryError(
            f"prediction has {prediction.shape} voxels, truth {truth.shape}; must be one grid: "
            "are they the same case? if so, resample the prediction"
        )
    distance = prediction.distance_mm(truth)
    if distance > CORNER_TOLERANCE_MM:
        raise GeometryError(
            f"prediction lies {distance:.4g} mm from the truth at a corner; must be within {CORNER_TOLERANCE_MM:g} mm: "
            "resample the prediction onto the truth's grid, or repair the header"
        )


def _distances(prediction: NDArray[Any], truth: NDArray[Any], grid: Grid) -> dict[int, SurfaceDistances]:
    """Surface distances of each class index that both maps hold, each on the box around the two."""
    axes = tuple(axis for axis in range(3) if grid.shape[axis] > 1)
    boxes = zip(ndimage.find_objects(prediction), ndimage.find_objects(truth), strict=False)
    result = {}
    for index, (first, second) in enumerate(boxes, start=1):
        if first is None or second is None:
            continue
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
        result[index] = surface_distances(prediction[box] == index, truth[box] == index, grid.affine[:3, :3], axes)
    return result


def _score(counts: Overlap, distances: SurfaceDistances | None, voxel_ml: float, tolerance_mm: float) -> LabelScore:
    """Figures of one label from its voxel counts and, where both sides hold it, its surface distances."""
    difference = (counts.prediction - counts.truth) * voxel_ml
    score = LabelScore(
        dice=counts.dice,
        iou=counts.iou,
        surface_dice=0.0,
        volume_difference_ml=difference,
        volume_difference_relative=counts.prediction / counts.truth - 1.0 if counts.truth else _NAN,
        truth_ml=counts.truth * voxel_ml,
        prediction_ml=counts.prediction * voxel_ml,
        note=EMPTY_PREDICTION if counts.truth else EMPTY_TRUTH,
    )
    if distances is None:
        return score
    hd95, assd, dice = distances.hausdorff_mm(), distances.average_mm(), distances.dice(tolerance_mm)
    return replace(score, hd95_mm=hd95, assd_mm=assd, surface_dice=dice, note="")
