"""From the settings to the cases: find the layout, then let the settings have the last word on names and groups."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from segpipe.dataset.case import Case, DataSet
from segpipe.dataset.finding import Finding
from segpipe.dataset.layouts import dicom, folders, manifest, msd, nnunet
from segpipe.errors import ConfigError, DataError
from segpipe.settings import DatasetSettings

log = logging.getLogger(__name__)

Found = Callable[[Path], bool]
Load = Callable[[Path, DatasetSettings], DataSet]
IGNORE = "ignore"
"""Name of the label value of voxels that nobody has judged (nnU-Net's convention)."""
LAYOUTS: dict[str, tuple[Found, Load]] = {
    "manifest": (manifest.found, manifest.load),
    "msd": (msd.found, msd.load),
    "nnunet": (nnunet.found, nnunet.load),
    "folders": (folders.found, folders.load),
    "dicom": (dicom.found, dicom.load),
}
"""In the order in which they are looked for."""


def load_dataset(settings: DatasetSettings) -> DataSet:
    """List the cases of a data set, without reading a scan.

    Files that are missing are findings of the data set, not errors, so that the audit shows them all at once.

    Raises:
        ConfigError: no root is set, or a setting does not fit the data set.
        DataError: the folder is missing or empty, has none of the layouts, or its list cannot be read.
    """
    if not settings.root:
        raise ConfigError("dataset.root is empty; must be the folder of the data set or a manifest file: set dataset.root=DIR")
    root = Path(settings.root).expanduser()
    try:
        return _load(root, settings)
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror or error}); must be readable: check its permissions") from error


def _load(root: Path, settings: DatasetSettings) -> DataSet:
    if not root.exists():
        raise DataError(f"{root}: does not exist; must be the folder of the data set or a manifest file: check dataset.root")
    layout = settings.layout if settings.layout != "auto" else _find_layout(root, settings)
    if layout not in LAYOUTS:
        raise ConfigError(f"dataset.layout is {layout!r}; must be one of auto, {', '.join(LAYOUTS)}")
    if root.is_file() and layout not in ("manifest", "dicom"):
        raise DataError(f"{root}: is a file; layout {layout} needs a folder: set dataset.root to the folder")
    data = LAYOUTS[layout][1](root, settings)
    if not data.cases and not data.findings:
        raise DataError(f"{root}: layout {layout} has no case in it; at least one image with a label map is needed")
    data = _named(data, settings)
    cases, findings = _grouped(data.cases, settings.group)
    log.info("%s: layout %s, %d cases, %d with a label map", root, layout, len(cases), len(data.labelled))
    return dataclasses.replace(data, cases=cases, findings=(*data.findings, *findings))


def _find_layout(root: Path, settings: DatasetSettings) -> str:
    if settings.images or settings.labels or settings.pattern:
        return "folders"
    for name, (found, _) in LAYOUTS.items():
        if found(root):
            return name
    if root.is_file():
        raise DataError(f"{root}: is no manifest; must be a CSV or JSON file, or the folder of the data set: check dataset.root")
    parent = root.resolve().parent
    if any(root.iterdir()) and any(found(parent) for found, _ in LAYOUTS.values()):
        own = "or set dataset.layout=dicom, if it is DICOM of its own"
        raise DataError(f"{root}: is a part of a data set; give the whole, {parent} (dataset.root), {own}")
    there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{root}: holds {there}; must hold dataset.json (MSD), imagesTr/CASE_0000 and labelsTr (nnU-Net), images and labels folders, "
        "or manifest.csv: arrange it so, or set dataset.layout (dicom for DICOM), dataset.images and dataset.labels"
    )


def _named(data: DataSet, settings: DatasetSettings) -> DataSet:
    """Names of channels and labels from the settings instead of the data set's own."""
    names = dict(data.label_names)
    for key, name in settings.label_names.items():
        try:
            names[int(str(key))] = str(name)
        except ValueError as error:
            raise ConfigError(f'dataset.label_names has the key {key!r}; must be a label value, such as {{"1": "PZ"}}') from error
    ignore = tuple(settings.ignore) or tuple(value for value, name in names.items() if name.strip().lower() == IGNORE)
    if 0 in ignore and 0 not in settings.ignore:
        raise ConfigError(f"{data.root}: the label value 0 is named {IGNORE!r}, and 0 is the background: name it background")
    kept = {value: name for value, name in sorted(names.items()) if value not in ignore}
    return dataclasses.replace(data, label_names=kept, ignore=ignore, channels=tuple(settings.channels) or data.channels)


def _grouped(cases: tuple[Case, ...], pattern: str) -> tuple[tuple[Case, ...], list[Finding]]:
    """Patients from the case names, where the layout has not told them; a patient that the layout puts into two groups is a finding."""
    if not pattern:
        return cases, []
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"dataset.group is {pattern!r}, not a regular expression ({error}): correct it") from error
    if not regex.groups:
        raise ConfigError(f"dataset.group is {pattern!r}; must have a group that is the patient, such as (patient\\d+)_")
    patients = {case.name: hit[1] or "" for case in cases if (hit := regex.search(case.name))}
    told: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.group and patients.get(case.name):
            told[patients[case.name]].add(case.group)
    findings = [_two_groups(case, patients[case.name], told) for case in cases if len(told.get(patients.get(case.name, ""), ())) > 1]
    findings += _no_group([case for case in cases if not case.group and not patients.get(case.name)], pattern)
    return tuple(dataclasses.replace(case, group=case.group or patients.get(case.name, "")) for case in cases), findings


def _two_groups(case: Case, patient: str, told: dict[str, set[str]]) -> Finding:
    groups = " and ".join(sorted(told[patient]))
    what = f"the patient {patient} (by dataset.group) is in the groups {groups}"
    return Finding("error", case.name, str(case.images[0]), what, "give all scans of one patient the same group")


def _no_group(cases: list[Case], pattern: str) -> list[Finding]:
    if not cases:
        return []
    names = ", ".join(case.name for case in cases[:3]) + (f" and {len(cases) - 3} more" if len(cases) > 3 else "")
    what = f"{len(cases)} case name(s) do not fit dataset.group {pattern!r} ({names}); each counts as a patient of its own"
    return [Finding("warning", cases[0].name, str(cases[0].images[0]), what, "of one patient? then correct the expression or the names")]
