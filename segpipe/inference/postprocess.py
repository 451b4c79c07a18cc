"""What is taken away from a label map after the network: small or lone components that the evidence of a cross-validation speaks against.

Voxels are only ever taken away, never added: they become background. Components touch by faces, edges or corners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import ModelError

KEY = "postprocessing"
"""Of the document of a model file."""


@dataclass(frozen=True)
class Rule:
    """Attributes:
    label: class index, or 0 for all labels taken together.
    keep_largest: only the largest component stays.
    minimum_ml: smaller components are taken away (of a picture: thousandths of it are pixels).
    """

    label: int
    keep_largest: bool = False
    minimum_ml: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "keep_largest": self.keep_largest, "minimum_ml": self.minimum_ml}


def rules_of(document: dict[str, Any], classes: int) -> tuple[Rule, ...]:
    """From the document of a model file; none where it does not tell.

    Raises:
        ModelError: it tells, but not as it must.
    """
    told = document.get(KEY, [])
    try:
        rules = tuple(Rule(int(one["label"]), bool(one["keep_largest"]), float(one["minimum_ml"])) for one in told)
        fit = all(0 <= rule.label < classes and math.isfinite(rule.minimum_ml) and rule.minimum_ml >= 0 for rule in rules)
        if not fit:
            raise ValueError(f"{told}")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"its {KEY} cannot be understood ({type(error).__name__}: {error}): export the run again") from error
    return rules


def apply_rules(indices: NDArray[Any], rules: Sequence[Rule], voxel_ml: float) -> NDArray[Any]:
    """The label map without what the rules take away, in their order; the array itself where that is nothing.

    Args:
        indices: (I, J, K) class indices.
        voxel_ml: volume of a voxel.
    """
    for rule in rules:
        mask = indices == rule.label if rule.label else indices > 0
        gone = _gone(mask, rule, voxel_ml)
        if gone is not None:
            indices = np.where(gone, indices.dtype.type(0), indices)
    return indices


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number of each voxel's component (0: none), and the voxels of each component from 1 on."""
    from scipy import ndimage  # takes a tenth of a second, and most models have no rules

    numbered, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim), output=np.int32)
    return numbered, np.bincount(numbered.reshape(-1), minlength=count + 1)[1:]


def kept(sizes: NDArray[np.int64], rule: Rule, voxel_ml: float) -> NDArray[np.bool_]:
    """Which components stay; of equally large ones the first."""
    stays = sizes * voxel_ml >= rule.minimum_ml
    if rule.keep_largest and sizes.size:
        stays &= np.arange(sizes.size) == int(np.argmax(sizes))
    return np.asarray(stays)


def _gone(mask: NDArray[np.bool_], rule: Rule, voxel_ml: float) -> NDArray[np.bool_] | None:
    numbered, sizes = components(mask)
    stays = kept(sizes, rule, voxel_ml)
    if stays.all():
        return None
    return np.asarray(np.concatenate([[False], ~stays])[numbered])
