"""Hubs: packages by name and version, from a folder or a web server."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segpipe.bundle.hub import Entry, add, entries, pull
from segpipe.bundle.load import find_model
from segpipe.bundle.named import find_package
from segpipe.bundle.pack import write_archive
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
    with serving(functools.partial(_Quiet, directory=str(hub))) as where:
        yield where


@contextlib.contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A web server of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
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


@pytest.mark.parametrize("where", ["nowhere", "http://127.0.0.1:9", "http://"])
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
    assert "has no blocks-thresholds@9; must be one of blocks-thresholds@1.2" in missing.stderr
    for out, word in (("pulled", "must end with .zip"), ("blocks-thresholds-1.2.zip", "is there already")):
        refused = segpipe("hub", "pull", "nowhere", "blocks-thresholds", "--out", out)  # said before anything is fetched
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert word in refused.stderr


@pytest.mark.parametrize("words", [(), ("list",), ("add",), ("pull",)], ids=" ".join)
def test_the_help_of_hubs_shows_an_example(words: tuple[str, ...], segpipe: Run) -> None:
    shown = segpipe("hub", *words, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"\n  segpipe hub {' '.join(words)}" in shown.stdout


def test_two_who_add_at_once_both_stand_in_the_index(folder: Path, tmp_path: Path) -> None:
    """Without a lock the later index would lack what the earlier one had just got."""
    copies = []
    for number in range(8):
        copies.append(shutil.copytree(folder, tmp_path / f"copy-{number}"))
        change_document(copies[-1], lambda document, number=number: document.update(version=f"2.{number}"))
    threads = [threading.Thread(target=add, args=(tmp_path / "hub", copy)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.version for entry in entries(str(tmp_path / "hub"))] == [f"2.{number}" for number in range(8)]


def test_an_add_that_was_killed_before_the_index_leaves_a_version_that_can_be_added(hub: Path, made: Path) -> None:
    change_index(hub, lambda index: index.update(packages=[]))
    (hub / "packages/blocks-thresholds-1.2.zip").write_bytes(b"half")
    add(hub, made / "package.zip")
    assert pull(str(hub), "blocks-thresholds").label == "blocks-thresholds@1.2"


def test_what_changes_while_it_is_copied_does_not_come_into_a_hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(root: Path, target: Path) -> None:
        change_document(root, lambda document: document.update(version="6.6"))
        write_archive(root, target)

    monkeypatch.setattr("segpipe.bundle.hub.write_archive", changed)
    with pytest.raises(ModelError, match="has changed while it was copied"):
        add(tmp_path / "hub", folder)
    assert [path for path in (tmp_path / "hub").rglob("*") if path.is_file()] == []


def test_a_link_put_into_a_folder_after_the_check_is_not_packed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "docs" / "more.md").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="is a link"):
        write_archive(folder, tmp_path / "out.zip")


@pytest.mark.parametrize("where", ["http://x/hub", "https://x/hub", "s3://bucket/hub"])
def test_nothing_is_added_to_an_address(where: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is an address"):
        add(Path(where), made / "package.zip")
    assert not list(tmp_path.glob("*:"))


def test_a_version_that_was_pulled_never_becomes_another(hub: Path, folder: Path) -> None:
    """Whoever holds the hub, or stands between, changes archive and index together: hash and name then agree."""
    pull(str(hub), "blocks-thresholds@1.2")
    shutil.rmtree(hub)
    change_document(folder, lambda document: document["card"].update(summary="Another model."))
    add(hub, folder)
    with pytest.raises(ModelError, match="is not what it was when it was pulled before"):
        pull(str(hub), "blocks-thresholds@1.2")


def test_a_hub_does_not_go_back_to_an_older_version(hub: Path, folder: Path) -> None:
    change_document(folder, lambda document: document.update(version="1.3"))
    add(hub, folder)
    assert pull(str(hub), "blocks-thresholds").label == "blocks-thresholds@1.3"
    change_index(hub, lambda index: index["packages"].pop())
    with pytest.raises(ModelError, match=r"its latest is blocks-thresholds@1.2, though blocks-thresholds@1.3 was pulled"):
        pull(str(hub), "blocks-thresholds")
    assert pull(str(hub), "blocks-thresholds@1.2").label == "blocks-thresholds@1.2"


def test_an_index_that_names_a_package_of_the_cache_otherwise_is_refused(hub: Path) -> None:
    pull(str(hub), "blocks-thresholds")
    change_index(hub, lambda index: index["packages"][0].update(name="other"))
    with pytest.raises(ModelError, match="is blocks-thresholds@1.2, not other@1.2"):
        pull(str(hub), "other")


@pytest.mark.parametrize(
    "wanted", ["blocks-thresholds@", "@1.2", "blocks-thresholds@1.2@1", "blocks-thresholds@latest", "../x", "\u0661@1"]
)
def test_what_is_no_name_of_a_package_is_refused(wanted: str, hub: Path) -> None:
    """A name with an empty version had got the latest, and had not been compared with what was pulled before."""
    with pytest.raises(ConfigError, match="names no package; must be NAME or NAME@VERSION"):
        pull(str(hub), wanted)


def test_a_version_is_found_with_other_zeros(hub: Path) -> None:
    assert pull(str(hub), "blocks-thresholds@1.2.0").label == "blocks-thresholds@1.2"
    assert find_package("blocks-thresholds@1.2.0").label == "blocks-thresholds@1.2"


def test_a_signature_of_an_archive_that_is_not_there_does_not_stay(hub: Path, made: Path) -> None:
    """Whose adding was cut off before the index: with it, what is added now would pass for changed."""
    change_index(hub, lambda index: index.update(packages=[]))
    (hub / "packages/blocks-thresholds-1.2.zip.minisig").write_text("of another archive")
    add(hub, made / "package.zip")
    assert [path.name for path in (hub / "packages").iterdir()] == ["blocks-thresholds-1.2.zip"]


def test_digits_of_other_scripts_are_no_version(hub: Path) -> None:
    change_index(hub, lambda index: index["packages"][0].update(version="\u0661.\u0662"))
    with pytest.raises(ModelError, match="version"):
        entries(str(hub))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://127.0.0.1:9/index.json", "/other.json"])
def test_a_web_server_that_leads_elsewhere_is_not_followed(target: str, tmp_path: Path) -> None:
    class Redirects(_Quiet):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

    with serving(Redirects) as where, pytest.raises(ConfigError, match="lies elsewhere, which is not followed") as caught:
        entries(where)
    assert target in str(caught.value)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.bundle.fetch._GRACE_SECONDS", 0.3)

    class Drips(_Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side has gone
                for _ in range(200):
                    self.wfile.write(b" ")
                    time.sleep(0.05)

    with serving(Drips) as where, pytest.raises(ModelError, match="comes too slowly"):
        entries(where)


@pytest.mark.parametrize(
    ("where", "word"),
    [
        ("s3://models/hub", r"give https://models\.s3\.REGION\.amazonaws\.com/hub"),
        ("ftp://x", "is no hub"),
        ("file:///etc", "is no hub"),
        ("https://me:secret@x/hub", "holds a user or password"),
    ],
)
def test_an_address_of_another_kind_is_told_in_one_line(where: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        entries(where)
    assert "secret" not in str(caught.value)


def test_a_pulled_package_is_known_by_its_name_without_the_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = "blocks-thresholds@1.2"
    with pytest.raises(ConfigError, match="was not pulled before"):
        find_package(label)
    pull(str(hub), label)
    shutil.rmtree(hub)
    assert find_package(label).label == label
    monkeypatch.setenv("SEGPIPE_HUB", str(hub.with_name("elsewhere")))
    with pytest.raises(ConfigError, match="cannot be had"):
        find_package(label)


def test_a_name_is_looked_for_in_the_hub_that_the_variable_names(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGPIPE_HUB", str(hub))
    found = find_model("blocks-thresholds@1.2")
    assert found.package is not None
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256


def test_two_hubs_with_two_packages_of_one_name_are_told_apart(hub: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = hub.with_name("other")
    change_document(folder, lambda document: document["card"].update(summary="Another model."))
    add(other, folder)
    pull(str(hub), "blocks-thresholds")
    pull(str(other), "blocks-thresholds")
    with pytest.raises(ConfigError, match="gave different packages"):
        find_package("blocks-thresholds@1.2")
    monkeypatch.setenv("SEGPIPE_HUB", str(other))
    assert find_package("blocks-thresholds@1.2").document["card"]["summary"] == "Another model."


def test_an_archive_of_the_cache_that_was_exchanged_is_not_used(hub: Path, made: Path) -> None:
    place = pull(str(hub), "blocks-thresholds").path
    place.write_bytes((made / "package.zip").read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="has changed since it was pulled"):
        find_package("blocks-thresholds@1.2")
    assert pull(str(hub), "blocks-thresholds").path == place  # fetched again


def test_the_program_uses_a_pulled_package_by_its_name(hub: Path, made: Path, segpipe: Run, tmp_path: Path, cache: Path) -> None:
    assert segpipe("hub", "pull", str(hub), "blocks-thresholds@1.2").returncode == 0
    shutil.rmtree(hub)
    done = segpipe("predict", "blocks-thresholds@1.2", str(made / "scans"), "out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "mueller_hans_1950.nii.gz").is_file()
    missing = segpipe("predict", "blocks-thresholds@9", str(made / "scans"), "out")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    assert "was not pulled before" in missing.stderr
