"""Phantoms as data sets on disk, and the samples that lie in the project's `data/samples`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from segpipe.dataset.case import Case
from segpipe.dataset.phantom.cells import CELL, phantom_cells
from segpipe.dataset.phantom.ct import LIVER, SPLEEN, TUMOUR, phantom_ct
from segpipe.dataset.phantom.dicom import write_dicom_series
from segpipe.dataset.phantom.files import nifti_gz, png_grey
from segpipe.dataset.phantom.prostate import PERIPHERAL, TRANSITION, phantom_prostate
from segpipe.dataset.phantom.scene import Size
from segpipe.errors import ConfigError
from segpipe.geometry.grid import Volume
from segpipe.io.atomic import write_bytes, write_text

Layout = Literal["folders", "msd"]

SAMPLE_SEED = 2026


@dataclass(frozen=True)
class Phantom:
    """One kind: its generator, number in the seed, file name extension, channel name, names of label values."""

    make: Callable[[np.random.Generator, Size], tuple[Volume, Volume]]
    number: int
    suffix: str
    channel: str
    labels: dict[int, str]


PHANTOMS: dict[str, Phantom] = {
    "ct": Phantom(phantom_ct, 1, ".nii.gz", "CT", {LIVER: "liver", SPLEEN: "spleen", TUMOUR: "tumour"}),
    "prostate": Phantom(phantom_prostate, 2, ".nii.gz", "T2", {PERIPHERAL: "PZ", TRANSITION: "TZ"}),
    "cells": Phantom(phantom_cells, 3, ".png", "grey", {CELL: "cell"}),
}


def phantom(kind: str, seed: int, index: int, size: Size = "demo") -> tuple[Volume, Volume]:
    """Scan and label map of case `index` of a seed: the same, bit for bit, on every machine, whatever else is made."""
    if kind not in PHANTOMS:
        raise ConfigError(f"phantom kind is {kind!r}; must be one of {', '.join(PHANTOMS)}")
    if seed < 0:
        raise ConfigError(f"phantom seed is {seed}; must be 0 or more")
    rng = np.random.Generator(np.random.PCG64([seed, PHANTOMS[kind].number, index]))
    return PHANTOMS[kind].make(rng, size)


def write_phantom(folder: Path, kind: str, cases: int, seed: int, size: Size = "demo", layout: Layout = "folders") -> list[Case]:
    """Write cases 0 to `cases - 1` of a seed, `KIND_000` and so on.

    Args:
        folder: made where missing; files of the same names are replaced.
        kind: a key of `PHANTOMS`.
        layout: `folders` writes images/ and labels/; `msd` imagesTr/, labelsTr/ and dataset.json.

    Raises:
        ConfigError: an unknown kind, no case, a negative seed, or a folder that cannot be written.
    """
    if cases < 1:
        raise ConfigError(f"number of phantom cases is {cases}; must be 1 or more")
    images, labels = ("imagesTr", "labelsTr") if layout == "msd" else ("images", "labels")
    written = []
    for index in range(cases):
        image, label = phantom(kind, seed, index, size)
        name = f"{kind}_{index:03d}"
        file = name + PHANTOMS[kind].suffix
        write_bytes(folder / images / file, _encode(image, PHANTOMS[kind].suffix))
        write_bytes(folder / labels / file, _encode(label, PHANTOMS[kind].suffix))
        written.append(Case(name, (folder / images / file,), folder / labels / file))
    if layout == "msd":
        write_text(folder / "dataset.json", _msd_document(kind, written))
    return written


def write_samples(folder: Path) -> None:
    """Write what lies in `data/samples`: three kinds of two or three tiny cases, and one case as a DICOM series."""
    write_phantom(folder / "ct", "ct", 2, SAMPLE_SEED, "small", "msd")
    write_phantom(folder / "prostate", "prostate", 3, SAMPLE_SEED, "small")
    write_phantom(folder / "cells", "cells", 3, SAMPLE_SEED, "small")
    scan, label = phantom("prostate", SAMPLE_SEED, 0, "small")
    write_dicom_series(folder / "prostate_dicom" / "images" / "prostate_000", scan, SAMPLE_SEED, "MR")
    write_bytes(folder / "prostate_dicom" / "labels" / "prostate_000.nii.gz", nifti_gz(label))


def _encode(volume: Volume, suffix: str) -> bytes:
    return png_grey(volume.array[0, :, :, 0]) if suffix == ".png" else nifti_gz(volume)


def _msd_document(kind: str, cases: list[Case]) -> str:
    labels = {"0": "background"} | {str(value): name for value, name in PHANTOMS[kind].labels.items()}
    document = {
        "name": f"phantom_{kind}",
        "description": "synthetic scans made by segpipe.dataset.phantom; no patient data",
        "licence": "Apache-2.0",
        "tensorImageSize": "3D",
        "modality": {"0": PHANTOMS[kind].channel},
        "labels": labels,
        "numTraining": len(cases),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{case.images[0].name}", "label": f"./labelsTr/{case.images[0].name}"} for case in cases],
        "test": [],
    }
    return json.dumps(document, indent=1) + "\n"
