"""`segpipe.json` of a package: what it must say, and the checks between its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from segpipe.bundle.card import CARD_FIELDS, PUBLICATION
from segpipe.bundle.layout import (
    ALLOWED,
    DOCUMENT,
    IMAGES,
    LABELS,
    LICENCES,
    LONGEST_NAME,
    MODEL,
    MODELS,
    MOST_BYTES,
    MOST_CHANNELS,
    MOST_SAMPLES,
    NAME,
    SAMPLE,
    VERSION,
    most_bytes,
)
from segpipe.bundle.licences import check_licence
from segpipe.bundle.plain import Anything, Fields, Flag, Kind, ListOf, MapOf, Maybe, Number, Text, check, read_json
from segpipe.errors import ModelError

FORMAT = "segpipe-package"
FORMAT_VERSION = 1

LEAST_DICE, MOST_VOXELS = 0.95, 64
"""No tolerance may be looser: with Dice 0, anything would prove itself."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = Text(ALLOWED, 200, "the name of a file of a package")
_WORD = Text(longest=200)
_CODE = Fields({"value": Text(longest=16), "scheme": Text(longest=16), "meaning": Text(longest=64)})
_RANGE = ListOf(Number(), 2, 2)
_AXES = Fields({"lowest": ListOf(Number(0), 3, 3), "highest": ListOf(Number(0), 3, 3)})
_CHANNEL_RANGE = Fields({"name": _WORD, "low": _RANGE, "high": _RANGE})
_ENVELOPE = Fields(
    {
        "modality": _WORD,
        "body_part": _WORD,
        "pictures": Flag(),
        "cases": Maybe(Number(0, whole=True)),
        "spacing_mm": Maybe(_AXES),
        "field_of_view_mm": Maybe(_AXES),
        "channels": Maybe(ListOf(_CHANNEL_RANGE)),
        "label_ml": Maybe(MapOf(_RANGE)),
    }
)
_SCORE = Fields({"mean": Number(0, 1), "low": Maybe(Number(0, 1)), "high": Maybe(Number(0, 1)), "cases": Maybe(Number(0, whole=True))})
_METRICS = Fields(
    {
        "measure": Text(longest=400),
        "interval": _WORD,
        "held_out": Maybe(Flag()),
        "cases": Maybe(Number(0, whole=True)),
        "dice": MapOf(_SCORE),
    }
)
_LABEL = Fields(
    {
        "value": Number(-(2**31), 2**32, whole=True),
        "name": _WORD,
        "colour": ListOf(Number(0, 255, whole=True), 3, 3),
        "category": Maybe(_CODE),
        "type": Maybe(_CODE),
        "modifier": Maybe(_CODE),
    }
)
_TRAINING = Fields(
    {},
    {
        "steps": Maybe(Number(0, whole=True)),
        "seconds": Maybe(Number(0)),
        "schedule": Maybe(_WORD),
        "members": Number(1, 10_000, whole=True),
        "configurations": ListOf(_WORD),
        "partition": Maybe(Fields({"train": Number(0, whole=True), "validation": Number(0, whole=True), "held_out": Flag()})),
    },
)
_HASH = Maybe(Text(_SHA256))
_PROVENANCE = Fields(
    {
        "config": Maybe(Text(longest=200_000)),
        "config_sha256": _HASH,
        "splits_sha256": _HASH,
        "fingerprint_sha256": _HASH,
        "training": Maybe(_TRAINING),
        "environment": Anything(),
    }
)
_TOLERANCE = Fields({"dice": Number(LEAST_DICE, 1), "voxels": Number(0, MOST_VOXELS, whole=True)})
_SAMPLE = Fields(
    {
        "name": Text(SAMPLE),
        "images": ListOf(_FILE, 1, MOST_CHANNELS),
        "expected": _FILE,
        "voxels": MapOf(Number(0, whole=True)),
        "tolerance": _TOLERANCE,
    }
)
_OUTPUTS = Fields(
    {
        "kind": _WORD,
        "grid": _WORD,
        "channels": ListOf(_WORD, 1, 4096),
        "dims": Number(2, 3, whole=True),
        "patch": ListOf(Number(1, whole=True), 3, 3),
    }
)
_LICENCE = Fields({"id": _WORD, "file": _FILE})
SCHEMA: Kind = Fields(
    {
        "format": Text(re.compile(FORMAT)),
        "format_version": Number(1, FORMAT_VERSION, whole=True),
        "name": Text(NAME, LONGEST_NAME),
        "version": Text(VERSION),
        "id": Text(re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")),
        "card": CARD_FIELDS,
        "publication": Maybe(PUBLICATION),
        "licences": Fields(dict.fromkeys(LICENCES, _LICENCE)),
        "inputs": ListOf(Fields({"channel": _WORD, "normalisation": _WORD}), 1, 64),
        "outputs": _OUTPUTS,
        "labels": ListOf(_LABEL, 2, 4096),
        "envelope": _ENVELOPE,
        "metrics": _METRICS,
        "provenance": _PROVENANCE,
        "made_with": MapOf(_WORD),
        "models": ListOf(Text(re.compile("|".join(map(re.escape, MODELS)))), 1, len(MODELS)),
        "samples": ListOf(_SAMPLE, 1, MOST_SAMPLES),
        "files": MapOf(Fields({"sha256": Text(_SHA256), "bytes": Number(0, MOST_BYTES, whole=True)})),
    }
)


def read_document(data: bytes) -> dict[str, Any]:
    """The checked `segpipe.json` of a package.

    Raises:
        ModelError: naming what is wrong in it.
    """
    document = read_json(data, DOCUMENT)
    version = document.get("format_version")
    if document.get("format") == FORMAT and isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelError(f"{DOCUMENT} is of format {version}, this segpipe reads up to {FORMAT_VERSION}")
    check(document, SCHEMA, DOCUMENT)
    for what, told in document["licences"].items():
        check_licence(what, told["id"])
        if told["file"] != LICENCES[what]:
            raise ModelError(f"{DOCUMENT}.licences.{what}.file is {told['file']}; must be {LICENCES[what]}")
    _check_labels(document)
    if MODEL not in document["models"]:
        raise ModelError(f"{DOCUMENT}.models lacks {MODEL}")
    named = list(_named(document))
    for name in named:
        if name not in document["files"]:
            raise ModelError(f"{DOCUMENT} names {name}, which is not among its files")
    if len({name.lower() for name in document["files"]}) != len(document["files"]):
        raise ModelError(f"{DOCUMENT}.files has one name twice, but for capitals, which are one file on many disks")
    for name, told in document["files"].items():
        if ALLOWED.fullmatch(name) is None or name == DOCUMENT:
            raise ModelError(f"{DOCUMENT}.files names {name[:80]!a}, which is no part of a package")
        if told["bytes"] > most_bytes(name):
            raise ModelError(f"{DOCUMENT}.files.{name} is said to have {told['bytes']} bytes; at most {most_bytes(name)}")
        if name.startswith(("models/", "samples/")) and name not in named:
            raise ModelError(f"{DOCUMENT}.files names {name}, which is neither a model nor part of a sample")
    return document


def _named(document: dict[str, Any]) -> Iterator[str]:
    yield from document["models"]
    for licence in document["licences"].values():
        yield licence["file"]
    for sample in document["samples"]:
        for name, folder in (*((image, IMAGES) for image in sample["images"]), (sample["expected"], LABELS)):
            if not name.startswith(f"{folder}/{sample['name']}"):
                raise ModelError(f"{DOCUMENT}: sample {sample['name']} names {name}; must be {folder}/{sample['name']}...")
            yield name


def _check_labels(document: dict[str, Any]) -> None:
    values = [label["value"] for label in document["labels"]]
    if len(set(values)) != len(values):
        raise ModelError(f"{DOCUMENT}.labels has one value twice")
    names = [sample["name"].lower() for sample in document["samples"]]
    if len(set(names)) != len(names):
        raise ModelError(f"{DOCUMENT}.samples has one name twice")
