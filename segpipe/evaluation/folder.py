"""Measure many cases; a broken one is told and the others go on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from segpipe.errors import DataError, SegpipeError
from segpipe.evaluation.names import LabelNames
from segpipe.evaluation.pairs import Pair, Pairs
from segpipe.evaluation.scores import CaseScores, score_case
from segpipe.io.find import is_picture
from segpipe.io.read import read_beside, read_label
from segpipe.progress import track

_MOST_THREADS = 4
"""Each thread holds two label maps in memory."""

_MANY = 150
"""Values that no set of label maps holds; the largest public ones have some 130."""
_NAMED = 8
"""Label values that a warning lists."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured on a set of cases.

    Attributes:
        labels: the classes that are judged, value -> name, ascending: each value but the background that any truth holds.
        background: the value that is no label.
        cases: in order of the case's name.
        errors: case -> what was wrong with it.
        without_prediction: truths that nothing was predicted for.
        without_truth: predictions that were left out.
        warnings: findings that the reader of the figures must know.
        picture: all truths are pictures, where one "mm" is one pixel.
    """

    labels: dict[int, str]
    background: int
    cases: tuple[CaseScores, ...]
    errors: dict[str, str] = field(default_factory=dict)
    without_prediction: tuple[str, ...] = ()
    without_truth: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    picture: bool = False


def evaluate_pairs(pairs: Pairs, names: LabelNames, tolerance_mm: float = 1.0, threads: int = 0) -> Evaluation:
    """Measure all pairs.

    Args:
        pairs: from `find_pairs`.
        names: names of labels, and the background.
        tolerance_mm: tolerance of the surface Dice.
        threads: cases measured at a time; 0: one a processor core, at most 4.

    Raises:
        DataError: when no pair at all could be measured.
    """

    def measure(pair: Pair) -> CaseScores | str:
        return _measure(pair, names, tolerance_mm)

    pool = ThreadPoolExecutor(threads or min(_MOST_THREADS, os.cpu_count() or 1))
    try:
        results = list(track(pool.map(measure, pairs.matched), f"comparing {len(pairs.matched)} cases", len(pairs.matched)))
    finally:
        pool.shutdown(cancel_futures=True)
    cases = tuple(result for result in results if isinstance(result, CaseScores))
    errors = {pair.case: result for pair, result in zip(pairs.matched, results, strict=True) if isinstance(result, str)}
    if not cases:
        case, what = next(iter(errors.items()))
        raise DataError(f"none of {len(errors)} cases could be compared; the first: {case}: {what}")
    return Evaluation(
        labels={value: names.name(value) for value in _classes(cases, names)},
        background=names.background,
        cases=cases,
        errors=errors,
        without_prediction=pairs.without_prediction,
        without_truth=pairs.without_truth,
        warnings=_warnings(cases),
        picture=all(is_picture(pair.truth) for pair in pairs.matched),
    )


def _measure(pair: Pair, names: LabelNames, tolerance_mm: float) -> CaseScores | str:
    """Scores of a pair, or one line on why there are none."""
    try:
        prediction, truth = read_label(pair.prediction), read_beside(pair.truth, pair.prediction)
    except (SegpipeError, OSError) as error:
        return str(error)
    except MemoryError:
        return _too_large(pair)
    try:
        return score_case(pair.case, prediction, truth, names.background, tolerance_mm, names.ignore)
    except SegpipeError as error:
        return f"{pair.prediction} against {pair.truth}: {error}"
    except MemoryError:
        return _too_large(pair)


def _too_large(pair: Pair) -> str:
    return f"{pair.truth}: not enough memory for two label maps of this size; compare fewer at a time (--threads 1), or on a larger machine"


def _classes(cases: Sequence[CaseScores], names: LabelNames) -> list[int]:
    """Values that are judged; where all truths are empty, what was predicted instead, or else what has a name."""
    truths = {value for case in cases for value in case.truth_values}
    return sorted(truths or {value for case in cases for value in case.prediction_values} or set(names.names))


def _warnings(cases: Sequence[CaseScores]) -> tuple[str, ...]:
    """Signs that predictions and truths do not speak of the same labels."""
    truths = {value for case in cases for value in case.truth_values}
    predicted = {value for case in cases for value in case.prediction_values}
    if len(truths) > _MANY:
        return (
            f"the truths hold {len(truths)} different values, as scans do and label maps hardly ever: were scans given for label maps?",
        )
    if not truths:
        return ("no truth holds a label: all are background",)
    if predicted and not predicted & truths:
        return (f"no label in common, so that every overlap is 0: predictions hold {_list(predicted)}, truths {_list(truths)}",)
    unknown = predicted - truths
    if not unknown:
        return ()
    count = sum(1 for case in cases if unknown & set(case.prediction_values))
    return (f"predicted in {count} of {len(cases)} cases but in no truth, and therefore not scored: {_list(unknown)}",)


def _list(values: set[int]) -> str:
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return "label " + ", ".join(map(str, sorted(values)[:_NAMED])) + more
