"""The page for people: one document with its style and scripts, served from the package alone, under a policy that lets in nothing else."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, HTTPException, Request, Response

from segpipe.server.service import Service

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # NiiVue brings its letters and lights as data: pictures
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Content-Security-Policy of the page: scripts, styles and connections of this server alone, nothing evaluated, no frames."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked again each time, answered 304 while nothing has changed
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}
_WORTH_PACKING = 2048
"""Bytes below which gzip saves nothing."""


@dataclass(frozen=True)
class _File:
    content: bytes
    kind: str

    @cached_property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @cached_property
    def packed(self) -> bytes:
        return gzip.compress(self.content, 6, mtime=0)


def router(service: Service) -> APIRouter:
    """`GET /` and `GET /static/...`; the page asks the service for all else over `/v1` and so needs nothing of it here."""
    pages, known = APIRouter(include_in_schema=False), _known(files("segpipe.server") / "static")

    @pages.get("/")
    def page(request: Request) -> Response:
        return _answer(known["index.html"], request)

    @pages.get("/static/{name:path}")
    def static(name: str, request: Request) -> Response:
        if name not in known:  # a list made at the start: no path is ever built from a request
            raise HTTPException(404, f"/static/{name[:100]}: is no part of the page; open / instead")
        return _answer(known[name], request)

    return pages


def _known(folder: Traversable, prefix: str = "") -> dict[str, _File]:
    """Every file of the page by its path below `static/`."""
    found: dict[str, _File] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _known(entry, f"{prefix}{entry.name}/")
        elif kind := _TYPES.get(f".{entry.name.rpartition('.')[2]}"):
            found[prefix + entry.name] = _File(entry.read_bytes(), kind)
    return found


def _answer(file: _File, request: Request) -> Response:
    headers = {**_HEADERS, "ETag": file.tag, "Vary": "Accept-Encoding"}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if len(file.content) > _WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, media_type=file.kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.content, media_type=file.kind, headers=headers)
