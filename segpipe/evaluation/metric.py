"""The figures that are measured, in the order of every output, and the rules that they follow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """Attributes:
    name: key in JSON and CSV; ends in its unit where it has one.
    title: heading for people; `{unit}` stands for mm, or px on pictures.
    digits: decimals that are shown.
    meaning: definition, one sentence.
    """

    name: str
    title: str
    digits: int
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric("dice", "Dice", 3, "2 |P and T| / (|P| + |T|)"),
    Metric("iou", "IoU", 3, "|P and T| / |P or T|"),
    Metric("hd95_mm", "HD95 {unit}", 2, "larger of the two directed 95th percentiles of the surface distances"),
    Metric("assd_mm", "ASSD {unit}", 2, "mean of the surface distances in both directions together"),
    Metric("surface_dice", "surface Dice", 3, "share of both surfaces within tolerance_mm of the other"),
    Metric("volume_difference_ml", "volume diff. ml", 2, "prediction minus truth; above zero is too large"),
    Metric("volume_difference_relative", "relative volume diff.", 3, "volume_difference_ml / truth_ml"),
    Metric("truth_ml", "truth ml", 2, "voxels of the truth times the volume of one"),
    Metric("prediction_ml", "prediction ml", 2, "voxels of the prediction times the volume of one"),
)
"""Measured for each label of each case."""

_VOLUMES_ML = ("volume_difference_ml", "truth_ml", "prediction_ml")


def shown_metrics(picture: bool) -> tuple[Metric, ...]:
    """The metrics of tables and plots: on pictures, which have no millilitres, the relative volume difference."""
    hidden = _VOLUMES_ML if picture else (*_VOLUMES_ML[1:], "volume_difference_relative")
    return tuple(metric for metric in METRICS if metric.name not in hidden)


PIXEL_ERROR = Metric("pixel_error", "pixel error", 4, "share of voxels whose label differs, background included")
"""Measured once for each case."""

EMPTY_BOTH = "empty in truth and prediction"
EMPTY_TRUTH = "empty in truth"
EMPTY_PREDICTION = "empty in prediction"

EMPTY_RULES: dict[str, str] = {
    EMPTY_BOTH: "nothing to measure: every ratio and distance is null; volumes are 0",
    EMPTY_TRUTH: "Dice, IoU and surface Dice are 0; distances and the relative volume difference are null",
    EMPTY_PREDICTION: "Dice, IoU and surface Dice are 0; distances are null; the relative volume difference is -1",
    "null": "left out of mean, interval and mean over labels, and counted as `undefined`",
}
"""What becomes of a label that is missing on one side; the first three are the notes that a row carries."""
