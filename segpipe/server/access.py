"""Who may ask: this machine alone, or whoever shows the token; never a web page of somebody else's.

Without a token the server listens at loopback, and only names of this machine are taken as its host: a page elsewhere whose name is made
to lead here (DNS rebinding) names itself. With one, what stands before the server may call it by a name of its own. A request that a
browser sends for another page says so in its `Origin`, and is refused unless `--allow-origin` names that.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from segpipe.errors import ConfigError
from segpipe.io.secret import read_secret
from segpipe.server.faults import answer
from segpipe.server.settings import ServerSettings

COOKIE = "segpipe_token"
_OPEN = ("/health", "/auth/", "/auth/token")
"""Tell nothing of anybody: what watches over servers has no token, and clients of MONAI Label get theirs there, for it."""
_PAGE = "/static/"
_HERE = ("localhost", "127.0.0.1", "::1")
_SHORTEST, _LONGEST = 16, 256
_SAFE = ("GET", "HEAD", "OPTIONS")
_MAKES = "/api/predict_sample"
"""Makes a job, though it is asked by GET as ModelHub has it: no picture of a page elsewhere may ask for it."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def read_token(path: Path) -> str:
    """The token in a file that nobody else can read.

    Raises:
        ConfigError: the file is not there, may be read by others, or holds no token.
    """
    text = read_secret("--token-file", path, "one line, the token")
    token = text.strip()
    if not _SHORTEST <= len(token) <= _LONGEST or not token.isascii() or not token.isprintable() or set(token) & set(' ";,\\'):
        what = f"must hold one line of {_SHORTEST} to {_LONGEST} plain characters: openssl rand -hex 32 > {path}"
        raise ConfigError(f"--token-file {path}: holds no token; {what}")
    return token


def check_access(settings: ServerSettings) -> None:
    """Refuse a server that others can reach and anybody may use.

    Raises:
        ConfigError: and what to do.
    """
    if not settings.loopback and not settings.token:
        raise ConfigError(
            f"--host {settings.host}: others can reach it, and anybody could use it; must have a token: give --token-file FILE"
        )
    for origin in settings.origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise ConfigError(f"--allow-origin {origin}: is no origin; must be as https://viewer.hospital.org, without a path")


class Guard:
    """Stands before everything else of a server.

    Args:
        app: asked if all is well.
    """

    def __init__(self, app: App, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings
        self._token = settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reply = self._refusal(scope, headers) or self._entry(scope)
        await (reply or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> App | None:
        host = headers.get("host", "")
        if not self._token and _name_of(host) not in _HERE:
            return answer(421, "the host that was asked for is not this machine; ask http://127.0.0.1 or http://localhost")
        if not self._is_ours(headers, host, scope["method"] in _SAFE and scope["path"] != _MAKES):
            return answer(403, "a page of another server may not use this one; its --allow-origin can name that page's server")
        if self._token and not _is_open(scope) and not self._shows_token(scope, headers):
            return answer(
                401, "the token is missing or wrong; must be shown as 'Authorization: Bearer TOKEN', in a browser by /?token=TOKEN"
            )
        return None

    def _is_ours(self, headers: Headers, host: str, safe: bool) -> bool:
        """Whether a browser that sends it does so for our page, or an allowed one; other programs say nothing of pages.

        Args:
            safe: it changes nothing.
        """
        origin = headers.get("origin")
        if origin is None:
            return safe or headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        return origin in self._settings.origins or (origin != "null" and urlsplit(origin).netloc == host)

    def _shows_token(self, scope: Scope, headers: Headers) -> bool:
        if scope["method"] == "OPTIONS" and headers.get("origin") in self._settings.origins:
            return True  # a browser asks, without its token, whether it may ask
        shown = headers.get("authorization", "")
        word, _, token = shown.partition(" ")
        if word.lower() == "bearer":
            return self._fits(token.strip())
        return self._fits(_cookie(headers)) or bool(_given(scope) and self._fits(_given(scope)))

    def _fits(self, token: str) -> bool:
        """In a time that does not tell how much of it was right."""
        return hmac.compare_digest(token.encode(), self._token)

    def _entry(self, scope: Scope) -> App | None:
        """`/?token=TOKEN` leaves the token in a cookie, and not in the browser's address."""
        if not self._token or not _given(scope) or not self._fits(_given(scope)):
            return None
        reply = RedirectResponse("/", 303)
        secure = scope.get("scheme") == "https"
        reply.set_cookie(COOKIE, self._settings.token, httponly=True, samesite="strict", secure=secure)
        return reply


def _is_open(scope: Scope) -> bool:
    """What needs no token: the state, and the page itself, which holds nothing of anybody and asks for the token."""
    path, reads = scope["path"], scope["method"] in ("GET", "HEAD")
    return path in _OPEN or (reads and (path.startswith(_PAGE) or (path == "/" and not _given(scope))))


def _name_of(host: str) -> str:
    """Without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _given(scope: Scope) -> str:
    """The token of `/?token=`, which no other address takes."""
    if scope["path"] != "/" or scope["method"] != "GET":
        return ""
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]
