"""Names that say left or right, however they are spelt."""

import logging

import pytest

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.plan.flips import decide_flips, has_side
from segpipe.settings import PlanSettings


@pytest.mark.parametrize(
    "name",
    [
        "kidney_left",
        "LeftKidney",
        "kidneyRight",
        "KidneyL",
        "leftkidney",
        "Lt_parotid",
        "parotid-rt",
        "hippocampus sin",
        "links",
        "sinistra",
        "Right",
        "LH",
        "linke Niere",
        "rechter Hoden",
        "LKidney",
        "seg_RKidney",
        "rein dx",
        "rein sx",
        "rene destro",
        "rene sinistro",
        "riñón izquierdo",
        "riñón derecho",
        "rim esquerdo",
        "rim direito",
        "rein gauche",
        "rein droit",
        "kidney_lft",
        "kidney_rgt",
    ],
)
def test_a_side_is_found_however_it_is_spelt(name: str) -> None:
    assert has_side(name)


@pytest.mark.parametrize(
    "name",
    ["bright", "cleft palate", "liver", "tumour", "label 1", "PZ", "upright", "Anterior", "lesion", "Lung", "Rectum", "cortex rénal"],
)
def test_a_name_without_a_side_has_none(name: str) -> None:
    assert not has_side(name)


def named(*names: str, mirrored: tuple[tuple[int, int], ...] = (), picture: bool = False) -> Fingerprint:
    """A data set with labels of these names."""
    return Fingerprint(
        cases=2,
        picture=picture,
        spacings_mm=((1.0, 1.0, 1.0),) * 2,
        shapes=((40, 40, 40),) * 2,
        channels=(),
        label_values=tuple(range(len(names) + 1)),
        label_voxels={},
        label_cases={},
        label_names=dict(enumerate(names, 1)),
        nonzero_share=1.0,
        mirrored=mirrored,
    )


def test_labels_that_lie_left_and_right_of_each_other_lose_the_flip_whatever_they_are_called() -> None:
    reasons: dict[str, str] = {}
    facts = named("K1", "K2", mirrored=((1, 2),))
    assert decide_flips(PlanSettings(), facts, (0, 1, 2), 3, reasons) == (False, True, True)
    assert reasons["flips"] == "mirroring would exchange left and right: K1 beside K2"
    assert decide_flips(PlanSettings(flips=[True, True, True]), facts, (2, 1, 0), 3, {}) == (True, True, False)


def test_a_region_with_a_side_in_its_name_loses_the_flip_as_a_label_does() -> None:
    reasons: dict[str, str] = {}
    regions = {"kidney_left": [1], "kidney_right": [2]}
    assert decide_flips(PlanSettings(), named("a", "b"), (0, 1, 2), 3, reasons, regions) == (False, True, True)
    assert reasons["flips"] == "mirroring would exchange left and right: kidney_left, kidney_right"


@pytest.mark.parametrize(("one", "other"), [("lkidney", "rkidney"), ("KL1", "KR1"), ("rein g", "rein d"), ("NiereS", "NiereD")])
def test_names_that_differ_by_a_letter_for_left_and_right_are_told(one: str, other: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        decide_flips(PlanSettings(), named("liver", one, other), (0, 1, 2), 3, {})
    assert "if these are left and right, set plan.flips=[false,true,true]" in caplog.text


@pytest.mark.parametrize("names", [("PZ", "TZ"), ("liver", "tumour"), ("label 1", "label 2"), ("left", "right"), ("liver", "live")])
def test_other_names_are_not_told(names: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    decide_flips(PlanSettings(), named(*names), (0, 1, 2), 3, {})
    assert not caplog.text


def test_who_has_set_the_flips_is_not_told_of_names(caplog: pytest.LogCaptureFixture) -> None:
    assert decide_flips(PlanSettings(flips=[True, True, True]), named("lkidney", "rkidney"), (0, 1, 2), 3, {}) == (True, True, True)
    assert not caplog.text
    decide_flips(PlanSettings(), named("lkidney", "rkidney", picture=True), (0, 1, 2), 2, {})
    assert "plan.flips=[false,false]" in caplog.text
