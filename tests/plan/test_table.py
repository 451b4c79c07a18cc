"""The label table of a plan."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from segpipe.config.compose import compose_settings
from segpipe.dataset.case import Meaning
from segpipe.dicom.terms import SegmentLabel, parse_term
from segpipe.errors import ConfigError
from segpipe.plan.plan import Label, plan_from_dict
from segpipe.plan.table import described
from segpipe.settings import DatasetSettings
from tests.plan.test_plan import make_plan

LABELS = (Label(0, 0, "background"), Label(1, 1, "PZ"), Label(2, 2, "TZ"))


@pytest.mark.parametrize(
    ("task", "names", "codes"),
    [
        ("prostate", ("PZ", "TZ"), (("279706003", None), ("399384005", None))),
        ("hippocampus", ("Anterior", "Posterior"), (("5366008", "255549009"), ("5366008", "255551008"))),
    ],
)
def test_the_shipped_tasks_have_codes_that_the_dictionary_of_dicom_knows(
    task: str, names: tuple[str, ...], codes: tuple[tuple[str, str | None], ...]
) -> None:
    pytest.importorskip("pydicom")
    from pydicom.sr._concepts_dict import concepts

    known = {value: meaning for words in concepts["SCT"].values() for value, (meaning, groups) in words.items() if groups}
    labels = (LABELS[0], *(Label(n, n, name) for n, name in enumerate(names, 1)))
    found = described(labels, compose_settings([f"conf={task}"]).settings.dataset, {}, {})[1:]
    for label, (kind, modifier) in zip(found, codes, strict=True):
        assert label.term is not None
        assert label.colour is not None
        assert label.term.type.value == kind
        assert (label.term.modifier and label.term.modifier.value) == modifier
        for code in (label.term.category, label.term.type, label.term.modifier):
            assert code is None or known[code.value] == code.meaning


def test_codes_do_not_follow_values_to_labels_of_other_names() -> None:
    settings = compose_settings(["conf=prostate", 'dataset.label_names={"1":gland}']).settings.dataset
    found = described((LABELS[0], Label(1, 1, "gland")), settings, {}, {})
    assert found[1].term is None


def test_what_the_data_says_counts_where_the_settings_say_nothing() -> None:
    settings = DatasetSettings(label_codes={"PZ": ["SCT 279706003 Peripheral zone of the prostate"]}, label_colours={"TZ": [1, 2, 3]})
    told = {value: Meaning(parse_term(["SCT 41216001 Prostate"]), (9, 8, 7)) for value in (1, 2)}
    reasons: dict[str, str] = {}
    zone, other = described(LABELS, settings, told, reasons)[1:]
    assert zone.term is not None and other.term is not None
    assert (zone.term.type.value, zone.colour, other.term.type.value, other.colour) == ("279706003", (9, 8, 7), "41216001", (1, 2, 3))
    assert reasons["codes"] == "of TZ from its segmentations, which agree; set by hand (dataset.label_codes)"
    described(LABELS, DatasetSettings(), {}, reasons := {})
    assert reasons == {}


def test_a_value_stands_for_a_label_too() -> None:
    settings = DatasetSettings(label_codes={"2": ["SCT 41216001 Prostate"]}, label_colours={"2": [1, 2, 3]})
    found = described(LABELS, settings, {}, {})
    assert found[1].term is None
    assert found[2].term is not None
    assert (found[2].term.type.meaning, found[2].colour) == ("Prostate", (1, 2, 3))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (DatasetSettings(label_codes={"PZ": ["peripheral"]}), "label_codes.PZ: is 'peripheral'"),
        (DatasetSettings(label_colours={"PZ": [1, 2]}), "label_colours.PZ: has 2 numbers"),
    ],
)
def test_what_is_no_code_or_colour_is_refused_by_its_key(settings: DatasetSettings, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        described(LABELS, settings, {}, {})


def test_plans_with_and_without_a_table_are_read() -> None:
    term = parse_term(["SCT 5366008 Hippocampus", "SCT 255549009 Anterior"])
    plan = replace(make_plan(), labels=(Label(0, 0, "background"), Label(1, 255, "cell", term, (1, 2, 3))))
    assert plan_from_dict(json.loads(plan.to_json())) == plan
    assert plan.segment_labels == (SegmentLabel(255, "cell", term, (1, 2, 3)),)
    older = json.loads(plan.to_json())
    for label in older["labels"]:
        del label["term"], label["colour"]
    assert plan_from_dict(older).labels == (Label(0, 0, "background"), Label(1, 255, "cell"))
    assert plan_from_dict(older).labels[1].same_class(plan.labels[1])
