"""One scan that a prediction is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segpipe.dicom.request import Slices
from segpipe.io.find import split_name

_SUFFIX_OF_SERIES = ".nii.gz"


@dataclass(frozen=True)
class Examination:
    """One scan to segment.

    Attributes:
        case: path below the searched folder, `/` between folders, without extension and channel suffix; names the output.
        images: one file a channel in channel order, or one file with all channels; of a DICOM series the folder or archive it lies in.
        problem: why it cannot be segmented; the empty string when it can.
        slices: of a DICOM series, what to read.
        origin: where it comes from, where `images` lie here for a while only; empty: they are what it comes from.
    """

    case: str
    images: tuple[Path, ...]
    problem: str = ""
    slices: Slices | None = None
    origin: str = ""

    @property
    def input(self) -> str:
        """What a table says that it was made from: its origin, or the absolute path of each of `images`, joined by `;`."""
        return self.origin or ";".join(str(path.resolve()) for path in self.images)

    @property
    def suffix(self) -> str:
        """Extension of the (first) input file, `.nii.gz` whole, and for DICOM, which holds no label maps as they are written here."""
        return split_name(self.images[0])[1] if self.slices is None else _SUFFIX_OF_SERIES

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it is read from."""
        return self.images if self.slices is None else self.slices.places
