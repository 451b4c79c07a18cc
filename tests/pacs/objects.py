"""A small DICOM object for each label map, as a prediction may write one: it holds the label map's hash and refers to the scan.

Run as a program it is `segpipe` with such a writer.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from segpipe.inference.table import Row

KIND = "1.2.840.10008.5.1.4.1.1.66.4"


def uid_of(*words: str) -> str:
    """The same for the same words."""
    return f"2.25.{int.from_bytes(hashlib.blake2b(chr(0).join(words).encode(), digest_size=15).digest())}"


def make_object(path: Path, study: str, content: str, about: str = "", patient: str = "P") -> str:
    """Write an object; its UIDs follow from its content.

    Args:
        about: UID of the series that it was made of.
    """
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = KIND, uid_of(study, content), "SEG"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = study, uid_of(study, "series", content), patient
    ds.SeriesDescription, ds.FrameOfReferenceUID = f"of {about[-40:]}", uid_of(study)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = KIND, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    temporary = path.with_name(f".{path.name}.part")
    pydicom.dcmwrite(temporary, FileDataset(str(path), ds, file_meta=meta, preamble=bytes(128)), enforce_file_format=True)
    temporary.replace(path)
    return str(ds.SOPInstanceUID)


def write_result(out: Path, row: Row) -> None:
    """`OUT/CASE.seg.dcm`, if the scan is done and it is not there or another's."""
    folder = Path(row.input)
    source = next((path for path in sorted(folder.rglob("*")) if path.is_file()), None) if folder.is_dir() else None
    if source is None or not row.output:
        return
    header = pydicom.dcmread(source, stop_before_pixels=True)
    content = f"{header.SeriesInstanceUID} {row.output_hash}"
    make_object(out / f"{row.case}.seg.dcm", str(header.StudyInstanceUID), content, str(header.SeriesInstanceUID))


if __name__ == "__main__":
    from segpipe.cli import main
    from segpipe.pacs import results

    found = results.objects_of

    def objects_of(out: Path, row: Row) -> list[Path]:
        write_result(out, row)
        return found(out, row)

    results.objects_of = objects_of
    sys.path.pop(0)
    main()
