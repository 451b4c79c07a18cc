"""A small data set in DICOM: bright balls in noise, each study a patient, with what was drawn on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.dicom.annotations import contour, segmentation, structure_set
from tests.dicom.series import Series, turned

SIZE, SLICES = (20, 22), 12


@dataclass
class Study:
    """Attributes:
    series: MR of the ball.
    masks: (2, K, rows, columns) the ball without its core, and the core.
    """

    series: Series
    masks: NDArray[np.uint8]


def study(number: int, description: str = "t2_tse_tra", channel: int = 0, **more: Any) -> Study:
    """Args:
    channel: of the study; another one is another series of the same ball.
    """
    random = np.random.default_rng([number, channel])
    where = np.random.default_rng(number)
    k, r, c = np.meshgrid(np.arange(SLICES), *(np.arange(n) for n in SIZE), indexing="ij")
    centre = where.uniform((5, 8, 9), (7, 12, 13))
    distance = np.sqrt(((k - centre[0]) * 1.6) ** 2 + (r - centre[1]) ** 2 + (c - centre[2]) ** 2)
    masks = np.stack([(distance < 6) & (distance >= 3), distance < 3]).astype(np.uint8)
    stored = (100 + 60 * masks[0] + (130.0 - 90 * channel) * masks[1] + random.normal(0, 5, distance.shape)).astype(np.uint16)
    names = {"StudyInstanceUID": f"1.2.3.77.{number}", "FrameOfReferenceUID": f"1.2.3.78.{number}", "PatientID": f"PATIENT{number}"}
    series = Series(
        axes=more.pop("axes", turned(4 * number, -3 * number, 2)),
        heights=more.pop("heights", [2.0 * n for n in range(SLICES)]),
        size=SIZE,
        modality="MR",
        seed=10 * number + channel,
        number=3 + channel,
        stored=stored,
        more={"SeriesDescription": description, **names, **more.pop("header", {})},
        **more,
    )
    return Study(series, masks)


def write_study(folder: Path, number: int, kind: str = "SEG", **more: Any) -> Study:
    """A series and its SEG or RTSTRUCT (the ball as one contour a slice around its pixels, its core likewise)."""
    made = study(number, **more)
    made.series.write(folder / f"study{number}" / "scan")
    path = folder / f"study{number}" / f"{kind}.dcm"
    if kind == "SEG":
        segmentation(made.series, path, made.masks, ["shell", "core"], number=number)
    else:
        balls = {"whole": made.masks.sum(axis=0), "core": made.masks[1]}
        structure_set(made.series, path, [(name, outlines(made.series, mask)) for name, mask in balls.items()], number=number)
    return made


def outlines(series: Series, mask: NDArray[Any]) -> list[Any]:
    """The pixels of a mask, each row of them as a rectangle: contours that are right by construction."""
    found = []
    for k, r in zip(*np.nonzero(mask.any(axis=2)), strict=True):
        columns = np.flatnonzero(mask[k, r])
        low, high = columns[0] - 0.5, columns[-1] + 0.5
        found.append(contour(series, int(k), [(low, r - 0.5), (high, r - 0.5), (high, r + 0.5), (low, r + 0.5)]))
    return found
