"""nnU-Net raw: `imagesTr/CASE_0000.ext`, one file a channel, and `labelsTr/CASE.ext`; `dataset.json` may name channels and labels."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from segpipe.dataset.case import DEFAULT_CHANNEL, DataSet
from segpipe.dataset.finding import Finding
from segpipe.dataset.layouts.claim import Claim, settle
from segpipe.dataset.layouts.description import FILE, Description, read_description
from segpipe.errors import DataError
from segpipe.io.find import find_scans, split_name
from segpipe.settings import DatasetSettings

IMAGES, LABELS = "imagesTr", "labelsTr"
_NAME = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def found(root: Path) -> bool:
    """`imagesTr` holds a `CASE_0000` file, or `dataset.json` lists the cases under `dataset`."""
    if any(_NAME.fullmatch(split_name(path)[0]) for path in root.glob(f"{IMAGES}/*_0000.*")):
        return True
    return (root / FILE).is_file() and isinstance(read_description(root / FILE).values.get("dataset"), dict)


def load(root: Path, settings: DatasetSettings) -> DataSet:
    """Every case with an image or a label.

    Raises:
        DataError: no `imagesTr` or `labelsTr`, or no scan in them.
    """
    description = read_description(root / FILE) if (root / FILE).is_file() else Description(root / FILE, {}, (), {}, ())
    listed = description.values.get("dataset")
    strange: list[Finding] = []
    if isinstance(listed, dict):
        claims = _listed(root, listed)
        count = len(description.channels) or max((len(claim.images) for claim in claims), default=1)
    else:
        claims, strange, count = _searched(root, len(description.channels))
    channels = description.channels or (tuple(f"channel {number}" for number in range(count)) if count > 1 else (DEFAULT_CHANNEL,))
    cases, findings = settle(claims, channels)
    return DataSet(root, "nnunet", cases, channels, description.label_names, (*description.findings, *strange, *findings))


def _searched(root: Path, declared: int) -> tuple[list[Claim], list[Finding], int]:
    """Claims from file names, files whose name does not fit, and the number of channels."""
    for folder in (IMAGES, LABELS):
        if not (root / folder).is_dir():
            needed = f"layout nnunet needs {IMAGES} and {LABELS}"
            raise DataError(f"{root}: has no folder {folder}; {needed}: add it or choose another dataset.layout")
    images: dict[str, dict[int, Path]] = defaultdict(dict)
    strange: list[Finding] = []
    for path in find_scans(root / IMAGES):
        match = _NAME.fullmatch(split_name(path)[0])
        if match is None:
            cure = "rename it to CASE_0000 and the extension, or take it out"
            strange.append(Finding("error", "", str(path), "the name does not end in a channel number such as _0000", cure))
        else:
            first = images[match["case"]].setdefault(int(match["channel"]), path)
            strange += _twice(match["case"], first, path)
    labels: dict[str, Path] = {}
    for path in find_scans(root / LABELS):
        name = split_name(path)[0]
        strange += _twice(name, labels.setdefault(name, path), path)
    count = max([declared, *(max(channels) + 1 for channels in images.values())])
    image_suffix = split_name(next((path for channels in images.values() for path in channels.values()), Path("x.nii.gz")))[1]
    label_suffix = split_name(next(iter(labels.values())))[1]
    claims = []
    for name in sorted({*images, *labels}):
        files = tuple(images[name].get(number, root / IMAGES / f"{name}_{number:04d}{image_suffix}") for number in range(count))
        claims.append(Claim(name, files, labels.get(name, root / LABELS / f"{name}{label_suffix}")))
    return claims, strange, count


def _twice(case: str, first: Path, path: Path) -> list[Finding]:
    """A finding where another file, of another format or in a subfolder, has this one's place already."""
    what = f"two files have the name of one: {first} and {path}"
    return [Finding("error", case, str(path), what, "keep one of the two files")] if first != path else []


def _listed(root: Path, listed: dict[str, Any]) -> list[Claim]:
    """Claims from `"dataset": {"CASE": {"images": [...], "label": ...}}`."""
    claims = []
    for name, entry in listed.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not isinstance(label, str):
            raise DataError(f'{root / FILE}: the entry {name!r} must be {{"images": ["path"], "label": "path"}}: correct it')
        claims.append(Claim(name, tuple(root / str(item) for item in images), root / label, source=FILE))
    return claims
