"""Who may ask, from where, and with which token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from segpipe.errors import ConfigError
from segpipe.server.access import COOKIE, check_access, read_token
from segpipe.server.app import build_app
from segpipe.server.settings import ServerSettings
from tests.bundle.conftest import write_model

TOKEN = "0123456789abcdef-token"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("access") / "model.ts")


@pytest.fixture
def ask(model: Path, tmp_path: Path) -> Iterator[Ask]:
    """Ask a server of these settings, whose work does not begin."""

    apps = []

    def make(url: str = "http://127.0.0.1:8000", **settings: Any) -> TestClient:
        apps.append(build_app(ServerSettings((model,), tmp_path / "data", **settings)))
        return TestClient(apps[-1], base_url=url, follow_redirects=False)

    yield make
    for app in apps:
        app.state.service.close()


def error_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"])


@pytest.mark.parametrize("host", ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000", "http://LOCALHOST"])
def test_names_of_this_machine_are_let_in(ask: Ask, host: str) -> None:
    assert ask(host).get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.org", "evil.org:8000", "127.0.0.1.evil.org", "localhost.evil.org", "[::2]:8000", "", "[", "10.0.0.1"]
)
def test_a_name_that_was_made_to_lead_here_is_not(ask: Ask, host: str) -> None:
    assert "not this machine" in error_of(ask().get("/v1/models", headers={"host": host}), 421)


def test_a_page_of_another_server_is_shut_out(ask: Ask) -> None:
    client = ask()
    for headers in (
        {"origin": "https://evil.org"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert "another server" in error_of(client.post("/v1/jobs", headers=headers), 403)
    assert error_of(client.post("/v1/jobs", headers={"origin": "http://127.0.0.1:8000"}), 400)  # our own page
    assert "access-control-allow-origin" not in client.get("/v1/models").headers


def test_a_picture_of_a_page_elsewhere_makes_no_job(ask: Ask) -> None:
    """ModelHub has an address that makes one by GET, for which a browser sends no `Origin`."""
    client = ask()
    address = "/api/predict_sample?filename=none"
    for site in ("cross-site", "same-site"):
        assert "another server" in error_of(client.get(address, headers={"sec-fetch-site": site}), 403)
    for headers in ({}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert "no such sample" in error_of(client.get(address, headers=headers), 404)


def test_a_page_that_was_allowed_may_ask(ask: Ask) -> None:
    client = ask(origins=("https://viewer.hospital.org",))
    origin = {"origin": "https://viewer.hospital.org"}
    assert client.get("/v1/models", headers=origin).headers["access-control-allow-origin"] == origin["origin"]
    before = client.options("/v1/jobs", headers={**origin, "access-control-request-method": "DELETE"})
    assert before.status_code == 200
    assert error_of(client.get("/v1/models", headers={"origin": "https://evil.org"}), 403)


def test_with_a_token_nothing_but_health_and_the_empty_page_is_told_without_it(ask: Ask) -> None:
    client = ask(token=TOKEN)
    for path in ("/?token=wrong", "/v1/models", "/v1/jobs", "/metrics", "/openapi.json", "/nowhere", f"/v1/models?token={TOKEN}"):
        assert error_of(client.get(path), 401), path
    for shown in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", TOKEN):
        assert error_of(client.get("/v1/models", headers={"authorization": shown}), 401), shown
    assert client.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/health").json()["status"] == "ok"
    page = client.get("/")  # the file of the package, which asks for the token
    assert (page.status_code, "set-cookie" in page.headers) == (200, False)
    assert client.post("/").status_code in (401, 405)


def test_a_browser_gets_a_cookie_for_the_token_in_its_address(ask: Ask) -> None:
    client = ask("http://a-name-of-its-own", token=TOKEN)
    answer = client.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= {word.strip().lower() for word in answer.headers["set-cookie"].split(";")}
    assert client.get("/v1/models").status_code == 200  # the client keeps it
    client.cookies.clear()
    assert error_of(client.get("/", params={"token": "wrong"}), 401)
    assert error_of(client.get("/v1/models", headers={"cookie": f"{COOKIE}=wrong"}), 401)


def test_a_token_file_is_ones_own_and_holds_one_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it .mode 640.*chmod 600"):
        read_token(path)
    for text in ("", "short", "a" * 300, "two words of which none is a token", "eine-schlüssel-aus-buchstaben"):
        path.chmod(0o600)
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="holds no token") as refused:
            read_token(path)
        assert not text or text not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_a_server_for_others_needs_a_token(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must have a token: give --token-file"):
        build_app(ServerSettings((model,), tmp_path / "data", host="0.0.0.0"))
    assert not (tmp_path / "data").exists()
    with pytest.raises(ConfigError, match="is no origin"):
        check_access(ServerSettings((model,), origins=("viewer.hospital.org",)))


def test_with_a_token_other_hosts_are_let_in(model: Path, tmp_path: Path) -> None:
    app = build_app(ServerSettings((model,), tmp_path / "data", host="0.0.0.0", token=TOKEN))
    client = TestClient(app, base_url="http://server.hospital.org:8000")
    assert client.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert error_of(client.get("/v1/models"), 401)
    app.state.service.close()
