"""A real Orthanc on this machine, started on a temporary folder and ended by whoever started it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLUGINS = [Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc")]
_NAME = "libOrthancDicomWeb.so*"
_START_SECONDS = 30.0


def why_not() -> str:
    """Why there is no Orthanc; empty where there is one."""
    if program() is None:
        return "Orthanc is not installed (Debian: orthanc)"
    return "" if plugin() else "Orthanc's DICOMweb plugin is not installed (Debian: orthanc-dicomweb)"


def program() -> str | None:
    return shutil.which("Orthanc") or next((path for path in ("/usr/sbin/Orthanc",) if Path(path).exists()), None)


def plugin() -> Path | None:
    return next((path for folder in PLUGINS for path in sorted(folder.glob(_NAME))), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Orthanc:
    """Attributes:
    more: of its configuration.
    """

    folder: Path
    more: dict[str, Any] = field(default_factory=dict)
    http: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def web(self) -> str:
        return f"dicomweb://127.0.0.1:{self.http}/dicom-web"

    @property
    def node(self) -> str:
        return f"dicom://ORTHANC@127.0.0.1:{self.port}"

    def start(self) -> Orthanc:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.port,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(plugin())],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "UnknownSopClassAccepted": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "StableAge": 1,
            **self.more,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen([str(program()), str(path)], stdout=log, stderr=log)
        end = time.monotonic() + _START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0 and self._answers():
                    return self
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "orthanc.log").read_text()[-2000:])
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.http)) == 0

    def stop(self, keep: bool = False) -> None:
        """End it: in order, which takes seconds, where what it holds is wanted again."""
        if self.process is not None:
            self.process.terminate() if keep else self.process.kill()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def put(self, path: Path) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/instances", path.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()

    def tags(self, modality: str = "SEG") -> list[dict[str, Any]]:
        """Of every object of a modality, once for each time that it is stored."""
        found = [self.get(f"/instances/{name}/simplified-tags") for name in self.get("/instances")]
        return [tags for tags in found if tags.get("Modality") == modality]
