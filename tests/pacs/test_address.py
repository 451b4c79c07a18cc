"""Addresses, credentials and who is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.pacs.address import NodePlace, WebPlace, check_title, parse_destination, parse_source
from segpipe.pacs.allowed import parse_allowed
from segpipe.pacs.credentials import Credentials, read_credentials


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("dicomweb://pacs:8042/dicom-web/studies/1.2.3", WebPlace("http://pacs:8042/dicom-web", "1.2.3")),
        ("dicomwebs://pacs/a/b/studies/1.2/series/3.4/", WebPlace("https://pacs/a/b", "1.2", "3.4")),
        ("DICOMWEB://[::1]:80/studies/1", WebPlace("http://[::1]:80", "1")),
    ],
)
def test_a_source_is_a_study_or_series_of_a_service(text: str, place: WebPlace) -> None:
    assert parse_source(text) == place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("dicom://ORTHANC@pacs:4242", NodePlace("ORTHANC", "pacs", 4242)),
        ("dicoms://MY PACS@[fe80::1]:2762", NodePlace("MY PACS", "fe80::1", 2762, True)),
        ("dicomweb://pacs/dicom-web/", WebPlace("http://pacs/dicom-web")),
    ],
)
def test_a_destination_is_a_node_or_a_service(text: str, place: WebPlace | NodePlace) -> None:
    assert parse_destination(text) == place
    assert parse_destination(place.shown) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://pacs/studies/1", "is no address"),
        ("dicomweb://pacs/dicom-web", "names no study"),
        ("dicomweb://pacs/studies/a.b", "is no study or series"),
        ("dicomweb://pacs/studies/1/instances/2", "is no study or series"),
        ("dicomweb:///studies/1", "must name a host"),
        ("dicomweb://pacs:99999/studies/1", "must name a host"),
        ("dicomweb://me:secret@pacs/studies/1", "must hold no user and password"),
        ("dicomweb://pacs/studies/1?x=2", "without"),
        ("dicom://A@b:1", "is no address"),
    ],
)
def test_other_sources_are_refused_and_a_password_is_not_repeated(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        parse_source(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["dicom://pacs:104", "dicom://A@pacs", "dicom://A@pacs:104/x", "dicom://@pacs:104", "dicom://" + "A" * 17 + "@p:1"]
)
def test_other_nodes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--to"):
        parse_destination(text)


def test_logs_show_studies_and_series_as_hashes() -> None:
    shown = parse_source("dicomweb://pacs/studies/1.2.3/series/4.5").shown
    assert "1.2.3" not in shown
    assert "4.5" not in shown


@pytest.mark.parametrize("title", ["", "A" * 17, "A\\B", "Ä", " A", "A\n"])
def test_titles_follow_the_standard(title: str) -> None:
    with pytest.raises(ConfigError, match="AE title"):
        check_title(title, "--aet")


def test_credentials_come_from_the_environment_or_a_file_that_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("# the archive\nUSER = al\nPASSWORD=a=b \n")
    with pytest.raises(ConfigError, match="others may read it") as refused:
        read_credentials(path, {})
    path.chmod(0o600)
    assert read_credentials(path, {"SEGPIPE_DICOMWEB_TOKEN": "x"}) == Credentials("al", "a=b")
    assert read_credentials(None, {"SEGPIPE_DICOMWEB_TOKEN": "x"}) == Credentials(token="x")
    assert not read_credentials(None, {})
    assert "a=b" not in repr(read_credentials(path, {})) + str(refused.value)


@pytest.mark.parametrize(
    "text", ["USER=al\n", "PASSWORD=x\n", "USER=a\nPASSWORD=b\nTOKEN=c\n", "hunter2\n", "KEY=hunter2\n", "TOKEN=a\x07b\n"]
)
def test_a_file_of_credentials_that_is_none_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="secret: ") as refused:
        read_credentials(path, {})
    assert "hunter2" not in str(refused.value)


def test_only_known_titles_at_known_addresses_are_allowed() -> None:
    allowed = parse_allowed(["CT1@10.0.0.7", "MR@10.1.0.0/16", "HERE@localhost", "SIX@fe80::/10"])
    assert allowed.holds("CT1", "10.0.0.7")
    assert allowed.holds("MR", "10.1.9.9")
    assert allowed.holds("HERE", "127.0.0.1")
    assert allowed.holds("CT1", "::ffff:10.0.0.7")
    assert allowed.holds("SIX", "fe80::1%eth0")
    assert not allowed.holds("CT1", "10.1.9.9")
    assert not allowed.holds("CT2", "10.0.0.7")
    assert not allowed.only_here


def test_without_a_list_this_machine_alone_is_allowed() -> None:
    nobody = parse_allowed([])
    assert nobody.only_here
    assert nobody.holds("ANY", "127.0.0.1")
    assert not nobody.holds("ANY", "10.0.0.1")


@pytest.mark.parametrize("word", ["CT1", "@10.0.0.1", "CT1@", "CT1@10.0.0.0/40", "CT1@no.such.name.invalid"])
def test_other_words_of_a_list_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="--allow"):
        parse_allowed([word])
