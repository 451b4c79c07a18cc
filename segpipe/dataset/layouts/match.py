"""Which image belongs to which label map, by their names alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from segpipe.errors import ConfigError

_SEPARATORS = "_-."
_LAST_WORD = re.compile(r"(.+?)[_.-]([A-Za-z]+)")


@dataclass(frozen=True)
class Clash:
    """Two files that say to be one: the image of one case and channel, or the label map of one case.

    Attributes:
        case: case name.
        kind: which of the two.
        first, second: their stems; the first one is kept.
    """

    case: str
    kind: Literal["image", "label map"]
    first: str
    second: str


@dataclass(frozen=True)
class Match:
    """Attributes:
    images: case name to channel to image stem; an image without a label is a case of its own.
    labels: case name to label stem.
    channels: channels in order; `("",)` when every case has one image named like its label.
    unmatched: image stems that the user's pattern does not describe.
    clashes: stems that are left out, because another has their place already.
    """

    images: dict[str, dict[str, str]]
    labels: dict[str, str]
    channels: tuple[str, ...]
    unmatched: tuple[str, ...] = ()
    clashes: tuple[Clash, ...] = ()

    @property
    def pairs(self) -> int:
        """Number of cases with an image and a label."""
        return len(self.images.keys() & self.labels.keys())


def match_by_pattern(images: Iterable[str], labels: Iterable[str], pattern: str) -> Match:
    """Pair stems with a regular expression that has the group `case` and, with several files a case, `channel`.

    The expression must describe the whole name of an image. A label's name may fit it, too; otherwise it is the case name.

    Raises:
        ConfigError: not a regular expression, or without the group `case`.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"dataset.pattern is {pattern!r}, not a regular expression ({error}): correct it") from error
    if "case" not in regex.groupindex:
        raise ConfigError(f"dataset.pattern is {pattern!r}; must have the group `case`, such as (?P<case>.+)_(?P<channel>flair|t1c)")
    found = []
    unmatched = []
    for stem in images:
        hit = regex.fullmatch(stem)
        if hit is None:
            unmatched.append(stem)
        else:
            found.append((hit["case"], hit.groupdict().get("channel") or "", stem))
    named = [(hit["case"] if (hit := regex.fullmatch(stem)) else stem, stem) for stem in labels]
    return _settled(found, named, tuple(unmatched))


def match_by_name(images: Iterable[str], labels: Iterable[str]) -> Match:
    """Pair stems that are equal, or where the image adds a channel (`CASE_flair`), or where all labels add one word (`CASE_seg`)."""
    stems, targets = sorted(images), sorted(labels)
    match = _match([(stem, stem) for stem in targets], stems)
    words = {hit[2] if (hit := _LAST_WORD.fullmatch(stem)) else "" for stem in targets}
    if match.pairs or len(words) != 1 or "" in words:
        return match
    word = words.pop()
    return _match([(stem[: -len(word) - 1], stem) for stem in targets], stems)


def _match(labels: list[tuple[str, str]], images: list[str]) -> Match:
    """Pair image stems with the case names of `labels`; what adds a channel to a case name is told from what is a case without label."""
    names = {case for case, _ in labels}
    added: dict[str, dict[str, str]] = defaultdict(dict)
    for stem in images:
        case = _longest_start(stem, names)
        if case is not None:
            added[case][stem[len(case) + 1 :]] = stem
    channels = _channels(added)
    found = []
    for stem in images:
        case = _longest_start(stem, names)
        channel = stem[len(case) + 1 :] if case is not None else ""
        if case is None or channel not in channels:
            case, channel = _own_case(stem, channels)
        found.append((case, channel, stem))
    return _settled(found, labels)


def _settled(images: Iterable[tuple[str, str, str]], labels: Iterable[tuple[str, str]], unmatched: tuple[str, ...] = ()) -> Match:
    """Give each place to the first stem that claims it; every further one is a clash.

    Args:
        images: case, channel and stem of each.
        labels: case and stem of each.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    named: dict[str, str] = {}
    clashes = []
    for case, channel, stem in images:
        first = found[case].setdefault(channel, stem)
        if first != stem:
            clashes.append(Clash(case, "image", first, stem))
    for case, stem in labels:
        first = named.setdefault(case, stem)
        if first != stem:
            clashes.append(Clash(case, "label map", first, stem))
    channels = {channel for case in found.values() for channel in case} or {""}
    return Match(dict(found), named, tuple(sorted(channels)), unmatched, tuple(clashes))


def _longest_start(stem: str, names: Iterable[str]) -> str | None:
    """The longest of `names` that is `stem`, or that `stem` begins with before a separator."""
    if stem in names:
        return stem
    ends = [place for place, letter in enumerate(stem) if letter in _SEPARATORS]
    return next((stem[:place] for place in reversed(ends) if stem[:place] in names and place + 1 < len(stem)), None)


def _channels(added: dict[str, dict[str, str]]) -> set[str]:
    """What images add to case names, where it is the rule and no accident.

    Next to images that are named exactly like their label, an addition counts only when every case has it; otherwise when half
    of them have it (so that a single missing file is found as missing).
    """
    counts: dict[str, int] = defaultdict(int)
    for case in added.values():
        for channel in case:
            counts[channel] += 1
    needed = len(added) if "" in counts else len(added) / 2
    return {channel for channel, count in counts.items() if channel == "" or count >= needed}


def _own_case(stem: str, channels: set[str]) -> tuple[str, str]:
    """Case and channel of an image without label."""
    for channel in sorted(channels - {""}, key=len, reverse=True):
        if stem.endswith(channel) and stem[: -len(channel)].endswith(tuple(_SEPARATORS)) and len(stem) > len(channel) + 1:
            return stem[: -len(channel) - 1], channel
    return stem, "" if "" in channels or not channels else min(channels)
