"""What a package may hold: the names of its files, their sizes, and the limits beyond which it is not looked at."""

from __future__ import annotations

import re

DOCUMENT = "segpipe.json"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
MODELHUB = "config.json"
CARD = "docs/README.md"
PAGE = "docs/card.html"
LICENCES = {"code": "LICENSE", "weights": "licences/weights.txt", "samples": "licences/samples.txt"}
MODEL = "models/model.ts"
"""The one that each package has, and that is used."""
IMAGES, LABELS = "samples/images", "samples/labels"
"""Folders of the scans and of the label maps that the model made of them; where predictions are made of a
whole folder, the second is passed over."""
FOLDERS = ("configs", "docs", "licences", "models", "samples", IMAGES, LABELS)
MODELS = (MODEL, "models/model.pt2", "models/model.onnx")

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,2}", re.ASCII)
SAMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
LONGEST_NAME = 64

_IMAGE = r"(nii\.gz|png)"
"""Formats of samples: one file each, where NRRD and MetaImage may name others whose content is then read."""
_PATTERNS = (
    *(re.escape(name) for name in (DOCUMENT, METADATA, INFERENCE, MODELHUB, CARD, PAGE, *LICENCES.values(), *MODELS)),
    rf"samples/(images|labels)/{SAMPLE.pattern}\.{_IMAGE}",
)
ALLOWED = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.ASCII)
"""Every name that a file of a package can have; nothing else is unpacked, read or listed."""

GB = 1 << 30
MOST_FILES = 512
MOST_BYTES = 16 * GB
MOST_OF_TEXT = 8 << 20
"""Bytes of a JSON document, a page or a licence."""
MOST_OF_SAMPLE = GB
"""Bytes of a sample, also of what a `.nii.gz` is unpacked to."""
MOST_SAMPLES, MOST_CHANNELS = 64, 16
"""Samples of a package, and files of one sample."""
MOST_RATIO = 100
"""Of a file's size to what it takes in the archive; what is smaller than `SMALL` may shrink as it likes."""
SMALL = 1 << 20
_PACKED_RATIO = 4
"""Of models and samples, which hardly shrink: a small archive would else fill a disk."""
_PACKED = (".ts", ".pt2", ".onnx", ".gz", ".png")


def is_text(name: str) -> bool:
    """Whether a file is read by people or as JSON, and so is small."""
    return not name.startswith(("models/", "samples/"))


def most_bytes(name: str) -> int:
    """The largest size that a file of this name may have."""
    if is_text(name):
        return MOST_OF_TEXT
    return MOST_OF_SAMPLE if name.startswith("samples/") else MOST_BYTES


def most_ratio(name: str) -> int:
    """Of a file's size to what it takes in the archive."""
    return _PACKED_RATIO if name.lower().endswith(_PACKED) else MOST_RATIO
