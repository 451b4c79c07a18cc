"""Whether a folder lies on a disk of this machine, where all processes see each other's memory, or on a network."""

from __future__ import annotations

from pathlib import Path

import psutil

_LOCAL = frozenset(("apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "ntfs", "overlay", "tmpfs", "ufs", "xfs", "zfs"))


def is_local(folder: Path) -> bool:
    """Whether `folder`, which is there, lies on a file system that is known to be this machine's alone; False where nothing is known."""
    real = folder.resolve()
    try:
        mounts = {Path(part.mountpoint): part.fstype.lower() for part in psutil.disk_partitions(all=True)}
    except OSError:
        return False
    kind = next((mounts[place] for place in (real, *real.parents) if place in mounts), "")
    return kind in _LOCAL
