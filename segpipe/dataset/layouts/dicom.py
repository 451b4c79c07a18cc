"""Series of DICOM, however their folders are called, and the segmentations and structure sets that refer to them."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe.dataset.case import DEFAULT_CHANNEL, Case, DataSet, Source
from segpipe.dataset.finding import Finding
from segpipe.dataset.layouts.dicom_meanings import meanings_of
from segpipe.dataset.layouts.dicom_pairs import Pair, Unpaired, pair_up
from segpipe.dicom.annotation import Annotation, are_copies, read_annotation
from segpipe.dicom.channels import Wanted
from segpipe.dicom.drawn import Drawn
from segpipe.dicom.files import place_of
from segpipe.dicom.library import quiet
from segpipe.dicom.listing import Fault, Listing, list_stacks
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.dicom.request import slices_of
from segpipe.dicom.stack import Stack
from segpipe.dicom.structures import Choice, choices_of
from segpipe.errors import ConfigError, DataError
from segpipe.io.find import find_files
from segpipe.settings import DatasetSettings, DicomSettings

log = logging.getLogger(__name__)

_ANNOTATIONS = ("SEG", "RTSTRUCT")
_SHOWN = 3
_MOST_NAMES = 8
_SPECIAL = "|=*?["


def found(root: Path) -> bool:
    """Never: a folder of DICOM is taken as a data set where `dataset.layout` says so, because it has to be read to be known."""
    return False


def load(root: Path, settings: DatasetSettings) -> DataSet:
    """A case for each series that something was drawn on, and for the series of its study that are further channels.

    Raises:
        ConfigError: `dataset.dicom` cannot be understood, or does not say what is wanted of several structures.
        DataError: no DICOM, or pydicom is not installed.
    """
    chosen = settings.dicom
    policy = parse_policy(chosen.policy)
    wanted = [Wanted(name, which) for name, which in chosen.series.items()]
    choices = choices_of(chosen.labels)
    listing = list_stacks(find_files(root))
    if not listing.stacks:
        raise DataError(f"{root}: holds no series of DICOM slices; layout dicom needs them: check dataset.root")
    annotations, damaged = _annotations(listing)
    pairs, left = pair_up(annotations, listing.stacks, wanted, policy)
    by_case = _by_case(pairs)
    choices = choices or _every_structure(root, by_case)
    cases, several, drawn_by_case = [], list[Finding](), []
    for together in by_case:
        of_labels, put_aside = _of_labels(together, choices)
        taken, told = _taken(of_labels, chosen) if of_labels else (_all_of(together), [])
        several += [*put_aside, *told]
        drawn_by_case.append(taken)
        cases.append(_case(together[0].channels, taken, policy, _drawn(taken, choices, chosen)))
    meanings, unlike = meanings_of(root, drawn_by_case, choices, settings)
    findings = (*damaged, *map(_fault, listing.faults), *map(_unpaired, left), *several, *unlike, *_without(root, listing, pairs, left))
    names = {choice.value: choice.name for choice in choices}
    channels = tuple(one.name for one in wanted) or (_channel(by_case),)
    return DataSet(root, "dicom", _numbered(cases), channels, names, findings, meanings=meanings, modalities=_modalities(by_case))


def _annotations(listing: Listing) -> tuple[list[Annotation], list[Finding]]:
    """Segmentations and structure sets, each once, and a finding for each that cannot be used."""
    by_instance: dict[str, Annotation] = {}
    findings: list[Finding] = []
    for path in sorted({plane.path for one in listing.left_out for plane in one.planes if plane.modality in _ANNOTATIONS}):
        try:
            with quiet():
                annotation = read_annotation(path)
                first = by_instance.setdefault(annotation.instance or str(path), annotation)
                same = first is annotation or are_copies(first.path, path)
        except DataError as error:
            findings.append(Finding("error", "", str(path), str(error), "replace it by a good copy, or take it out"))
            continue
        except Exception as error:  # over damaged bytes almost anything may be raised
            log.debug("%s", path, exc_info=True)
            findings.append(
                Finding("error", "", str(path), f"cannot be read ({type(error).__name__})", "replace it by a good copy, or take it out")
            )
            continue
        if not same:
            what = f"has the SOPInstanceUID of {first.path} and other content; which of them counts cannot be told"
            findings.append(Finding("error", "", str(path), what, "keep the right one of the two, take the other one out"))
        elif first is not annotation:
            log.info("%s: is a copy of %s, and passed over", path, first.path)
    shares = sum(annotation.fractional for annotation in by_instance.values())
    if shares:
        log.info("%d segmentation(s) are fractional: a voxel belongs to a segment from half of the highest value on", shares)
    return list(by_instance.values()), findings


def _by_case(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Pairs on the same series."""
    found: dict[tuple[int, ...], list[Pair]] = defaultdict(list)
    for pair in pairs:
        found[tuple(map(id, pair.channels))].append(pair)
    return list(found.values())


def _of_labels(together: Sequence[Pair], choices: Sequence[Choice]) -> tuple[list[Pair], list[Finding]]:
    """Of several annotations of a case those that hold a structure that is wanted, and a finding for each other one.

    None where none does: that is what is wrong with them then, and not that they are several.
    """
    if len(together) == 1:
        return list(together), []
    fitting = [pair for pair in together if any(choice.among(pair.annotation.structures) for choice in choices)]
    if not fitting:
        return [], []
    case = together[0].channels[0].name
    what = "holds none of the structures of the labels; it is left out"
    others = [pair.annotation.path for pair in together if pair not in fitting]
    return fitting, [Finding("warning", case, str(path), what, "correct dataset.dicom.labels, if it should") for path in others]


def _all_of(together: Sequence[Pair]) -> list[Annotation]:
    return sorted((pair.annotation for pair in together), key=lambda one: (one.written, str(one.path)))


def _taken(together: Sequence[Pair], chosen: DicomSettings) -> tuple[list[Annotation], list[Finding]]:
    """The annotations of one case that count."""
    annotations = _all_of(together)
    if len(annotations) == 1 or chosen.several == "join":
        return annotations, []
    last = annotations[-1]
    names = ", ".join(str(one.path) for one in annotations[:_SHOWN])
    case = together[0].channels[0].name
    if chosen.several == "newest" and last.written != annotations[-2].written:
        what = f"{len(annotations) - 1} older segmentation(s) of the series are left out; this is the newest by its date"
        return [last], [Finding("warning", case, str(last.path), what, "take the others out, if it is the right one")]
    like = " (the two newest have the same date)" if chosen.several == "newest" else ""
    what = f"{len(annotations)} segmentations of one series{like}: {names}"
    cure = "keep one, or choose with dataset.dicom.several: newest, or join for the structures of all"
    return [last], [Finding("error", case, str(last.path), what, cure)]


def _every_structure(root: Path, by_case: Sequence[Sequence[Pair]]) -> tuple[Choice, ...]:
    """A label for each structure, sorted by name, where all cases have the same.

    Raises:
        ConfigError: they have not, or a name could be taken for a pattern.
    """
    each = [{one.name.lower(): one.name for pair in together for one in pair.annotation.structures} for together in by_case]
    if not each:
        return ()
    counts = Counter(name for names in each for name in names)
    spelled = {low: name for names in reversed(each) for low, name in names.items()}
    strange = [name for name in counts if not name or any(sign in name for sign in _SPECIAL)]
    if strange or any(count < len(each) for count in counts.values()):
        shown = ", ".join(f"{spelled[name]!r} in {count}" for name, count in counts.most_common(_MOST_NAMES))
        more = f" and {len(counts) - _MOST_NAMES} more" if len(counts) > _MOST_NAMES else ""
        raise ConfigError(
            f"{root}: the {len(each)} annotated cases hold different structures ({shown}{more}); say which are wanted: "
            f"dataset.dicom.labels='{{{_quoted(spelled[counts.most_common(1)[0][0]])}}}'"
        )
    return tuple(Choice(number, spelled[name], spelled[name]) for number, name in enumerate(sorted(counts), 1))


def _quoted(name: str) -> str:
    return f'"{name}": "{name}"'


def _drawn(taken: Sequence[Annotation], choices: tuple[Choice, ...], chosen: DicomSettings) -> Drawn:
    words: Any = chosen
    return Drawn(tuple(one.path for one in taken), choices, words.overlap, words.off_grid, words.missing)


def _case(channels: Sequence[Stack], taken: Sequence[Annotation], policy: Policy, drawn: Drawn) -> Case:
    """Its group is the patient: the PatientID, else the study; see `_numbered`."""
    first, *others = (slices_of(stack, policy) for stack in channels)
    source = Source(replace(first, others=tuple(others)), drawn)
    plane = channels[0].first
    patient = f"ID {plane.person}" if plane.person else f"study {plane.study}"
    return Case(channels[0].name, tuple(map(_shown, channels)), taken[0].path, patient, source=source)


def _numbered(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Sorted by name, and patients called `patient 1` and so on in that order: a hash of so short a word as an ID is soon guessed."""
    numbers: dict[str, int] = {}
    ordered = sorted(cases, key=lambda case: case.name)
    return tuple(replace(case, group=f"patient {numbers.setdefault(case.group, len(numbers) + 1)}") for case in ordered)


def _shown(stack: Stack) -> Path:
    """The folder or archive that a series lies in."""
    places = list(dict.fromkeys(map(place_of, stack.paths)))
    return places[0] if len(places) == 1 else Path(os.path.commonpath(places))


def _modalities(by_case: Sequence[Sequence[Pair]]) -> tuple[str, ...]:
    """Of each channel, where all its series have the same."""
    each = [[stack.first.modality for stack in together[0].channels] for together in by_case]
    return tuple(found[0] if len(set(found)) == 1 else "" for found in zip(*each, strict=True))


def _channel(by_case: Sequence[Sequence[Pair]]) -> str:
    """CT, which is normalised as such, where all are."""
    kinds = {pair.channels[0].first.modality for together in by_case for pair in together}
    return "CT" if kinds == {"CT"} else DEFAULT_CHANNEL


def _fault(fault: Fault) -> Finding:
    return Finding("warning", "", str(fault.path), f"{fault.why}; it is left out", "replace it by a good copy, or take it out")


def _unpaired(one: Unpaired) -> Finding:
    case = one.stack.name if one.stack is not None else ""
    return Finding("warning" if one.alone else "error", case, str(one.annotation.path), one.why, one.cure)


def _without(root: Path, listing: Listing, pairs: Sequence[Pair], left: Sequence[Unpaired]) -> list[Finding]:
    """One finding for all series that are no part of a case."""
    used = {id(stack) for pair in pairs for stack in pair.channels} | {id(one.stack) for one in left}
    unused = [stack.name for stack in listing.stacks if id(stack) not in used]
    if not unused:
        return []
    names = ", ".join(unused[:_SHOWN]) + (f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else "")
    what = f"{len(unused)} series have no segmentation and are left out: {names}"
    return [Finding("warning", "", str(root), what, "nothing, if they are no part of the task; else add their segmentations")]
