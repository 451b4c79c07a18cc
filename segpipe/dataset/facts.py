"""What was measured on one case: plain values that fit into JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

Three = tuple[float, float, float]
Shape3 = tuple[int, int, int]


@dataclass(frozen=True)
class Values:
    """Intensities of one channel in one region.

    Attributes:
        count: finite voxels in the region; all else is 0 when there are none.
        minimum, maximum, mean, std: in the scan's own unit, over the finite voxels.
        sample: the values at evenly spaced ranks, sorted; as many for each case, so that each counts alike in the data set.
    """

    count: int = 0
    minimum: float = 0.0
    maximum: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    sample: tuple[float, ...] = ()


@dataclass(frozen=True)
class ImageFacts:
    """One image file.

    Attributes:
        error: why it cannot be read; empty when it can, and everything else is measured only then.
        picture: PNG, TIFF and the like: pixels without a place in the patient.
        shape: voxels along i, j, k.
        spacing_mm: along i, j, k.
        distance_mm: how far its corners lie from those of the case's first image; None when the shapes differ.
        nonfinite: NaN and Inf, over all channels.
        content: hash of the voxel values, equal for equal values of whatever stored type.
        whole, foreground: for each channel, over the scan and over its labelled voxels.
        notes: what was repaired or left out on the way, one phrase each.
    """

    file: str
    error: str = ""
    picture: bool = False
    shape: Shape3 = (0, 0, 0)
    spacing_mm: Three = (0.0, 0.0, 0.0)
    distance_mm: float | None = 0.0
    nonfinite: int = 0
    content: str = ""
    whole: tuple[Values, ...] = ()
    foreground: tuple[Values, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelFacts:
    """One label map.

    Attributes:
        error: why it cannot be read; empty when it can.
        channels: 1 as it should be.
        distance_mm: how far its corners lie from those of the first image; None when the shapes differ.
        not_whole: voxels that are no whole number (NaN and Inf among them).
        voxels: label value to number of voxels, whole values only.
        voxel_ml: volume of one voxel.
        content: hash of the values, equal for equal values of whatever stored type.
        centres: label value to its centre of mass along x, y, z, as a share of the scan (0: where the axis begins); 0 is left out.
        components: label value to the number of its parts, which touch by faces, edges or corners; 0 is left out.
        notes: what was repaired or left out on the way, one phrase each.
    """

    file: str
    error: str = ""
    channels: int = 1
    shape: Shape3 = (0, 0, 0)
    distance_mm: float | None = 0.0
    not_whole: int = 0
    voxels: dict[int, int] = field(default_factory=dict)
    voxel_ml: float = 0.0
    content: str = ""
    centres: dict[int, Three] = field(default_factory=dict)
    components: dict[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseFacts:
    """One case.

    Attributes:
        ras_shape: voxels of the first image along the axes closest to x, y, z.
        ras_spacing_mm: its spacing along them.
        orientation: direction in which i, j, k run, `RAS` or `LPI`; empty for pictures.
        nonzero_share: share of the scan that the bounding box of all non-zero voxels takes.
    """

    case: str
    images: tuple[ImageFacts, ...]
    label: LabelFacts | None
    ras_shape: Shape3 = (0, 0, 0)
    ras_spacing_mm: Three = (0.0, 0.0, 0.0)
    orientation: str = ""
    nonzero_share: float = 1.0

    @property
    def readable(self) -> bool:
        """Whether every file of the case could be read."""
        return not any(image.error for image in self.images) and not (self.label is not None and self.label.error)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the samples, long and of no use to people, are left out."""
        values = dataclasses.asdict(self)
        for image in values["images"]:
            for part in (*image["whole"], *image["foreground"]):
                del part["sample"]
        return values
