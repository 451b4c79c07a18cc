"""Encryption: whose certificates are trusted, and which one is shown."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import ConfigError


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
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, files)
    if files.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


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
