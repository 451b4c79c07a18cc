"""The audit before a training: what is wrong with a data set, file by file, with a cure for each fault.

**Errors** stop a training, because it would crash, learn nonsense or report a result that is not true: a file that is missing or
cannot be read; image and label map (or two channels) of different shape or place; NaN or Inf; a label map with several
channels, fractions, negative or undeclared values, or in a JPEG; a case named twice, or two files in the place of one; cases with
different numbers of channels, or pictures among volumes; a patient or the same scan in two groups or two folds; folds given to some cases
only; a manifest's `patient` where it should be `group`; nothing labelled at all.

**Warnings** do not: an empty label map, a declared label or one to be ignored that never occurs, many values that hardly any case
shares, a constant image, the same image content twice (with equal or differing label maps), no background, scans that look like CT in
a channel that is not named so, case names that look like several scans of one patient where no groups are known, one case only; in
DICOM what was repaired, left out or moved onto a slice, series without a segmentation and segmentations without their series.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from segpipe.dataset.case import CT_NAMES, Case, DataSet
from segpipe.dataset.facts import CaseFacts, ImageFacts, LabelFacts
from segpipe.dataset.finding import Finding
from segpipe.geometry.grid import CORNER_TOLERANCE_MM

MOST_VALUES = 255
"""Class indices are stored as uint8, and one of them means that nobody has judged the voxel."""
_FEWEST_VALUES = 2
_MANY_VALUES = 20
"""More values than this are structures when the cases share them, else the traces of compression or blending."""
_LOSSY = (".jpg", ".jpeg")
_PATIENTS = (r"(sub-[A-Za-z0-9]+)_", r"^(.+?)[_-](?:ses|session|visit|timepoint|tp|slice|frame|exam|study)[_-]?\d+$")
"""Case names that tell the patient: those of BIDS, and those that end in the number of a visit or slice."""
_AIR_HU = (-1100.0, -900.0)
"""Where the lower values of a CT scan lie, whose corners are air; padding below it is passed over."""


def can_train(findings: Iterable[Finding]) -> bool:
    """Whether a training may start: there is no error among the findings."""
    return all(finding.severity != "error" for finding in findings)


def audit(data: DataSet, facts: list[CaseFacts]) -> list[Finding]:
    """All findings, errors first, else in the order of the cases.

    Args:
        facts: what `measure` found, in the order of `data.cases`.
    """
    findings = list(data.findings)
    for case in facts:
        findings += [*_readable(case), *_noted(case), *_images(case), *_label(case, data.ignore)]
    findings += [*_channels(data, facts), *_mixed(facts), *_label_values(data, facts), *_lone_values(data, facts)]
    findings += [
        *_unnamed_ct(data, facts),
        *_names(data),
        *_duplicates(data, facts),
        *_groups(data.cases),
        *_patients_in_names(data),
        *_labelled(data, facts),
    ]
    unique = list(dict.fromkeys(findings))
    return sorted(unique, key=lambda finding: (finding.severity != "error", finding.case == "", finding.case))


def _error(case: str, file: str, what: str, cure: str) -> Finding:
    return Finding("error", case, file, what, cure)


def _warning(case: str, file: str, what: str, cure: str) -> Finding:
    return Finding("warning", case, file, what, cure)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _readable(case: CaseFacts) -> Iterator[Finding]:
    files: list[ImageFacts | LabelFacts] = [*case.images, *([case.label] if case.label else [])]
    for file in files:
        if file.error:
            what = file.error.removeprefix(f"{file.file}: ")
            what = what if what.startswith("cannot be read") else f"cannot be used: {what}"
            cure = "or take the case out" if "dataset.dicom." in what else "replace the file by a good copy, or take the case out"
            yield _error(case.case, file.file, what, cure)


def _noted(case: CaseFacts) -> Iterator[Finding]:
    """What was repaired or left out on reading DICOM."""
    files: list[ImageFacts | LabelFacts] = [*case.images, *([case.label] if case.label else [])]
    for file in files:
        for note in file.notes:
            yield _warning(case.case, file.file, note, "look at it in a viewer, and take the case out if it is not what was meant")


def _images(case: CaseFacts) -> Iterator[Finding]:
    """Shape and place of the channels, NaN and Inf, constant channels."""
    readable = [image for image in case.images if not image.error]
    for image in readable:
        yield from _place(case.case, image, readable[0], "the first image")
        if image.nonfinite:
            what = f"NaN or Inf in {image.nonfinite} voxel(s)"
            yield _error(case.case, image.file, what, "replace them by the value of air or background, and find out where they come from")
        for number, values in enumerate(image.whole):
            if values.count and values.minimum == values.maximum:
                which = f"channel {number} is" if len(image.whole) > 1 else "the image is"
                what = f"{which} constant: every voxel is {values.minimum:g}"
                yield _warning(case.case, image.file, what, "export the scan again, or take the case out")


def _place(case: str, file: ImageFacts | LabelFacts, first: ImageFacts, name: str) -> Iterator[Finding]:
    if file.shape != first.shape:
        what = f"shape {_size(file.shape)} differs from {_size(first.shape)} of {name}, {Path(first.file).name}"
        yield _error(case, file.file, what, "resample it onto the image's grid, or draw the label map on this image")
    elif file.distance_mm is not None and file.distance_mm > CORNER_TOLERANCE_MM:
        limit = f"at the corners; at most {CORNER_TOLERANCE_MM:g} mm"
        what = f"lies {file.distance_mm:.4g} mm away from {name}, {Path(first.file).name} ({limit})"
        cure = "if both show the same place, copy the image's header to it; otherwise resample it onto the image's grid"
        yield _error(case, file.file, what, cure)


def _label(case: CaseFacts, ignore: tuple[int, ...]) -> Iterator[Finding]:
    label = case.label
    if label is not None and _lossy(label):
        what = "the label map is a JPEG, whose compression changes the values"
        yield _error(case.case, label.file, what, "save it as PNG, from the mask as it was drawn")
    if label is None or label.error:
        return
    first = next((image for image in case.images if not image.error), None)
    if first is not None:
        yield from _place(case.case, label, first, "the image")
    if label.channels != 1:
        what = f"the label map has {label.channels} channels; must have one"
        yield _error(case.case, label.file, what, "save it as a single-channel map of values")
        return
    if label.not_whole:
        what = f"no whole number in {label.not_whole} voxel(s) of the label map"
        yield _error(case.case, label.file, what, "write the label map again without interpolation (nearest neighbour)")
    negative = [value for value in label.voxels if value < 0 and value not in ignore]
    if negative:
        what = f"the label map holds the negative value(s) {_some(negative)}"
        yield _error(case.case, label.file, what, "give each structure a number from 1; 0 is the background")
    if not label.not_whole and not any(label.voxels.keys() - {0, *ignore}):
        cure = "check that it was saved; a case that really shows nothing may stay"
        yield _warning(case.case, label.file, "the label map is empty", cure)


def _lossy(label: LabelFacts) -> bool:
    return Path(label.file).suffix.lower() in _LOSSY


def _some(values: Iterable[int], most: int = 8) -> str:
    ordered = sorted(values)
    return ", ".join(map(str, ordered[:most])) + (" ..." if len(ordered) > most else "")


def _channels(data: DataSet, facts: list[CaseFacts]) -> Iterator[Finding]:
    """Every case needs as many channels as most have, and as the names say."""
    counts = {case.case: sum(len(image.whole) for image in case.images) for case in facts if case.images and case.readable}
    if not counts:
        return
    usual = Counter(counts.values()).most_common(1)[0][0]
    for case in facts:
        count = counts.get(case.case, usual)
        if count != usual:
            cure = "give every case the same images (all grey or all RGB), or take it out"
            yield _error(case.case, case.images[0].file, f"has {count} channel(s); most cases have {usual}", cure)
    if len(data.channels) not in (1, usual):
        names = ", ".join(data.channels)
        cure = "correct the list (dataset.channels, dataset.json)"
        yield _error("", str(data.root), f"{len(data.channels)} channels are named ({names}); each case has {usual}", cure)


def _mixed(facts: list[CaseFacts]) -> Iterator[Finding]:
    kinds = {image.picture for case in facts for image in case.images if not image.error}
    if len(kinds) > 1:
        pictures = [image for case in facts for image in case.images if image.picture and not image.error]
        what = f"{len(pictures)} pictures lie among volumes; pictures have no place in millimetres"
        yield _error("", pictures[0].file, what, "train pictures and volumes apart")


def _label_values(data: DataSet, facts: list[CaseFacts]) -> Iterator[Finding]:
    """Values that are not declared, declared ones that never occur, no background."""
    maps = [(case.case, case.label) for case in facts if case.label and not case.label.error and case.label.channels == 1]
    held = {value for _, label in maps for value in label.voxels}
    found = held - set(data.ignore)
    declared = {0, *data.label_names, *data.ignore}
    for case, label in maps if data.label_names else []:
        unknown = [value for value in label.voxels if value not in declared and value >= 0]
        if unknown:
            known = ", ".join(f"{value} {name}" for value, name in sorted(data.label_names.items()))
            what = f"unknown label value(s) {_some(unknown)}; declared are {known}"
            yield _error(case, label.file, what, "correct the label map, or name the value in dataset.label_names (or dataset.json)")
    for value in sorted(set(data.label_names) - found - {0}) if maps else []:
        what = f"missing label: {value} {data.label_names[value]} is declared, but occurs in no label map; the model will not know it"
        yield _warning("", str(data.root), what, "remove it from the names, or add cases that show it")
    absent = sorted(set(data.ignore) - held)
    if maps and absent:
        what = f"the value(s) to be ignored, {_some(absent)}, occur in no label map; the label maps hold {_some(held)}"
        cure = "correct dataset.ignore: voxels that nobody has judged are trained on otherwise"
        yield _warning("", str(data.root), what, cure)
    if maps and found and 0 not in found:
        what = f"no label map holds the value 0; the lowest value, {min(found)}, is taken as the background"
        yield _warning("", str(data.root), what, "make sure that this is the background")
    if len(found) > MOST_VALUES:
        what = f"the label maps hold {len(found)} different values; at most {MOST_VALUES} can be trained"
        yield _error("", str(data.root), what, "check that the label folder holds label maps, not images")


def _lone_values(data: DataSet, facts: list[CaseFacts]) -> Iterator[Finding]:
    """Many values, most of them in one case only: a mask was compressed or blended, or its objects are numbered.

    Values that are not declared where others are, and JPEG files, are errors already.
    """
    maps = [(case.case, case.label) for case in facts if case.label and case.label.channels == 1 and not _lossy(case.label)]
    cases = Counter(value for _, label in maps for value in label.voxels if value not in data.ignore)
    lone = {value for value, count in cases.items() if count == 1}
    if data.label_names or len(cases) <= _MANY_VALUES or 2 * len(lone) <= len(cases):
        return
    case, label = max(maps, key=lambda one: len(lone & one[1].voxels.keys()))
    most = len(lone & label.voxels.keys())
    what = f"{len(cases)} different label values, {len(lone)} of which occur in one case only; this label map holds {most} of those"
    cure = "if it was compressed (JPEG) or resized, write it again without loss or blending; numbered objects need one value a kind"
    yield _warning(case, label.file, what, cure)


def _unnamed_ct(data: DataSet, facts: list[CaseFacts]) -> Iterator[Finding]:
    """A channel with air at -1000 in most scans is CT, and is normalised as CT only under that name."""
    scans = [case.images for case in facts if case.readable and not any(image.picture for image in case.images)]
    volumes = [[values for image in images for values in image.whole] for images in scans]
    if not volumes or len({len(case) for case in volumes}) > 1 or len(data.channels) != len(volumes[0]):
        return
    for number, name in enumerate(data.channels):
        like = sum(any(_AIR_HU[0] <= value <= _AIR_HU[1] for value in case[number].sample) for case in volumes)
        if name.strip().lower() not in CT_NAMES and 2 * like > len(volumes):
            what = f"channel {name!r} looks like CT (air at about -1000 in {like} of {len(volumes)} scans), but is not named so"
            names = ", ".join("CT" if other == number else each for other, each in enumerate(data.channels))
            cure = f"if it is CT, name it, so that it is normalised as CT: set dataset.channels to {names}"
            yield _warning("", str(data.root), what, cure)


def _names(data: DataSet) -> Iterator[Finding]:
    for name, count in Counter(data.label_names.values()).items():
        if count > 1:
            values = _some(value for value, other in data.label_names.items() if other == name)
            yield _error("", str(data.root), f"the label values {values} share the name {name!r}", "give each a name of its own")


def _duplicates(data: DataSet, facts: list[CaseFacts]) -> Iterator[Finding]:
    """The same voxel values in several files; constant ones have been reported already."""
    by_content: dict[str, list[tuple[Case, ImageFacts]]] = defaultdict(list)
    cases = {case.name: case for case in data.cases}
    truths = {case.case: case.label for case in facts if case.label is not None and case.label.content}
    for measured in facts:
        for image in measured.images:
            if not image.error and any(values.minimum != values.maximum for values in image.whole):
                by_content[image.content].append((cases[measured.case], image))
    for (first, original), *copies in by_content.values():
        for case, image in copies:
            same = f"the same content as {original.file} (case {first.name})"
            if first.group and case.group and first.group != case.group:
                what = f"same patient in two groups: {same}; groups {first.group} and {case.group}"
                yield _error(case.name, image.file, what, "give both cases the same group, or remove one")
            elif first.fold is not None and case.fold is not None and first.fold != case.fold:
                what = f"same scan in two folds: {same}; folds {first.fold} and {case.fold}"
                yield _error(case.name, image.file, what, "put both cases into the same fold, or remove one")
            else:
                what = f"duplicate content: {same}"
                pair = truths.get(first.name), truths.get(case.name)
                cure = "remove one, or give both the same group, so that a split keeps them together"
                if pair[0] and pair[1] and first.name != case.name and pair[0].content != pair[1].content:
                    what += f", but the label maps differ ({pair[0].file}, {pair[1].file})"
                    cure = "keep the right label map; two readers of one scan may both stay, and a split keeps them together"
                yield _warning(case.name, image.file, what, cure)


def _groups(cases: Iterable[Case]) -> Iterator[Finding]:
    """A group belongs to one fold; folds are given to all cases or to none."""
    labelled = [case for case in cases if case.label is not None]
    folds: dict[str, dict[int, Case]] = defaultdict(dict)
    for case in labelled:
        if case.group and case.fold is not None:
            folds[case.group].setdefault(case.fold, case)
    for group, found in folds.items():
        if len(found) > 1:
            last = found[max(found)]
            what = f"same patient in two folds: the group {group} has cases in the folds {_some(found)}"
            yield _error(last.name, str(last.images[0]), what, "put all cases of a group into one fold")
    without = [case for case in labelled if case.fold is None]
    if without and len(without) < len(labelled):
        what = f"{len(without)} of {len(labelled)} labelled cases have no fold"
        yield _error(without[0].name, str(without[0].images[0]), what, "give every labelled case a fold, or none")


def _patients_in_names(data: DataSet) -> Iterator[Finding]:
    """Names such as `sub-01_T1` and `sub-01_T2`, or `a_visit1` and `a_visit2`, where no groups are known."""
    labelled = [case.name for case in data.cases if case.label is not None]
    if any(case.group for case in data.cases) or any(case.fold is not None for case in data.cases):
        return
    for pattern in _PATIENTS:
        found = [match[1] for name in labelled if (match := re.search(pattern, name))]
        several = [patient for patient, count in Counter(found).items() if count > 1]
        patients = len(set(found)) + len(labelled) - len(found)
        if several and patients > 1:
            what = f"several cases seem to be of one patient ({', '.join(several[:3])}), but no groups are given: a split may part them"
            yield _warning("", str(data.root), what, f"if so, set dataset.group to '{pattern}'")
            return


def _labelled(data: DataSet, facts: list[CaseFacts]) -> Iterator[Finding]:
    """Something must be there to learn from."""
    usable = [case for case in facts if case.readable and case.label is not None]
    if not usable:
        what = f"none of {len(data.cases)} cases has a readable image and label map"
        yield _error("", str(data.root), what, "add label maps; see the other findings")
        return
    if len(data.labelled) == 1:
        what = "one labelled case only: training validates on the case that it trained on"
        yield _warning(usable[0].case, str(data.root), what, "add cases; such a score says nothing about other scans")
    if len({value for case in usable if case.label for value in case.label.voxels} - set(data.ignore)) < _FEWEST_VALUES:
        cure = "add label maps that show a structure"
        yield _error("", str(data.root), "all label maps are empty or hold one value only: there is nothing to learn", cure)
