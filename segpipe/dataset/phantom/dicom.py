"""A plain single-frame DICOM series of a volume, the same bytes on every machine."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.phantom.files import unit_axes
from segpipe.errors import DataError
from segpipe.geometry.grid import Volume
from segpipe.io.atomic import write_bytes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Modality = Literal["MR", "CT"]

_STORAGE = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2"}
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_CT_INTERCEPT = -1024
_LARGEST = 65535
_DATE, _TIME = "20200101", "120000"


def write_dicom_series(folder: Path, volume: Volume, seed: int, modality: Modality = "MR") -> list[Path]:
    """Write one file a slice along k: `IM0001.dcm` ... in the order of k.

    Rows run along j, columns along i, so that PixelSpacing is (j, i) and ImageOrientationPatient is (direction of i, direction of j)
    in LPS (DICOM PS3.3 C.7.6.2.1.1). MR values are stored as they are, CT with a rescale intercept of -1024.

    Args:
        folder: made where missing.
        volume: one channel of integers, MR 0..65535, CT -1024..64511 HU; axes at right angles.
        seed: makes the UIDs and the patient's number; the same seed, the same files.

    Raises:
        DataError: when pydicom is missing, or the volume cannot be said in a plain series.
    """
    stored = _stored_values(volume, modality)
    axes, spacing = unit_axes(volume.grid)
    series = _series(volume, seed, modality, spacing[2])
    series.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    series.ImageOrientationPatient = [_decimal(n) for axis in axes[:2] for n in _lps(axis)]
    paths = []
    for k in range(volume.grid.shape[2]):
        position = (float(volume.grid.affine[row, 2]) * k + float(volume.grid.affine[row, 3]) for row in range(3))
        series.ImagePositionPatient = [_decimal(n) for n in _lps(tuple(position))]
        series.InstanceNumber = k + 1
        series.SOPInstanceUID = _uid(seed, modality, f"instance {k + 1}")
        series.PixelData = np.ascontiguousarray(stored[:, :, k].T).tobytes()
        path = folder / f"IM{k + 1:04d}.dcm"
        write_bytes(path, _encode(series))
        paths.append(path)
    return paths


def _stored_values(volume: Volume, modality: Modality) -> NDArray[np.uint16]:
    if volume.channels != 1 or volume.array.dtype.kind not in "iu":
        raise DataError(f"a DICOM series needs one channel of integers; the volume has {volume.channels} of {volume.array.dtype}")
    stored: NDArray[np.int64] = volume.array[0].astype(np.int64) - (_CT_INTERCEPT if modality == "CT" else 0)
    if stored.min() < 0 or stored.max() > _LARGEST:
        span = f"{volume.array.min()} to {volume.array.max()}"
        raise DataError(f"a {modality} series holds 16 bits; the volume's values run from {span}: clip them")
    return stored.astype("<u2")


def _series(volume: Volume, seed: int, modality: Modality, thickness_mm: float) -> Dataset:
    """What all slices of the series share."""
    try:
        from pydicom.dataset import Dataset
    except ImportError as error:
        raise DataError("pydicom is not installed; DICOM files need it: pip install 'segpipe[dicom]'") from error
    ds = Dataset()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
    ds.SOPClassUID = _STORAGE[modality]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, name, _uid(seed, modality, name))
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = _DATE
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = _TIME
    ds.Modality, ds.Manufacturer, ds.SeriesDescription = modality, "segpipe", "synthetic phantom"
    ds.PatientName, ds.PatientID = "Phantom^Synthetic", f"PHANTOM{seed}"
    ds.PatientBirthDate = ds.PatientSex = ds.ReferringPhysicianName = ds.AccessionNumber = ds.PositionReferenceIndicator = ""
    ds.StudyID, ds.SeriesNumber, ds.PatientPosition = "1", 1, "HFS"
    ds.SliceThickness = ds.SpacingBetweenSlices = _decimal(thickness_mm)
    ds.Columns, ds.Rows, _ = volume.grid.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    _physics(ds, modality)
    return ds


def _physics(ds: Dataset, modality: Modality) -> None:
    """The attributes that PS3.3 C.8.2.1 (CT) and C.8.3.1 (MR) ask for."""
    if modality == "CT":
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", str(_CT_INTERCEPT), "HU"
        ds.KVP, ds.AcquisitionNumber = "120", 1
        del ds.SpacingBetweenSlices
        return
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "SK", "", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = "5000", "100", 25


def _encode(ds: Dataset) -> bytes:
    """A file of DICOM PS3.10, its meta information fixed, so that no library version shows in it."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    meta.ImplementationClassUID = UID(_uid(0, "segpipe", "implementation"))
    meta.ImplementationVersionName = "SEGPIPE_PHANTOM"
    out = io.BytesIO()
    dcmwrite(out, FileDataset(out, ds, file_meta=meta, preamble=bytes(128)), enforce_file_format=True)
    return out.getvalue()


def _uid(*parts: object) -> str:
    """A UID under 2.25 (PS3.5 B.2) made from what it stands for: 128 bits of its SHA-256."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _lps(point: tuple[float, ...]) -> tuple[float, float, float]:
    """RAS to LPS."""
    return -point[0], -point[1], point[2]


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2, DS), six digits after the point, without a negative zero."""
    return f"{round(value, 6) + 0.0:.6f}"
