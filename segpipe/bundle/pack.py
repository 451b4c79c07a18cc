"""The folder of a package -> a zip archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

from segpipe.bundle.contents import list_folder
from segpipe.bundle.layout import is_text


def write_archive(root: Path, target: Path) -> None:
    """The files of a package's folder as a zip archive; the same files give the same bytes.

    Raises:
        ModelError: it holds a link, or changes while it is read.
    """
    contents = list_folder(root)
    with zipfile.ZipFile(target, "w") as archive:
        for name, size in sorted(contents.sizes.items()):
            record = zipfile.ZipInfo(name)  # dated 1980
            record.compress_type = zipfile.ZIP_DEFLATED if is_text(name) else zipfile.ZIP_STORED
            record.external_attr = 0o100644 << 16
            record.file_size = size  # by which zipfile knows files over 2 GB beforehand
            with archive.open(record, "w") as packed:
                for piece in contents.chunks(name):
                    packed.write(piece)
