"""The folder of a package -> a zip archive."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from segpipe.bundle.layout import is_text


def write_archive(root: Path, target: Path) -> None:
    """The files of a package's folder as a zip archive; the same files give the same bytes."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            name = path.relative_to(root).as_posix()
            record = zipfile.ZipInfo(name)  # dated 1980
            record.compress_type = zipfile.ZIP_DEFLATED if is_text(name) else zipfile.ZIP_STORED
            record.external_attr = 0o100644 << 16
            with path.open("rb") as source, archive.open(record, "w", force_zip64=False) as packed:
                shutil.copyfileobj(source, packed, 1 << 20)
