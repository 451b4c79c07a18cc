"""How likely an output must be to be taken: offsets on the scores, which the evidence of a cross-validation may have moved from zero.

An offset of a class is added to its logit before the largest one is taken; that of a region, which is found above a probability of one
half, moves this threshold to 1 / (1 + exp(offset)). Probabilities stay as they are.
"""

from __future__ import annotations

import math
from typing import Any

from segpipe.errors import ModelError

KEY = "offsets"
"""Of the document of a model file: a number for each output, in the network's order."""


def offsets_of(document: dict[str, Any], outputs: int) -> tuple[float, ...]:
    """From the document of a model file; empty where it does not tell.

    Raises:
        ModelError: it tells, but not as it must.
    """
    told = document.get(KEY, [])
    try:
        offsets = tuple(float(value) for value in told)
        if not all(map(math.isfinite, offsets)) or len(offsets) not in (0, outputs):
            raise ValueError(f"{told}")
    except (TypeError, ValueError) as error:
        raise ModelError(f"its {KEY} cannot be understood ({type(error).__name__}: {error}): export the run again") from error
    return offsets
