"""The voxels of a case, wherever they lie: in files, or in series of DICOM and what was drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.dataset.case import Case, Source
from segpipe.dicom.drawn import Labels, read_drawn
from segpipe.dicom.request import read_examination
from segpipe.dicom.volume import Scan
from segpipe.errors import SegpipeError
from segpipe.geometry.grid import Volume
from segpipe.io.read import read_beside, read_channels
from segpipe.io.write import write_label_map


@dataclass(frozen=True, eq=False)
class Opened:
    """Attributes:
    image: (C, I, J, K).
    label: (1, I, J, K) on the image's grid where it lies there; None when the case is not annotated.
    """

    image: Volume
    label: Volume | None


@dataclass(frozen=True, eq=False)
class Series:
    """A case in DICOM.

    Attributes:
        scan: every channel.
        labels: None when the case is not annotated, or its label map cannot be read.
        error: why it cannot; empty when it can.
    """

    scan: Scan
    labels: Labels | None
    error: str = ""

    @property
    def label(self) -> Volume | None:
        """The label map (1, I, J, K) on the scan's volume."""
        return None if self.labels is None else Volume(self.labels.scan[None], self.scan.volume.grid)


def open_case(case: Case) -> Opened:
    """Read a case.

    Raises:
        DataError, GeometryError: naming the file or series.
    """
    if case.source is None:
        label = read_beside(case.label, case.images[0]) if case.label else None
        return Opened(read_channels(case.images), label)
    scan, labels = _read(case.source)
    return Opened(scan.volume, Series(scan, labels).label)


def open_series(source: Source) -> Series:
    """Read a case in DICOM, its label map as far as that can be read.

    Raises:
        DataError, GeometryError: a series cannot be read.
    """
    stack, scan = read_examination(source.slices)
    if source.drawn is None:
        return Series(scan, None)
    try:
        return Series(scan, read_drawn(source.drawn, stack, scan))
    except SegpipeError as error:
        return Series(scan, None, str(error))


def write_truths(cases: Sequence[Case], folder: Path) -> dict[str, Path]:
    """The label map of each annotated case as a file on the grid of the scan as it was taken: its own, or, of DICOM, a NIfTI file.

    Args:
        folder: where those of DICOM are written; made where needed.

    Returns:
        By the case's name.

    Raises:
        DataError, GeometryError: a label map cannot be read or written.
    """
    found: dict[str, Path] = {}
    for case in cases:
        if case.source is None and case.label is not None:
            found[case.name] = case.label
        elif case.source is not None and case.source.drawn is not None:
            scan, labels = _read(case.source)
            if labels is not None:
                folder.mkdir(parents=True, exist_ok=True)
                found[case.name] = folder / f"{case.name}.nii.gz"
                write_label_map(found[case.name], labels.slices, scan.grid)
    return found


def _read(source: Source) -> tuple[Scan, Labels | None]:
    stack, scan = read_examination(source.slices)
    return scan, None if source.drawn is None else read_drawn(source.drawn, stack, scan)
