"""Which objects are wanted, and how they are called; plain values, no library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segpipe.errors import ConfigError

Kind = Literal["dicom-seg", "rtstruct", "sr", "sc"]
SegType = Literal["binary", "labelmap"]

KINDS: tuple[Kind, ...] = ("dicom-seg", "rtstruct", "sr", "sc")
"""In the order in which they are written; a report follows the segmentation that it refers to."""
_ENDINGS: dict[Kind, str] = {"dicom-seg": "_seg.dcm", "rtstruct": "_rtstruct.dcm", "sr": "_sr.dcm", "sc": "_sc.dcm"}
_WORDS: dict[Kind, str] = {"dicom-seg": "segmentation", "rtstruct": "contours", "sr": "volumes", "sc": "overview"}
_LONGEST = 64
_LARGEST_NUMBER = 2**31 - 1
_PLACES = 1000
_UNNUMBERED = 9000
_HASH_BYTES = 4


@dataclass(frozen=True)
class Wanted:
    """Attributes:
        kinds: in the order of `KINDS`.
        seg_type: binary: a frame a slice and label, which every viewer reads; labelmap: a frame a slice (Supplement 243), smaller.
        description: of the series, before a word for each kind; empty: segpipe and the task.
        number: of the first series, the others follow; 0: made of the source series' number.

    Raises:
        ConfigError: a report without the segmentation that it refers to, or words and numbers that DICOM does not hold.
    """

    kinds: tuple[Kind, ...] = ()
    seg_type: SegType = "binary"
    description: str = ""
    number: int = 0

    def __post_init__(self) -> None:
        if "sr" in self.kinds and "dicom-seg" not in self.kinds:
            raise ConfigError("--format sr: the report refers to the segments of a DICOM-SEG; must be asked for with it: dicom-seg,sr")
        room = _LONGEST - max(map(len, _WORDS.values())) - 1
        if len(self.description) > room or not self.description.isprintable() or "\\" in self.description:
            raise ConfigError(f"--series-description: is {self.description!r}; must be at most {room} printable characters, no backslash")
        if not 0 <= self.number <= _LARGEST_NUMBER - len(KINDS):
            raise ConfigError(f"--series-number: is {self.number}; must be 1 to {_LARGEST_NUMBER - len(KINDS)}")

    def to_text(self) -> str:
        """What the objects depend on besides the label map, as one word that a table keeps, the description as its hash.

        Empty where none is wanted.
        """
        if not self.kinds:
            return ""
        extras: list[str] = [self.seg_type] if self.seg_type != "binary" else []
        extras += [f"{self.number}"] if self.number else []
        extras += [hashlib.blake2b(self.description.encode(), digest_size=_HASH_BYTES).hexdigest()] if self.description else []
        return "dicom=" + ",".join([*self.kinds, *extras])

    def describe(self, kind: Kind, task: str, remark: str) -> str:
        """The series description of a kind.

        Args:
            remark: ends it, unless the description was given: archives sort by that.
        """
        end = f" {_WORDS[kind]}" if self.description else f" {_WORDS[kind]}, {remark}"
        text = self.description or " ".join(f"segpipe {task}".replace("\\", "/").split())
        return f"{text[: _LONGEST - len(end)].rstrip()}{end}"

    def series_number(self, kind: Kind, source: int | None) -> int:
        """The series number of a kind: thousands of the source's, so that results stand below what they were made of."""
        place = KINDS.index(kind)
        if self.number:
            return self.number + place
        first = source * _PLACES if source and 0 < source < _LARGEST_NUMBER // _PLACES else _UNNUMBERED
        return first + place + 1


def result_files(case: Path, kinds: Sequence[Kind]) -> list[Path]:
    """`out/CASE` -> `out/CASE_seg.dcm` and so on, in the order of `kinds`."""
    return [case.with_name(case.name + _ENDINGS[kind]) for kind in kinds]


def kinds_in(text: str) -> tuple[Kind, ...]:
    """The kinds that a text told which ends with what `Wanted.to_text` gave."""
    words = text.rpartition("dicom=")
    return tuple(kind for kind in KINDS if kind in words[2].split(",")) if words[1] else ()
