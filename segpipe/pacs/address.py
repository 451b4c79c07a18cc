"""Places on the network as a user writes them: `dicomweb://host:port/path/studies/UID` and `dicom://AET@host:port`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from segpipe.dicom.identity import short
from segpipe.errors import ConfigError

_WEB = {"dicomweb": "http", "dicomwebs": "https"}
_NODE = {"dicom": False, "dicoms": True}
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64
_LONGEST_TITLE = 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class WebPlace:
    """A DICOMweb server (PS3.18), and a study or series on it.

    Attributes:
        root: `http://host:port/path` of the service.
        study, series: UIDs; empty: not said.
    """

    root: str
    study: str = ""
    series: str = ""

    @property
    def shown(self) -> str:
        """For logs and tables: studies and series as hashes."""
        parts = [f"study {short(self.study)}"] if self.study else []
        parts += [f"series {short(self.series)}"] if self.series else []
        return " ".join([f"dicomweb{self.root.removeprefix('http')}", *parts])


@dataclass(frozen=True)
class NodePlace:
    """A DICOM node (PS3.8).

    Attributes:
        title: its application entity title.
        tls: whether the connection is encrypted.
    """

    title: str
    host: str
    port: int
    tls: bool = False

    @property
    def shown(self) -> str:
        """As a user writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"dicom{'s' * self.tls}://{self.title}@{host}:{self.port}"


Destination = WebPlace | NodePlace


def parse_source(text: str) -> WebPlace:
    """A study or a series to fetch.

    Raises:
        ConfigError: another kind of address, or it names neither.
    """
    place = _web(text, "--from")
    if not place.study:
        raise ConfigError(f"--from {text}: names no study; must end in /studies/UID or /studies/UID/series/UID")
    return place


def parse_destination(text: str) -> Destination:
    """Where results are sent.

    Raises:
        ConfigError: no such kind of address, or one that names a study.
    """
    if text.partition("://")[0].lower() in _NODE:
        return _node(text)
    place = _web(text, "--to")
    if place.study:
        raise ConfigError("--to names a study; must be the service alone, such as dicomweb://pacs:8042/dicom-web")
    return place


def is_loopback(host: str) -> bool:
    """Whether nothing that is sent there leaves this machine."""
    return host.lower() in _LOOPBACK or host.startswith("127.")


def is_uid(text: str) -> bool:
    """Digits and dots, 64 characters at most (PS3.5 9.1)."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def check_title(title: str, option: str) -> str:
    """An application entity title: 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2, AE).

    Raises:
        ConfigError: it is not.
    """
    good = 0 < len(title) <= _LONGEST_TITLE and title.isascii() and title.isprintable() and "\\" not in title and title.strip() == title
    if not good:
        raise ConfigError(f"{option}: {title!r} is no AE title; must be 1 to 16 ASCII characters without backslash")
    return title


def _web(text: str, option: str) -> WebPlace:
    scheme = text.partition("://")[0].lower()
    if "://" not in text or scheme not in _WEB:
        kinds = "dicomweb://HOST:PORT/PATH (http) or dicomwebs://... (https)"
        other = (
            ", dicom://AET@HOST:PORT or dicoms://... (TLS)" if option == "--to" else ", ending in /studies/UID or /studies/UID/series/UID"
        )
        raise ConfigError(f"{option} {_bare(text)}: is no address; must be {kinds}{other}")
    host, port = _host(text, option)
    split = urlsplit(text)
    if split.username is not None or split.password is not None:
        raise ConfigError(f"{option}: an address must hold no user and password, which other users of this machine can read: {_CURE}")
    if split.query or split.fragment:
        raise ConfigError(f"{option} {text}: must end after the path, without ? and #")
    path, study, series = _uids(split.path.rstrip("/"), option)
    shown = f"[{host}]" if ":" in host else host
    return WebPlace(f"{_WEB[scheme]}://{shown}{f':{port}' if port else ''}{path}", study, series)


_CURE = "set SEGPIPE_DICOMWEB_USER and SEGPIPE_DICOMWEB_PASSWORD, or give --credentials FILE"


def _bare(text: str) -> str:
    """Without what may be a password."""
    return text.rpartition("@")[2]


def _uids(path: str, option: str) -> tuple[str, str, str]:
    """Path of the service, study, series."""
    root, found, rest = path.partition("/studies/")
    if not found:
        return path, "", ""
    words = rest.split("/")
    well = len(words) == 1 or (len(words) == 3 and words[1] == "series")
    if not well or not all(map(is_uid, words[::2])):
        raise ConfigError(f"{option}: {found}{rest} is no study or series; must be /studies/UID or /studies/UID/series/UID")
    return root, words[0], words[2] if len(words) == 3 else ""


def _node(text: str) -> NodePlace:
    scheme, _, rest = text.partition("://")
    title, at, _ = rest.rpartition("@")
    host, port = _host(f"{scheme}://{rest.rpartition('@')[2]}", "--to")
    if not at or not port or rest.rpartition("@")[2].count("/"):
        raise ConfigError(f"--to {text}: must be {scheme}://AET@HOST:PORT, such as {scheme}://ORTHANC@pacs:4242")
    return NodePlace(check_title(title, "--to"), host, port, _NODE[scheme.lower()])


def _host(text: str, option: str) -> tuple[str, int]:
    """Host and port, 0 where none is said."""
    try:
        split = urlsplit(text)
        host, port = split.hostname, split.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigError(f"{option} {_bare(text)}: is no address; must name a host, and a port of 1 to 65535")
    return host, port or 0
