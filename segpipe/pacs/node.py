"""A DICOM node that results are sent to: C-STORE, and C-FIND where it must be asked what it has."""

from __future__ import annotations

import contextlib
import io
import logging
import ssl
from collections.abc import Iterator
from typing import Any

from segpipe.dicom.library import pydicom, quiet
from segpipe.pacs.address import NodePlace
from segpipe.pacs.faults import DeniedError, LaterError, RefusedError
from segpipe.pacs.library import pynetdicom
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.tls import TlsFiles, client_context

log = logging.getLogger(__name__)

_SECONDS = 30.0
_REPLY_SECONDS = 120.0
_VERIFICATION = "1.2.840.10008.1.1"
_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve, FIND."""
_DUPLICATE = 0x0111
_MEANINGS = {
    0x0110: "it failed while processing",
    0x0117: "it holds the UID for invalid",
    0x0122: "it does not support the kind of object",
    0x0124: "we are not authorised",
    0xA900: "the object does not match its kind",
    0xC000: "it cannot understand the object",
}
"""PS3.7 C and PS3.4 B.2.3; the last digits of some are the node's own."""
_PERMANENT = 1
_TITLES = {3: "our AE title is not known to it: add it there, or give --aet", 7: "this is not its AE title: correct --to"}


class Node:
    """One node. Nothing is tried twice here. Used by one thread at a time.

    Args:
        title: our own AE title.
    """

    def __init__(self, place: NodePlace, title: str, tls: TlsFiles) -> None:
        self.place = place
        self._title = title
        self._tls = client_context(tls) if place.tls else None
        self._association: Any = None

    def close(self) -> None:
        """End the association, if there is one."""
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.release()

    def check(self) -> None:
        """C-ECHO.

        Raises:
            DeniedError, LaterError: see `faults`.
        """
        try:
            status = self._connected(_VERIFICATION, None).send_c_echo()
        except RuntimeError as error:  # the association has ended before
            raise LaterError(f"{self.place.shown}: the connection was lost") from error
        finally:
            self.close()
        if "Status" not in status:
            raise LaterError(f"{self.place.shown}: has not answered a C-ECHO")

    def has(self, parcel: Parcel) -> bool | None:
        """Whether an object lies there; None where that cannot be asked."""
        query = pydicom().Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID, query.SOPInstanceUID = parcel.study, parcel.series, parcel.instance
        try:
            association = self._connected(_FIND, None)
            answers = list(association.send_c_find(query, _FIND))
        except (RefusedError, ValueError) as error:
            log.debug("%s", error)
            return None
        except RuntimeError as error:  # the association has ended before
            raise LaterError(f"{self.place.shown}: the connection was lost before it was asked", unsure=True) from error
        finally:
            self.close()
        if not answers or "Status" not in answers[-1][0]:
            raise LaterError(f"{self.place.shown}: has not answered a query", unsure=True)
        if answers[-1][0].Status != 0:
            return None
        return any(str(found.get("SOPInstanceUID", "")) == parcel.instance for _, found in answers if found is not None)

    def store(self, parcel: Parcel, data: bytes) -> None:
        """Send an object, and return once the node has said that it keeps it.

        Raises:
            RefusedError, LaterError, DeniedError: see `faults`.
        """
        association = self._connected(parcel.kind, parcel.syntax)
        with quiet():
            try:
                status = association.send_c_store(pydicom().dcmread(io.BytesIO(data)))
            except (ValueError, AttributeError) as error:
                self.close()
                raise RefusedError(f"{self.place.shown}: cannot be sent ({' '.join(str(error).split())[:120]})") from error
            except RuntimeError as error:  # the association has ended before
                self.close()
                raise LaterError(f"{self.place.shown}: the connection was lost") from error
        self._judge(status, parcel)

    def _judge(self, status: Any, parcel: Parcel) -> None:
        """PS3.4 B.2.3 and PS3.7 C."""
        if "Status" not in status:
            self.close()
            raise LaterError(f"{self.place.shown}: the connection was lost before it had answered", unsure=True)
        code = int(status.Status)
        if code in (0, 1) or 0xB000 <= code < 0xC000:
            return
        if code == _DUPLICATE:  # of the same UID is the same content; that it has it is better seen
            if self.has(parcel) is False:
                raise LaterError(f"{self.place.shown}: says that it has it (status 0111), and does not list it", unsure=True, alone=True)
            return
        if 0xA700 <= code < 0xA800:
            raise LaterError(f"{self.place.shown}: has no room (status {code:04X})")
        raise RefusedError(f"{self.place.shown}: does not take it (status {code:04X}, {_meaning(code)}): see its log")

    def _connected(self, kind: str, syntax: str | None) -> Any:
        """The association for a kind of object, a new one where the old one is for another.

        Args:
            syntax: None: any that needs no codec.
        """
        held = self._association
        if held is not None and held.is_established and _takes(held, kind, syntax):
            return held
        self.close()
        entity = pynetdicom().AE(ae_title=self._title)
        entity.acse_timeout = entity.connection_timeout = entity.network_timeout = _SECONDS
        entity.dimse_timeout = _REPLY_SECONDS
        entity.add_requested_context(kind, syntax)
        tls = (self._tls, self.place.host) if self._tls is not None else None
        with _told() as why:
            try:
                self._association = entity.associate(self.place.host, self.place.port, ae_title=self.place.title, tls_args=tls)
            except OSError as error:  # a name that nobody knows
                raise LaterError(f"{self.place.shown}: nobody answers ({error.strerror or error})") from error
        self._check(self._association, kind, syntax, why)
        return self._association

    def _check(self, association: Any, kind: str, syntax: str | None, why: _Why) -> None:
        shown = self.place.shown
        if association.is_rejected:
            said = association.acceptor.primitive
            if said.result == _PERMANENT:
                cure = _TITLES.get(said.diagnostic, said.reason_str) if said.result_source == 1 else said.reason_str
                raise DeniedError(f"{shown}: rejects us: {cure}")
            raise LaterError(f"{shown}: rejects us for now: {said.reason_str}")
        if association.is_established and _takes(association, kind, syntax):
            return
        rejected = any(context.abstract_syntax == kind for context in association.rejected_contexts)
        self.close()
        if rejected or association.is_established:
            name = pydicom().uid.UID
            how = f" in {name(syntax).name}" if syntax else ""
            raise RefusedError(f"{shown}: does not take {name(kind).name}{how}: allow it there")
        if why.tls:
            raise DeniedError(f"{shown}: TLS failed ({why.text}): give --tls-ca FILE with its certificate")
        raise LaterError(f"{shown}: {f'nobody answers ({why.text})' if why.text else 'does not answer as a DICOM node does'}")


def _meaning(code: int) -> str:
    """In our own words: the comment that comes with a status may hold the patient's name."""
    return _MEANINGS.get(code) or _MEANINGS.get(code & 0xFF00) or _MEANINGS.get(code & 0xF000) or "unknown"


def _takes(association: Any, kind: str, syntax: str | None) -> bool:
    return any(
        context.abstract_syntax == kind and (syntax is None or syntax in context.transfer_syntax)
        for context in association.accepted_contexts
    )


class _Why(logging.Handler):
    """What pynetdicom only logs: why no connection came about.

    Attributes:
        text: one short line; empty where it has said nothing.
        tls: whether it was for a lack of trust.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tls = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the system's words."""
        failed = record.exc_info[1] if record.exc_info else None
        if isinstance(failed, ssl.SSLError):
            self.tls = True
            self.text = getattr(failed, "verify_message", "") or failed.reason or "no common version"
        elif record.getMessage().startswith(_SAID):
            self.text = record.getMessage().removeprefix(_SAID).rpartition("] ")[2][:120]


_SAID = "TCP Initialisation Error: "


@contextlib.contextmanager
def _told() -> Iterator[_Why]:
    ear, logger = _Why(), logging.getLogger("pynetdicom.transport")
    before, logger.propagate = (logger.level, logger.propagate), False
    logger.setLevel(logging.ERROR)
    logger.addHandler(ear)
    try:
        yield ear
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before[0])
        logger.propagate = before[1]
