"""A small package, made once, and copied by each test that changes it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segpipe.bundle.card import read_card
from segpipe.bundle.layout import DOCUMENT
from segpipe.bundle.make import Sources, make_package
from segpipe.dicom.terms import Code, Term
from segpipe.io.write import write_volume
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from tests.inference.conftest import Thresholds, blocks_volume

CARD: dict[str, Any] = {
    "name": "blocks-thresholds",
    "version": "1.2",
    "title": "Organ and tumour <b>by</b> thresholds",
    "summary": "Finds | blocks.",
    "modality": "MR",
    "body_part": "Block",
    "intended_use": "Tests.",
    "authors": ["A. Author", "B. Author"],
    "licences": {"code": "Apache-2.0", "weights": "CC-BY-4.0", "samples": "CC0-1.0"},
    "limitations": "Blocks only.",
}
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
PLAN = Plan(
    task="test",
    dims=3,
    channels=(Channel("T2", "none"),),
    labels=(
        Label(0, 0, "background"),
        Label(1, 10, "organ", Term(ANATOMY, Code("41216001", "SCT", "Prostate")), (1, 2, 3)),
        Label(2, 255, "tumour"),
    ),
    orient=True,
    axes=(0, 1, 2),
    spacing_mm=None,
    patch_size=(8, 8, 8),
    batch_size=1,
    nonzero=False,
    flips=(True, True, True),
    network=NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),)),
)
TRAINING_DATA = {
    "cases": 7,
    "spacing_mm": {"lowest": [0.5, 0.5, 2.0], "highest": [1.0, 1.0, 4.0]},
    "channels": [{"name": "T2", "low": [0.0, 0.5], "high": [1.5, 2.5]}],
    "label_ml": {"0": [1.0, 9.0], "10": [0.1, 3.0], "255": [0.01, 1.0]},
}


def write_card(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**CARD, **changes}), encoding="utf-8")
    return path


def write_model(path: Path) -> Path:
    told = {**TRAINING_DATA, "channels": [{"name": "T2", "low": [0.0, 0.5], "high": [1.5, 2.5], "modality": "MR"}]}  # as of DICOM
    document = {"training_data": told, "metrics": {"cases": 3, "dice": {"organ": 0.9, "tumour": 0.8}}}
    export_model(Thresholds(), PLAN, document, path)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model.ts`, `card.yaml`, `scans/`, and the package as `folder` and `package.zip`."""
    root = tmp_path_factory.mktemp("bundle")
    (root / "scans").mkdir()
    write_volume(root / "scans" / "mueller_hans_1950.nii.gz", blocks_volume())
    torch.manual_seed(0)
    sources = Sources(write_model(root / "model.ts"), (), None, root / "scans", read_card(write_card(root / "card.yaml")))
    make_package(sources, root / "folder", "cpu")
    make_package(sources, root / "package.zip", "cpu")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own."""
    monkeypatch.setenv("SEGPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the package as a folder."""
    return shutil.copytree(made / "folder", tmp_path / "copy")


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of the package as an archive."""
    return shutil.copy(made / "package.zip", tmp_path / "copy.zip")


def change_document(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change `segpipe.json` in place."""
    path = folder / DOCUMENT
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def put(folder: Path, name: str, data: bytes) -> None:
    """Put a file into a package with the checksum that it must have: only its content can give it away."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change_document(folder, lambda document: document["files"].update({name: entry}))
