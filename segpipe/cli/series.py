"""Options of series of DICOM and of the results that are written of them, said once for all commands that have them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segpipe.cli.option_values import one_of

Policy = Annotated[list[str] | None, typer.Option(metavar="CLASS=ACTION", help="DICOM: gap=resample, single=accept ...; repeatable.")]
SegType = Annotated[str, typer.Option(metavar="NAME", help="Of dicom-seg: binary, or labelmap (small, new).")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="Of DICOM results, before a word for each kind.")]
Number = Annotated[int, typer.Option(metavar="N", help="Of the first kind of DICOM result; 0: by the scan's.")]


def checked_type(seg_type: str) -> Any:
    """One of the types of dicom-seg.

    Raises:
        ConfigError: it is none.
    """
    return one_of("--seg-type", seg_type, ("binary", "labelmap"))
