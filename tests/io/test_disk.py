"""Which folders lie on a disk of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.io import disk


def test_only_file_systems_that_are_known_are_taken_for_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Part:
        mountpoint, fstype = str(tmp_path), "nfs4"

    for kind, local in (("nfs4", False), ("lustre", False), ("ext4", True), ("", False)):
        Part.fstype = kind
        monkeypatch.setattr(disk.psutil, "disk_partitions", lambda all: [Part])
        assert disk.is_local(tmp_path / "..") is False  # above every mount that is known
        assert disk.is_local(tmp_path) is local
