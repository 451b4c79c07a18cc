"""What the header says of one slice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Point = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame of one file. Names in brackets are those of the attributes in PS3.3; a value that is not there is None or empty.

    Attributes:
        path: file, or member of an archive (see `files`).
        frame: number within the file, from 0.
        frames: how many the file has.
        enhanced: whether its place is stated frame by frame (functional groups, PS3.3 C.7.6.16).
        study, series, instance, frame_of_reference: UIDs.
        number: [Series Number].
        description: [Series Description]; may name a person.
        patient: [Patient's Name].
        person: [Patient ID].
        born: [Patient's Birth Date].
        modality, sop_class, image_type: what kind of picture it is; `image_type` in capitals.
        rows, columns: pixels; 0 where the file holds none.
        samples: 3 in colour.
        photometric: [Photometric Interpretation].
        bits_allocated, bits_stored, high_bit, signed: of a stored value (PS3.5 8.1.1).
        syntax: transfer syntax, UID.
        position: of the centre of the first pixel, mm, LPS+ [Image Position (Patient)].
        decimals: most digits after the point with which a coordinate of it is stated.
        orientation: unit vectors along a row and along a column, LPS+ [Image Orientation (Patient)].
        spacing: mm from row to row and from column to column [Pixel Spacing].
        thickness: mm [Slice Thickness].
        slope, intercept: stored value -> value [Rescale Slope, Rescale Intercept].
        table: whether a table does that instead [Modality LUT Sequence].
        units: [Rescale Type] or, for PET, [Units].
        padding: stored values, from and to, that are no measurement [Pixel Padding Value].
        cut: bytes that the file is too short for its pixels, as far as that can be told without decoding them.
        overlay: whether bits beyond `bits_stored` hold a drawing.
        echo: ms [Echo Time].
        b_value: s/mm2 [Diffusion b-value].
        temporal: [Temporal Position Identifier] or [Temporal Position Index].
        stack: [Stack ID].
        acquisition: [Acquisition Number].
        others: what else may tell pictures of one place apart: trigger time, inversion time, flip angle, gradient direction.
    """

    path: Path
    frame: int
    frames: int
    enhanced: bool
    study: str
    series: str
    instance: str
    frame_of_reference: str
    number: int | None
    description: str
    patient: str
    person: str
    born: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    syntax: str
    position: Point | None
    decimals: int
    orientation: Orientation | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    table: bool
    units: str
    padding: tuple[int, int] | None
    cut: int
    overlay: bool
    echo: float | None
    b_value: float | None
    temporal: int | None
    stack: str
    acquisition: int | None
    others: tuple[float | None, ...]
