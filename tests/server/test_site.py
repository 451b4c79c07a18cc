"""The page's files: what is sent, under which policy, and what is not ours."""

from __future__ import annotations

import asyncio
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'segpipe[serve]'")
pytest.importorskip("httpx", reason="httpx is not installed: pip install httpx")

import httpx
from fastapi import FastAPI

from segpipe.server import site
from segpipe.server.access import Guard
from segpipe.server.settings import ServerSettings

STATIC = Path(str(files("segpipe.server") / "static"))
TOKEN = "0123456789abcdef0123"


class Client:
    """Asks an application in this process; redirections are not followed."""

    def __init__(self, **guard: Any) -> None:
        self.app = FastAPI()
        self.app.include_router(site.router(None))  # type: ignore[arg-type]  # the page's files need nothing of a service
        if guard:
            self.app.add_middleware(Guard, **guard)

    def get(self, address: str, **headers: str) -> httpx.Response:
        return self.ask("GET", address, **headers)

    def ask(self, method: str, address: str, **headers: str) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1") as client:
                return await client.request(method, address, headers={name.replace("_", "-"): value for name, value in headers.items()})

        return asyncio.run(asked())


@pytest.fixture
def client() -> Client:
    return Client()


def test_the_page_lets_in_nothing_from_elsewhere(client: Client) -> None:
    answer = client.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert set(policy["img-src"].split()) == {"'self'", "data:", "blob:"}
    ours = [path for path in STATIC.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")]
    assert len(ours) >= 10
    for path in ours:
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.findall(
            r"""(?:https?:)?//[\w.-]+\.[a-z]{2,}|innerHTML|outerHTML|insertAdjacentHTML|eval\(|\sstyle=|\son\w+=["']""", text
        ), path
    assert "<script>" not in answer.text


def test_every_file_that_the_page_names_is_sent_and_nothing_else(client: Client) -> None:
    named = set(re.findall(r'(?:src|href)="/static/([^"]+)"', client.get("/").text))
    for path in STATIC.glob("*.js"):
        named |= set(re.findall(r'(?:from|import\() ?"\./([^"]+)"', path.read_text(encoding="utf-8")))
    assert {"app.js", "style.css", "viewer.js", "vendor/niivue.umd.js"} <= named
    for name in named:
        assert client.get(f"/static/{name}").status_code == 200, name
    for name in ("../site.py", "..%2fsite.py", "%2e%2e/site.py", "nothing.js", "", "vendor", "/etc/passwd"):
        assert client.get(f"/static/{name}").status_code == 404, name


def test_files_are_packed_where_that_is_understood_and_not_sent_twice(client: Client) -> None:
    address = "/static/vendor/niivue.umd.js"
    packed = client.get(address, accept_encoding="gzip")
    plain = client.get(address, accept_encoding="identity")
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 900_000 < int(plain.headers["content-length"]) < 3_000_000
    assert packed.content == plain.content == (STATIC / "vendor" / "niivue.umd.js").read_bytes()
    again = client.get(address, if_none_match=plain.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_ours_is_what_its_readme_says() -> None:
    readme = (STATIC / "vendor" / "README.md").read_text(encoding="utf-8")
    content = (STATIC / "vendor" / "niivue.umd.js").read_bytes()
    assert f"`{hashlib.sha256(content).hexdigest()}`" in readme
    assert "BSD 2-Clause" in (STATIC / "vendor" / "LICENSE.niivue.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/static/app.js", 200),
        ("GET", "/?token=wrong-wrong-wrong-wrong", 401),
        ("GET", f"/?token={TOKEN}", 303),
        ("POST", "/", 401),
        ("PUT", "/static/app.js", 401),
        ("GET", "/static", 401),
        ("GET", "/v1/models", 401),
        ("GET", "/openapi.json", 401),
    ],
)
def test_the_page_itself_needs_no_token_and_all_else_does(method: str, address: str, status: int) -> None:
    client = Client(settings=ServerSettings(models=(Path("model.ts"),), token=TOKEN))
    answer = client.ask(method, address)
    assert answer.status_code == status
    assert (TOKEN in answer.headers.get("set-cookie", "")) == (status == 303)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), and 3 for what marks the focus (1.4.11)."""
    sheet = (STATIC / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    colours = {**_colours(blocks[0]), **(_colours(blocks[1]) if scheme == "dark" else {})}
    pairs = [
        ("text", "back"),
        ("text", "card"),
        ("text", "hover"),
        ("soft", "card"),
        ("soft", "back"),
        ("soft", "hover"),
        ("on-accent", "accent"),
    ]
    pairs += [
        ("accent", "card"),
        ("accent", "hover"),
        ("warn-text", "warn-back"),
        ("warn-text", "card"),
        ("warn-text", "hover"),
        ("error", "error-back"),
        ("error", "card"),
        ("error", "hover"),
    ]
    for front, ground in pairs:
        assert _contrast(colours[front], colours[ground]) >= 4.5, (front, ground)
    assert _contrast(colours["focus"], colours["card"]) >= 3


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def _contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
