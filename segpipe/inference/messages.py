"""What a command and its workers say to each other: JSON, one message a line, over the worker's standard input and output.

To the worker: first an order (`Order`), then `segment` (a scan, what is known of its files, and whether another one follows), `go` (a
case, and whether its files may be written) and `return` (a case that is wanted back, if its networks have not begun). From the worker:
`ready` (the model's facts) or `refused` (an error); of each scan, by its case, `stage` (which one is at it, none: it waits), `windows`,
`mark` (files are about to be written), and `end` (a row), `lost` (another worker has it) or `returned`; and `log`. Light, so that a
command starts its workers before it imports anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from segpipe.errors import ConfigError, DataError, GeometryError, ModelError, SegpipeError

Message = dict[str, Any]
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (SegpipeError, ConfigError, DataError, GeometryError, ModelError, MemoryError)
}


@dataclass(frozen=True)
class Order:
    """What a worker needs to begin.

    Attributes:
        models: model files.
        hashes: SHA-256 that each of them must have, empty: any; none: all may have any.
        device, overlap, batch, tta, memory_gb: see `Predictor` and `choose_device`.
        runtime, precision, compile: see `choose_computing`.
        threads: processor threads, 0: as many as torch takes.
        threads_most: when `threads` is 0, not more than these, so that several workers share the cores; 0: no limit.
        out: output folder.
        format: as the user wrote it.
        probabilities: also write those of each class.
    seg_type, series_description, series_number: of DICOM objects, see `FolderOptions`.
        level: of the log.
        side_by_side: whether several scans are in hand; None: where that is quicker and memory is not limited.
        parent: process that the worker must not outlive.
    """

    models: tuple[str, ...]
    out: str
    device: str = "auto"
    overlap: float = 0.5
    batch: int = 0
    tta: bool = False
    memory_gb: float = 0.0
    runtime: str = "auto"
    precision: str = "auto"
    threads: int = 0
    threads_most: int = 0
    compile: bool = False
    format: str = ""
    probabilities: bool = False
    seg_type: str = "binary"
    series_description: str = ""
    series_number: int = 0
    level: int = 20
    side_by_side: bool | None = None
    hashes: tuple[str, ...] = ()
    parent: int = 0


def send(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write one message.

    Raises:
        OSError: nobody reads any more.
    """
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def error_to_json(error: BaseException, out_of_memory: bool) -> Message:
    """An error as a message holds it."""
    return {"kind": "MemoryError" if out_of_memory else type(error).__name__, "text": str(error)}


def error_from_json(value: Message) -> Exception:
    """The error again, to be raised; one that is not of this program says where it was."""
    kind = _ERRORS.get(value["kind"])
    return kind(value["text"]) if kind else RuntimeError(f"{value['kind']} in a worker: {value['text']}")
