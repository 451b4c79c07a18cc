"""A DICOMweb server (PS3.18): what it holds (QIDO-RS), its files (WADO-RS), and ours for it (STOW-RS)."""

from __future__ import annotations

import http
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from segpipe.dicom.identity import short
from segpipe.errors import DataError
from segpipe.io.atomic import replacing
from segpipe.pacs.address import WebPlace, is_loopback, is_uid
from segpipe.pacs.credentials import Credentials
from segpipe.pacs.faults import DeniedError, LaterError, RefusedError
from segpipe.pacs.library import requests
from segpipe.pacs.multipart import DICOM, boundary_of, wrap, write_only_part
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.said import DUPLICATE, number, parse_said, text
from segpipe.pacs.tls import TlsFiles

log = logging.getLogger(__name__)

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 120.0
_CHUNK = 1 << 20
_PAGE = 500
_PAGES, _MOST = 2000, 100_000
"""Pages and matches that a search may have: more than any series, and an end."""
_JSON = "application/dicom+json"
_STUDY, _SERIES, _INSTANCE, _MODALITY = "0020000D", "0020000E", "00080018", "00080060"
_SIZE = "00201209"
"""Number of Series Related Instances."""
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_CREDENTIALS = "set SEGPIPE_DICOMWEB_USER and SEGPIPE_DICOMWEB_PASSWORD (or SEGPIPE_DICOMWEB_TOKEN), or give --credentials FILE"
_PATH = "the path (Orthanc: /dicom-web)"


class Web:
    """One server. Nothing is tried twice here; what may go well later is told apart by its error (see `faults`).

    Used by one thread at a time, or by several for reading alone.
    """

    def __init__(self, place: WebPlace, credentials: Credentials, tls: TlsFiles) -> None:
        self.place = WebPlace(place.root)
        self._session = requests().Session()
        self._session.trust_env = False  # a proxy of the surroundings would see the password and the patients
        self._session.auth = _Authorisation(credentials)
        self._verify: str | bool = str(tls.authority) if tls.authority else True
        if tls.certificate is not None:
            self._session.cert = (str(tls.certificate), str(tls.key)) if tls.key else str(tls.certificate)
        self._warn(credentials)

    def _warn(self, credentials: Credentials) -> None:
        host = self.place.root.partition("://")[2].partition("/")[0].rpartition(":")[0].strip("[]") or self.place.root
        if self.place.root.startswith("http://") and not is_loopback(host):
            also = "the password and " if credentials else ""
            log.warning("%s: %spictures of patients travel unencrypted: use dicomwebs:// if the server can", self.place.shown, also)

    def close(self) -> None:
        """Let go of connections."""
        self._session.close()

    def check(self) -> None:
        """Ask for something small.

        Raises:
            DeniedError, LaterError: see `faults`.
        """
        self._search("studies", {"limit": "1"})

    def series(self, study: str) -> list[tuple[str, str]]:
        """UID and modality of each series of a study.

        Raises:
            RefusedError: there is no such study.
        """
        found = self._all(f"studies/{study}/series", _SERIES, {"includefield": _MODALITY})
        if not found:
            raise RefusedError(f"{self.place.shown}: there is no study {short(study)}, or none that we may see: check the UID")
        return [(uid, text(one, _MODALITY)) for uid, one in found.items()]

    def instances(self, study: str, series: str) -> list[str]:
        """UIDs of the instances of a series.

        Raises:
            RefusedError: there is no such series, or the server does not list all that it says it has.
        """
        size = self._size(study, series)  # before: a series may grow meanwhile
        found = self._all(f"studies/{study}/series/{series}/instances", _INSTANCE, {}, size)
        if not found:
            raise RefusedError(f"{self.place.shown}: there is no series {short(series)}, or none that we may see: check the UID")
        return list(found)

    def fetch(self, study: str, series: str, instance: str, target: Path) -> None:
        """Write an instance as the server holds it, whole or not at all.

        Raises:
            RefusedError: it is not there, or what came is something else.
        """
        path = f"studies/{study}/series/{series}/instances/{instance}"
        accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
        with self._answer("GET", path, {"Accept": accept}, stream=True) as answer, replacing(target) as temporary:
            chunks = self._chunks(answer)
            boundary = boundary_of(answer.headers.get("Content-Type", ""))
            with temporary.open("wb") as file:
                if boundary:
                    write_only_part(chunks, boundary, file)
                else:
                    file.writelines(chunks)
            try:
                got = Parcel.of_file(temporary)
            except DataError as error:
                raise RefusedError(f"{self.place.shown}: has sent what is no DICOM file with UIDs: tell its administrator") from error
            if (got.series, got.instance) != (series, instance):
                raise RefusedError(f"{self.place.shown}: has sent another instance than it was asked for: tell its administrator")

    def has(self, parcel: Parcel) -> bool | None:
        """Whether an object lies there; None where that cannot be asked."""
        try:
            found = self._search("instances", {_INSTANCE: parcel.instance, _STUDY: parcel.study, _SERIES: parcel.series, "limit": "1"})
        except (RefusedError, DeniedError) as error:  # QIDO need not be offered
            log.debug("%s", error)
            return None
        return any(text(one, _INSTANCE) == parcel.instance for one in found)

    def store(self, parcel: Parcel, data: bytes) -> None:
        """Send an object, and return once the server has named it as stored, or has it; one that it has is kept once.

        Raises:
            RefusedError, LaterError, DeniedError: see `faults`.
        """
        kind, body = wrap(data)
        try:
            with self._answer("POST", "studies", {"Accept": _JSON, "Content-Type": kind}, body, judged=(409,)) as answer:
                self._judge(answer, parcel)
        except requests().exceptions.RequestException as error:
            raise LaterError(f"{self.place.shown}: the answer was cut off ({_kind(error)})", unsure=True) from error

    def _judge(self, answer: Any, parcel: Parcel) -> None:
        """What the server says of the object; one that does not name it as stored is asked whether it has it."""
        said, status = parse_said(answer.content or b""), answer.status_code
        again = said.reasons == {DUPLICATE}  # of the same UID is the same content; that it has it is better seen
        if not again and (said.reasons or status == 409):
            failure = ", ".join(f"{one:04X}" for one in sorted(said.reasons)) or status
            if any(one in _OUT_OF_RESOURCES for one in said.reasons):
                raise LaterError(f"{self.place.shown}: does not take it (failure {failure}): it has no room")
            raise RefusedError(f"{self.place.shown}: does not take it (failure {failure}): see its log")
        if parcel.instance in said.stored and not again:
            return
        try:
            there = self.has(parcel)
        except LaterError as error:
            raise LaterError(str(error), True, error.wait, error.alone) from error
        if there or (again and there is None):
            return
        if again:
            raise LaterError(f"{self.place.shown}: says that it has it (failure 0111), and does not list it", unsure=True, alone=True)
        if there is None and not said.speaks:
            raise DeniedError(f"{self.place.shown}: answers with {status} and does not speak DICOMweb (a login page?): check {_PATH}")
        missing = "does not have it" if there is False else "cannot be asked whether it has it"
        raise LaterError(f"{self.place.shown}: answers with {status}, does not name it as stored, and {missing}", unsure=True, alone=True)

    def _all(self, path: str, key: str, wanted: dict[str, str], expected: int | None = None) -> dict[str, Any]:
        """Every match by its UID, page by page, until one brings nothing new: a server may send fewer than it is asked for at a time.

        Args:
            expected: how many there are, by another answer of the server; None where it does not say.

        Raises:
            RefusedError: it has fewer than it said, or never comes to an end.
        """
        found: dict[str, Any] = {}
        rows = 0
        for _ in range(_PAGES):
            try:
                page = self._search(path, {**wanted, "limit": str(_PAGE), "offset": str(rows)})
            except RefusedError:  # some refuse what lies behind the end
                if expected is None or len(found) < expected:
                    raise
                page = []
            fresh = {uid: one for one in page if is_uid(uid := text(one, key)) and uid not in found}
            found |= fresh
            rows += len(page)
            if len(found) > _MOST:
                break
            if not fresh:
                self._check_whole(len(found), expected)
                return found
        raise RefusedError(f"{self.place.shown}: lists without end (more than {len(found) - 1}): tell its administrator")

    def _check_whole(self, found: int, expected: int | None) -> None:
        if expected is not None and found < expected:
            why = "a part may be hidden from us: tell its administrator"
            raise RefusedError(f"{self.place.shown}: lists {found} of the {expected} instances that it says the series has; {why}")

    def _size(self, study: str, series: str) -> int | None:
        """How many instances the server says a series has; None where it does not say."""
        try:
            found = self._search(f"studies/{study}/series", {_SERIES: series, "includefield": _SIZE, "limit": str(_PAGE)})
        except (RefusedError, DeniedError) as error:
            log.debug("%s", error)
            return None
        return next((number(one, _SIZE) for one in found if text(one, _SERIES) == series), None)

    def _search(self, path: str, wanted: dict[str, str]) -> list[dict[str, Any]]:
        with self._answer("GET", path, {"Accept": _JSON}, params=wanted) as answer:
            if answer.status_code == 204:
                return []
            try:
                found = answer.json()
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise DeniedError(f"{self.place.shown}: does not speak DICOMweb: check {_PATH}")
            return found

    def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None, judged: tuple[int, ...] = (), **more: Any
    ) -> Any:
        """What the server answers, its status looked at.

        Args:
            judged: statuses that the caller looks at itself.
        """
        errors = requests().exceptions
        shown, url = self.place.shown, f"{self.place.root}/{path}"
        options = {"timeout": (_CONNECT_SECONDS, _READ_SECONDS), "allow_redirects": False, "verify": self._verify, **more}
        try:
            answer = self._session.request(method, url, headers=headers, data=body, **options)
        except errors.SSLError as error:
            raise DeniedError(f"{shown}: TLS failed ({_inner(error)}): give --tls-ca FILE with its certificate") from error
        except errors.ConnectionError as error:
            raise LaterError(f"{shown}: nobody answers ({_inner(error)})", unsure=body is not None and _was_open(error)) from error
        except errors.Timeout as error:
            raise LaterError(f"{shown}: has not answered for {_READ_SECONDS:.0f} s", unsure=body is not None) from error
        except errors.RequestException as error:
            raise LaterError(f"{shown}: the answer was cut off ({_kind(error)})", unsure=body is not None) from error
        if answer.status_code < 300 or answer.status_code in judged:
            return answer
        with answer:
            raise self._fault(answer, path, body is not None)

    def _fault(self, answer: Any, path: str, sent: bool) -> Exception:
        status, shown = answer.status_code, self.place.shown
        if status in (401, 403):
            return DeniedError(f"{shown}: refuses us ({status} {_phrase(status)}): {_CREDENTIALS}")
        if status in _BUSY:
            asked = answer.headers.get("Retry-After", "")
            wait = float(asked) if asked.isascii() and asked.isdecimal() else 0.0
            return LaterError(f"{shown}: {status} {_phrase(status)}", sent and status >= 500, wait, alone=sent and status == 500)
        if 300 <= status < 400:
            return DeniedError(f"{shown}: leads elsewhere ({status}); must be the service: check {_PATH}, and dicomwebs:// for https")
        if status in (404, 405, 501) and path in ("studies", "instances"):
            return DeniedError(f"{shown}: there is no DICOMweb service ({status} {_phrase(status)}): check {_PATH}")
        if status == 404:
            return RefusedError(f"{shown}: has it not, or not for us (404): check the UID, and {_PATH}")
        return RefusedError(f"{shown}: {status} {_phrase(status)}")

    def _chunks(self, answer: Any) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(_CHUNK)
        except requests().exceptions.RequestException as error:
            raise LaterError(f"{self.place.shown}: the answer was cut off ({_kind(error)})") from error


class _Authorisation:
    """Says who we are; without credentials nothing, not even what a `.netrc` file of the user holds."""

    def __init__(self, credentials: Credentials) -> None:
        self._basic: Callable[[Any], Any] | None = None
        self._token = credentials.token
        if credentials.user:
            self._basic = requests().auth.HTTPBasicAuth(credentials.user.encode(), credentials.password.encode())

    def __call__(self, request: Any) -> Any:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return self._basic(request) if self._basic else request


def _was_open(error: Exception) -> bool:
    """Whether there was a connection, so that what was sent may have come."""
    never = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")
    return not any(name in repr(error) for name in never)


def _phrase(status: int) -> str:
    """What a status means, not what the server says with it, which may hold anything."""
    return http.HTTPStatus(status).phrase if status in http.HTTPStatus._value2member_map_ else "unknown"


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _inner(error: BaseException) -> str:
    """The innermost cause on one short line, without the address of the request, which holds UIDs."""
    seen = error
    while True:
        inner = getattr(seen, "reason", None) or next((one for one in seen.args if isinstance(one, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    words = getattr(seen, "strerror", None) or getattr(seen, "verify_message", None) or str(seen)
    plain = re.sub(r" *\(_ssl\.c:\d+\)|\[Errno \d+\] *", "", " ".join(str(words).split()))
    return plain.rpartition(": ")[2][:120] or _kind(error)
