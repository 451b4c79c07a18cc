"""The door of a node: who comes in, and what is answered to what they send (PS3.4 B.2, PS3.7 C)."""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from segpipe.dicom.library import quiet
from segpipe.errors import ConfigError, DataError
from segpipe.pacs.allowed import Allowed
from segpipe.pacs.library import pynetdicom
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.spool import FullError, Spool
from segpipe.pacs.tls import TlsFiles, server_context

log = logging.getLogger(__name__)

SUCCESS, OUT_OF_RESOURCES, NOT_AS_SAID, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
_MOST_ASSOCIATIONS, _MOST_OF_HOST = 32, 16
_HELLO_SECONDS = 10.0
"""From a connection to the request for an association, which senders make at once."""
_MOST_TOLD = 1000
_PDU_BYTES = 1 << 17
_IDLE_SECONDS = 300.0
"""At least: a sender that says nothing is let go once its series have long been taken for whole, or it would have broken off."""
_LAST_SECONDS = 5.0
"""For senders to end by themselves when the node ends."""
_TOLD_SECONDS = 60.0
_PERMANENT, _TRANSIENT = 1, 2
_BY_USER, _BY_PROVIDER = 1, 3
_TITLE_UNKNOWN, _CONGESTED = 3, 1
_DATA, _RELEASE = 0x04, 0x05
"""Types of the P-DATA-TF and the A-RELEASE-RQ (PS3.8 9.3.5 and 9.3.6)."""
_COMMAND = 0x01
"""Of the head of a fragment: it is of a command, and no data set (PS3.8 E.2)."""
MOST_BYTES = 2 << 30
"""Of one instance, which is held in memory until it is on disk: a stack of 2,000 slices in one file has about 1 GiB."""


@dataclass(frozen=True)
class Door:
    """Attributes:
    title: our AE title; senders must call us by it.
    host: address to listen at; empty: this machine alone while nobody outside is allowed, else every one.
    tls: whether connections must be encrypted.
    """

    title: str = "SEGPIPE"
    host: str = ""
    port: int = 11112
    allowed: Allowed = field(default_factory=Allowed)
    tls: bool = False
    files: TlsFiles = field(default_factory=TlsFiles)

    @property
    def where(self) -> str:
        """Address to listen at."""
        return self.host or ("127.0.0.1" if self.allowed.only_here else "0.0.0.0")


class Reception:
    """Takes what is sent from `open` to `close`, on threads of its own.

    Args:
        stop: once set, nobody is let in any more.
        most: bytes of one instance; larger ones are refused, and are held in memory no further than that.
    """

    def __init__(self, door: Door, spool: Spool, stop: threading.Event, most: int = MOST_BYTES) -> None:
        self._door, self._spool, self._stop, self._most = door, spool, stop, most
        self._sizes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._entity: Any = None
        self._told: dict[str, float] = {}
        self._hosts: WeakKeyDictionary[socket.socket, str] = WeakKeyDictionary()
        self._fault: ConfigError | None = None
        self._lock = threading.Lock()
        self._senders: set[Any] = set()

    def open(self) -> None:
        """Begin.

        Raises:
            ConfigError: the port is in use or not ours to open; no certificate.
        """
        library, door = pynetdicom(), self._door
        context = server_context(door.files) if door.tls else None
        self._entity = library.AE(ae_title=door.title)
        self._entity.require_called_aet = True
        self._entity.maximum_associations = _MOST_ASSOCIATIONS
        self._entity.maximum_pdu_size = _PDU_BYTES
        self._entity.network_timeout = max(_IDLE_SECONDS, 2 * self._spool.limits.open)
        self._entity.acse_timeout = _HELLO_SECONDS
        self._entity.add_supported_context("1.2.840.10008.1.1")
        for offered in library.AllStoragePresentationContexts:
            self._entity.add_supported_context(offered.abstract_syntax, library.ALL_TRANSFER_SYNTAXES)
        evt = library.evt
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_PDU_RECV, self._received),
        ]
        try:
            server = self._entity.make_server(
                (door.where, door.port), ssl_context=context, evt_handlers=handlers, server_class=self._server_class()
            )
        except OSError as error:
            cure = "choose another --port, or end whoever has it" if error.errno is not None else "check --host and --port"
            raise ConfigError(f"--port {door.port} at {door.where}: cannot be opened ({error.strerror or error}): {cure}") from error
        self._entity._servers.append(server)  # as its own `start_server` does, which takes no class
        threading.Thread(target=server.serve_forever, name="reception", daemon=True).start()

    def _server_class(self) -> type[Any]:
        """pynetdicom's, which lets in only whoever may come, before a handshake or a thread is spent on them."""
        lets_in, hosts = self._lets_in, self._hosts

        class Server(pynetdicom().transport.ThreadedAssociationServer):  # type: ignore[misc]
            request_queue_size = _MOST_ASSOCIATIONS

            def get_request(self) -> tuple[socket.socket, Any]:
                """As the base does.

                Raises:
                    OSError: nobody who may come in; the server goes on.
                """
                client, address = self.socket.accept()
                if not lets_in(address[0]):
                    client.close()
                    raise ConnectionRefusedError(address[0])
                if self.ssl_context:
                    client = self.ssl_context.wrap_socket(client, server_side=True)
                hosts[client] = address[0]
                return client, address

        return Server

    def _lets_in(self, host: str) -> bool:
        if not self._door.allowed.reaches(host):
            self._tell(f"{host} is not allowed, and its connection was closed: --allow AET@{host} lets it in")
            return False
        if sum(one == host and client.fileno() >= 0 for client, one in list(self._hosts.items())) >= _MOST_OF_HOST:
            self._tell(f"{host} has {_MOST_OF_HOST} connections, and one more was closed")
            return False
        return True

    def close(self) -> None:
        """Let nobody in any more, give those that are in a moment to end, and end."""
        self._stop.set()
        end = time.monotonic() + _LAST_SECONDS
        while self._entity.active_associations and time.monotonic() < end:
            time.sleep(0.05)
        closing = threading.Thread(target=self._entity.shutdown, name="closing", daemon=True)
        closing.start()
        closing.join(_LAST_SECONDS)
        for stuck in self._entity.active_associations:  # pynetdicom may wait without end for a connection in an odd state
            stuck.dul.kill_dul()
        self._look()

    def check(self) -> None:
        """Look who has ended; say if nothing can be kept any more. To be called about once a second.

        Raises:
            ConfigError: the register cannot be written.
        """
        self._look()
        if self._fault is not None:
            raise self._fault

    def _look(self) -> None:
        """Senders that have broken off: no event tells of all ways to end, nor always after the last instance was kept."""
        with self._lock:
            ended = [sender for sender in self._senders if not sender.is_alive()]
            self._senders.difference_update(ended)
        for sender in ended:
            self._spool.ended(sender, False)

    def _received(self, event: Any) -> None:
        """Note the end of a sender that wants to be released, before it is: from then on it takes all as delivered."""
        if event.pdu.pdu_type == _DATA:
            self._measure(event)
        if event.pdu.pdu_type != _RELEASE:
            return
        with self._lock:
            there = event.assoc in self._senders
            self._senders.discard(event.assoc)
        try:
            if there:
                self._spool.ended(event.assoc, True)
        except ConfigError as error:
            self._fault = error

    def _measure(self, event: Any) -> None:
        """How much of an instance has come; what is too much is let go as it comes, because pynetdicom gathers it without a limit."""
        for item in event.pdu.presentation_data_value_items:
            fragment = item.presentation_data_value
            size = 0 if fragment[0] & _COMMAND else self._sizes.get(event.assoc, 0) + len(fragment) - 1
            self._sizes[event.assoc] = size
            message = event.assoc.dimse.message
            if size > self._most and message is not None:
                message.data_set = io.BytesIO()

    def _requested(self, event: Any) -> None:
        asks = event.assoc.requestor
        title, address = asks.primitive.calling_ae_title.strip(), asks.address
        if self._stop.is_set():
            event.assoc.acse.send_reject(_TRANSIENT, _BY_PROVIDER, _CONGESTED)
        elif not self._door.allowed.holds(title, address):
            log.warning("%s@%s is not allowed, and was rejected: --allow %s@%s lets it in", title, address, title, address)
            event.assoc.acse.send_reject(_PERMANENT, _BY_USER, _TITLE_UNKNOWN)
        else:
            return
        event.assoc.kill()

    def _store(self, event: Any) -> int:
        with self._lock:
            self._senders.add(event.assoc)
        try:
            if self._sizes.get(event.assoc, 0) > self._most:
                self._tell(f"an instance of more than {self._most / 2**30:.2g} GiB was refused: see --max-gb")
                return self._refused(event, OUT_OF_RESOURCES)
            data = event.encoded_dataset()
            event.request.DataSet = None  # it is held once, with its head, from here
            with quiet():
                parcel = Parcel.of_bytes(data, "an instance")
            if (parcel.kind, parcel.instance) != (event.request.AffectedSOPClassUID, event.request.AffectedSOPInstanceUID):
                log.warning("an instance was refused: its UIDs are others than its sender says")
                return self._refused(event, NOT_AS_SAID)
            self._spool.put(parcel, data, event.assoc)
        except FullError as error:
            self._tell(f"no room for what is sent ({error}): senders are told to try again", "room")
            return OUT_OF_RESOURCES
        except DataError as error:
            log.warning("an instance was refused: %s", error)
            return self._refused(event, NOT_UNDERSTOOD)
        except ConfigError as error:  # the register; told on the thread of the call
            self._fault = error
            return OUT_OF_RESOURCES
        return SUCCESS

    def _refused(self, event: Any, status: int) -> int:
        self._spool.refused(event.assoc, str(event.request.AffectedSOPClassUID))
        return status

    def _tell(self, what: str, about: str = "") -> None:
        """Warn, at most once a minute of the same thing, or about the same."""
        with self._lock:
            now = time.monotonic()
            if now - self._told.get(about or what, -_TOLD_SECONDS) < _TOLD_SECONDS:
                return
            if len(self._told) >= _MOST_TOLD:
                self._told.clear()
            self._told[about or what] = now
        log.warning("%s", what)
