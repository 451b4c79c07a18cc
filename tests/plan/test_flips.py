"""Names that say left or right, however they are spelt."""

import pytest

from segpipe.plan.flips import has_side


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
