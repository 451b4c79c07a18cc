"""`card.yaml`: what only people know of a model, and a package must or may tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segpipe.bundle.layout import LICENCES, LONGEST_NAME, NAME, VERSION
from segpipe.bundle.licences import check_licence, is_own, licence_text
from segpipe.bundle.plain import Fields, ListOf, Number, Text, check, check_inert
from segpipe.errors import ConfigError, ModelError

_TEXT = Text(longest=10_000)
_LINE = Text(longest=300)
_NAME = "small letters and digits, in words with a dash between them: prostate-zones"
_VERSION = "one to three numbers with dots between them: 1.0"

PUBLICATION = Fields(
    {"title": _LINE, "year": Number(1950, 2100, whole=True), "authors": _TEXT},
    dict.fromkeys(("source", "abstract", "url", "google_scholar", "bibtex", "email"), _TEXT),
)
MUST = ("title", "summary", "modality", "body_part", "intended_use")
MAY = (
    *("out_of_scope", "clinical_role", "objectives", "contact", "study_design", "data_source", "data_dates", "sites", "scanners"),
    *("eligibility", "demographics", "sample_size", "missing_data", "deidentification", "reference_standard", "annotators"),
    *("annotator_agreement", "external_validation", "robustness", "fairness", "explainability", "failure_analysis", "limitations"),
    *("implications", "ethics", "patient_involvement", "registration", "protocol", "funding", "conflicts", "data_availability"),
    *("code_availability", "updates", "regulatory"),
)
CARD_FIELDS = Fields({**dict.fromkeys(MUST, _TEXT), "authors": ListOf(_LINE, 1, 500)}, dict.fromkeys(MAY, _TEXT))
"""Of the card, as a package's document holds it."""

_YAML = Fields(
    {
        "name": Text(NAME, LONGEST_NAME, _NAME),
        "version": Text(VERSION, told=_VERSION),
        "licences": Fields(dict.fromkeys(LICENCES, _LINE)),
        **CARD_FIELDS.must,
    },
    {"publication": PUBLICATION, "licence_files": Fields({}, dict.fromkeys(LICENCES, _LINE)), **CARD_FIELDS.optional},
)


@dataclass(frozen=True)
class Card:
    """What `card.yaml` tells.

    Attributes:
        name, version: of the package.
        licences: SPDX identifier of code, weights and samples.
        texts: the text of each licence.
        sections: what is told of the model, by the keys of `MUST` and `MAY`, and the authors.
        publication: of the model; None: there is none.
    """

    name: str
    version: str
    licences: dict[str, str]
    texts: dict[str, str]
    sections: dict[str, Any]
    publication: dict[str, Any] | None


def read_card(path: Path) -> Card:
    """The card in a YAML file.

    Raises:
        ConfigError: no such file, no YAML, a key is unknown or missing, or a licence has no text.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); must be the card, a YAML file: see workflows/publish.md") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())[:120]}): correct it") from error
    if isinstance(values, dict) and isinstance(values.get("version"), (int, float)) and not isinstance(values["version"], bool):
        told = values["version"]
        raise ConfigError(f"{path}: card.version is the number {told}, in which 1.10 would be 1.1; must be a text: version: '{told}'")
    try:
        check(values, _YAML, "card")
        for key, value in values.items():
            check_inert(value, f"card.{key}")
        for what, identifier in values["licences"].items():
            check_licence(what, identifier)
    except ModelError as error:
        raise ConfigError(f"{path}: {error} (workflows/card.yaml shows every key)") from error
    sections = {key: value for key, value in values.items() if key in CARD_FIELDS.must or key in CARD_FIELDS.optional}
    return Card(values["name"], values["version"], values["licences"], _texts(values, path), sections, values.get("publication"))


def _texts(values: dict[str, Any], path: Path) -> dict[str, str]:
    """The text of each licence: the user's own file, beside the card, or a few lines that say where it stands."""
    files, holders = values.get("licence_files", {}), ", ".join(values["authors"])
    texts = {}
    for what, identifier in values["licences"].items():
        if what in files:
            texts[what] = _own_text(path.parent / files[what], path)
        elif is_own(identifier):
            raise ConfigError(f"{path}: licences.{what} is {identifier}, whose text nobody knows: name its file under licence_files.{what}")
        else:
            texts[what] = licence_text(what, identifier, holders)
    return texts


def _own_text(path: Path, card: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{card}: its licence {path} cannot be read as text: check licence_files") from error
    if not text.strip():
        raise ConfigError(f"{card}: its licence {path} is empty: check licence_files")
    return text
