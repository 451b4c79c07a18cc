"""Which prediction belongs to which truth: by path below the folder, or by file name where one side has no subfolders."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import DataError
from segpipe.io.find import find_scans, split_name

log = logging.getLogger(__name__)

_PROBABILITIES = "_probabilities"


@dataclass(frozen=True)
class Pair:
    """A case's name and its two label maps."""

    case: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairs:
    """What was found in two folders.

    Attributes:
        matched: pairs in order of the case's name.
        without_prediction: names of truths that nothing was predicted for, ascending.
        without_truth: names of predictions that cannot be judged, ascending.
    """

    matched: tuple[Pair, ...]
    without_prediction: tuple[str, ...] = ()
    without_truth: tuple[str, ...] = ()


def find_pairs(prediction: Path, truth: Path) -> Pairs:
    """Match two folders (searched recursively), two files, or a file and a folder.

    A case is named by its truth's path below the folder, without extension, `sub/case_7`; formats may differ. Where no path has a
    partner and one side has no subfolders, file names alone are matched, each of which must occur once on each side: files of two
    different subfolders may be two patients' (`p1/seg` and `p2/seg`). Two files are a pair whatever their names.

    Raises:
        DataError: a path is missing or empty, two files of one folder have the same name, a name could mean several files,
            or nothing matches.
    """
    if prediction.is_file() and truth.is_file():
        return Pairs((Pair(split_name(truth)[0], prediction, truth),))
    predictions, truths = _by_case(prediction), _by_case(truth)
    partners = {case: case for case in truths if case in predictions}
    if not partners and (_is_flat(truths) or _is_flat(predictions)):
        partners = _by_stem(truths, predictions)
    if not partners:
        raise DataError(
            f"{prediction}: no file has the name of one in {truth} (first names: {min(predictions)} and {min(truths)}); "
            "name predictions like their truths, subfolders too, or give two files"
        )
    taken = set(partners.values())
    return Pairs(
        tuple(Pair(case, predictions[partners[case]], truths[case]) for case in sorted(partners)),
        tuple(sorted(case for case in truths if case not in partners)),
        tuple(sorted(case for case in predictions if case not in taken and not _is_companion(case, predictions))),
    )


def _by_case(root: Path) -> dict[str, Path]:
    """Label maps of a folder by path below it without extension."""
    base = root if root.is_dir() else root.parent
    found: dict[str, Path] = {}
    for path in find_scans(root):
        case = path.relative_to(base).with_name(split_name(path)[0]).as_posix()
        if case in found:
            raise DataError(f"{path}: {found[case].name} beside it is the same case; must be one file a case: remove one of them")
        found[case] = path
    return found


def _is_flat(cases: Iterable[str]) -> bool:
    return not any("/" in case for case in cases)


def _by_stem(truths: Iterable[str], predictions: Iterable[str]) -> dict[str, str]:
    """Truth -> prediction of equal file name in different folders."""
    partners: dict[str, str] = {}
    for stem in sorted({_stem(case) for case in truths} & {_stem(case) for case in predictions}):
        left = [case for case in truths if _stem(case) == stem]
        right = [case for case in predictions if _stem(case) == stem]
        if len(left) > 1 or len(right) > 1:
            raise DataError(
                f"{stem}: {len(right)} predictions ({', '.join(right[:3])}) and {len(left)} truths ({', '.join(left[:3])}) have this name; "
                "must be one each: keep the same subfolders on both sides, or point at one subfolder"
            )
        partners[left[0]] = right[0]
    if partners:
        log.info("matched %d cases by file name, as their folders differ", len(partners))
    return partners


def _is_companion(case: str, predictions: dict[str, Path]) -> bool:
    """Whether it is the probability map that `segpipe predict --probabilities` leaves beside a label map."""
    return case.endswith(_PROBABILITIES) and case.removesuffix(_PROBABILITIES) in predictions


def _stem(case: str) -> str:
    return case.rsplit("/", 1)[-1]
