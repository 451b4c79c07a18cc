"""Small DICOM objects, to be sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

KIND = "1.2.840.10008.5.1.4.1.1.66.4"


def uid_of(*words: str) -> str:
    """The same for the same words."""
    return f"2.25.{int.from_bytes(hashlib.blake2b(chr(0).join(words).encode(), digest_size=15).digest())}"


def make_object(path: Path, study: str, content: str, about: str = "", patient: str = "P", when: str = "120000") -> str:
    """Write an object; its UIDs follow from its content.

    Args:
        about: UID of the series that it was made of.
        when: time of day of its making.
    """
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = KIND, uid_of(study, content), "SEG"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = study, uid_of(study, "series", content), patient
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = "20240101"
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = when
    ds.SeriesDescription, ds.FrameOfReferenceUID = f"of {about[-40:]}", uid_of(study)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = KIND, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    temporary = path.with_name(f".{path.name}.part")
    pydicom.dcmwrite(temporary, FileDataset(str(path), ds, file_meta=meta, preamble=bytes(128)), enforce_file_format=True)
    temporary.replace(path)
    return str(ds.SOPInstanceUID)
