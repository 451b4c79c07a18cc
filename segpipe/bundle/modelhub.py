"""The card as ModelHub's `config.json`: the keys that its schema asks for, and no other, because it allows none."""

from __future__ import annotations

from typing import Any

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
            "architecture": "Convolutional Neural Network (CNN)",
            "learning_type": "Supervised Learning",
            "format": ".ts",
            "io": {"input": _inputs(document), "output": [_output(document)]},
        },
        "modelhub": {"package": f"{document['name']}@{document['version']}"},
    }
    if publication is not None and all(key in publication for key in _PUBLICATION):
        config["publication"] = {key: publication[key] for key in (*_PUBLICATION, "email") if key in publication}
    return config


def _inputs(document: dict[str, Any]) -> dict[str, Any]:
    """One input, `single`; of several channels one each, by name."""
    pictures = document["envelope"]["pictures"]
    form = {"format": _PICTURES if pictures else _FORMATS, "dim_limits": [{"min": 1}] * (3 if pictures else 4)}
    channels = [channel["channel"] for channel in document["inputs"]]
    if pictures or len(channels) == 1:
        return {"single": form | {"description": ", ".join(channels)}}
    return {name.lower(): form | {"description": name} for name in channels}


def _output(document: dict[str, Any]) -> dict[str, Any]:
    told = ", ".join(f"{label['value']} {label['name']}" for label in document["labels"])
    return {"name": "label map", "type": "mask_image", "description": f"on the scan's own grid: {told}"}
