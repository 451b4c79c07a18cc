"""What the segmentations of a data set say its labels are, where all of them say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from segpipe.dataset.case import Meaning
from segpipe.dataset.finding import Finding
from segpipe.dicom.annotation import Annotation
from segpipe.dicom.structures import Choice, Structure
from segpipe.dicom.terms import Term
from segpipe.errors import DataError
from segpipe.settings import DatasetSettings

_SHOWN = 3


def meanings_of(
    root: Path, each: Iterable[Sequence[Annotation]], choices: Sequence[Choice], settings: DatasetSettings
) -> tuple[dict[int, Meaning], list[Finding]]:
    """Code and colour of each label, and a finding for each code, and one for all colours, on which the cases do not agree.

    Who says nothing of a label, or no more than that it is anatomy, does not disagree. What the settings say of a label is not asked for.

    Args:
        root: of the data set, for the findings.
        each: the annotations of each case.
    """
    cases = [[structure for annotation in annotations for structure in annotation.structures] for annotations in each]
    found: dict[int, Meaning] = {}
    findings: list[Finding] = []
    unlike: list[str] = []
    for choice in choices:
        names = {choice.name, str(choice.value), settings.label_names.get(str(choice.value), choice.name)}
        chosen = [one for structures in cases for one in _chosen(choice, structures)]
        terms = [] if names & set(settings.label_codes) else _different([one.term for one in chosen if one.term])
        colours = [] if names & set(settings.label_colours) else list({one.colour for one in chosen if one.colour})
        if len(terms) > 1:
            findings.append(_differ(root, choice, terms))
        if len(colours) > 1:
            unlike.append(choice.name)
        found[choice.value] = Meaning(terms[0] if len(terms) == 1 else None, colours[0] if len(colours) == 1 else None)
    if unlike:
        what = f"the segmentations differ in the colour of {', '.join(unlike)}; none is taken"
        findings.append(Finding("warning", "", str(root), what, "nothing, or say which with dataset.label_colours"))
    return found, findings


def _different(terms: Sequence[Term]) -> list[Term]:
    """Each once."""
    found: list[Term] = []
    for term in terms:
        if not any(term.same_as(other) for other in found):
            found.append(term)
    return found


def _differ(root: Path, choice: Choice, terms: Sequence[Term]) -> Finding:
    shown = ", ".join(map(str, terms[:_SHOWN])) + (f" and {len(terms) - _SHOWN} more" if len(terms) > _SHOWN else "")
    what = f"the segmentations differ in what {choice.name!r} is ({shown}); no code is taken for it"
    return Finding("warning", "", str(root), what, f"say what it is with dataset.label_codes.{choice.name}, or correct them")


def _chosen(choice: Choice, structures: Sequence[Structure]) -> Sequence[Structure]:
    """Those that are the label; none where that cannot be told, which stops elsewhere."""
    try:
        return choice.of(structures)
    except DataError:
        return ()
