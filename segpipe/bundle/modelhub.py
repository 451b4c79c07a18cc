"""The card as ModelHub's `config.json`: the keys that its schema asks for, and no other, because it allows none."""

from __future__ import annotations

from typing import Any

import yaml

_PUBLICATION = ("title", "source", "year", "authors", "abstract", "url", "google_scholar", "bibtex")
_FORMATS = ["application/nii", "application/nii-gzip", "application/nrrd", "application/dicom"]
_PICTURES = ["image/png", "image/tiff", "image/jpeg"]


def modelhub_config(document: dict[str, Any]) -> dict[str, Any]:
    """`config.json` of a package.

    A publication is named only where the card tells all that ModelHub asks of one.

    Args:
        document: `segpipe.json` of the package.
    """
    card, publication = document["card"], document["publication"]
    config: dict[str, Any] = {
        "id": document["id"],
        "meta": {
            "name": document["name"],
            "application_area": f"{card['body_part']} {card['modality']}",
            "task": "Segmentation",
            "task_extended": card["title"],
            "data_type": card["modality"],
            **({"data_source": card["data_source"]} if "data_source" in card else {}),
        },
        "model": {
            "description": card["summary"],
            "provenance": "contributed by author",
            "architecture": _architecture(document),
            "learning_type": "Supervised Learning",
            "format": ".ts",
            "io": {"input": _inputs(document), "output": [_output(document)]},
        },
        "modelhub": {"package": f"{document['name']}@{document['version']}"},
    }
    if publication is not None and all(key in publication for key in _PUBLICATION):
        config["publication"] = {key: publication[key] for key in (*_PUBLICATION, "email") if key in publication}
    return config


def _architecture(document: dict[str, Any]) -> str:
    """Of segpipe's own networks; of another the run tells only the name of its class."""
    settings = yaml.safe_load(document["provenance"]["config"] or "{}")
    network = settings.get("network") or {}
    if not network:
        return "Not told"
    return str(network["target"]) if network.get("target") else "Convolutional Neural Network (CNN)"


def _inputs(document: dict[str, Any]) -> dict[str, Any]:
    """One input, `single`; of several channels one each, by name."""
    pictures = document["envelope"]["pictures"]
    form = {"format": _PICTURES if pictures else _FORMATS, "dim_limits": [{"min": 1}] * (3 if pictures else 4)}
    channels = [channel["channel"] for channel in document["inputs"]]
    if pictures or len(channels) == 1:
        return {"single": form | {"description": ", ".join(channels)}}
    keys = [name.lower() for name in channels]
    names = keys if len(set(keys)) == len(keys) else [f"channel_{number}" for number in range(len(channels))]  # T1 and t1 are two
    return {key: form | {"description": name} for key, name in zip(names, channels, strict=True)}


def _output(document: dict[str, Any]) -> dict[str, Any]:
    told = ", ".join(f"{label['value']} {label['name']}" for label in document["labels"])
    return {"name": "label map", "type": "mask_image", "description": f"on the scan's own grid: {told}"}
