"""The files that a scan's prediction consists of, and whether each is as a prediction has written it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from segpipe.dicom.writing.wanted import Kind, kinds_in, result_files
from segpipe.errors import DataError
from segpipe.inference.content import file_hash
from segpipe.inference.table import PROBABILITIES, Row

WRITING = "*"
"""Stands for the hash of a file that is being written: a call that was stopped leaves it so, and whatever lies there is ours."""

State = Literal["absent", "ours", "changed", "foreign"]


def output_files(out: Path, case: str, output: str, kinds: Sequence[Kind], probabilities: bool) -> list[Path]:
    """Label map, the voxels beside a `.mhd`, DICOM objects, probabilities: always in this order, which that of `Row.output_hash` is."""
    target = out / output
    beside = [target.with_suffix(".raw")] if target.suffix == ".mhd" else []
    return [target, *beside, *result_files(out / case, kinds), *([out / f"{case}{PROBABILITIES}"] if probabilities else [])]


def hashes(files: Sequence[Path]) -> str:
    """Of `files` as they have just been written.

    Raises:
        DataError: one cannot be read.
    """
    return ";".join(file_hash(path) for path in files)


def known_files(out: Path, row: Row | None) -> dict[Path, str]:
    """The files that `row` has written, and the hash of each."""
    if row is None or not row.output or not row.output_hash:
        return {}
    return dict(zip(output_files(out, row.case, row.output, kinds_in(row.options), True), row.output_hash.split(";"), strict=False))


def state(path: Path, known: dict[Path, str]) -> State:
    """absent: not there, or empty, so that nothing can be lost; changed: by somebody after us; foreign: we never wrote it."""
    if not path.exists():
        return "absent"
    if path not in known:
        return "foreign"
    if path.is_file() and path.stat().st_size == 0:
        return "absent"
    try:
        return "ours" if known[path] in (WRITING, file_hash(path)) else "changed"
    except DataError:
        return "changed"


def set_aside(files: Sequence[Path]) -> str:
    """Rename those of `files` that are there to `.outdated`, so that nobody takes them for the answer; says what it did, if anything."""
    moved = []
    for path in files:
        if path.is_file():
            aside = path.with_name(f"{path.name}.outdated")
            try:
                os.replace(path, aside)  # noqa: PTH105 - replaces an older one
            except OSError as error:
                return f"what an earlier call wrote is still there ({path.name}: {error.strerror})"
            moved.append(aside.name)
    return f"what an earlier call wrote is now {', '.join(moved)}" if moved else ""
