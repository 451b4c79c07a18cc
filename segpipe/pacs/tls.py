"""Encryption: whose certificates are trusted, and which one is shown."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError

_HANDSHAKE_SECONDS = 3.0


@dataclass(frozen=True)
class TlsFiles:
    """Attributes:
    authority: certificates (PEM) that are trusted; None: the system's.
    certificate: our own (PEM), its chain after it; None: none is shown.
    key: its private key (PEM); None: it lies in `certificate`.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """Refuse files that cannot be used, before anything else is done.

        Raises:
            ConfigError: one is not there, is no such file, or the key is another certificate's.
        """
        if self.authority is not None or self.certificate is not None:
            client_context(self)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For connections that we open: the server's certificate and name are checked.

    Raises:
        ConfigError: see `TlsFiles.check`.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    _load(context, files)
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For connections that others open; with an authority, they must show a certificate of its own (PS3.15 B.9).

    Raises:
        ConfigError: see `TlsFiles.check`; there is no certificate.
    """
    if files.certificate is None:
        raise ConfigError("--tls-ca and --tls-key: a node that listens with TLS must show a certificate: give --tls-cert FILE")
    context = _Hasty(ssl.PROTOCOL_TLS_SERVER)
    _load(context, files)
    if files.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Hasty(ssl.SSLContext):
    """Gives up on whoever connects and says nothing: pynetdicom shakes hands on the thread that lets everybody in."""

    def wrap_socket(self, sock: socket.socket, *args: Any, **more: Any) -> ssl.SSLSocket:
        """As the base does, within seconds.

        Raises:
            OSError: no handshake came about.
        """
        sock.settimeout(_HANDSHAKE_SECONDS)
        try:
            wrapped = super().wrap_socket(sock, *args, **more)
        except BaseException:
            sock.close()
            raise
        wrapped.settimeout(None)
        return wrapped


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    if files.key is not None and files.certificate is None:
        raise ConfigError(f"--tls-key {files.key}: is the key of no certificate; give --tls-cert FILE with it")
    try:
        if files.authority is not None:
            context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-ca {files.authority}: cannot be used ({error}); must hold certificates as PEM") from error
    try:
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"--tls-cert {files.certificate}: cannot be used with its key ({error}); must be PEM, the key unlocked: give --tls-key FILE"
        ) from error


def _no_password() -> str:
    """Instead of asking on the terminal, as Python would; not an empty one, which it takes for a fault of its own."""
    return "-"
