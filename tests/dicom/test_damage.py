"""A hundred damaged files, the same on every machine: no crash, no hang, no wrong place, and one line each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.verdict import judge
from segpipe.dicom.volume import read_stack
from segpipe.errors import SegpipeError
from tests.dicom.series import Made, Series, turned

Damage = Callable[[bytearray, np.random.Generator], bytes]
SECONDS = 20.0
SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1.99",
    "1.2.3.4",
)


def truncated(data: bytearray, rng: np.random.Generator) -> bytes:
    """Cut anywhere."""
    return bytes(data[: int(rng.integers(0, len(data)))])


def wrong_length(data: bytearray, rng: np.random.Generator) -> bytes:
    """The length of some element, by another number."""
    at = int(rng.integers(140, len(data) - 700))
    data[at : at + 2] = int(rng.integers(0, 1 << 16)).to_bytes(2, "little")
    return bytes(data)


def wrong_syntax(data: bytearray, rng: np.random.Generator) -> bytes:
    """Another transfer syntax than that in which it is written, without room for more letters."""
    start = data.index(b"1.2.840.10008.1.2.", 300 if b"\x02\x00\x10\x00UI" not in data else data.index(b"\x02\x00\x10\x00UI"))
    length = int.from_bytes(data[start - 2 : start], "little")
    data[start : start + length] = SYNTAXES[int(rng.integers(len(SYNTAXES)))].encode()[:length].ljust(length, b"\0")
    return bytes(data)


def flipped(data: bytearray, rng: np.random.Generator) -> bytes:
    """Bits turned, one to thirty."""
    for at in rng.integers(0, len(data), int(rng.integers(1, 31))):
        data[int(at)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def flipped_in_the_header(data: bytearray, rng: np.random.Generator) -> bytes:
    """One to five bits, where they hurt most."""
    for at in rng.integers(132, len(data) - 600, int(rng.integers(1, 6))):
        data[int(at)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def emptied(data: bytearray, rng: np.random.Generator) -> bytes:
    """A block of zeros, as a bad disk leaves it."""
    at = int(rng.integers(0, len(data)))
    data[at : at + 512] = bytes(len(data[at : at + 512]))
    return bytes(data)


def shifted(data: bytearray, rng: np.random.Generator) -> bytes:
    """A few bytes too many or too few in the middle."""
    at, n = int(rng.integers(132, len(data))), int(rng.integers(1, 9))
    return bytes(data[:at] + rng.bytes(n) + data[at:]) if rng.random() < 0.5 else bytes(data[:at] + data[at + n :])


DAMAGES: tuple[Damage, ...] = (truncated, wrong_length, wrong_syntax, flipped, flipped_in_the_header, emptied, shifted)


def check(folder: Path, made: Made, damaged: int, seed: str) -> str:
    """What has become of a series of which one file is damaged; fails on anything but a refusal or a volume in its place."""
    start = time.monotonic()
    listing = list_stacks(sorted(folder.iterdir()))
    lines = [f"{fault.path.name}: {fault.why}" for fault in listing.faults]
    outcome, short = "refused", False
    for stack in listing.stacks:
        verdict = judge(stack, Policy())
        if verdict.action == "refuse":
            assert verdict.why
            lines.append(verdict.why)
            continue
        try:
            volume = read_stack(stack, Policy()).volume
        except SegpipeError as error:
            lines.append(str(error))
            continue
        outcome = "read"
        short = short or volume.grid.shape[2] < len(made.paths)
        for k in range(volume.grid.shape[2]):
            corner = volume.grid.world(np.array([0, 0, k]))
            off = np.linalg.norm(made.world[:, 0, 0] - corner, axis=1)
            n = int(off.argmin())
            assert off[n] < 0.01, (seed, stack.name)
            last = volume.grid.world(np.array([volume.grid.shape[0] - 1, volume.grid.shape[1] - 1, k]))
            assert np.linalg.norm(made.world[n, -1, -1] - last) < 0.01, (seed, stack.name)
            if n != damaged:
                assert np.array_equal(volume.array[0, :, :, k].T, made.stored[n]), (seed, stack.name)
    assert all(line and "\n" not in line for line in lines), seed
    assert time.monotonic() - start < SECONDS, seed
    assert lines or not short or listing.others, seed  # nothing disappears without a word
    return outcome


@pytest.mark.parametrize("compressed", [False, True])
def test_a_hundred_damaged_files_give_a_line_or_a_volume_in_its_place(compressed: bool, tmp_path: Path) -> None:
    outcomes = []
    for seed in range(50):
        rng = np.random.default_rng([seed, compressed])
        folder = tmp_path / str(seed)
        axes = turned(*rng.uniform(-30, 30, 3))
        series = Series(size=(16, 18), heights=[2.5 * n for n in range(5)], axes=axes, more={"RescaleSlope": 1, "RescaleIntercept": 0})
        made = series.write(folder)
        if compressed:
            for path in made.paths:
                ds = pydicom.dcmread(path)
                ds.compress(RLELossless)
                ds.save_as(path)
        damaged = int(rng.integers(5))
        damage = DAMAGES[seed % len(DAMAGES)]
        path = made.paths[damaged]
        path.write_bytes(damage(bytearray(path.read_bytes()), rng))
        outcomes.append(check(folder, made, damaged, f"{damage.__name__} {seed}"))
    assert outcomes.count("refused") > 15
    assert outcomes.count("read") > 3
