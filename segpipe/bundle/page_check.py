"""The pages of a package, looked through: a page out of somebody else's package must not run anything in a browser, or call home."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from segpipe.bundle.layout import CARD, PAGE
from segpipe.errors import ModelError

_TAGS = frozenset(
    "html head meta title style body h1 h2 h3 p ul li table thead tbody tr th td strong em code a span div br pre footer".split()  # noqa: SIM905
)
_ATTRIBUTES = frozenset(["class", "charset", "lang", "colspan", "name", "content", "style", "href"])
_STYLE = re.compile(r"background:#[0-9a-f]{6}")
_LINK = re.compile(r"https?://[^\s\"'<>]+|#[\w-]*|mailto:[^\s\"'<>]+", re.ASCII)
_SHEET = re.compile(r"url|import|expression|@|\\|behavior|javascript", re.IGNORECASE)
_RAW = re.compile(r"<[a-zA-Z/!?]|!\[|\]\(\s*(?!https?://|#|mailto:)|^\s*\[[^\]]*\]:", re.MULTILINE)
"""In Markdown: HTML, pictures, and links to anything but the web."""


class _Page(HTMLParser):
    """Refuses whatever the pages that segpipe writes do not have."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._sheet = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            raise ModelError(f"{PAGE} has the tag <{ascii(tag[:20])[1:-1]}>, which a card does not need")
        self._sheet = tag == "style"
        for key, value in attrs:
            self._attribute(tag, key, (value or "").strip())

    def _attribute(self, tag: str, key: str, value: str) -> None:
        bad = key not in _ATTRIBUTES
        bad |= key == "href" and (tag != "a" or _LINK.fullmatch(value) is None)
        bad |= key == "style" and _STYLE.fullmatch(value) is None
        bad |= key in ("name", "content") and (tag != "meta" or "url" in value.lower())
        if bad:
            raise ModelError(f"{PAGE} has {f'{key}={value}'[:60]!a} in <{tag}>, which a card does not need")

    def handle_endtag(self, tag: str) -> None:
        self._sheet = False

    def handle_data(self, data: str) -> None:
        if self._sheet and _SHEET.search(data):
            raise ModelError(f"{PAGE} has a style that loads or runs something")

    def handle_decl(self, decl: str) -> None:
        if decl.lower() != "doctype html":
            raise ModelError(f"{PAGE} has a declaration that a card does not need")

    def handle_comment(self, data: str) -> None:
        raise ModelError(f"{PAGE} has a comment, in which some browsers find code")

    def handle_pi(self, data: str) -> None:
        raise ModelError(f"{PAGE} has an instruction for another program")

    def unknown_decl(self, data: str) -> None:
        raise ModelError(f"{PAGE} has a declaration that a card does not need")


def check_page(text: str) -> None:
    """Refuse an HTML page with anything but text, tables, links to the web and its own plain style.

    Raises:
        ModelError: naming what it has.
    """
    page = _Page()
    page.feed(text)
    page.close()


def check_markdown(text: str) -> None:
    """Refuse Markdown with HTML, pictures, or links to anything but the web in it.

    Raises:
        ModelError: naming what it has.
    """
    found = _RAW.search(text)
    if found is not None:
        raise ModelError(f"{CARD} has {found.group().strip()!a}, HTML or a link that a card does not need")
