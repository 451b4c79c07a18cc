"""The model card's contents: what the reporting guidelines CLAIM (2024) and TRIPOD+AI (2024) ask for, filled from the run and the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MISSING = "Missing: neither the run nor the card tells it."

Document = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One thing to report.

    Attributes:
        name: as the guidelines call it.
        text: None where it is missing.
    """

    name: str
    text: str | None


@dataclass(frozen=True)
class Section:
    """A heading of the guidelines with its items."""

    heading: str
    items: tuple[Item, ...]


def sections(document: Document) -> list[Section]:
    """The whole card, in the guidelines' order; nothing is left out because nobody told it.

    Args:
        document: `segpipe.json` of a package.
    """
    return [
        Section(
            heading, tuple(Item(name, source(document) if callable(source) else document["card"].get(source)) for name, source in items)
        )
        for heading, items in _GUIDE
    ]


def missing(document: Document) -> list[str]:
    """Names of the items that nobody told."""
    return [item.name for section in sections(document) for item in section.items if item.text is None]


def _network(document: Document) -> str:
    outputs = document["outputs"]
    channels = ", ".join(f"{channel['channel']} ({channel['normalisation']})" for channel in document["inputs"])
    patch = " x ".join(str(size) for size in outputs["patch"][: outputs["dims"]])
    return f"{outputs['dims']}D convolutional network, patch of {patch} voxels; input {channels}; output {', '.join(outputs['channels'])}."


def _software(document: Document) -> str:
    return ", ".join(f"{name} {version}" for name, version in document["made_with"].items()) + "."


def _training(document: Document) -> str | None:
    told = document["provenance"]["training"]
    if not isinstance(told, dict) or told.get("steps") is None:
        return None
    seconds = f" in {told['seconds']:.0f} s" if isinstance(told.get("seconds"), (int, float)) else ""
    return f"{told['steps']} optimiser steps{seconds}."


def _settings(document: Document) -> str | None:
    digest = document["provenance"]["config_sha256"]
    if digest is None:
        return None
    where = "in full in segpipe.json under provenance.config" if document["provenance"]["config"] else "not in this package"
    return f"Resolved settings with SHA-256 {digest}, {where}."


def _partition(document: Document) -> str | None:
    metrics = document["metrics"]
    if metrics["held_out"] is None:
        return None
    cases = f"{metrics['cases']} cases" if metrics["cases"] is not None else "the validated cases"
    return f"{cases} held out from training." if metrics["held_out"] else f"No case was held out: {cases} were trained on as well."


def _sizes(document: Document) -> str | None:
    cases = document["envelope"]["cases"]
    return None if cases is None else f"{cases} cases with image and label map."


def _preparation(document: Document) -> str:
    ways = {channel["normalisation"] for channel in document["inputs"]}
    return f"Resampled to the network's grid and normalised ({', '.join(sorted(ways))}); label maps lie on the scan's own grid."


def _performance(document: Document) -> str | None:
    dice = document["metrics"]["dice"]
    return "; ".join(f"Dice of {name} {score_text(score)}" for name, score in dice.items()) + "." if dice else None


def score_text(score: dict[str, Any]) -> str:
    """`0.887 (0.871 to 0.899, 52 cases)`."""
    interval = f"{score['low']:.3f} to {score['high']:.3f}" if score["low"] is not None else "interval missing"
    cases = f"{score['cases']} cases" if score["cases"] is not None else "number of cases missing"
    return f"{score['mean']:.3f} ({interval}, {cases})"


def _licences(document: Document) -> str:
    return ", ".join(f"{what} {told['id']}" for what, told in document["licences"].items()) + "."


def _publication(document: Document) -> str | None:
    told = document["publication"]
    return None if told is None else f"{told['authors']}: {told['title']}, {told['year']}."


def _measure(document: Document) -> str:
    return f"{document['metrics']['measure']}; interval: {document['metrics']['interval']}."


def _samples(document: Document) -> str:
    count = len(document["samples"])
    return f"{count} sample(s) with the label maps that are expected of them; `segpipe verify` compares."


_Source = str | Callable[[Document], str | None]
_GUIDE: tuple[tuple[str, tuple[tuple[str, _Source], ...]], ...] = (
    ("Title and summary", (("Title, naming the use of AI", "title"), ("Summary", "summary"), ("Publication", _publication))),
    (
        "Background",
        (
            *(("Intended use and users", "intended_use"), ("Role in the clinical pathway", "clinical_role"), ("Objectives", "objectives")),
            *(("Uses that it is not for", "out_of_scope"), ("Regulatory status", "regulatory")),
        ),
    ),
    (
        "Data",
        (
            *(("Study design", "study_design"), ("Source", "data_source"), ("Dates", "data_dates"), ("Sites", "sites")),
            *(("Scanners and protocols", "scanners"), ("Eligibility", "eligibility"), ("Participants", "demographics")),
            *(("Number of cases", _sizes), ("How the number was chosen", "sample_size"), ("Preparation", _preparation)),
            *(("Missing data", "missing_data"), ("De-identification", "deidentification")),
        ),
    ),
    (
        "Reference standard",
        (("Definition", "reference_standard"), ("Annotators", "annotators"), ("Agreement of annotators", "annotator_agreement")),
    ),
    (
        "Model and training",
        (
            *(("Model, inputs and outputs", _network), ("Software", _software), ("Training", _training), ("Settings", _settings)),
            ("Partition of the data", _partition),
        ),
    ),
    (
        "Evaluation",
        (
            *(("Measures", _measure), ("Performance", _performance), ("External validation", "external_validation")),
            *(("Robustness", "robustness"), ("Fairness", "fairness"), ("Explainability", "explainability")),
            *(("Analysis of failures", "failure_analysis"), ("Samples", _samples)),
        ),
    ),
    ("Discussion", (("Limitations", "limitations"), ("Implications for practice", "implications"), ("Updates", "updates"))),
    (
        "Open science and ethics",
        (
            *(("Ethical approval", "ethics"), ("Patient and public involvement", "patient_involvement"), ("Registration", "registration")),
            *(("Protocol", "protocol"), ("Funding", "funding"), ("Conflicts of interest", "conflicts"), ("Licences", _licences)),
            *(("Availability of data", "data_availability"), ("Availability of code", "code_availability"), ("Contact", "contact")),
        ),
    ),
)
