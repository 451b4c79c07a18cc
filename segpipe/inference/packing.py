"""Scans, rows and facts as `messages` hold them."""

from __future__ import annotations

from pathlib import Path

from segpipe.dicom.request import slices_from_json
from segpipe.dicom.terms import segment_label_from_json
from segpipe.inference.columns import from_record, to_record
from segpipe.inference.gather import Examination
from segpipe.inference.messages import Message
from segpipe.inference.table import Row
from segpipe.inference.task import Facts


def scan_to_json(scan: Examination) -> Message:
    """A scan as a message holds it."""
    return {
        "case": scan.case,
        "images": [str(path) for path in scan.images],
        "problem": scan.problem,
        "slices": scan.slices and scan.slices.to_json(),
        "origin": scan.origin,
    }


def scan_from_json(value: Message) -> Examination:
    """The scan again."""
    images = tuple(Path(path) for path in value["images"])
    return Examination(value["case"], images, value["problem"], slices_from_json(value["slices"]), value["origin"])


def row_to_json(row: Row | None) -> Message | None:
    """A row as a message holds it."""
    return None if row is None else dict(to_record(row))


def row_from_json(value: Message | None) -> Row | None:
    """The row again."""
    return None if value is None else from_record(value)


def facts_from_json(value: Message) -> Facts:
    """What a worker has told of its model."""
    labels = tuple((int(number), str(name)) for number, name in value["labels"])
    table = tuple(map(segment_label_from_json, value["table"]))
    series = tuple((str(name), str(which)) for name, which in value["series"])
    return Facts(tuple(value["channels"]), labels, value["pictures"], value["sha256"], value["options"], value["task"], table, series)
