"""Medical Segmentation Decathlon: `dataset.json` lists the pairs (Antonelli et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.dataset.case import DEFAULT_CHANNEL, DataSet
from segpipe.dataset.layouts.claim import Claim, settle
from segpipe.dataset.layouts.description import FILE, Description, read_description
from segpipe.errors import DataError
from segpipe.io.find import split_name
from segpipe.settings import DatasetSettings


def found(root: Path) -> bool:
    """A `dataset.json` with a list of training pairs, of which the first image exists."""
    path = root / FILE
    if not path.is_file():
        return False
    training = read_description(path).values.get("training")
    if not isinstance(training, list) or not training:
        return False
    return not any(root.glob("imagesTr/*_0000.*")) or any(_claim(root, entry).images[0].is_file() for entry in training)


def load(root: Path, settings: DatasetSettings) -> DataSet:
    """The pairs under `training`; what is under `test` has no labels and is not looked at.

    Raises:
        DataError: no `dataset.json`, or no usable list in it.
    """
    path = root / FILE
    if not path.is_file():
        raise DataError(f"{root}: has no {FILE}; layout msd needs one with the list 'training': add it or choose another dataset.layout")
    description = read_description(path)
    claims = [_claim(root, entry) for entry in _training(description)]
    channels = description.channels or (DEFAULT_CHANNEL,)
    cases, findings = settle(claims, channels)
    return DataSet(root, "msd", cases, channels, description.label_names, (*description.findings, *findings))


def _training(description: Description) -> list[Any]:
    training = description.values.get("training")
    if not isinstance(training, list) or not training:
        raise DataError(f'{description.path}: has no list \'training\'; must be [{{"image": ..., "label": ...}}, ...]: add it')
    return training


def _claim(root: Path, entry: Any) -> Claim:
    """One pair; `image` is a path, or a list of paths, one a channel."""
    images = entry.get("image") if isinstance(entry, dict) else None
    images = [images] if isinstance(images, str) else images
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(images, list) or not images or not isinstance(label, str) or not all(isinstance(item, str) for item in images):
        raise DataError(f'{root / FILE}: the training entry {entry!r} must be {{"image": "path", "label": "path"}}: correct it')
    name = split_name(Path(label))[0]
    return Claim(name, tuple(root / item for item in images), root / label, source=FILE)
