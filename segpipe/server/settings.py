"""What a server is told when it starts; plain values, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DATA = Path("segpipe-server")
"""Folder of jobs where none is named."""
MOST_CONNECTIONS = 256
"""With a file for each they stay below 1024 open files, the usual limit of a process."""
MOST_REQUESTS = 192
"""In hand at a time; the places that are left let the state be asked for at any time."""
_MB = 1 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """Attributes:
    upload_mb: of one request, MB (2^20 bytes).
    files: of one request.
    unpacked_mb: that what was sent may unpack to, MB; a scan in memory takes several times that.
    queue: jobs that may wait.
    jobs: that are kept, those that have ended with them; the oldest of these goes first.
    keep_hours: for which a job that has ended is kept.
    timeout: seconds that a job may be worked on, 0: any.
    """

    upload_mb: float = 2048.0
    files: int = 64
    unpacked_mb: float = 8192.0
    queue: int = 100
    jobs: int = 1000
    keep_hours: float = 168.0
    timeout: float = 3600.0

    @property
    def upload_bytes(self) -> int:
        return int(self.upload_mb * _MB)

    @property
    def unpacked_bytes(self) -> int:
        return int(self.unpacked_mb * _MB)


@dataclass(frozen=True)
class Computing:
    """As of `segpipe predict`, see `Order`.

    Attributes:
        devices: each does one job at a time; one that is named twice does two.
        threads, memory_gb: of each worker; without threads the devices share the cores.
    """

    devices: tuple[str, ...] = ("auto",)
    runtime: str = "auto"
    precision: str = "auto"
    threads: int = 0
    memory_gb: float = 0.0


@dataclass(frozen=True)
class ServerSettings:
    """Attributes:
    models: packages, or bare model files.
    data: folder of jobs, one server's alone.
    corrections: folder of the data set that corrected label maps go into; None: none are taken.
    token: that every request must show; empty: none, on this machine alone.
    origins: web pages of other servers that may use this one, `https://viewer.hospital.org`.
    warm: models that stay loaded on each device, the one in use with them.
    """

    models: tuple[Path, ...]
    data: Path = DATA
    host: str = "127.0.0.1"
    port: int = 8000
    corrections: Path | None = None
    token: str = field(default="", repr=False)
    origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    computing: Computing = field(default_factory=Computing)
    warm: int = 2

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOOPBACK
