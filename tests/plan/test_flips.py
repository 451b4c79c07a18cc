"""Names that say left or right, however they are spelt."""

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
    ],
)
def test_a_side_is_found_however_it_is_spelt(name: str) -> None:
    assert has_side(name)


@pytest.mark.parametrize("name", ["bright", "cleft palate", "liver", "tumour", "label 1", "PZ", "upright", "Anterior", "lesion"])
def test_a_name_without_a_side_has_none(name: str) -> None:
    assert not has_side(name)


def test_labels_that_lie_left_and_right_of_each_other_lose_the_flip_whatever_they_are_called() -> None:
    reasons: dict[str, str] = {}
    facts = Fingerprint(
        cases=2,
        picture=False,
        spacings_mm=((1.0, 1.0, 1.0),) * 2,
        shapes=((40, 40, 40),) * 2,
        channels=(),
        label_values=(0, 1, 2),
        label_voxels={},
        label_cases={},
        label_names={1: "K1", 2: "K2"},
        nonzero_share=1.0,
        mirrored=((1, 2),),
    )
    assert decide_flips(PlanSettings(), facts, (0, 1, 2), 3, reasons) == (False, True, True)
    assert reasons["flips"] == "mirroring would exchange left and right: K1 beside K2"
    assert decide_flips(PlanSettings(flips=[True, True, True]), facts, (2, 1, 0), 3, {}) == (True, True, False)
