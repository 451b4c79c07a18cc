"""The low resolution is the finest at which a patch sees a quarter of the scan."""

import math

import numpy as np
import pytest

from segpipe.errors import ConfigError
from segpipe.plan.planner import make_plan
from segpipe.plan.spacing import SEEN_SHARE, decide_low, median_shape, seen_share
from tests.plan.test_planner import data, settings

CT = {"shapes": ((512, 512, 300),) * 3, "spacings_mm": ((0.8, 0.8, 1.25),) * 3}
THICK = {"shapes": ((320, 320, 40),) * 3, "spacings_mm": ((0.6, 0.6, 3.6),) * 3}


@pytest.mark.parametrize("change", [CT, THICK])
def test_a_patch_of_the_low_resolution_sees_a_quarter_and_of_a_finer_one_less(change: dict[str, object]) -> None:
    fingerprint = data(**change)
    plan = make_plan("t", fingerprint, settings({"resolution": "low"}))
    assert plan.spacing_mm is not None
    share = seen_share(plan.patch_size, median_shape(fingerprint, plan.axes, plan.spacing_mm))
    assert SEEN_SHARE <= share < 1.25 * SEEN_SHARE
    finer = make_plan("t", fingerprint, settings({"spacing_mm": [mm / 1.1 for mm in plan.spacing_mm]}))
    assert finer.spacing_mm is not None
    assert seen_share(finer.patch_size, median_shape(fingerprint, finer.axes, finer.spacing_mm)) < SEEN_SHARE
    assert math.prod(plan.patch_size) <= 1.5 * 131072
    assert "low resolution" in plan.reasons["spacing_mm"]


def test_the_finer_axes_are_coarsened_first() -> None:
    def seen(spacing: tuple[float, float, float]) -> float:
        return 0.02 * math.prod(spacing)  # a quarter where the product is 12.5

    i, j, k = decide_low((0.5, 0.5, 4.0), seen, {})
    assert i == j and k == 4.0 and 12.5 <= i * j * k < 12.5 * 1.03**2
    i, j, k = decide_low((1.0, 1.0, 1.5), seen, {})
    assert i == j and k == pytest.approx(1.5 * i, rel=1e-4) and 12.5 <= i * j * k < 12.5 * 1.03**3


def test_what_a_patch_sees_whole_has_no_low_resolution() -> None:
    with pytest.raises(ConfigError, match="at the full one a patch sees 100 % of the median scan already"):
        make_plan("t", data(), settings({"resolution": "low"}))


@pytest.mark.parametrize(
    ("plan", "change", "words"),
    [
        ({"dims": 2}, CT, "which is for 3D networks"),
        ({"spacing_mm": [1.0, 1.0, 1.0]}, CT, "both set"),
        ({}, {"picture": True, "shapes": ((512, 512, 1),) * 3}, "which is for 3D networks"),
    ],
)
def test_a_contradicted_low_resolution_is_refused(plan: dict[str, object], change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan("t", data(**change), settings(plan | {"resolution": "low"}))


def test_seen_share_counts_what_lies_in_the_scan() -> None:
    assert seen_share((8, 8, 8), (16, 16, 4)) == pytest.approx(0.25)
    assert np.isclose(seen_share((99, 99, 99), (16, 16, 4)), 1.0)
