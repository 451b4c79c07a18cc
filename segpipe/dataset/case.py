"""`Case`: the scan(s) of one examination, one a channel, and its label map; `DataSet`: the cases of one folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from segpipe.dataset.finding import Finding
from segpipe.dicom.drawn import Drawn
from segpipe.dicom.request import Slices
from segpipe.dicom.terms import Colour, Term

DEFAULT_CHANNEL = "image"
"""Name of the only channel where the data set gives none."""
CT_NAMES = ("ct", "hu", "cect", "cbct")
"""Names, in small letters, of channels in Hounsfield units."""


@dataclass(frozen=True)
class Source:
    """Where a case lies that is no file a channel: in series of DICOM.

    Attributes:
        slices: of every channel.
        drawn: the label map; None when the case is not annotated.
    """

    slices: Slices
    drawn: Drawn | None


@dataclass(frozen=True)
class Case:
    """Attributes:
    name: unique in the data set; file name without extension and channel suffix.
    images: one file a channel (an RGB picture is one file with three channels), in channel order; of DICOM the folder or archive of each.
    label: label map, or None when the case is not annotated.
    group: patient or site, cases of one group never part in a split; the empty string when unknown.
    fold: fold that the user's manifest fixed, or None.
    source: of a case in DICOM, what to read in place of `images` and `label`, see `dataset.open`.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    group: str = ""
    fold: int | None = None
    source: Source | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of its images."""
        return self.images if self.source is None else self.source.slices.places


@dataclass(frozen=True)
class Meaning:
    """What a data set says of a label, for DICOM results.

    Attributes:
        term: what it is; None where that is not told.
        colour: in which it is shown; None where that is not told.
    """

    term: Term | None = None
    colour: Colour | None = None


@dataclass(frozen=True)
class DataSet:
    """The cases of one folder, as its layout tells them; nothing has been read but names and lists.

    Attributes:
        root: folder of the data set, or its manifest file.
        layout: `msd`, `nnunet`, `folders`, `manifest` or `dicom`.
        cases: sorted by name, names are unique, every file of a case exists; a case whose label is missing has `label=None`.
        channels: names in channel order; one name for a single file with several channels (RGB) stands for all of them.
        label_names: declared label values and their names, 0 among them or not; empty when nothing is declared.
        findings: faults of the layout itself: missing partners, a case named twice, contradictory groups.
        ignore: label values of voxels that nobody has judged; not among the `label_names`.
        meanings: label value to what the data set says of it.
        modalities: of each channel, where all its series have the same, else the empty string; empty where the cases are files.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    label_names: dict[int, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    ignore: tuple[int, ...] = ()
    meanings: dict[int, Meaning] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that can be trained on."""
        return tuple(case for case in self.cases if case.label is not None)
