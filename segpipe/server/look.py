"""Whether what was sent can be a scan for a model at all, by names, first bytes and an archive's table; nothing is unpacked."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path, PurePosixPath

from segpipe.io.find import ITK, NIFTI, is_picture
from segpipe.server.faults import refused, too_large
from segpipe.server.models import Served
from segpipe.server.settings import Limits
from segpipe.server.upload import ARCHIVE, Sent

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_NIFTI_SIZES = tuple(size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big"))
_ENCRYPTED = 0x1
_PLAIN_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)
_MOST_MEMBERS = 20_000
_MOST_TABLE = 512 * _MOST_MEMBERS
"""Bytes of an archive's table, which is read at once: a record has 46, its file's name and a little more."""
_MOST_RATIO, _SMALL = 200, 1 << 20
"""Slices of air shrink a hundredfold; what is smaller may shrink as it likes."""
_HEADER_BYTES = 1 << 16
_ELSEWHERE = (b"data file:", b"datafile:")
_LOCAL = b"local"
_LABELS = (*NIFTI, ".nrrd")


def check_files(files: list[Sent], model: Served, limits: Limits) -> None:
    """Refuse what cannot be one scan for `model`.

    Raises:
        RequestError: which file, and why.
    """
    channels = model.channels
    if not files:
        raise refused("files: is missing; must be a scan: one file a channel, or one zip of a DICOM series")
    if len(files) > 1 and any(sent.path.suffix == ARCHIVE for sent in files):
        raise refused(f"files: has {len(files)} files with an archive among them; must be one zip of DICOM, or one file a channel")
    if len(files) not in (1, len(channels)):
        raise refused(f"files: has {len(files)}; {model.id} takes {len(channels)}, one a channel: {', '.join(channels)}")
    for sent in files:
        _check_file(sent, model, limits)


def _check_file(sent: Sent, model: Served, limits: Limits) -> None:
    with sent.path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    name, suffix = sent.name, "".join(sent.path.suffixes)
    if suffix == ARCHIVE:
        if model.pictures:
            raise refused(f"{name}: is an archive; {model.id} was trained on pictures: send a picture")
        check_archive(sent.path, name, limits)
        return
    if is_picture(sent.path) != model.pictures:
        what, wanted = ("a volume", "pictures") if model.pictures else ("a picture", "volumes")
        raise refused(f"{name}: is {what}; {model.id} takes {wanted}: choose another model, or another scan")
    if suffix == ".nii.gz" and not start.startswith(_GZIP):
        raise refused(f"{name}: is not compressed by gzip; .nii.gz must be: export it again")
    if suffix == ".nii" and start[:4] not in _NIFTI_SIZES:
        raise refused(f"{name}: does not begin as NIfTI does; must be a scan: export it again")
    if suffix in ITK:
        _check_alone(start, name, suffix)


def check_label(sent: Sent) -> None:
    """Refuse what cannot be a label map in one file, or has its voxels from another one.

    Raises:
        RequestError: and why.
    """
    suffix = "".join(sent.path.suffixes)
    if suffix not in _LABELS:
        raise refused(f"{sent.name}: is no label map that is taken; its name must end in {', '.join(_LABELS)}")
    if suffix in ITK:
        with sent.path.open("rb") as file:
            _check_alone(file.read(_HEADER_BYTES), sent.name, suffix)


def _check_alone(start: bytes, name: str, suffix: str) -> None:
    """Refuse a header that has its voxels from another file: that would be one of this machine's."""
    lines = [line.strip().lower() for line in start.splitlines()]
    if suffix == ".nrrd":
        known = start.startswith(b"NRRD000") and b"" in lines  # the header ends within what is looked at
        elsewhere = any(line.startswith(_ELSEWHERE) for line in lines)
    else:
        places = [line.partition(b"=")[2].strip() for line in lines if line.startswith(b"elementdatafile")]
        known = bool(places)
        elsewhere = any(place != _LOCAL for place in places)
    if not known:
        raise refused(f"{name}: does not begin as {suffix} does; must be a scan: export it again")
    if elsewhere:
        raise refused(f"{name}: has its voxels in another file; must be in one file: export it again")


class _LongTableError(Exception):
    """An archive's table is longer than `_MOST_TABLE`."""


class _Sparing(io.BufferedReader):
    """A file of which not much is read at once: a table of a gigabyte would take twenty in memory before its records are counted."""

    def read(self, size: int | None = -1) -> bytes:
        """As of any file.

        Raises:
            _LongTableError: it would be too much.
        """
        if size is not None and size > _MOST_TABLE:
            raise _LongTableError
        return super().read(size)


def check_archive(path: Path, name: str, limits: Limits) -> None:
    """Refuse an archive that unpacks to too much, or is not made of plain files.

    Raises:
        RequestError: and why.
    """
    try:
        with path.open("rb", buffering=0) as file:
            if file.read(len(_ZIP)) != _ZIP:
                raise refused(f"{name}: is no zip archive; must be one of a DICOM series: zip it again")
            with zipfile.ZipFile(_Sparing(file)) as archive:
                records = archive.infolist()
    except _LongTableError as error:
        raise too_large(f"{name}: holds more than {_MOST_MEMBERS} files, or very long names: zip the folder of one series") from error
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        raise refused(f"{name}: is no zip archive, or damaged: zip the folder of the series again") from error
    if len(records) > _MOST_MEMBERS:
        raise too_large(f"{name}: holds {len(records)} files; at most {_MOST_MEMBERS}: zip the folder of one series")
    if sum(record.file_size for record in records) > limits.unpacked_bytes:
        raise too_large(f"{name}: unpacks to more than {limits.unpacked_mb:g} MB: zip the folder of one series")
    for record in records:
        _check_record(record, name)


def _check_record(record: zipfile.ZipInfo, name: str) -> None:
    parts = PurePosixPath(record.orig_filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in record.orig_filename or ":" in record.orig_filename[:2]:
        raise refused(f"{name}: holds a file whose name leads out of it: zip the folder of the series again")
    if record.flag_bits & _ENCRYPTED:
        raise refused(f"{name}: is encrypted; must not be: zip the folder of the series without a password")
    if stat.S_IFMT(record.external_attr >> 16) not in _PLAIN_KINDS:
        raise refused(f"{name}: holds a link or a device, not files alone: zip the folder of the series again")
    if record.file_size > max(_SMALL, _MOST_RATIO * record.compress_size):
        raise refused(f"{name}: holds a file of {record.file_size} bytes packed into {record.compress_size}: it is no DICOM")
