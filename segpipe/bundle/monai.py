"""A package as a MONAI Bundle: `configs/metadata.json` and `configs/inference.json`."""

from __future__ import annotations

import json
from typing import Any

from segpipe.bundle.layout import IMAGES, MODEL

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""By which `python -m monai.bundle verify_metadata` checks; it is fetched from there."""

_INFERENCE: dict[str, Any] = {
    "imports": ["$import os", "$import segpipe"],
    "bundle_root": ".",
    "device": "auto",
    "dataset_dir": f"$@bundle_root + '/{IMAGES}'",
    "output_dir": "$os.path.abspath(@bundle_root) + '_labels'",
    "network_def": {"_target_": "torch.jit.load", "f": f"$@bundle_root + '/{MODEL}'", "map_location": "cpu"},
    "predictor": f"$segpipe.load_model(@bundle_root + '/{MODEL}', @device)",
    "run": ["$segpipe.predict_folder(@predictor, @dataset_dir, @output_dir)"],
}
"""The same in every package, whatever the model: it is compared byte for byte, because MONAI runs what stands in it. The label maps
lie beside the package, not in it, where they would be files that its document does not list."""


def inference_text() -> str:
    """`configs/inference.json`, which `python -m monai.bundle run` runs; it needs segpipe, so that scans are prepared as in training."""
    return json.dumps(_INFERENCE, indent=2) + "\n"


def metadata(document: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    """`configs/metadata.json`.

    Args:
        document: `segpipe.json` of the package.
        versions: of monai, torch, numpy and segpipe.
    """
    card = document["card"]
    authors = ", ".join(card["authors"])
    dice = {f"dice_{name}": score["mean"] for name, score in document["metrics"]["dice"].items()}
    told: dict[str, Any] = {
        "schema": SCHEMA_URL,
        "version": document["version"],
        "changelog": {document["version"]: card.get("updates", "as packaged")},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {"segpipe": versions["segpipe"]},
        "name": document["name"],
        "task": card["title"],
        "description": card["summary"],
        "authors": authors,
        "copyright": f"{authors}; weights {document['licences']['weights']['id']}. Samples: {document['licences']['samples']['id']}",
        "data_type": "image" if document["envelope"]["pictures"] else "nibabel",
        "pred_classes": ", ".join(f"{label['value']} {label['name']}" for label in document["labels"]),
        "eval_metrics": dice,
        "intended_use": card["intended_use"],
        "references": [document["publication"]["title"]] if document["publication"] else [],
        "network_data_format": {
            "inputs": {"image": _image(document)},
            "outputs": {"pred": _prediction(document)},
        },
    }
    if "data_source" in card:
        told["data_source"] = card["data_source"]
    return told


def _image(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "image",
        "format": _format(document),
        "modality": document["envelope"]["modality"],
        "num_channels": len(document["inputs"]),
        "spatial_shape": ["*"] * document["outputs"]["dims"],
        "dtype": "float32",
        "value_range": _value_range(document),
        "is_patch_data": True,
        "channel_def": {str(number): channel["channel"] for number, channel in enumerate(document["inputs"])},
    }


def _format(document: dict[str, Any]) -> str:
    """In MONAI's words: by how the values are normalised, which the run knows, before what the card calls them."""
    if all(channel["normalisation"] == "ct" for channel in document["inputs"]):
        return "hounsfield"
    return "magnitude" if document["envelope"]["modality"].upper() == "MR" else "raw"


def _value_range(document: dict[str, Any]) -> list[float]:
    """Of what the network takes: that of the scans where they are not normalised; else nobody has measured it, and it is empty."""
    channels = document["envelope"]["channels"]
    if not channels or any(channel["normalisation"] != "none" for channel in document["inputs"]):
        return []
    ends = [end for channel in channels for end in (channel["low"][0], channel["high"][1])]
    return [min(ends), max(ends)]


def _prediction(document: dict[str, Any]) -> dict[str, Any]:
    names = document["outputs"]["channels"]
    return {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(names),
        "spatial_shape": ["*"] * document["outputs"]["dims"],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }
