"""Files below a folder -> the scans to segment: channels of one examination brought together, their outputs named."""

from __future__ import annotations

import functools
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segpipe.dicom.channels import Wanted
from segpipe.dicom.policy import Policy
from segpipe.dicom.writing.wanted import KINDS, result_files
from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.inference.examination import Examination
from segpipe.inference.series import gather_series
from segpipe.inference.table import LEDGER, PROBABILITIES, TABLE, Row, read_table
from segpipe.io.find import SUFFIXES, find_files, is_picture, is_scan, no_scan, split_name
from segpipe.io.read import count_channels

log = logging.getLogger(__name__)

_NNUNET_FOLDERS = ("imagesTr", "imagesTs", "imagesVal")
_IMAGES_OF = {"labelsTr": "imagesTr", "labelsTs": "imagesTs", "labelsVal": "imagesVal", "labels": "images", "masks": "images"}
"""Folders of label maps, each with the one beside it that holds the scans."""
_NUMBERED = re.compile(r"^(?P<case>.+)_(?P<number>\d{4})$")


@dataclass(frozen=True)
class Kinds:
    """Attributes:
    policy: which DICOM stacks are taken or repaired.
    series: which series is which channel; empty: a model of one channel takes each.
    pictures: whether the model takes pictures; if not, those that lie beside DICOM are no scans.
    """

    policy: Policy = field(default_factory=Policy)
    pictures: bool = True
    series: tuple[Wanted, ...] = ()


def gather(source: Path, out: Path, channels: Sequence[str], tell: bool = True, kinds: Kinds | None = None) -> list[Examination]:
    """Every examination in `source`, a file or a folder, sorted by case.

    A model with one channel takes each file as a scan. A model with several takes files of one folder together whose names
    end in `_0000, _0001 ...` or in `_<channel name>` (any case); a file that holds all channels itself (an RGB picture) is a
    scan of its own. With one channel, too, `_0000` is no part of the case where it ends **every** name: of two files and
    more, or in an nnU-Net folder (`imagesTr`, `imagesTs`). Outputs of earlier predictions are not scans: `out` and folders
    that hold a `predictions.csv` are passed over; of `source` itself, the files that its table lists. So are folders called `labels`,
    `labelsTr` or `masks` beside `images` or `imagesTr`, in which a data set keeps its label maps. DICOM, known by its content, also in
    zip archives, is sorted into the stacks of its series, see `gather_series`.

    Args:
        tell: say which folders are passed over, and which DICOM is no scan.
        kinds: what is a scan; None: by default.

    Raises:
        DataError: `source` is missing, or holds no scan.
    """
    everything = find_files(source)
    root = source.parent if source.is_file() else source
    files = everything if source.is_file() else _without_labels(_without_outputs(everything, source, out, tell), source, tell)
    scans = [path for path in files if split_name(path)[1] in SUFFIXES]
    taken = set(scans)
    kinds = kinds or Kinds()
    series = gather_series([path for path in files if path not in taken], root, channels, (kinds.policy, kinds.series), tell)
    if series and not kinds.pictures:  # what a hospital's disc brings for its viewer
        scans = _without_pictures(scans, tell)
    if not scans and not series:
        raise _nothing(source, everything, files)
    if source.is_file() and scans and len(channels) > 1:  # the other channels lie beside it
        scans = sorted({source, *(path for path in root.iterdir() if path.is_file() and is_scan(path))})
    found = _of_files(scans, source, root, channels) + series
    return _marked_twice(sorted(found, key=lambda one: (one.case, one.images)))


def _without_pictures(scans: list[Path], tell: bool) -> list[Path]:
    kept = [path for path in scans if not is_picture(path)]
    if tell and len(kept) < len(scans):
        log.info("%d picture(s) beside DICOM series are not taken as scans", len(scans) - len(kept))
    return kept


def _of_files(files: list[Path], source: Path, root: Path, channels: Sequence[str]) -> list[Examination]:
    found: list[Examination] = []
    for folder, siblings in sorted(_by_folder(files).items()):
        prefix = folder.relative_to(root).as_posix()
        found += _in_folder(siblings, "" if prefix == "." else f"{prefix}/", channels)
    if source.is_file():
        found = [one for one in found if source in one.images]
    return _without_zeros(found) if len(channels) == 1 else found


def _nothing(source: Path, everything: list[Path], files: list[Path]) -> DataError:
    """Why there is no scan."""
    if any(path not in set(files) and is_scan(path) for path in everything):
        return DataError(f"{source} holds nothing but outputs of predictions: were IN and OUT swapped? Give the folder of the scans")
    return no_scan(source, everything)


def _by_folder(files: list[Path]) -> dict[Path, list[Path]]:
    found = defaultdict[Path, list[Path]](list)
    for path in files:
        found[path.parent].append(path)
    return found


def _without_outputs(files: list[Path], source: Path, out: Path, tell: bool) -> list[Path]:
    inside = out.resolve()
    kept, passed = [], set()
    listed = _listed(source)
    above = functools.cache(functools.partial(_outputs_above, source))  # many files, few folders
    for path in files:
        outputs = list(above(path.parent))
        if path.resolve().is_relative_to(inside) and inside.is_relative_to(source.resolve()):
            outputs.append(out)
        if path in listed:
            outputs.append(source)
        if outputs:
            passed.add(outputs[-1])
        else:
            kept.append(path)
    for folder in sorted(passed) if tell else ():
        which = f"those that its {TABLE} lists are" if folder == source else "its files are"
        log.info("%s holds outputs of a prediction: %s not taken as scans", folder, which)
    return kept


def _without_labels(files: list[Path], source: Path, tell: bool) -> list[Path]:
    """The files without those of a data set's folders of label maps, which are no scans though they look like some."""
    folders = {folder for path in files for folder in path.parents if folder.is_relative_to(source)}
    named = [folder for folder in folders if folder != source and folder.name in _IMAGES_OF]
    of_labels = {folder for folder in named if folder.with_name(_IMAGES_OF[folder.name]) in folders}
    for folder in sorted(of_labels) if tell else ():
        log.info("%s holds the label maps of %s: its files are not taken as scans", folder, _IMAGES_OF[folder.name])
    return [path for path in files if of_labels.isdisjoint(path.parents)]


def _outputs_above(source: Path, folder: Path) -> list[Path]:
    """Those of `folder` and the folders above it, up to `source`, that a prediction was written into."""
    return [one for one in (folder, *folder.parents) if one != source and one.is_relative_to(source) and _holds_outputs(one)]


def _holds_outputs(folder: Path) -> bool:
    return (folder / TABLE).exists() or (folder / LEDGER).exists()


def _listed(source: Path) -> set[Path]:
    """Label maps and probabilities that a prediction into `source` itself has written, by its table."""
    try:
        rows = read_table(source / TABLE)
    except ConfigError as error:  # somebody else's table of that name
        log.debug("%s", error)
        return set()
    return {source / name for row in rows if row.output for name in _names_of(row)}


def _names_of(row: Row) -> list[str]:
    return [row.output, row.case + PROBABILITIES, *(path.as_posix() for path in result_files(Path(row.case), KINDS))]


def _in_folder(files: list[Path], prefix: str, channels: Sequence[str]) -> list[Examination]:
    """Examinations of one folder."""
    alone, sets = list[Path](), defaultdict[str, list[tuple[int, Path]]](list)
    for path in files:
        mark = _channel_of(split_name(path)[0], channels) if len(channels) > 1 else None
        if mark is None:
            alone.append(path)
        else:
            sets[mark[0]].append((mark[1], path))
    result = []
    for case, marked in sets.items():
        if _hold_all([path for _, path in marked], len(channels)):
            alone += [path for _, path in marked]
        else:
            result += _brought_together(case, marked, prefix, channels)
    return result + [Examination(prefix + split_name(path)[0], (path,)) for path in alone]


def _brought_together(case: str, marked: list[tuple[int, Path]], prefix: str, channels: Sequence[str]) -> list[Examination]:
    """One examination of the files (channel number, path) of a case; a second file of a channel is a problem of its own."""
    result, found = [], dict[int, Path]()
    for number, path in marked:
        first = found.setdefault(number, path)
        if first != path:
            twice = f"channel {channels[number]} is there twice ({first.name}, {path.name}): keep one of them"
            result.append(Examination(prefix + path.name, (path,), twice))
    return [*result, _complete(prefix + case, found, channels)]


def _channel_of(stem: str, channels: Sequence[str]) -> tuple[str, int] | None:
    """Case and channel number that a file's name tells; None when it names no channel."""
    for number, name in sorted(enumerate(channels), key=lambda one: -len(one[1])):
        ending = f"_{name}".lower()
        if len(stem) > len(ending) and stem.lower().endswith(ending):
            return stem[: -len(ending)], number
    match = _NUMBERED.match(stem)
    if match and int(match["number"]) < len(channels):
        return match["case"], int(match["number"])
    return None


def _hold_all(files: list[Path], channels: int) -> bool:
    """Whether the first readable one of a case's `files` holds all channels by itself, as RGB pictures called `x_0000.png` do."""
    for path in files:
        try:
            return count_channels(path) == channels
        except SegpipeError as error:
            log.debug("%s: %s", path, error)
    return False


def _complete(case: str, found: dict[int, Path], channels: Sequence[str]) -> Examination:
    images = tuple(found[number] for number in sorted(found))
    missing = [f"{name} (…_{number:04d} or …_{name})" for number, name in enumerate(channels) if number not in found]
    problem = f"channel {', '.join(missing)} is missing: put its file beside {images[0].name}" if missing else ""
    return Examination(case, images, problem)


def _without_zeros(found: list[Examination]) -> list[Examination]:
    matches = [_NUMBERED.match(one.case) for one in found]
    if not all(match and int(match["number"]) == 0 for match in matches):
        return found
    if len(found) == 1 and found[0].images[0].absolute().parent.name not in _NNUNET_FOLDERS:
        return found
    return [replace(one, case=match["case"]) for one, match in zip(found, matches, strict=True) if match]


def _marked_twice(found: list[Examination]) -> list[Examination]:
    """Two files whose names differ in the extension alone are one case twice; the second is not segmented."""
    first: dict[str, Examination] = {}
    return [_or_twice(one, first.setdefault(one.case, one)) for one in found]


def _or_twice(one: Examination, first: Examination) -> Examination:
    if first is one:
        return one
    name = one.images[0].name
    case = one.case.rpartition("/")[0] + "/" + name if "/" in one.case else name
    return replace(one, case=case, problem=f"{first.images[0].name} has the same case name {one.case}: rename one of them")
