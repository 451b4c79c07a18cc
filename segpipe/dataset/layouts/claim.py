"""What a layout says a case is made of, before it is known whether the files are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segpipe.dataset.case import Case
from segpipe.dataset.finding import Finding


@dataclass(frozen=True)
class Claim:
    """Attributes:
    name: case name.
    images: where the file of each channel is, or should be.
    label: where the label map is, or should be; None only where the case is unlabelled on purpose.
    source: the list that makes the claim (`dataset.json`, `manifest.csv row 3`); empty when file names do.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    source: str = ""
    group: str = ""
    fold: int | None = None


def settle(claims: Iterable[Claim], channels: tuple[str, ...]) -> tuple[tuple[Case, ...], tuple[Finding, ...]]:
    """The cases whose files exist, sorted by name, and a finding for every file that does not and every name used twice.

    A case without one of its images is left out; a case without its label is kept with `label=None`.
    """
    findings: list[Finding] = []
    cases: list[Case] = []
    by_name: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_name[claim.name].append(claim)
    for name in sorted(by_name):
        claim, *others = by_name[name]
        if others:
            findings.append(_twice(by_name[name]))
        missing = [number for number, path in enumerate(claim.images) if not path.is_file()]
        findings += [_no_image(claim, number, channels) for number in missing]
        label = claim.label if claim.label is not None and claim.label.is_file() else None
        if claim.label is not None and label is None:
            findings.append(_no_label(claim))
        if not missing and claim.images:
            cases.append(Case(name, claim.images, label, claim.group, claim.fold))
    return tuple(cases), tuple(findings)


def _no_image(claim: Claim, number: int, channels: tuple[str, ...]) -> Finding:
    path = claim.images[number]
    channel = f" of channel {channels[number]!r}" if len(claim.images) > 1 and number < len(channels) else ""
    others = f"take {claim.label.name} out of {claim.label.parent.name}/" if claim.label else "take the case out"
    cure = f"correct or remove the entry in {claim.source}" if claim.source else others
    return Finding("error", claim.name, str(path), f"the image{channel} is missing", f"add this file, or {cure}")


def _no_label(claim: Claim) -> Finding:
    image = claim.images[0] if claim.images else Path(claim.name)
    cure = f"correct the entry in {claim.source}" if claim.source else f"take {image.name} out of {image.parent.name}/"
    what = f"the label map of {image.name} is missing"
    return Finding("error", claim.name, str(claim.label), what, f"add this file, or {cure}")


def _twice(claims: list[Claim]) -> Finding:
    first, second = claims[0], claims[1]
    groups = sorted({claim.group for claim in claims if claim.group})
    where = f", in the groups {' and '.join(groups)}" if len(groups) > 1 else ""
    files = " and ".join(str(path) for claim in (first, second) for path in claim.images[:1])
    what = f"the case name occurs {len(claims)} times{where}: {files}"
    file = second.images[0] if second.images else Path(second.name)
    return Finding("error", first.name, str(file), what, "give each case a name of its own, or remove one")
