"""The keys that the page and its how-to name are those that it has."""

from __future__ import annotations

import re

from tests.conftest import REPOSITORY
from tests.server.conftest import Server
from tests.server.page.browser import Page

WORDS = dict.fromkeys(("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"), "arrows")
WORDS |= {"PageUp": "Page Up", "PageDown": "Page Down", " ": "Space", "Escape": "Esc", "=": "+"}  # "=": the key of "+" without Shift


def test_every_key_stands_in_the_dialog_and_in_the_how_to(page: Page, server: Server) -> None:
    page.open(server)
    keys = page.run("const { Result } = await import('/static/result.js'); return Object.keys(Result.prototype.actions.call({}))")
    assert len(keys) > 12
    told = page.run("return [...at('keys').querySelectorAll('kbd')].map((key) => key.textContent)")
    table = "\n".join(re.findall(r"^\| ([^|]+) \|", (REPOSITORY / "docs" / "page.md").read_text(encoding="utf-8"), re.MULTILINE))
    arrows = {"arrows": "\N{LEFTWARDS ARROW}"}
    for key in keys:
        word = WORDS.get(key, key.upper())
        assert arrows.get(word, word) in told, key
        assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", table), key
