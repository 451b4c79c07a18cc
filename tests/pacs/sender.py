"""A modality that sends series until each is taken, as archives do: on any failure the whole series again, after a moment.

python sender.py PORT FOLDER...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pydicom
from pynetdicom import AE

_PAUSE = 0.3
_SECONDS = 300.0


def send(port: int, folder: Path, title: str = "CT1", called: str = "SEGPIPE") -> bool:
    """Whether every file of a folder was taken, and the association ended in order."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    first = pydicom.dcmread(paths[0], stop_before_pixels=True)
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 10
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return False
    for path in paths:
        try:
            status = association.send_c_store(path)
        except (RuntimeError, ValueError):
            return False
        if "Status" not in status:
            return False
        if status.Status != 0:
            association.release()
            return False
    association.release()
    return bool(association.is_released)


def main(port: int, folders: list[Path]) -> int:
    end = time.monotonic() + _SECONDS
    for folder in folders:
        while not send(port, folder):
            if time.monotonic() > end:
                return 1
            time.sleep(_PAUSE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), [Path(word) for word in sys.argv[2:]]))
