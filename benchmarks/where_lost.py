"""Where the Dice of a label map is lost: on the outline of the labelled structure, or on the borders between its labels.

    python benchmarks/where_lost.py out/ Task04_Hippocampus/labelsTr

Means over the cases of three figures: the Dice as it is; that of all labels as one; and the two that would be left if either the borders or
the outline were those of the truth (each voxel then takes the label that is nearest to it on the other side).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from segpipe.io.read import read_label


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boolean arrays; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Over the labels that the truth has."""
    return float(np.mean([dice(found == value, truth == value) for value in np.unique(truth[truth > 0])]))


def labelled_like(outline: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The outline, each voxel of it with the nearest label."""
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return np.where(outline > 0, labels[tuple(nearest)], 0)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path, help="folder of label maps, as predict writes them")
    parser.add_argument("truth", type=Path, help="folder of the true ones, by the same names")
    options = parser.parse_args()
    rows = []
    for file in sorted(options.found.glob("*.nii.gz")):
        found, truth = (read_label(place / file.name).array[0] for place in (options.found, options.truth))
        if not truth.any() or not found.any():
            print(f"{file.name}: left out, one of the two has no label")
            continue
        splits = labelled_like(found, truth), labelled_like(truth, found)
        rows.append((mean_dice(found, truth), dice(found > 0, truth > 0), *(mean_dice(one, truth) for one in splits)))
    for what, value in zip(
        ("labels as they are", "all labels as one", "with the true borders between labels", "with the true outline"),
        np.mean(rows, axis=0),
        strict=True,
    ):
        print(f"{what:40s} {value:.4f}")
    print(f"{len(rows)} cases")


if __name__ == "__main__":
    main()
