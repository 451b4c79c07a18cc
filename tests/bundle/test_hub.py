"""Hubs: packages by name and version, from a folder or a web server."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segpipe.bundle.hub import Entry, add, entries, pull
from segpipe.errors import ConfigError, ModelError
from tests.bundle.conftest import change_document
from tests.conftest import Run


@pytest.fixture
def hub(made: Path, tmp_path: Path) -> Path:
    add(tmp_path / "hub", made / "package.zip")
    return tmp_path / "hub"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def web(hub: Path) -> Iterator[str]:
    """The hub on a web server of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(hub)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_package_is_pulled_from_the_web_once_and_kept_by_its_content(web: str, hub: Path, cache: Path) -> None:
    package = pull(web, "blocks-thresholds@1.2")
    [entry] = entries(web)
    assert package.path == cache / "archives" / f"{entry.sha256}.zip"
    (hub / entry.file).unlink()
    assert pull(web, "blocks-thresholds").path == package.path


def test_the_latest_version_is_by_number(hub: Path, folder: Path) -> None:
    for version in ("1.10", "1.9"):
        change_document(folder, lambda document, version=version: document.update(version=version))
        add(hub, folder)
    assert [entry.version for entry in entries(str(hub))] == ["1.2", "1.9", "1.10"]
    assert pull(str(hub), "blocks-thresholds").label == "blocks-thresholds@1.10"


def test_a_version_is_never_replaced(hub: Path, made: Path) -> None:
    before = (hub / "index.json").read_bytes()
    with pytest.raises(ConfigError, match="has blocks-thresholds@1.2 already"):
        add(hub, made / "folder")
    assert (hub / "index.json").read_bytes() == before


def test_a_hostile_package_does_not_come_into_a_hub(folder: Path, tmp_path: Path) -> None:
    (folder / "install.sh").write_text("x")
    with pytest.raises(ModelError, match="no part of a package"):
        add(tmp_path / "hub", folder)
    assert not (tmp_path / "hub").exists()


def change_index(hub: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((hub / "index.json").read_text())
    change(index)
    (hub / "index.json").write_text(json.dumps(index))


def grown(hub: Path) -> None:
    with (hub / "packages/blocks-thresholds-1.2.zip").open("ab") as file:
        file.write(bytes(1 << 20))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an archive that was exchanged": (lambda hub: (hub / "packages/blocks-thresholds-1.2.zip").write_bytes(b"x" * 99), "is not what its"),
    "an archive without end": (grown, "longer than"),
    "an index that is no JSON": (lambda hub: (hub / "index.json").write_text("{"), "not plain JSON"),
    "a name that leads away": (lambda hub: change_index(hub, lambda index: index["packages"][0].update(name="../x")), "name"),
    "an address in the index": (lambda hub: change_index(hub, lambda index: index["packages"][0].update(url="file:///x")), "unknown key"),
    "a hash that leads away": (lambda hub: change_index(hub, lambda index: index["packages"][0].update(sha256="../x")), "sha256"),
    "a version twice": (lambda hub: change_index(hub, lambda index: index["packages"].append(index["packages"][0])), "twice"),
}


@pytest.mark.parametrize("attack", HOSTILE, ids=str)
def test_a_hostile_hub_gives_nothing(attack: str, hub: Path, cache: Path) -> None:
    change, word = HOSTILE[attack]
    change(hub)
    with pytest.raises(ModelError, match=word) as caught:
        pull(str(hub), "blocks-thresholds")
    assert str(caught.value).isprintable()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_another_package_under_a_name_is_refused(hub: Path) -> None:
    change_index(hub, lambda index: index["packages"][0].update(name="other"))
    shutil.move(hub / "packages/blocks-thresholds-1.2.zip", hub / "packages/other-1.2.zip")
    with pytest.raises(ModelError, match="is blocks-thresholds@1.2, not other@1.2"):
        pull(str(hub), "other")


@pytest.mark.parametrize("where", ["nowhere", "http://127.0.0.1:9", "ftp://x", "http://"])
def test_a_hub_that_is_not_there_is_told_in_one_line(where: str) -> None:
    with pytest.raises(ConfigError, match=r"index.json cannot be had"):
        entries(where)


def test_versions_of_one_two_and_three_numbers_are_in_order() -> None:
    def order(version: str) -> tuple[int, ...]:
        return Entry("x", version, "", "", "", "", "", 0).order

    assert order("1") == order("1.0") < order("1.0.1") < order("1.2") < order("1.10") < order("2")


def test_the_program_adds_lists_and_pulls(made: Path, segpipe: Run, tmp_path: Path) -> None:
    added = segpipe("hub", "add", "hub", str(made / "package.zip"))
    assert added.returncode == 0, added.stderr
    assert "blocks-thresholds@1.2" in segpipe("hub", "list", "hub").stdout
    pulled = segpipe("hub", "pull", "hub", "blocks-thresholds@1.2")
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "blocks-thresholds-1.2.zip").read_bytes() == (made / "package.zip").read_bytes()
    missing = segpipe("hub", "pull", "hub", "blocks-thresholds@9")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
