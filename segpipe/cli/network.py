"""The options of commands that speak with a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segpipe.pacs.exchange import Exchange

To = Annotated[str, typer.Option("--to", metavar="URL", help="Send results: dicomweb://HOST/PATH or dicom://AET@HOST:PORT.")]
Secret = Annotated[Path | None, typer.Option("--credentials", metavar="FILE", help="USER=, PASSWORD= or TOKEN= for DICOMweb.")]
Title = Annotated[str, typer.Option("--aet", metavar="AET", help="Our own AE title.")]
Authority = Annotated[Path | None, typer.Option("--tls-ca", metavar="PEM", help="Certificates to trust instead of the system's.")]
Certificate = Annotated[Path | None, typer.Option("--tls-cert", metavar="PEM", help="Our own certificate.")]
Tries = Annotated[int, typer.Option("--tries", metavar="N", help="Of each request to a PACS, with growing pauses.")]
Key = Annotated[Path | None, typer.Option("--tls-key", metavar="PEM", help="Its private key.")]


def exchange(
    sources: list[str] | None,
    to: str,
    credentials: Path | None,
    title: str,
    tls: tuple[Path | None, Path | None, Path | None],
    tries: int = 6,
) -> Exchange:
    """The options as one value."""
    from segpipe.pacs.exchange import Exchange
    from segpipe.pacs.tls import TlsFiles

    return Exchange(tuple(sources or ()), to, credentials, title, TlsFiles(*tls), tries)
