"""How far a model can be trusted: the figures of its run, and what speaks against it, on the card and in the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segpipe.bundle.layout import CARD, DOCUMENT, PAGE
from segpipe.bundle.page import html_card, markdown_card
from segpipe.bundle.standing import standing, unproved, warnings

TRAINING = {"steps": 900, "seconds": 1800.0, "partition": {"train": 40, "validation": 10, "held_out": True}}


def score(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "cases": 10}


@pytest.fixture
def document(made: Path) -> dict[str, Any]:
    """Of a model that was trained and validated well."""
    told: dict[str, Any] = json.loads((made / "folder" / DOCUMENT).read_text(encoding="utf-8"))
    told["provenance"]["training"] = TRAINING
    told["metrics"] |= {"held_out": True, "cases": 10, "dice": {"organ": score(0.9), "tumour": score(0.7)}}
    return told


def test_a_model_that_was_trained_and_validated_has_its_figures_and_no_warning(document: dict[str, Any]) -> None:
    training, validation = standing(document)
    assert training == "Trained for 30.0 minutes, 900 optimiser step(s), on 40 case(s)."
    assert validation.startswith(
        "Validated on 10 case(s), none of which it was trained on; Dice of organ 0.900 (0.880 to 0.920, 10 case(s)), "
    )
    assert warnings(document) == []


@pytest.mark.parametrize(
    ("training", "metrics", "words"),
    [
        ({"steps": 99}, {}, ["99 optimiser step(s): it is hardly trained"]),
        ({"steps": 180, "members": 2}, {}, ["180 optimiser step(s) for 2 networks: it is hardly trained"]),
        ({"steps": 100}, {}, []),
        (None, {}, ["Nobody told how long it was trained"]),
        ({}, {"cases": 0, "dice": {}}, ["It was not validated"]),
        ({}, {"cases": None, "dice": {}}, ["It was not validated"]),
        ({}, {"held_out": False}, ["on cases that it was trained on"]),
        ({}, {"held_out": None}, ["Nobody told whether it was trained on the cases"]),
        ({}, {"cases": 4}, ["on 4 case(s) only"]),
        ({}, {"dice": {"organ": score(0.9)}}, ["Nothing is known of how good it is at tumour"]),
        ({}, {"dice": {"organ": score(0.9), "tumour": score(0.499)}}, ["Dice of tumour is 0.499: less than half"]),
        ({}, {"dice": {"organ": score(0.9), "tumour": score(0.5)}}, []),
    ],
)
def test_what_speaks_against_a_model_is_said(
    document: dict[str, Any], training: dict[str, Any] | None, metrics: dict[str, Any], words: list[str]
) -> None:
    document["provenance"]["training"] = None if training is None else TRAINING | training
    document["metrics"] |= metrics
    found = warnings(document)
    assert len(found) == len(words)
    for line, word in zip(found, words, strict=True):
        assert word in line
        assert line in html_card(document).split("<table>", 1)[0].replace("&#x27;", "'")  # before everything else
        assert line.split(":")[0] in markdown_card(document).split("## Labels", 1)[0]


def test_every_network_of_folds_counts(document: dict[str, Any]) -> None:
    document["provenance"]["training"] = TRAINING | {"members": 5, "seconds": 12.4}
    assert standing(document)[0] == "Trained for 12 s, 900 optimiser step(s), 5 networks together, on 40 case(s)."
    assert "each by the networks that were not trained on it" in standing(document)[1]
    card = html_card(document)
    assert "10 case(s) divided over 5 trainings, each validated by the networks that were not trained on it; the mean has them all." in card
    assert "none of these was trained on" not in card


def test_a_label_that_no_sample_has_is_named(document: dict[str, Any]) -> None:
    assert unproved(document) == []
    document["samples"][0]["voxels"]["tumour"] = 0
    assert unproved(document) == ["tumour"]
    assert "No sample has tumour: of that nothing is proved." in markdown_card(document)


def test_the_pages_of_a_package_begin_with_it(made: Path) -> None:
    for name in (PAGE, CARD):
        text = (made / "folder" / name).read_text(encoding="utf-8")
        assert text.index("Nobody told how long it was trained") < text.index("SCT 41216001")
