"""`segpipe serve`: models over HTTP, for a hospital's programs and people."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError

if TYPE_CHECKING:
    from segpipe.server.settings import ServerSettings

log = logging.getLogger(__name__)

INSTALL = "pip install 'segpipe[serve]'"
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_SECONDS = 10
"""For answers that are being sent when the server ends."""
_KEEP_SECONDS = 65
"""For which a connection stays open on which nothing is asked; longer than what stands before servers keeps theirs."""


def check_installed() -> None:
    """Raises:
    ConfigError: saying what to install.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve: needs {' and '.join(missing)}: {INSTALL}")


def serve(settings: ServerSettings) -> Outcome:
    """Serve until a signal ends it; what is in hand then is done after the next start.

    Returns:
        What waits; exit code 0.

    Raises:
        ConfigError, ModelError: see `build_app`; the port is another's.
    """
    check_installed()
    import uvicorn

    from segpipe.server.app import build_app
    from segpipe.server.connections import Connection

    with contextlib.closing(_listener(settings)) as listener, _signals():
        app = build_app(settings)
        _tell(settings, int(listener.getsockname()[1]), [served.id for served in app.state.service.models()])
        # no log of requests: addresses name jobs, and whoever may read a log need not know of them
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS,
            timeout_keep_alive=_KEEP_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])
    return Outcome([f"no longer serving; jobs are kept in {settings.data}, and those that are not done wait for the next start"])


def _listener(settings: ServerSettings) -> socket.socket:
    """Open before models are read, so that a port that another program has is told at once.

    Raises:
        ConfigError: it cannot be listened at.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen()  # from here on it is ours; who asks before models are read waits for an answer
    except OSError as error:
        listener.close()
        cure = "choose another --port, or end the program that has it"
        raise ConfigError(f"--host {settings.host} --port {settings.port}: cannot be listened at ({error.strerror}): {cure}") from error
    return listener


def _tell(settings: ServerSettings, port: int, models: list[str]) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    who = "whoever shows the token" if settings.token else "this machine alone"
    log.info("serving %s at http://%s:%d, for %s; Ctrl-C ends", ", ".join(models), host, port, who)
    devices = settings.computing.devices
    if len(devices) > 1:
        log.info("%d jobs at a time, on %s", len(devices), ", ".join(devices))
    first = f"-F model={models[0]} " if len(models) > 1 else ""
    shown = '-H "Authorization: Bearer TOKEN" ' if settings.token else ""
    log.info("try it: curl %s%s-F files=@scan.nii.gz http://%s:%d/v1/jobs; jobs are kept in %s", shown, first, host, port, settings.data)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """What uvicorn has heard of it raises again at its end, which is then no fault."""

    def heard(number: int, frame: FrameType | None) -> None:
        log.debug("signal %d", number)

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
