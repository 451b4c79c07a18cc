"""Two folders, one with images and one with label maps, whose files have matching names; `labels.json` beside them may name the labels."""

from __future__ import annotations

import logging
from pathlib import Path

from segpipe.dataset.case import DEFAULT_CHANNEL, DataSet
from segpipe.dataset.finding import Finding
from segpipe.dataset.layouts.claim import Claim, settle
from segpipe.dataset.layouts.description import read_names
from segpipe.dataset.layouts.match import Clash, Match, match_by_name, match_by_pattern
from segpipe.errors import ConfigError, DataError
from segpipe.io.find import find_scans, split_name
from segpipe.settings import DatasetSettings

log = logging.getLogger(__name__)

IMAGES = ("images", "imagestr", "image", "img", "imgs", "scans", "volumes")
LABELS = ("labels", "labelstr", "label", "masks", "mask", "segmentations")
"""Folder names that are looked for, in lower case."""

Files = dict[str, Path]
"""Path of each scan by its name below its folder, without extension."""


def found(root: Path) -> bool:
    """A folder with one of the usual names for images lies in `root`."""
    return root.is_dir() and any(path.name.lower() in IMAGES for path in _subfolders(root))


def load(root: Path, settings: DatasetSettings) -> DataSet:
    """Every case with an image or a label map.

    Raises:
        ConfigError: a folder or pattern that was set does not exist or does not fit.
        DataError: no folder, several possible ones, no scan in them, or no name that matches.
    """
    images_dir = _images_folder(root, settings)
    labels_dir = _labels_folder(root, images_dir, settings)
    images, twice = _by_stem(images_dir)
    labels, labels_twice = _by_stem(labels_dir)
    match = _matched(images, labels, settings.pattern)
    if not match.pairs:
        raise DataError(_no_pair(root, images, labels, settings.pattern))
    order = _channel_order(match.channels, settings.channels)
    names = settings.channels or [_channel_name(channel, len(order)) for channel in order]
    claims = _claims(match, order, (images, labels), (images_dir, labels_dir))
    cases, findings = settle(claims, tuple(names))
    strange = [_unmatched(images[stem], settings.pattern) for stem in match.unmatched]
    clashes = [_clashing(clash, images if clash.kind == "image" else labels, settings.pattern) for clash in match.clashes]
    label_names, unread = read_names(root)
    return DataSet(root, "folders", cases, tuple(names), label_names, (*unread, *twice, *labels_twice, *strange, *clashes, *findings))


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images_folder(root: Path, settings: DatasetSettings) -> Path:
    if settings.images:
        return _named(root, settings.images, "dataset.images")
    usual = [path for path in _subfolders(root) if path.name.lower() in IMAGES and _holds_scans(path)]
    return _only(root, usual, "image", "dataset.images", IMAGES)


def _labels_folder(root: Path, images_dir: Path, settings: DatasetSettings) -> Path:
    """The folder that is named, or has a usual name, or is the only other one with file names that match."""
    if settings.labels:
        return _named(root, settings.labels, "dataset.labels")
    others = [path for path in _subfolders(root) if path.resolve() != images_dir.resolve() and _holds_scans(path)]
    usual = [path for path in others if path.name.lower() in LABELS]
    images = _by_stem(images_dir)[0]
    fitting = usual or [path for path in others if _matched(images, _by_stem(path)[0], settings.pattern).pairs]
    return _only(root, fitting, "label", "dataset.labels", LABELS)


def _named(root: Path, name: str, key: str) -> Path:
    path = root / name
    if not path.is_dir():
        there = ", ".join(folder.name for folder in _subfolders(root)) or "none"
        raise ConfigError(f"{key} is {name!r}, but {path} is no folder; folders in {root}: {there}")
    return path


def _only(root: Path, folders: list[Path], kind: str, key: str, usual: tuple[str, ...]) -> Path:
    if len(folders) == 1:
        return folders[0]
    if folders:
        names = ", ".join(path.name for path in folders)
        raise DataError(f"{root}: {len(folders)} {kind} folders are possible: {names}; choose one with {key}={folders[0].name}")
    there = ", ".join(path.name for path in _subfolders(root)) or "none"
    looked = f"looked for {', '.join(usual)}; folders there: {there}"
    raise DataError(f"{root}: no {kind} folder with scans ({looked}): name it with {key}=FOLDER")


def _holds_scans(folder: Path) -> bool:
    try:
        return bool(find_scans(folder))
    except DataError:
        return False


def _by_stem(folder: Path) -> tuple[Files, list[Finding]]:
    """The scans of a folder, and a finding for each name with two extensions."""
    files: Files = {}
    twice = []
    for path in find_scans(folder):
        stem = (path.parent.relative_to(folder) / split_name(path)[0]).as_posix()
        if stem in files:
            what = f"the case name occurs twice: {files[stem].name} and {path.name}"
            twice.append(Finding("error", _case_name(stem), str(path), what, "keep one of the two files"))
        else:
            files[stem] = path
    return files, twice


def _matched(images: Files, labels: Files, pattern: str) -> Match:
    return match_by_pattern(images, labels, pattern) if pattern else match_by_name(images, labels)


def _no_pair(root: Path, images: Files, labels: Files, pattern: str) -> str:
    what = f"dataset.pattern {pattern!r} pairs" if pattern else "the file names pair"
    return (
        f"{root}: {what} none of {len(images)} images with one of {len(labels)} label maps "
        f"(image {min(images)!r}, label {min(labels)!r}): rename them alike, or describe the names with dataset.pattern"
    )


def _channel_order(channels: tuple[str, ...], wanted: list[str]) -> tuple[str, ...]:
    """The channels as `dataset.channels` names them, where those are the words in the file names; numbers in their order.

    Raises:
        ConfigError: the file names have other words than `dataset.channels`, so that nobody could tell which is which.
    """
    by_word = {channel.lower(): channel for channel in channels}
    words = [name.lower() for name in wanted]
    if sorted(words) == sorted(by_word):
        return tuple(by_word[word] for word in words)
    if wanted and len(channels) > 1 and not all(channel.isdigit() for channel in channels):
        raise ConfigError(
            f"dataset.channels is {', '.join(wanted)}, but the file names end in {', '.join(channels)}: use the words of the file names"
        )
    return channels


def _channel_name(channel: str, count: int) -> str:
    if channel and not channel.isdigit():
        return channel
    return DEFAULT_CHANNEL if count == 1 or not channel else f"channel {int(channel)}"


def _case_name(stem: str) -> str:
    """Case names also name files, so that subfolders become part of the name."""
    return stem.replace("/", "_")


def _claims(match: Match, order: tuple[str, ...], files: tuple[Files, Files], folders: tuple[Path, Path]) -> list[Claim]:
    """One claim for each case; where a file is missing, the path at which it is expected."""
    images, labels = files
    image_suffix, label_suffix = (split_name(next(iter(paths.values())))[1] for paths in files)
    claims = []
    for case in sorted({*match.images, *match.labels}):
        stems = match.images.get(case, {})
        expected = [stems.get(channel, f"{case}_{channel}" if channel else case) for channel in order]
        paths = tuple(images.get(stem, folders[0] / f"{stem}{image_suffix}") for stem in expected)
        label = labels[match.labels[case]] if case in match.labels else folders[1] / f"{case}{label_suffix}"
        claims.append(Claim(_case_name(case), paths, label))
    return claims


def _clashing(clash: Clash, files: Files, pattern: str) -> Finding:
    what = f"two {clash.kind}s are those of the case {clash.case!r}: {files[clash.first]} and {files[clash.second]}"
    cure = "let dataset.pattern tell them apart, or take one out" if pattern else "rename one of them, or take it out"
    return Finding("error", _case_name(clash.case), str(files[clash.second]), what, cure)


def _unmatched(path: Path, pattern: str) -> Finding:
    what = f"the name does not fit dataset.pattern {pattern!r}; left out"
    return Finding("warning", "", str(path), what, "rename it, or correct the pattern")
