"""A run or a model file, a card and samples -> a package, looked through as any other before it is put in its place."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import uuid
from dataclasses import dataclass
from importlib import metadata as installed
from pathlib import Path
from typing import Any

import segpipe
from segpipe.bundle.card import Card
from segpipe.bundle.contents import list_folder
from segpipe.bundle.document import FORMAT, FORMAT_VERSION
from segpipe.bundle.facts import envelope_of, labels_of, provenance_of, training_of
from segpipe.bundle.layout import CARD, DOCUMENT, INFERENCE, LICENCES, METADATA, MODEL, MODELHUB, PAGE
from segpipe.bundle.modelhub import modelhub_config
from segpipe.bundle.monai import inference_text, metadata
from segpipe.bundle.open import Package, open_package
from segpipe.bundle.pack import write_archive
from segpipe.bundle.page import html_card, markdown_card
from segpipe.bundle.samples import add_samples, compare_sample
from segpipe.bundle.scores import metrics_of
from segpipe.errors import ConfigError, ModelError
from segpipe.inference.api import load_model
from segpipe.inference.lock import locked
from segpipe.inference.predictor import Predictor
from segpipe.io.alive import new_token
from segpipe.io.atomic import check_folder, replacing, sweep
from segpipe.package.model_file import document_text
from segpipe.plan.plan import Plan
from segpipe.training.run_folder import RunFolder

_NAMESPACE = uuid.UUID("5f1c3b52-6a0e-5c0b-9d57-2f6f3c8f7d11")
"""Of the identifiers of packages: they follow from name, version and models."""
_MODALITIES = {"CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "OCT", "OPT", "SM", "XC", "ES"}
"""DICOM's words for images (PS3.3 C.7.3.1.1.1) that a card may name."""
_VERSIONS = ("torch", "numpy", "monai")


@dataclass(frozen=True)
class Sources:
    """What a package is made of.

    Attributes:
        model: the `model.ts`.
        more: other files of the same model, `.pt2` and `.onnx`.
        run: the run that it is of; None: only the file is known.
        samples: a scan, or a folder of scans.
        card: what people tell.
    """

    model: Path
    more: tuple[Path, ...]
    run: RunFolder | None
    samples: Path
    card: Card


def make_package(sources: Sources, out: Path, device: str = "auto") -> Package:
    """Make a package at `out`: a `.zip`, or else a folder.

    Args:
        device: on which the samples are segmented, in fp32.

    Raises:
        ConfigError: `out` is there already, or cannot be written.
        ModelError: the model file cannot be used, or what was made would be refused elsewhere.
        DataError: the samples cannot be used.
    """
    _check_new(out)
    check_folder(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep([out.parent])  # scans and weights, of a maker that was killed
    root = out.parent / f".{new_token()}"
    try:
        root.mkdir()
        _fill(root, sources, device)
        try:
            open_package(root)
        except ModelError as error:
            told = str(error).removeprefix(f"{root}: refused: ").removesuffix(": do not use it, ask who made it")
            raise ModelError(f"{out}: not made, because it would be refused: {told}: correct the card, or the names in the plan") from error
        _put(root, out)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return open_package(out)


def _check_new(out: Path) -> None:
    if os.path.lexists(out):
        raise ConfigError(f"{out}: is there already; must be a new folder or .zip: packages are not changed, give the next version")


def _put(root: Path, out: Path) -> None:
    """Whole in its place; of two who make one package at once, the second is refused."""
    if out.suffix.lower() != ".zip":
        with locked(out.parent):
            _check_new(out)
            root.rename(out)
        return
    with contextlib.ExitStack() as held, replacing(out) as temporary:
        write_archive(root, temporary)
        held.enter_context(locked(out.parent))  # until it is in its place
        _check_new(out)


def _fill(root: Path, sources: Sources, device: str) -> None:
    models = [MODEL, *(f"models/model{path.suffix}" for path in sources.more)]
    for path, name in zip((sources.model, *sources.more), models, strict=True):
        _copy(path, root / name)
    predictor = load_model(root / MODEL, device, precision="fp32", runtime="torch")
    _check_modality(sources.card, predictor.models[0].document)
    samples = add_samples(sources.samples, root, predictor)
    for path in sources.more:
        _check_same(path, predictor.plan, samples, root, device)
    document = _document(sources, predictor, models, samples)
    card = sources.card
    texts = {LICENCES[what]: text for what, text in card.texts.items()}
    texts |= {CARD: markdown_card(document), PAGE: html_card(document), INFERENCE: inference_text()}
    texts |= {METADATA: _json(metadata(document, _versions())), MODELHUB: _json(modelhub_config(document))}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    document["files"] = _hashes(root)
    (root / DOCUMENT).write_text(_json(document), encoding="utf-8", newline="\n")


def _check_modality(card: Card, document: dict[str, Any]) -> None:
    """Refuse a card that names another modality than the DICOM series of the training had; of files and of other words nothing is known."""
    told = card.sections["modality"]
    trained = {channel.get("modality") for channel in (document.get("training_data") or {}).get("channels") or []} - {None, ""}
    named = _MODALITIES & set(re.findall(r"[A-Z]+", told))
    if trained and named and not trained & named:
        known = ", ".join(sorted(trained))
        raise ConfigError(f"card.modality is {told[:60]!a}, but the series that the model was trained on are {known}: correct the card")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be copied ({error.strerror}); must be a model file: give RUN/model.ts") from error


def _check_same(path: Path, plan: Plan, samples: list[dict[str, Any]], root: Path, device: str) -> None:
    """Refuse another file that is not of the same model: it must have its plan, and make its label maps of the samples."""
    onnx = path.suffix == ".onnx"
    other = load_model(path, "cpu" if onnx else device, precision="fp32", runtime="auto" if onnx else "torch")
    same = other.plan == plan and all(label.fits for sample in samples for label in compare_sample(sample, root, other))
    if not same:
        raise ConfigError(f"{path}: is another model than {path.with_suffix('.ts')}: export both from one run, or remove it")


def _document(sources: Sources, predictor: Predictor, models: list[str], samples: list[dict[str, Any]]) -> dict[str, Any]:
    card, plan, told = sources.card, predictor.plan, predictor.models[0].document
    names = [region.name for region in plan.regions] or [label.name for label in plan.labels]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": card.name,
        "version": card.version,
        "id": str(uuid.uuid5(_NAMESPACE, f"{card.name}@{card.version}:{predictor.sha256}")),
        "card": card.sections,
        "publication": card.publication,
        "licences": {what: {"id": identifier, "file": LICENCES[what]} for what, identifier in card.licences.items()},
        "inputs": [{"channel": channel.name, "normalisation": channel.normalisation} for channel in plan.channels],
        "outputs": {
            "kind": "label map",
            "grid": "that of the scan",
            "channels": names,
            "dims": plan.dims,
            "patch": list(plan.patch_size),
        },
        "labels": labels_of(plan),
        "envelope": envelope_of(plan, told, sources.run, card.sections["modality"], card.sections["body_part"]),
        "metrics": metrics_of(told, sources.run, training_of(told, sources.run)),
        "provenance": provenance_of(told, sources.run),
        "made_with": {"segpipe": segpipe.__version__, "python": platform.python_version(), "device": predictor.device.type, **_versions()},
        "models": models,
        "samples": samples,
    }


def _versions() -> dict[str, str]:
    return {"segpipe": segpipe.__version__, **{name: installed.version(name) for name in _VERSIONS}}


def _json(value: dict[str, Any]) -> str:
    return document_text(value) + "\n"


def _hashes(root: Path) -> dict[str, dict[str, Any]]:
    contents = list_folder(root)
    return {name: {"sha256": contents.sha256(name), "bytes": size} for name, size in sorted(contents.sizes.items())}
