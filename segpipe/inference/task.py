"""What is asked of every scan of a call: by which model, with which options, into which files. Needs no torch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segpipe.dicom.channels import Wanted as WantedSeries
from segpipe.dicom.policy import Policy
from segpipe.dicom.terms import SegmentLabel
from segpipe.dicom.writing.wanted import SegType, Wanted
from segpipe.errors import ConfigError, DataError
from segpipe.inference.gather import Examination, Kinds
from segpipe.inference.outputs import WRITING, known_files, output_files, set_aside, state
from segpipe.inference.request import dicom_kinds
from segpipe.inference.table import PROBABILITIES, Row
from segpipe.io.find import is_picture
from segpipe.io.write import label_suffix

log = logging.getLogger(__name__)

NO_SERIES = (
    "is no DICOM series, and DICOM objects refer to the slices of one; must be one for this --format: give the series that it was made "
    "from, or leave DICOM out of --format"
)


@dataclass(frozen=True)
class FolderOptions:
    """Attributes:
    format: extension of the label maps (`nii.gz`, `nrrd`, `mha`, `png` ...); empty: each input's own. Beside it, after commas, kinds of
        DICOM objects that are written of each series: `nii.gz,dicom-seg,rtstruct,sr,sc`.
    probabilities: also write `<case>_probabilities.nii.gz` (float32, one component a class, background first).
    overwrite: segment scans again that are done already.
    tell_scans: say which are unlike the training scans, and that some are done again with other options; the table holds it all the same.
    seg_type, series_description, series_number: of DICOM objects, see `Wanted`.
    """

    format: str = ""
    probabilities: bool = False
    overwrite: bool = False
    tell_scans: bool = True
    seg_type: SegType = "binary"
    series_description: str = ""
    series_number: int = 0

    @property
    def wanted(self) -> Wanted:
        """The DICOM objects that are asked for.

        Raises:
            ConfigError: see `Wanted`.
        """
        return Wanted(dicom_kinds(self.format), self.seg_type, self.series_description, self.series_number)


@dataclass(frozen=True)
class Facts:
    """What a call must know of the model(s) without loading them.

    Attributes:
        channels: names, in their order.
        labels: value and name of each, the background first.
        pictures: for pictures, not volumes.
        sha256: of the model file(s).
        options: what else the label map depends on.
        task: name of the task.
        series: which DICOM series is which channel, as the training was told; empty where it was not told of each.
        table: of the labels but the background, what DICOM objects say of them.
    """

    channels: tuple[str, ...]
    labels: tuple[tuple[int, str], ...]
    pictures: bool
    sha256: str
    options: str
    task: str = ""
    table: tuple[SegmentLabel, ...] = ()
    series: tuple[tuple[str, str], ...] = ()

    def kinds(self, policy: Policy, series: Sequence[WantedSeries] = ()) -> Kinds:
        """What the model takes.

        Args:
            policy: which DICOM stacks are taken or repaired.
            series: which DICOM series is which channel; none: as the training was told.

        Raises:
            ConfigError: the model names them in words that cannot be understood.
        """
        return Kinds(policy, self.pictures, tuple(series) or tuple(WantedSeries(name, which) for name, which in self.series))


@dataclass(frozen=True)
class Task:
    """What is the same for every scan of a call.

    Attributes:
        suffix: of the label maps; empty: each input's own.
    """

    facts: Facts
    out: Path
    suffix: str
    options: FolderOptions

    @property
    def job(self) -> str:
        """Tells calls apart that want other files, 16 hexadecimal digits."""
        words = (self.facts.sha256, self._options, self.suffix, str(self.options.probabilities))
        return hashlib.blake2b("\0".join(words).encode(), digest_size=8).hexdigest()

    @property
    def _options(self) -> str:
        """Of the models and of the DICOM objects: what a scan is segmented again for where it differs."""
        return " ".join(filter(None, (self.facts.options, self.options.wanted.to_text())))

    def row(self, scan: Examination) -> Row:
        """The scan's row before anything is known of it."""
        return Row(
            case=scan.case,
            input=scan.input,
            output=scan.case + (self.suffix or label_suffix(scan.suffix)),
            status="failed",
            model_sha256=self.facts.sha256,
            options=self._options,
        )

    def files(self, row: Row) -> list[Path]:
        """What is written of a scan, see `output_files`."""
        return output_files(self.out, row.case, row.output, self.options.wanted.kinds, self.options.probabilities)

    def started(self, row: Row, before: Row | None) -> Row:
        """The row by which the ledger must know of a scan's files before the first one is written.

        Probabilities and DICOM objects that this call does not write again are set aside: they would be those of another label map.

        Args:
            before: what is known of the files that earlier calls have written of it.
        """
        files = self.files(row)
        belongs = (PROBABILITIES, ".dcm")
        told = set_aside([path for path in known_files(self.out, before) if path.name.endswith(belongs) and path not in files])
        if told:
            log.warning("%s: %s", row.case, told)
        return replace(row, status="started", output_hash=";".join(WRITING for _ in files))

    def failed(self, row: Row, before: Row | None, reason: str) -> Row:
        """The row of a scan that failed. What calls before, or this one before it failed, have written of it is set aside; what was
        changed by hand stays.

        Args:
            before: what is known of its files.
        """
        known = known_files(self.out, before)
        told = set_aside([path for path in known if state(path, known) == "ours"])
        return replace(row, status="failed", output="", output_hash="", reason="; ".join(part for part in (reason, told) if part))


def check_kind(image: Path, pictures: bool) -> None:
    """A picture has neither millimetres nor the axes of a patient: what a model of volumes sees of it is turned and scaled anyhow.

    Args:
        pictures: whether the model was trained on them.

    Raises:
        DataError: a picture for a model of volumes, or the other way round.
    """
    if is_picture(image) and not pictures:
        raise DataError(
            f"{image}: is a picture, without millimetres; the model was trained on volumes: give the volume that it was made from"
        )
    if pictures and not is_picture(image):
        raise DataError(f"{image}: is a volume; the model was trained on pictures: give pictures like those of its training")


def check_dicom(task: Task, scans: Sequence[Examination]) -> None:
    """Refuse DICOM objects where no scan is DICOM, and say which labels these call by a general code.

    Raises:
        ConfigError: naming the first scan.
    """
    if not task.options.wanted.kinds or not scans:
        return
    if all(scan.slices is None for scan in scans):
        raise ConfigError(f"{scans[0].images[0]}: {NO_SERIES}")
    uncoded = [label.name for label in task.facts.table if label.term is None]
    if uncoded:
        what = "%s: the model has no code for %s; DICOM objects call each an anatomical structure and give its name"
        log.warning(what, task.facts.task, ", ".join(uncoded))


def inputs_of(scans: Sequence[Examination]) -> frozenset[Path]:
    """Every file of `scans`, which no output may replace."""
    return frozenset(path.resolve() for scan in scans for path in scan.images)
