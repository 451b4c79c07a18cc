"""Time of measuring one case, against MONAI's metrics and against a distance transform, on the same label maps in one run.

    python benchmarks/evaluation.py [--json FILE] [--quick]

Phantoms: ellipsoids of several labels, predicted one voxel aside, with smooth or rough borders. All figures are computed by each
side: Dice, IoU, 95 % Hausdorff, average symmetric surface distance and surface Dice; the largest difference is printed beside.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from segpipe.evaluation.scores import score_case
from segpipe.evaluation.surface import surface
from segpipe.geometry.grid import Grid, Volume

TOLERANCE_MM = 1.05
SETS = {
    "hippocampus": ((36, 50, 36), (1.0, 1.0, 1.0), 2, 1.2),
    "prostate": ((160, 160, 24), (0.5, 0.5, 3.0), 2, 1.2),
    "smooth organ": ((240, 220, 160), (0.8, 0.8, 1.5), 1, 0.0),
    "abdomen": ((320, 320, 120), (0.8, 0.8, 2.5), 8, 1.2),
}
"""Shape, spacing in mm, number of labels, roughness of the border."""

QUICK = ("hippocampus", "prostate")
FIGURES = ("dice", "iou", "hd95_mm", "assd_mm", "surface_dice")
Figures = np.ndarray[Any, Any]


def phantom(shape: tuple[int, int, int], labels: int, roughness: float, side: int) -> np.ndarray[Any, Any]:
    """Ellipsoids side by side, values 1..labels, with a border that noise makes rough; side 1 lies one voxel from side 0."""
    rows = int(np.ceil(np.sqrt(labels)))
    array = np.zeros(shape, np.uint8)
    noise = ndimage.gaussian_filter(np.random.default_rng(side).normal(size=shape), 1.5) * roughness
    for value in range(1, labels + 1):
        cell = np.array([(value - 1) // rows + 0.5, (value - 1) % rows + 0.5]) / rows
        centre = (cell[0] * shape[0] + side, cell[1] * shape[1], shape[2] / 2)
        radii = (0.4 * shape[0] / rows, 0.4 * shape[1] / rows, 0.4 * shape[2])
        grids = np.ogrid[tuple(slice(n) for n in shape)]
        radius = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grids, centre, radii, strict=True))
        array[radius + noise <= 1] = value
    return array


def by_segpipe(prediction: Figures, truth: Figures, spacing: tuple[float, ...], labels: int) -> Figures:
    grid = Grid(truth.shape, np.diag([*spacing, 1.0]))  # type: ignore[arg-type]
    result = score_case("case", Volume(prediction[None], grid), Volume(truth[None], grid), tolerance_mm=TOLERANCE_MM)
    return np.array([[getattr(result.scores[value], name) for value in range(1, labels + 1)] for name in FIGURES])


def by_monai(prediction: Figures, truth: Figures, spacing: tuple[float, ...], labels: int) -> Figures:
    from monai import metrics
    from monai.networks.utils import one_hot

    first, second = (one_hot(torch.from_numpy(array)[None, None].long(), labels + 1) for array in (prediction, truth))
    return torch.cat(
        [
            metrics.compute_dice(first, second, include_background=False),
            metrics.compute_iou(first, second, include_background=False),
            metrics.compute_hausdorff_distance(first, second, percentile=95, spacing=spacing),
            metrics.compute_average_surface_distance(first, second, symmetric=True, spacing=spacing),
            metrics.compute_surface_dice(first, second, [TOLERANCE_MM] * labels, spacing=spacing),
        ]
    ).numpy()


def by_transform(prediction: Figures, truth: Figures, spacing: tuple[float, ...], labels: int) -> Figures:
    """The surface distances with SciPy's Euclidean distance transform on each label's box."""
    rows = []
    for value in range(1, labels + 1):
        first, second = prediction == value, truth == value
        box = ndimage.find_objects((first | second).astype(np.uint8))[0]
        one, two = surface(first[box]), surface(second[box])
        there = ndimage.distance_transform_edt(~two, sampling=spacing)[one]
        back = ndimage.distance_transform_edt(~one, sampling=spacing)[two]
        both = np.concatenate([there, back])
        shared, total = (first & second).sum(), first.sum() + second.sum()
        hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
        rows.append([2 * shared / total, shared / (total - shared), hd95, both.mean(), (both <= TOLERANCE_MM).mean()])
    return np.array(rows).T


SIDES: dict[str, Callable[..., Figures]] = {"segpipe": by_segpipe, "monai": by_monai, "distance transform": by_transform}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Best time of each side in seconds, sides in turn, and the largest difference from segpipe's figures."""
    shape, spacing, labels, roughness = SETS[name]
    truth, prediction = phantom(shape, labels, roughness, 0), phantom(shape, labels, roughness, 1)
    seconds: dict[str, float] = dict.fromkeys(SIDES, float("inf"))
    found: dict[str, Figures] = {}
    for _ in range(repeats):
        for side, compute in SIDES.items():
            start = time.perf_counter()
            found[side] = compute(prediction, truth, spacing, labels)
            seconds[side] = min(seconds[side], time.perf_counter() - start)
    apart = {side: float(np.abs(found[side] - found["segpipe"]).max()) for side in SIDES if side != "segpipe"}
    return {"set": name, "shape": shape, "labels": labels, "seconds": seconds, "largest_difference": apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="small sets only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    print(f"{'set':<13}{'shape':<17}{'labels':>6}{'segpipe s':>12}{'MONAI s':>10}{'transform s':>13}{'x MONAI':>9}   largest difference")
    for name in QUICK if arguments.quick else SETS:
        row = measure(name, 3)
        results.append(row)
        own, monai, transform = (row["seconds"][side] for side in SIDES)
        apart = ", ".join(f"{side} {value:.1e}" for side, value in row["largest_difference"].items())
        size = "x".join(map(str, row["shape"]))
        print(f"{name:<13}{size:<17}{row['labels']:>6}{own:>12.3f}{monai:>10.3f}{transform:>13.3f}{monai / own:>9.1f}   {apart}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
