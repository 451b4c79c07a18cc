"""Which value each region writes, and what cannot be painted."""

import logging

import pytest

from segpipe.errors import ConfigError
from segpipe.plan.plan import Label, Region
from segpipe.plan.regions import decide_regions

LABELS = (Label(0, 0, "background"), Label(1, 1, "necrosis"), Label(2, 2, "oedema"), Label(3, 4, "enhancing"))


def test_nested_regions_write_the_values_of_the_training_again() -> None:
    reasons: dict[str, str] = {}
    found = decide_regions({"whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]}, LABELS, reasons)
    assert found == (Region("whole", (1, 2, 3), 2), Region("core", (1, 3), 1), Region("enhancing", (3,), 3))
    assert "painted in this order" in reasons["regions"]
    assert decide_regions({}, LABELS, {}) == ()


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ({"whole": [1, 2, 3]}, "whole holds 3, which is no label; known are 1 .necrosis., 2"),
        ({"air": [0]}, "air holds 0, which is no label"),
        ({"none": []}, "none holds no label value"),
        ({"whole": [1, 2, 4], "core": [4]}, "whole: its values 1, 2 are in no later region"),
        ({"core": [4], "whole": [1, 4]}, "core: later regions hold all its values"),
    ],
)
def test_what_cannot_be_painted_is_refused(regions: dict[str, list[int]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        decide_regions(regions, LABELS, {})


def test_a_value_that_no_region_writes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        decide_regions({"core": [1]}, LABELS, {})
    assert "no region writes oedema, enhancing" in caplog.text
