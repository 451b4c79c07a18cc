"""The model card's contents: what the reporting guidelines CLAIM (2024) and TRIPOD+AI (2024) ask for, filled from the run and the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segpipe.bundle.standing import standing, unproved

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
    outputs, training = document["outputs"], document["provenance"]["training"] or {}
    members, plans = training.get("members"), ", ".join(training.get("configurations") or [])
    channels = ", ".join(f"{channel['channel']} ({channel['normalisation']})" for channel in document["inputs"])
    patch = " x ".join(str(size) for size in outputs["patch"][: outputs["dims"]])
    mean = f"The mean of {members} networks{f' of the plans {plans}, the first' if plans else ''}: " if members else ""
    return f"{mean}{outputs['dims']}D network, patch of {patch} voxels; input {channels}; output {', '.join(outputs['channels'])}."


def _software(document: Document) -> str:
    return ", ".join(f"{name} {version}" for name, version in document["made_with"].items()) + "."


def _training(document: Document) -> str | None:
    return standing(document)[0] if (document["provenance"]["training"] or {}).get("steps") is not None else None


def _settings(document: Document) -> str | None:
    digest = document["provenance"]["config_sha256"]
    if digest is None:
        return None
    told = "in segpipe.json under provenance.config, without places and names of cases"
    return f"Resolved settings with SHA-256 {digest}, {told if document['provenance']['config'] else 'not in this package'}."


def _partition(document: Document) -> str | None:
    held_out, training = document["metrics"]["held_out"], document["provenance"]["training"] or {}
    told, members = training.get("partition"), training.get("members")
    if held_out is None:
        return None
    if members and held_out:
        divided = f"{told['validation']} case(s) divided" if told else "Cases divided"
        return f"{divided} over {members} trainings, each validated by the networks that were not trained on it; the mean has them all."
    counts = f"{told['train']} case(s) to train on, {told['validation']} to validate" if told else "Cases to train on and cases to validate"
    return f"{counts}; {'none of these was trained on' if held_out else 'these were trained on as well'}."


def _sizes(document: Document) -> str | None:
    cases = document["envelope"]["cases"]
    return None if cases is None else f"{cases} cases with image and label map."


def _preparation(document: Document) -> str:
    ways = {channel["normalisation"] for channel in document["inputs"]}
    return f"Resampled to the network's grid and normalised ({', '.join(sorted(ways))}); label maps lie on the scan's own grid."


def _performance(document: Document) -> str | None:
    return standing(document)[1] if document["metrics"]["dice"] else None


def _licences(document: Document) -> str:
    return ", ".join(f"{what} {told['id']}" for what, told in document["licences"].items()) + "."


def _publication(document: Document) -> str | None:
    told = document["publication"]
    return None if told is None else f"{told['authors']}: {told['title']}, {told['year']}."


def _measure(document: Document) -> str:
    return f"{document['metrics']['measure']}; interval: {document['metrics']['interval']}."


def _samples(document: Document) -> str:
    count = len(document["samples"])
    lacking = ", ".join(unproved(document))
    told = f" No sample has {lacking}: of that nothing is proved." if lacking else ""
    return f"{count} sample(s) with the label maps that are expected of them; `segpipe verify` compares.{told}"


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
