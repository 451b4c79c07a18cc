"""One fault of a data set: where, what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A fault that a person can cure.

    Attributes:
        severity: `error`: training cannot start; `warning`: it can, but somebody should look.
        case: name of the case, empty when the fault concerns the whole data set.
        file: path of the file at fault; the data set's root where no single file is.
        what: what is wrong, with the figures.
        cure: what to do.
    """

    severity: Severity
    case: str
    file: str
    what: str
    cure: str
