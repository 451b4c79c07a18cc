"""What every object says besides its content: that it is no diagnosis, and what was warned of where it was made."""

from __future__ import annotations

from collections.abc import Sequence

NOT_FOR_DIAGNOSIS = "Made by research software. Not for diagnosis."
SHORT_TEXT, LONG_TEXT = 1024, 10240
"""Most characters of the value representations ST and LT (PS3.5 6.2)."""
_BEGIN = " Warnings: "


def remarks(warnings: Sequence[str], most: int) -> str:
    """The whole text in at most so many characters. Warnings for which there is no room are counted, none is cut in two.

    Args:
        warnings: one phrase each; line breaks in them become spaces.
        most: `SHORT_TEXT` or `LONG_TEXT`.
    """
    each = [" ".join(warning.split()) for warning in warnings]
    for shown in range(len(each), -1, -1):
        left = len(each) - shown
        more = [f"{left} more than there is room for, see predictions.csv"] if left else []
        text = NOT_FOR_DIAGNOSIS + (_BEGIN + "; ".join([*each[:shown], *more]) if each else "")
        if len(text) <= most:
            return text
    return NOT_FOR_DIAGNOSIS


def headline(warnings: Sequence[str]) -> str:
    """The same where there is room for a few words: `2 warnings, not for diagnosis`."""
    count = len(warnings)
    told = f"{count} warning{'s' * (count > 1)}, " if count else ""
    return f"{told}not for diagnosis"
