"""Whether reduced precision gives the labels of full precision: what a training has measured of its network, in the model's document."""

from __future__ import annotations

import math
from typing import Any

KEY = "bf16"
"""Of the document, and of `validation.json`: the Dice between the label maps in bf16 and in fp32, and the number of cases."""
LEAST_DICE = 0.999
"""Of every label, mean over the cases, from which on bf16 may stand for fp32."""


def agreement(dice: float, cases: int) -> dict[str, Any]:
    """What the document holds.

    Args:
        dice: of the label that agrees least, mean over the cases.
    """
    return {"dice": dice, "cases": cases}


def bf16_dice(document: dict[str, Any]) -> float:
    """What `agreement` has written; NaN where the document does not tell."""
    told = document.get(KEY)
    dice = told.get("dice") if isinstance(told, dict) else None
    return float(dice) if isinstance(dice, (int, float)) and not isinstance(dice, bool) else math.nan


def least(each: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Of the networks of an ensemble: that of the one that agrees least; None where one does not tell."""
    told = [one for one in each if one is not None and not math.isnan(bf16_dice({KEY: one}))]
    return min(told, key=lambda one: float(one["dice"])) if told and len(told) == len(each) else None
